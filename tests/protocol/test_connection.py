"""What a connection does beside its dialog: segments, deadlines, endings and faults."""

import asyncio
import socket
import time
from typing import Any

import pytest

from mailshed.listener import protocol
from mailshed.listener.deadlines import Phase
from mailshed.listener.lines import COMMAND_OCTETS_MAX
from mailshed.listener.protocol import SmtpSession
from mailshed.listener.turns import STEPS_PER_TURN
from mailshed.mail.reply import make
from tests.support.front import DEADLINE, Front, is_full, settle, until

MESSAGE = b"Subject: hello\r\n\r\nHello.\r\n.\r\n"


def count_writes(session: SmtpSession, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Note each write of the session from now on."""
    noting = _Noting(session.transport)
    monkeypatch.setattr(session, "transport", noting)
    return noting.writes


class _Noting:
    """A transport that notes what is written to it."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def make_small(transport: asyncio.BaseTransport) -> None:
    """Let the kernel hold little of what we write, so that it waits where we see it."""
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)


# Segments.


async def test_a_pipelined_group_is_answered_in_one_segment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RFC 2920, 3.1: replies are held while more commands are buffered."""
    async with Front() as front:
        peer = await front.peer()
        writes = count_writes(front.session, monkeypatch)
        group = [b"EHLO client.example.org", b"MAIL FROM:<alice@example.org>"]
        group += [b"RCPT TO:<r%d@example.net>" % number for number in range(20)]
        await peer.send(b"".join(line + b"\r\n" for line in [*group, b"DATA"]))
        codes = [(await peer.reply())[:3] for _ in range(23)]
        assert codes == [b"250"] * 22 + [b"354"]
        assert (len(writes), len(peer.reads)) == (1, 2), "one for the greeting, one for the group"


async def test_the_reply_to_a_dot_and_to_what_follows_it_leave_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Front() as front:
        peer = await front.in_data()
        writes = count_writes(front.session, monkeypatch)
        await peer.send(MESSAGE + b"MAIL FROM:<>\r\nRCPT TO:<bob@example.net>\r\nQUIT\r\n")
        assert (await peer.rest()).count(b"\r\n") == 4
        assert len(writes) == 1


async def test_replies_do_not_wait_for_the_rest_of_a_command() -> None:
    """Half a command behind a whole one holds nothing back."""
    async with Front() as front:
        peer = await front.peer()
        await peer.send(b"NOOP\r\nNO")
        assert await peer.reply() == b"250 2.0.0 Ok\r\n"
        await peer.send(b"OP\r\n")
        assert await peer.reply() == b"250 2.0.0 Ok\r\n"


async def test_sessions_do_not_wait_for_acknowledgements() -> None:
    """Nagle's algorithm and delayed acknowledgement together cost 40 ms for each reply."""
    async with Front() as front:
        await front.peer()
        transport = front.session.transport
        assert transport is not None
        connection = transport.get_extra_info("socket")
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_the_event_loop_turns_while_a_blast_of_commands_is_answered() -> None:
    """Tens of thousands of commands in one segment do not stall all other sessions."""
    async with Front(errors_max=10**6) as front:
        peer = await front.peer()
        await peer.greet()
        answered = len(front.handler.replies)
        longest = 0
        commands = 10_000
        blast = asyncio.get_running_loop().create_task(peer.send(commands * b"RSET\r\n"))
        while len(front.handler.replies) < commands:
            await asyncio.sleep(0)
            now = len(front.handler.replies)
            longest, answered = max(longest, now - answered), now
        await blast
        assert 0 < longest <= 2 * STEPS_PER_TURN


# Bounds of one session that must not leak into another.


