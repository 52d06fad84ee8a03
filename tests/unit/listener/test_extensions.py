"""What EHLO offers, and to whom."""

import pytest

from tests.support.builders import session_limits
from tests.support.front import Front

OURS = [
    *(b"PIPELINING", b"SIZE 12345678", b"8BITMIME", b"SMTPUTF8", b"ENHANCEDSTATUSCODES"),
    *(b"CHUNKING", b"DSN", b"MT-PRIORITY", b"DELIVERBY 60", b"LIMITS RCPTMAX=77"),
]


async def offered(front: Front) -> list[bytes]:
    peer = await front.peer()
    lines = (await peer.command("EHLO client.example.org", 250)).split(b"\r\n")
    return [line[4:] for line in lines[1:-1]]


async def test_every_extension_is_offered_on_a_line_of_its_own() -> None:
    async with Front(message_size_max=12_345_678, recipients_max=77) as front:
        assert await offered(front) == OURS


async def test_what_only_the_mail_server_behind_can_keep_is_offered_if_it_does() -> None:
    """SMTPUTF8 is a promise about mailboxes, and those are not ours."""
    async with Front(message_size_max=12_345_678, recipients_max=77) as front:
        front.handler.offered_behind = frozenset()
        assert await offered(front) == [line for line in OURS if line != b"SMTPUTF8"]
        peer = await front.peer()
        await peer.greet()
        await peer.command("MAIL FROM:<alice@example.org> SMTPUTF8", 555)
        await peer.command("MAIL FROM:<j\xfcrgen@example.org>", 553)


async def test_what_was_offered_holds_until_the_next_greeting() -> None:
    """The mail server may have changed since; a client may believe what it was told."""
    async with Front() as front:
        peer = await front.peer()
        await peer.greet()
        front.handler.offered_behind = frozenset()
        await peer.command("MAIL FROM:<alice@example.org> SMTPUTF8", 250)
        await peer.greet()
        await peer.command("MAIL FROM:<alice@example.org> SMTPUTF8", 555)


@pytest.mark.parametrize("helo", ["HELO client.example.org"])
async def test_without_ehlo_nothing_is_offered(helo: str) -> None:
    async with Front() as front:
        peer = await front.peer()
        assert (await peer.command(helo, 250)).count(b"\r\n") == 1
        await peer.command("MAIL FROM:<alice@example.org> SMTPUTF8", 555)


async def test_what_is_offered_is_that_of_the_moment() -> None:
    """The reply is made once for all that are offered the same; who is not, gets another."""
    async with Front(message_size_max=1000) as front:
        assert b"SIZE 1000" in await offered(front)
        front.factory.limits = session_limits(message_size_max=2000, recipients_max=7)
        lines = await offered(front)
        assert {b"SIZE 2000", b"LIMITS RCPTMAX=7"} <= set(lines)
