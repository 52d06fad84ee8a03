"""`WireProtocol` on a transport that only takes notes."""

import asyncio
import ssl
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.errors import ConnectionLost, ProtocolViolation, TimedOut
from mailshed.mail.reply import LINE_OCTETS_MAX, LINES_MAX, one_line
from mailshed.relay.wire import WRITE_BUFFER_OCTETS, WireProtocol
from mailshed.terms import Stage

ENVELOPE = (Stage.MAIL, Stage.RCPT, Stage.DATA)
COMMANDS = (b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA")
ANSWERS = b"250 2.1.0 ok\r\n250-2.1.5 two\r\n250 2.1.5 lines\r\n354 go\r\n"
LONG = 10.0


class NotedTransport(asyncio.Transport):
    """Keeps what was written; ends when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_aborted = False
        self.has_closed_handle = False
        self.is_gone = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.has_closed_handle:
            raise RuntimeError("unable to perform operation; the handler is closed")
        self.written += bytes(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def is_closing(self) -> bool:
        return self.is_gone or self.is_aborted

    def close(self) -> None:
        self.is_gone = True

    def abort(self) -> None:
        self.is_aborted = True


def make_wire() -> tuple[WireProtocol, NotedTransport]:
    wire = WireProtocol(asyncio.get_running_loop())
    transport = NotedTransport()
    wire.connection_made(transport)
    return wire, transport


async def test_a_group_of_commands_is_one_write() -> None:
    wire, transport = make_wire()
    asyncio.get_running_loop().call_soon(wire.data_received, ANSWERS)
    replies = await wire.exchange(COMMANDS, ENVELOPE, LONG)
    assert transport.written == b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"
    assert [reply.code for reply in replies] == [250, 250, 354]
    assert wire.is_idle


@given(cuts=st.sets(st.integers(1, len(ANSWERS) - 1)))
def test_replies_are_the_bytes_that_came_however_they_were_cut(cuts: set[int]) -> None:
    """The invariant of the parser, for every way TCP may deliver the same octets."""

    async def case() -> None:
        wire, _ = make_wire()
        wire.expect(ENVELOPE)
        positions = [0, *sorted(cuts), len(ANSWERS)]
        for start, end in pairwise(positions):
            wire.data_received(ANSWERS[start:end])
        replies = await wire.receive(LONG)
        assert b"".join(reply.wire for reply in replies) == ANSWERS
        assert replies[1].wire == b"250-2.1.5 two\r\n250 2.1.5 lines\r\n"
        assert wire.is_idle

    asyncio.run(case())


async def test_text_outside_ascii_is_kept() -> None:
    wire, _ = make_wire()
    wire.expect((Stage.MAIL,))
    wire.data_received(b"550 5.1.1 kein Empf\xe4nger \xc3\xa9\r\n")
    (reply,) = await wire.receive(LONG)
    assert reply.wire == b"550 5.1.1 kein Empf\xe4nger \xc3\xa9\r\n"


async def test_a_reply_line_may_end_in_a_bare_line_feed() -> None:
    wire, _ = make_wire()
    wire.expect((Stage.MAIL,))
    wire.data_received(b"250 ok\n")
    (reply,) = await wire.receive(LONG)
    assert reply.wire == b"250 ok\r\n"


@pytest.mark.parametrize(
    "octets",
    [
        b"hello\r\n",
        b"\r\n",
        b"\n",
        b"2500 ok\r\n",
        b"250-one\r\n550 two\r\n",
        b"250 nul \x00\r\n",
        b"250 cr \r in the middle\r\n",
        b"100 what\r\n",
        b"354 not to MAIL\r\n",
        b"250-x\r\n" * (LINES_MAX + 1),
        b"x" * (LINE_OCTETS_MAX + 1),
        b"250 " + b"x" * LINE_OCTETS_MAX + b"\r\n",
        b"250-" + b"x" * LINE_OCTETS_MAX + b"\r\n",
    ],
)
async def test_what_is_not_a_reply_ends_the_connection(octets: bytes) -> None:
    wire, transport = make_wire()
    wire.expect((Stage.MAIL,))
    wire.data_received(octets)
    assert await wire.receive(LONG) == []
    assert isinstance(wire.fault, ProtocolViolation)
    assert wire.fault.stage is Stage.MAIL
    assert transport.is_aborted
    assert not wire.is_idle


async def test_a_line_that_is_too_long_is_not_remembered() -> None:
    """The last lines are, to be read only once; what a server sends must not fill them."""
    wire, _ = make_wire()
    wire.expect((Stage.MAIL,))
    misses = one_line.cache_info().misses
    wire.data_received(b"250 " + b"x" * LINE_OCTETS_MAX + b"\r\n")
    assert wire.fault is not None
    assert one_line.cache_info().misses == misses


@pytest.mark.parametrize(
    "octets", [b"250 2.0.0 ok\r\n", b"354 go\r\n250 already\r\n", b"250 ok\r\n25"]
)
async def test_data_is_answered_by_354_and_nothing_behind_it(octets: bytes) -> None:
    wire, transport = make_wire()
    wire.expect((Stage.DATA,))
    wire.data_received(octets)
    await wire.receive(LONG)
    assert isinstance(wire.fault, ProtocolViolation)
    assert transport.is_aborted


async def test_an_unsolicited_reply_ends_the_connection_and_tells_its_owner() -> None:
    """A 421 to an idle connection: the next message must not take it for its own answer."""
    wire, transport = make_wire()
    told: list[bool] = []
    wire.on_break = lambda: told.append(True)
    was_idle = wire.is_idle
    wire.data_received(b"421 4.3.2 shutting down\r\n")
    wire.data_received(b"250 more\r\n")
    wire.connection_lost(None)
    assert told == [True]
    assert (was_idle, wire.is_idle) == (True, False)
    assert transport.is_aborted


async def test_421_for_one_of_several_recipients_leaves_the_others_theirs() -> None:
    """LMTP answers the mail data once for each; a 421 is the end of the dialog at its end only."""
    wire, _ = make_wire()
    wire.expect((Stage.DOT,) * 3)
    wire.data_received(b"421 4.3.2 not for this one\r\n250 2.0.0 saved\r\n")
    assert wire.fault is None
    wire.data_received(b"421 4.3.2 closing\r\n")
    assert [reply.code for reply in wire.replies] == [421, 250, 421]
    assert isinstance(wire.fault, ConnectionLost)


async def test_421_ends_the_group_without_waiting_for_the_rest() -> None:
    wire, _ = make_wire()
    wire.expect(ENVELOPE)
    wire.data_received(b"250 ok\r\n421 4.3.2 closing\r\n")
    replies = await wire.receive(LONG)
    assert [reply.code for reply in replies] == [250, 421]
    assert isinstance(wire.fault, ConnectionLost)
    assert wire.fault.stage is Stage.RCPT


async def test_replies_before_the_end_stay_valid() -> None:
    wire, _ = make_wire()
    wire.expect(ENVELOPE)
    wire.data_received(b"250 ok\r\n550 no\r\n")
    wire.eof_received()
    assert [reply.code for reply in await wire.receive(LONG)] == [250, 550]
    assert wire.fault is not None
    assert wire.fault.stage is Stage.DATA


async def test_the_stage_of_a_timeout_is_the_one_awaited() -> None:
    wire, transport = make_wire()
    wire.expect(ENVELOPE)
    asyncio.get_running_loop().call_soon(wire.data_received, b"250 ok\r\n250 par")
    await wire.receive(0.02)
    assert isinstance(wire.fault, TimedOut)
    assert wire.fault.stage is Stage.RCPT
    assert transport.is_aborted


async def test_a_timer_left_over_from_a_shorter_wait_does_not_end_a_longer_one() -> None:
    wire, _ = make_wire()
    loop = asyncio.get_running_loop()
    loop.call_soon(wire.data_received, b"250 ok\r\n")
    await wire.exchange((b"RSET",), (Stage.QUIT,), 0.02)
    began = loop.time()
    await wire.exchange((b"RSET",), (Stage.QUIT,), 0.1)
    assert isinstance(wire.fault, TimedOut)
    assert loop.time() - began >= 0.09


async def test_a_timer_left_over_from_a_longer_wait_does_not_delay_a_shorter_one() -> None:
    wire, _ = make_wire()
    loop = asyncio.get_running_loop()
    loop.call_soon(wire.data_received, b"250 ok\r\n")
    await wire.exchange((b"RSET",), (Stage.QUIT,), 600.0)
    async with asyncio.timeout(LONG):
        await wire.exchange((b"RSET",), (Stage.QUIT,), 0.02)
    assert isinstance(wire.fault, TimedOut)


async def test_octets_that_complete_no_reply_do_not_extend_the_deadline() -> None:
    """A server that drips one line of a reply after the other still meets its timeout."""
    wire, _ = make_wire()
    wire.expect((Stage.MAIL,))
    loop = asyncio.get_running_loop()

    def drip() -> None:
        wire.data_received(b"250-x\r\n")
        if wire.fault is None:
            loop.call_later(0.005, drip)

    loop.call_soon(drip)
    async with asyncio.timeout(LONG):
        await wire.receive(0.1)
    assert isinstance(wire.fault, TimedOut)


@pytest.mark.parametrize("control", [b"\r\n", b"\n", b"\r", b"\x00", b"\t", b"\x7f"])
async def test_no_command_leaves_with_a_control_character(control: bytes) -> None:
    wire, transport = make_wire()
    with pytest.raises(AssertionError, match="control"):
        await wire.exchange((b"MAIL FROM:<a" + control + b"b@c>",), (Stage.MAIL,), LONG)
    assert transport.written == b""


async def test_a_closed_handle_is_a_lost_connection_and_not_an_error() -> None:
    """Uvloop raises where asyncio's transports shrug."""
    wire, transport = make_wire()
    transport.has_closed_handle = True
    assert await wire.exchange(COMMANDS, ENVELOPE, LONG) == []
    assert isinstance(wire.fault, ConnectionLost)
    assert wire.fault.stage is Stage.MAIL
    assert not wire.send(b"more")


async def test_drain_waits_while_the_transport_is_full() -> None:
    wire, transport = make_wire()
    assert transport.high == WRITE_BUFFER_OCTETS
    wire.expect((Stage.DOT,))
    await wire.drain(LONG)  # returns at once
    wire.pause_writing()
    loop = asyncio.get_running_loop()
    began: list[str] = []
    loop.call_soon(began.append, "waiting")
    loop.call_soon(wire.resume_writing)
    await wire.drain(LONG)
    assert began == ["waiting"]
    assert wire.fault is None


@pytest.mark.parametrize("octets", [b"552 5.3.4 too big\r\n", b"421 4.3.2 closing\r\n"])
async def test_drain_ends_when_the_backend_speaks_up(octets: bytes) -> None:
    wire, _ = make_wire()
    wire.expect((Stage.DOT,))
    wire.pause_writing()
    asyncio.get_running_loop().call_soon(wire.data_received, octets)
    async with asyncio.timeout(LONG):
        await wire.drain(LONG)
    assert wire.has_news


async def test_drain_ends_with_the_first_of_several_replies() -> None:
    """LMTP: one recipient's refusal before the end of the mail data is news already."""
    wire, _ = make_wire()
    wire.expect((Stage.DOT,) * 2)
    wire.pause_writing()
    asyncio.get_running_loop().call_soon(wire.data_received, b"552 5.2.2 mailbox full\r\n")
    async with asyncio.timeout(LONG):
        await wire.drain(LONG)
    assert wire.has_news
    assert wire.fault is None


async def test_room_to_write_is_not_taken_for_the_replies() -> None:
    wire, _ = make_wire()
    wire.expect((Stage.DOT,))
    wire.pause_writing()
    replies = wire.receive(LONG)
    wire.resume_writing()
    assert not replies.done()
    wire.data_received(b"250 2.0.0 ok\r\n")
    assert [reply.code for reply in await replies] == [250]


async def test_drain_gives_up_without_progress() -> None:
    wire, transport = make_wire()
    wire.expect((Stage.DOT,))
    wire.pause_writing()
    await wire.drain(0.02)
    assert isinstance(wire.fault, TimedOut)
    assert transport.is_aborted


async def test_a_group_begins_only_after_the_last_one_is_complete() -> None:
    wire, _ = make_wire()
    wire.expect((Stage.MAIL,))
    with pytest.raises(AssertionError, match="not complete"):
        wire.expect((Stage.MAIL,))


async def test_close_lets_what_was_sent_leave() -> None:
    wire, transport = make_wire()
    wire.close()
    assert transport.is_gone
    assert not transport.is_aborted
    wire.connection_lost(None)
    wire.close()  # nothing left to close


async def test_an_intermediate_reply_is_good_where_it_is_expected_only() -> None:
    """334 is the prompt of AUTH (RFC 4954, 4)."""
    for expected in (334, 0):
        wire, _ = make_wire()
        asyncio.get_running_loop().call_soon(wire.data_received, b"334 UGFzc3dvcmQ6\r\n")
        replies = await wire.exchange((b"AUTH LOGIN",), (Stage.EHLO,), LONG, intermediate=expected)
        assert len(replies) == (expected == 334)
        assert wire.is_confused == (expected == 0)


async def test_what_comes_between_220_and_the_handshake_ends_the_connection() -> None:
    """In a segment of its own, and read before TLS has the transport (RFC 3207, 6)."""
    wire, transport = make_wire()
    loop = asyncio.get_running_loop()
    loop.call_soon(wire.data_received, b"220 2.0.0 go\r\n")
    await wire.exchange((b"STARTTLS",), (Stage.EHLO,), LONG)
    assert wire.is_idle
    wire.data_received(b"250 2.1.0 injected\r\n")
    assert wire.is_confused
    assert transport.is_aborted


async def test_no_tls_begins_on_a_connection_that_is_gone() -> None:
    wire, transport = make_wire()
    transport.close()
    with pytest.raises(ConnectionResetError):
        await wire.encrypt(ssl.create_default_context(), "mail.test")
    assert not wire.is_encrypted
    assert wire.peer_address == ""
    wire.connection_lost(None)
    assert wire.peer_address is None