async def test_ehlo_of_one_session_does_not_change_the_limits_of_another() -> None:
    """The library keeps the line limits of all sessions in one dictionary of the class."""

    def line(octets: int) -> bytes:
        head, tail = b"MAIL FROM:<a@example.org>", b"\r\n"
        return head + (octets - len(head) - len(tail)) * b" " + tail

    async with Front(errors_max=100) as front:
        peer = await front.peer()
        await peer.greet()
        for _ in range(3):
            other = await front.peer()
            await other.greet()
            await peer.send(line(COMMAND_OCTETS_MAX) + b"RSET\r\n")
            assert (await peer.reply())[:3] == b"250"
            assert (await peer.reply())[:3] == b"250"
            await peer.send(line(COMMAND_OCTETS_MAX + 1) + b"NOOP\r\n")
            assert await peer.reply() == b"500 5.5.2 Command line too long\r\n"
            assert (await peer.reply())[:3] == b"250"


async def test_transactions_of_two_sessions_do_not_mix() -> None:
    """Sessions are copies of one template; what they collect is their own."""
    async with Front() as front:
        one, two = await front.in_transaction(), await front.peer()
        await two.greet()
        await two.command("RCPT TO:<eve@example.net>", 503)
        await two.command("MAIL FROM:<>", 250)
        await two.command("RCPT TO:<carol@example.net>", 250)
        for peer in (one, two):
            await peer.command("DATA", 354)
        for peer in (two, one):
            await peer.send(MESSAGE)
            assert (await peer.reply())[:3] == b"250"
        envelopes = [(each.reverse_path, each.forward_paths) for each in front.handler.taken]
        assert envelopes == [
            (None, [b"carol@example.net"]),
            (b"alice@example.org", [b"bob@example.net"]),
        ]


# Deadlines.


async def test_mail_data_may_take_longer_than_any_timeout_while_it_flows() -> None:
    """The library's timer runs from the DATA command on, whatever arrives."""
    async with Front(command_timeout=0.15, data_timeout=0.15) as front:
        peer = await front.in_data()
        end = time.monotonic() + 0.6
        octets = 0
        while time.monotonic() < end:
            await peer.send(b"a line\r\n")
            octets += 8
            await asyncio.sleep(0.01)
        await peer.send(b".\r\n")
        assert (await peer.reply())[:3] == b"250"
        assert len(front.handler.taken[0].data) == octets


async def test_commands_may_follow_one_another_longer_than_the_timeout() -> None:
    """Each command that comes in time moves the deadline, though the timer is lazy."""
    async with Front(command_timeout=0.15, errors_max=10**6) as front:
        peer = await front.peer()
        await peer.greet()
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            await peer.command("RSET", 250)
            await asyncio.sleep(0.02)
        assert await peer.reply() == b"421 4.4.2 Timeout, closing connection\r\n"


async def test_the_timeout_for_commands_counts_again_after_a_message() -> None:
    """Also after one that was refused: the shorter timeout for data is over."""
    async with Front(command_timeout=30.0, data_timeout=0.1) as front:
        peer = await front.in_data()
        loop = asyncio.get_running_loop()
        for data, code in ((b"bare\n\r\n.\r\n", b"550"), (MESSAGE, b"250")):
            await peer.send(data)
            assert (await peer.reply())[:3] == code
            assert front.session.timer.next_deadline > loop.time() + 20
            await peer.send(b"MAIL FROM:<>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n")
            assert [(await peer.reply())[:3] for _ in range(3)] == [b"250", b"250", b"354"]


async def test_dripping_octets_do_not_keep_a_command_open() -> None:
    """A slow command line ends at the deadline of the command, not after each of its octets."""
    async with Front(command_timeout=0.3) as front:
        peer = await front.peer()
        end = time.monotonic() + DEADLINE
        said = b""
        while not said and time.monotonic() < end:
            try:
                await peer.send(b"N")
            except ConnectionError:
                break
            await asyncio.sleep(0.02)
        assert await peer.reply() == b"421 4.4.2 Timeout, closing connection\r\n"


