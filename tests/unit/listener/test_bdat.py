"""The command BDAT: what follows the verb, and where the octets of a chunk end up."""

import pytest

from mailshed.listener.bdat import Chunk, parse
from mailshed.listener.conduct import IDLE_COMMANDS_MAX
from tests.support.front import Front, until

MALFORMED = [
    *(b"", b"five", b"0x10", b"-1", b"+1", b"1.0", b"LAST", b"5LAST", b"5 LAST NOW", b"5 FIRST"),
    *(b"5,LAST", "\u0665".encode(), 21 * b"1", b"5\x0bLAST", b"5\0"),
]


@pytest.mark.parametrize(
    ("argument", "chunk"),
    [
        (b"0", Chunk(0, is_last=False)),
        (b"86400", Chunk(86400, is_last=False)),
        (b"007 last", Chunk(7, is_last=True)),
        (b"5 \t LAST", Chunk(5, is_last=True)),
        (20 * b"9", Chunk(10**20 - 1, is_last=False)),
    ],
)
def test_a_size_and_perhaps_last(argument: bytes, chunk: Chunk) -> None:
    assert parse(argument) == chunk


@pytest.mark.parametrize("argument", MALFORMED)
def test_anything_else_is_no_chunk(argument: bytes) -> None:
    assert parse(argument) is None


@pytest.mark.parametrize("argument", [each for each in MALFORMED if b"\0" not in each])
async def test_a_chunk_of_unknown_size_ends_the_session(argument: bytes) -> None:
    """What follows may be its octets; none of them is run."""
    async with Front() as front:
        peer = await front.in_transaction()
        await peer.send(b"BDAT " + argument + b"\r\nRSET\r\nDATA\r\n")
        assert await peer.reply() == b"501 5.5.4 Syntax: BDAT octets [LAST]; closing connection\r\n"
        assert await peer.rest() == b""
        assert front.handler.taken == []


async def test_replies_leave_before_the_chunk_is_waited_for() -> None:
    """A client may want to know of its recipients before it sends the octets (RFC 2920, 3.1)."""
    async with Front() as front:
        peer = await front.peer()
        await peer.greet()
        await peer.send(b"MAIL FROM:<>\r\nRCPT TO:<bob@example.net>\r\nBDAT 3 LAST\r\n")
        assert [(await peer.reply())[:3] for _ in range(2)] == [b"250", b"250"]
        await peer.send(b"a\r\n")
        assert (await peer.reply())[:3] == b"250"
        assert [each.data for each in front.handler.taken] == [b"a\r\n"]


async def test_what_a_session_leaves_behind_is_told_and_given_back() -> None:
    async with Front() as front:
        peer = await front.in_transaction()
        await peer.send(b"BDAT 5\r\nfirst")
        await peer.reply()
        peer.close()
        await until(lambda: bool(front.handler.discarded_data), "the handler is told")
        assert front.handler.store.memory.used == 0
        assert front.handler.taken == []


@pytest.mark.parametrize("command", ["RSET", "EHLO client.example.org", "HELO c.example.org"])
async def test_chunks_are_forgotten_with_the_transaction(command: str) -> None:
    async with Front() as front:
        peer = await front.in_transaction()
        await peer.send(b"BDAT 5\r\nfirst")
        await peer.reply()
        await peer.command(command, 250)
        assert len(front.handler.discarded_data) == 1
        assert front.handler.store.memory.used == 0
        await peer.command("MAIL FROM:<>", 250)
        await peer.command("RCPT TO:<bob@example.net>", 250)
        await peer.send(b"BDAT 8 LAST\r\nsecond\r\n")
        await peer.reply()
        assert [each.data for each in front.handler.taken] == [b"second\r\n"]


async def test_empty_chunks_lead_to_no_message() -> None:
    """Otherwise they would hold a session for ever, as NOOP would."""
    async with Front(errors_max=5) as front:
        peer = await front.in_transaction()
        await peer.send((IDLE_COMMANDS_MAX + 10) * b"BDAT 0\r\n")
        await until(lambda: not front.handler.open_sessions, "the session has ended")
        assert front.handler.replies[-1] == ("other", 421)
        assert len(front.handler.discarded_data) == 1


async def test_a_message_in_chunks_makes_up_for_errors_as_others_do() -> None:
    async with Front(errors_max=2) as front:
        peer = await front.peer()
        for _ in range(3):
            await peer.command("NONSENSE", 500)
            await peer.greet()
            await peer.command("MAIL FROM:<>", 250)
            await peer.command("RCPT TO:<bob@example.net>", 250)
            await peer.send(b"BDAT 0 LAST\r\n")
            assert (await peer.reply())[:3] == b"250"
