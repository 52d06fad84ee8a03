"""What each command wants before it and behind its verb; whole dialogs are in `tests/protocol`."""

import inspect

import pytest
from aiosmtpd.smtp import SMTP

from mailshed.listener import commands, extensions
from mailshed.mail import reply
from mailshed.terms import Stage
from tests.support.front import HOSTNAME, Front, Peer, ScriptedHandler

MAIL = "MAIL FROM:<alice@example.org>"
RCPT = "RCPT TO:<bob@example.net>"


def test_every_command_of_the_library_has_one_of_ours() -> None:
    """Inherited methods answer without enhanced status codes, and rewrite addresses."""
    inherited = {name[5:].encode() for name in dir(SMTP) if name.startswith("smtp_")}
    assert inherited <= commands.COMMANDS.keys() | commands.NOT_IMPLEMENTED
    assert not any(map(inspect.iscoroutinefunction, commands.COMMANDS.values()))


def test_no_verb_means_two_things() -> None:
    groups = (commands.COMMANDS.keys(), commands.NOT_IMPLEMENTED, commands.OF_HTTP)
    assert len(set().union(*groups)) == sum(map(len, groups))
    assert extensions.COMMANDS.items() <= commands.COMMANDS.items()


async def greeted(front: Front) -> Peer:
    peer = await front.peer()
    await peer.greet()
    return peer


@pytest.mark.parametrize("verb", ["HELO", "EHLO"])
@pytest.mark.parametrize("name", ["", "two words", "caf\udce9", "tab\there", "bell\x07"])
async def test_a_greeting_has_one_printable_word(verb: str, name: str) -> None:
    async with Front() as front:
        peer = await front.peer()
        await peer.send(f"{verb} {name}\r\n".encode("ascii", "surrogateescape"))
        assert await peer.reply() == f"501 5.5.4 Syntax: {verb} hostname\r\n".encode()
        await peer.command(MAIL, 503)


async def test_helo_offers_nothing_and_ehlo_offers_utf8_if_it_is_offered_behind() -> None:
    handler = ScriptedHandler()
    handler.offered_behind = frozenset({"SMTPUTF8"})
    async with Front(handler) as front:
        peer = await front.peer()
        assert await peer.command("HELO client", 250) == f"250 {HOSTNAME}\r\n".encode()
        await peer.command(f"{MAIL} SMTPUTF8", 555)
        assert b"SMTPUTF8" in await peer.command("EHLO client", 250)
        await peer.command(f"{MAIL} SMTPUTF8", 250)


async def test_a_greeting_forgets_the_transaction() -> None:
    async with Front() as front:
        peer = await greeted(front)
        await peer.command(MAIL, 250)
        await peer.command("EHLO again", 250)
        await peer.command(RCPT, 503)


async def test_commands_of_a_transaction_come_in_their_order() -> None:
    async with Front() as front:
        peer = await greeted(front)
        for command in (RCPT, "DATA"):
            await peer.command(command, 503)
        await peer.command(MAIL, 250)
        await peer.command(MAIL, 503)
        await peer.command("DATA", 554)
        await peer.command(RCPT, 250)
        await peer.command("DATA now", 501)
        await peer.command("DATA", 354)


async def test_no_more_recipients_and_no_data_after_a_chunk() -> None:
    async with Front() as front:
        peer = await greeted(front)
        await peer.command(MAIL, 250)
        await peer.command(RCPT, 250)
        await peer.command("BDAT 0", 250)
        await peer.command(RCPT, 503)
        await peer.command("DATA", 503)
        await peer.command("RSET", 250)
        await peer.command(MAIL, 250)


async def test_what_is_refused_for_its_words_is_told_to_the_handler() -> None:
    handler = ScriptedHandler()
    async with Front(handler) as front:
        peer = await greeted(front)
        await peer.command("MAIL FROM:<a", 501)
        await peer.command(MAIL, 250)
        await peer.command("RCPT TO:bob", 501)
        handler.recipient_answer = lambda _: reply.RELAY_DENIED
        await peer.command(RCPT, 554)
    assert handler.rejections == [
        (Stage.MAIL, b"FROM:<a", 501),
        (Stage.RCPT, b"TO:bob", 501),
    ], "its own refusal is no news to it"


async def test_a_recipient_can_end_the_session() -> None:
    handler = ScriptedHandler()
    handler.recipient_answer = lambda _: reply.SHUTTING_DOWN
    async with Front(handler) as front:
        peer = await greeted(front)
        await peer.command(MAIL, 250)
        await peer.command(RCPT, 421)
        assert await peer.rest() == b""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        *(("RSET", 250), ("RSET x", 501), ("NOOP", 250), ("NOOP x y", 250)),
        *(("VRFY bob", 252), ("VRFY", 501), ("QUIT x", 501), ("HELP", 502), ("EXPN x", 502)),
    ],
)
async def test_the_others_may_come_at_any_time(command: str, code: int) -> None:
    async with Front() as front:
        peer = await front.peer()
        await peer.command(command, code)
        assert await peer.command("QUIT", 221)
        assert await peer.rest() == b""