async def test_mail_data_that_only_drips_is_cut_off() -> None:
    """Progress is not enough: after the grace, there is a least rate."""
    async with Front(data_rate_min=100_000, data_rate_grace=0.1) as front:
        peer = await front.in_data()
        end = time.monotonic() + DEADLINE
        while front.handler.open_sessions and time.monotonic() < end:
            try:
                await peer.send(b"x")
            except ConnectionError:
                break
            await asyncio.sleep(0.01)
        assert await peer.reply() == b"421 4.4.2 Data arrives too slowly, closing connection\r\n"
        assert front.handler.store.memory.used == 0
        assert front.handler.delays == [Phase.DATA]


# Endings.


async def test_a_client_that_does_not_read_our_last_words_does_not_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Closing waits for what was written; a client that never reads would hold it for ever."""
    monkeypatch.setattr(protocol, "CLOSE_TIMEOUT", 0.2)
    async with Front(errors_max=10**6, command_timeout=0.5) as front:
        peer = await front.peer(receive_buffer=2048)
        blast = asyncio.get_running_loop().create_task(
            peer.send(200_000 * b"EHLO client.example.org\r\n")
        )
        await until(lambda: is_full(front.session), "our side of the connection is full")
        await until(lambda: not front.handler.open_sessions, "the session has ended")
        blast.cancel()
        await asyncio.gather(blast, return_exceptions=True)


async def test_quit_with_unread_replies_does_not_hold_the_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same when it is the client who says that the session is over."""
    monkeypatch.setattr(protocol, "CLOSE_TIMEOUT", 0.2)
    async with Front(errors_max=10**6) as front:
        peer = await front.peer(receive_buffer=2048)
        transport: Any = front.session.transport
        make_small(transport)
        await peer.send(1000 * b"RSET\r\n" + b"QUIT\r\n")
        await until(lambda: front.session._is_closing, "QUIT was read")
        assert transport.get_write_buffer_size() > 0, "or this test shows nothing"
        await until(lambda: not front.handler.open_sessions, "the session has ended")


async def test_the_last_replies_reach_a_client_that_reads_them_late() -> None:
    """A reply that is lost after a message was taken makes a duplicate."""
    async with Front(errors_max=10**6) as front:
        peer = await front.peer(receive_buffer=2048)
        transport: Any = front.session.transport
        make_small(transport)
        await peer.send(1000 * b"RSET\r\n")
        await until(lambda: len(front.handler.replies) == 1001, "all commands are answered")
        await settle()
        assert transport.get_write_buffer_size() > 0, "or this test shows nothing"
        front.session.end(make(421, "4.3.2 Bye"))
        rest = await peer.rest()
        assert rest == 1000 * b"250 2.0.0 Ok\r\n" + b"421 4.3.2 Bye\r\n"


async def test_a_client_that_is_not_wanted_is_told_at_once() -> None:
    """A refusal at connect is the whole session."""
    async with Front() as front:
        front.handler.connect_answer = make(554, "5.7.1 Not you")
        peer = await front.peer(greeted=False)
        assert await peer.rest() == b"554 5.7.1 Not you\r\n"
        assert front.handler.replies == [("connect", 554)]


async def test_replies_are_counted_by_verb() -> None:
    """What the client sends never becomes a label."""
    async with Front() as front:
        peer = await front.in_data()
        await peer.send(MESSAGE + b"FOO\r\nHELP\r\nQUIT\r\n")
        await peer.rest()
        assert front.handler.replies == [
            *(("connect", 220), ("ehlo", 250), ("mail", 250), ("rcpt", 250), ("data", 354)),
            *(("dot", 250), ("other", 500), ("help", 502), ("quit", 221)),
        ]


# Faults of our own.


