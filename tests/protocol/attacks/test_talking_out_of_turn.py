"""Clients that do not wait, and clients that speak something else.

Who talks before the greeting, or behind a command that ends a group (RFC 2920, 3.1), is answered
in order and by the same rules: each octet has one meaning, wherever it was cut, so nothing is
gained by haste. Only behind STARTTLS haste is an attack (`test_tls`). A browser is another matter:
a web page can make it post SMTP commands from within a trusted network.
"""

from contextlib import suppress

import pytest

from tests.support.front import Front, until

POSTED = (
    b"EHLO browser.example.org\r\nMAIL FROM:<spam@example.org>\r\nRCPT TO:<v@example.net>\r\n"
    b"DATA\r\nSubject: from a web page\r\n\r\nspam\r\n.\r\nQUIT\r\n"
)
REQUESTS = [
    b"POST / HTTP/1.1\r\nHost: mail.example.com:2525\r\nContent-Length: %d\r\n\r\n" % len(POSTED),
    b"post /\r\n",
    b"GET /\r\n",
    b"PUT / HTTP/1.1\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\n\r\n",
    b"CONNECT mail.example.com:25 HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"HELO x\r\nGET /\r\n",
]
NOT_HTTP = b"554 5.5.0 This is SMTP and not HTTP, closing connection\r\n"


@pytest.mark.parametrize("request_", REQUESTS)
async def test_nothing_behind_a_request_of_http_is_a_command(request_: bytes) -> None:
    async with Front() as front:
        said = request_ + POSTED
        for cuts in ((), (1,), (len(request_),), (len(request_) - 2,)):
            peer = await front.peer()
            with suppress(ConnectionError):
                await peer.send(said, cuts=cuts)
            assert (await peer.rest()).endswith(NOT_HTTP)
        assert front.handler.taken == []
        verbs = {verb for verb, _ in front.handler.replies}
        assert verbs <= {"connect", "helo", "other"}


async def test_the_same_commands_by_themselves_are_a_message() -> None:
    """Otherwise the test above would prove nothing; and who does not wait is answered in order."""
    async with Front() as front:
        peer = await front.peer(greeted=False)
        await peer.send(POSTED)
        replies = [each[:3] for each in (await peer.rest()).splitlines() if each[3:4] == b" "]
        assert replies == [b"220", b"250", b"250", b"250", b"354", b"250", b"221"]
        assert [each.forward_paths for each in front.handler.taken] == [[b"v@example.net"]]


async def test_text_sent_with_a_refused_data_is_never_run_for_long() -> None:
    """A client that does not wait for 354 has its text taken for commands, and soon hears 421.

    That is as RFC 5321 has it. A line of it may be a command, so what it can do is what any client
    can do; the transaction that was refused stays refused.
    """
    async with Front(errors_max=20) as front:
        peer = await front.peer()
        await peer.send(b"EHLO c\r\nMAIL FROM:<a@example.org>\r\nDATA\r\n" + 100 * b"text\r\n")
        replies = [each[:3] for each in (await peer.rest()).splitlines() if each[3:4] == b" "]
        assert replies == [b"250", b"250", b"554", *19 * [b"500"], b"421"]
        assert front.handler.taken == []


async def test_a_hundred_thousand_commands_in_one_write_end_at_the_limit() -> None:
    """NOOP leads nowhere; after so many the session ends, and what is behind them is not read."""
    async with Front(errors_max=20) as front:
        peer = await front.peer()
        with suppress(ConnectionError):
            await peer.send(100_000 * b"NOOP\r\n")
        await until(lambda: not front.handler.open_sessions, "the session ends")
        answered = [code for verb, code in front.handler.replies if verb == "noop"]
        assert answered == 120 * [250]
        assert front.handler.replies[-1] == ("other", 421)
