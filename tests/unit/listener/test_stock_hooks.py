"""Our policy in aiosmtpd's dialog: what the hooks ask, what they answer, what they tell."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from mailshed.config.admission import EVERYWHERE
from mailshed.listener.stock import StockFactory
from mailshed.mail import reply
from mailshed.mail.address import Mailbox
from mailshed.mail.reply import Reply
from mailshed.terms import Stage
from tests.support.builders import content_store
from tests.support.front import Front, Peer, until


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    made = Front(recipients_max=2, message_size_max=5000)
    made.new_factory = StockFactory
    async with made:
        yield made


async def say(peer: Peer, line: str) -> bytes:
    await peer.send(line.encode() + b"\r\n")
    return await peer.reply()


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("HELO client.example.org", reply.make(250, "mail.example.com")),
        ("RSET", reply.OK),
        ("NOOP", reply.OK),
        ("VRFY bob@example.net", reply.CANNOT_VERIFY),
        ("QUIT", reply.BYE),
    ],
)
async def test_what_is_about_nothing_is_answered_in_our_words(
    front: Front, line: str, answer: Reply
) -> None:
    peer = await front.peer()
    assert await say(peer, line) == answer.wire
    assert front.handler.replies[-1] == (line[:4].lower(), answer.code)


async def test_a_sender_that_is_refused_is_told_of(front: Front) -> None:
    peer = await front.peer()
    await peer.greet()
    front.session.limits = replace(front.session.limits, message_size_max=10)
    assert await say(peer, "MAIL FROM:<alice@example.org> SIZE=11") == reply.TOO_LARGE.wire
    assert front.handler.rejections == [(Stage.MAIL, b"FROM:<alice@example.org> SIZE=11", 552)]
    assert await say(peer, "RCPT TO:<bob@example.net>") == b"503 Error: need MAIL command\r\n"


async def test_the_reply_to_mail_may_be_late(front: Front) -> None:
    rested: list[str] = []

    async def rest() -> None:
        rested.append("rested")

    front.handler.rest = rest
    peer = await front.peer()
    await peer.greet()
    assert await say(peer, "MAIL FROM:<>") == reply.SENDER_OK.wire
    assert rested == ["rested"]


async def test_recipients_are_asked_about_and_bounded(front: Front) -> None:
    unknown = reply.UNKNOWN_RECIPIENT
    front.handler.recipient_answer = lambda box: unknown if box.raw[:1] == b"x" else None
    peer = await front.in_transaction()
    assert await say(peer, "RCPT TO:<x@example.net>") == unknown.wire
    assert await say(peer, "RCPT TO:<carol@example.net>") == reply.RECIPIENT_OK.wire
    for _ in range(3):
        answer = await say(peer, "RCPT TO:<dave@example.net>")
        assert answer == reply.TOO_MANY_RECIPIENTS.wire
    assert [code for _, _, code in front.handler.rejections] == [452], "told once"
    await peer.command("DATA", 354)
    await peer.send(b".\r\n")
    assert (await peer.reply()).startswith(b"250 ")
    assert front.handler.taken[0].forward_paths == [b"bob@example.net", b"carol@example.net"]


async def test_whether_a_recipient_exists_may_take_time(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def later() -> Reply | None:
        return reply.UNVERIFIED_RECIPIENT

    def recipient(_session: object, _mailbox: Mailbox) -> Callable[[], Awaitable[Reply | None]]:
        return later

    monkeypatch.setattr(type(front.handler), "recipient", lambda _self, *asked: recipient(*asked))
    peer = await front.peer()
    await peer.greet()
    await peer.command("MAIL FROM:<>", 250)
    assert await say(peer, "RCPT TO:<bob@example.net>") == reply.UNVERIFIED_RECIPIENT.wire


async def test_421_to_a_recipient_ends_the_session(front: Front) -> None:
    front.handler.recipient_answer = lambda _box: reply.TOO_MANY_UNKNOWN
    peer = await front.peer()
    await peer.greet()
    await peer.command("MAIL FROM:<>", 250)
    await peer.send(b"RCPT TO:<bob@example.net>\r\n")
    assert await peer.rest() == reply.TOO_MANY_UNKNOWN.wire


@pytest.mark.parametrize("bare", [b"\r", b"\n", b"\0"])
async def test_bare_line_endings_are_refused_as_by_our_session(front: Front, bare: bytes) -> None:
    peer = await front.in_data()
    await peer.send(b"a" + bare + b"b\r\n.\r\n")
    assert await peer.reply() == reply.BARE_LINE_ENDING.wire
    assert front.handler.discarded_data == [(5, reply.BARE_LINE_ENDING)]
    assert front.handler.store.memory.used == 0


async def test_bare_line_endings_are_normalised_where_the_site_says_so(front: Front) -> None:
    front.factory.limits = replace(front.limits, normalize_networks=EVERYWHERE)
    peer = await front.in_data()
    await peer.send(b"a\n.b\r\n.\r\n")
    assert (await peer.reply()).startswith(b"250 ")
    assert front.handler.taken[0].data == b"a\r\n..b\r\n"


async def test_without_room_the_client_is_to_come_back(front: Front) -> None:
    front.handler.store = content_store(front.handler.store.folder, memory=0, disk=0)
    peer = await front.in_data()
    await peer.send(b"text\r\n.\r\n")
    assert await peer.reply() == reply.NO_ROOM_FOR_CONTENT.wire


async def test_after_mail_data_that_the_library_refuses_nothing_is_left(front: Front) -> None:
    """It tells nobody; the recipients of the next message are its own."""
    peer = await front.in_data()
    await peer.send(50 * (120 * b"x" + b"\r\n") + b".\r\n")
    assert await peer.reply() == b"552 Error: Too much mail data\r\n"
    assert front.session.is_idle
    await peer.command("MAIL FROM:<>", 250)
    await peer.command("RCPT TO:<carol@example.net>", 250)
    await peer.command("DATA", 354)
    await peer.send(b".\r\n")
    assert (await peer.reply()).startswith(b"250 ")
    assert front.handler.taken[0].forward_paths == [b"carol@example.net"]


async def test_a_client_that_wants_no_reply_gets_none(front: Front) -> None:
    front.handler.answers.append(None)
    peer = await front.in_data()
    await peer.send(b"text\r\n.\r\n")
    assert await peer.rest() == b""


async def test_a_fault_of_ours_is_451_and_the_end(front: Front) -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _loop, context: faults.append(context["exception"])
    )
    error = RuntimeError("planted")

    def fail(_box: Mailbox) -> Reply | None:
        raise error

    front.handler.recipient_answer = fail
    peer = await front.peer()
    await peer.greet()
    await peer.command("MAIL FROM:<>", 250)
    await peer.send(b"RCPT TO:<bob@example.net>\r\n")
    assert await peer.rest() == reply.INTERNAL.wire
    assert faults == [error]
    await until(lambda: not front.handler.open_sessions, "the session has ended")