@pytest.mark.parametrize("where", ["connected", "recipient", "new_content", "content", "replied"])
async def test_a_fault_of_ours_ends_the_session_with_451(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of the session is not to be trusted then; never 5xx, no text of the exception."""
    reported: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: reported.append(context))
    times = 0

    def broken(*_: object) -> None:
        nonlocal times
        times += 1
        if times == 1:
            raise RuntimeError("secret detail")

    async with Front() as front:
        peer = None
        if where == "connected":
            monkeypatch.setattr(type(front.handler), where, broken)
            peer = await front.peer(greeted=False)
        else:
            peer = await front.peer()
            monkeypatch.setattr(type(front.handler), where, broken)
            await peer.send(b"HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n")
            if where == "content":
                await peer.send(MESSAGE)
        rest = await peer.rest()
        assert rest.endswith(b"451 4.3.0 Local error in processing, try again later\r\n")
        assert b"secret" not in rest
        assert b"\r\n5" not in rest
        await until(lambda: not front.handler.open_sessions, "the session has ended")
        if where == "new_content":
            assert front.handler.store.memory.used == 0
    (context,) = reported
    assert str(context["exception"]) == "secret detail"


async def test_a_broken_connection_is_no_fault() -> None:
    """Resets happen all day; nothing is reported for them."""
    reported: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: reported.append(context))
    async with Front(errors_max=10**6) as front:
        for sent in (b"", b"NO", 2000 * b"NOOP\r\n", b"QUIT\r\n"):
            peer = await front.peer()
            await peer.send(sent)
            peer.reset()
        busy = await front.peer(receive_buffer=2048)
        blast = loop.create_task(busy.send(100_000 * b"EHLO client.example.org\r\n"))
        await until(lambda: is_full(front.session), "our side of the connection is full")
        blast.cancel()
        await asyncio.gather(blast, return_exceptions=True)
        busy.reset()
        await until(lambda: not front.handler.open_sessions, "all sessions have ended")
        await settle()
    assert reported == []


class Slow:
    """Makes replies to MAIL wait until the test lets them go."""

    def __init__(self) -> None:
        self.waiting = 0
        self.may_go = asyncio.Event()

    async def __call__(self) -> None:
        self.waiting += 1
        try:
            await self.may_go.wait()
        finally:
            self.waiting -= 1


async def test_a_late_reply_to_mail_keeps_what_comes_after_it_waiting_and_nothing_before() -> None:
    async with Front() as front:
        front.handler.rest = slow = Slow()
        peer = await front.peer()
        await peer.send(b"EHLO c\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\n")
        assert (await peer.reply()).startswith(b"250-")
        await until(lambda: slow.waiting == 1, "the reply to MAIL waits")
        assert await peer.is_silent()
        slow.may_go.set()
        assert [(await peer.reply())[:3] for _ in range(2)] == [b"250", b"250"]


async def test_a_mail_command_that_is_refused_is_not_answered_late() -> None:
    async with Front() as front:
        front.handler.rest = slow = Slow()
        peer = await front.peer()
        await peer.greet()
        await peer.command("MAIL FROM:nobody", 501)
        assert slow.waiting == 0


async def test_a_client_that_leaves_while_its_reply_is_late_leaves_nothing_behind() -> None:
    async with Front() as front:
        front.handler.rest = slow = Slow()
        peer = await front.peer()
        await peer.send(b"EHLO c\r\nMAIL FROM:<a@example.org>\r\n")
        await until(lambda: slow.waiting == 1, "the reply to MAIL waits")
        peer.reset()
        await until(lambda: slow.waiting == 0, "nobody waits any longer")


async def test_a_late_reply_is_not_the_clients_time() -> None:
    async with Front(command_timeout=0.2) as front:
        front.handler.rest = slow = Slow()
        peer = await front.peer()
        await peer.send(b"EHLO c\r\nMAIL FROM:<a@example.org>\r\n")
        await peer.reply()
        await until(lambda: slow.waiting == 1, "the reply to MAIL waits")
        began = time.monotonic()
        await until(lambda: time.monotonic() - began > 0.5, "more than a command may take")
        slow.may_go.set()
        assert (await peer.reply())[:3] == b"250"
        await peer.command("RCPT TO:<b@example.net>", 250)
