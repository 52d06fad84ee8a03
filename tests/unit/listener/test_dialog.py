"""The greeting, and which command a line is. Whole dialogs are in `tests/protocol`."""

from types import SimpleNamespace
from typing import Any

import pytest

from mailshed.config.policy import TlsMode
from mailshed.listener import commands, dialog
from mailshed.listener.reader import InputBuffer
from mailshed.mail import reply
from mailshed.mail.reply import Reply, make
from tests.support.builders import session_limits
from tests.support.front import Front


class FakeSession:
    """A session that notes what is done with its lines."""

    def __init__(self) -> None:
        self.reader = InputBuffer()
        self.limits = session_limits()
        self.conduct = SimpleNamespace(errors=0)
        self.timer = SimpleNamespace(end_line=lambda: None, begin_line=lambda _seconds: None)
        self.policy = SimpleNamespace(tls=TlsMode.NONE)
        self.octets_discarded = 0
        self.is_stopping = False
        self.commands_expected = 0
        self.answers: list[tuple[str, Reply]] = []
        self.ended: list[Reply] = []

    def answer(self, verb: str, answer: Reply) -> None:
        self.answers.append((verb, answer))

    def end(self, last: Reply, _verb: str = "other") -> None:
        self.ended.append(last)

    def expect_command(self) -> None:
        self.commands_expected += 1

    def take(self, line: bytes) -> bool:
        """Feed a line, and take a command."""
        self.reader.feed(line)
        session: Any = self
        return dialog.take_command(session)


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.mark.parametrize(
    ("line", "verb", "argument"),
    [
        (b"MAIL FROM:<>\r\n", b"MAIL", b"FROM:<>"),
        (b"mAiL  FROM:<> \t\r\n", b"MAIL", b"FROM:<>"),
        (b"DATA\r\n", b"DATA", b""),
        (b"DATA \r\n", b"DATA", b""),
    ],
)
def test_a_verb_ends_at_the_first_space(
    session: FakeSession,
    monkeypatch: pytest.MonkeyPatch,
    line: bytes,
    verb: bytes,
    argument: bytes,
) -> None:
    run: list[bytes] = []
    monkeypatch.setattr(
        commands, "COMMANDS", {verb: lambda _session, argument: run.append(argument)}
    )
    assert session.take(line)
    assert run == [argument]
    assert session.commands_expected == 1, "a command that is known moves the deadline"


@pytest.mark.parametrize(
    ("line", "verb", "answer"),
    [
        (b"FOO\r\n", "other", reply.UNKNOWN_COMMAND),
        (b"\r\n", "other", reply.UNKNOWN_COMMAND),
        (b" MAIL FROM:<>\r\n", "other", reply.UNKNOWN_COMMAND),
        (b"MAIL\tFROM:<>\r\n", "other", reply.UNKNOWN_COMMAND),
        (b"\xff\xfe\r\n", "other", reply.UNKNOWN_COMMAND),
        (b"expn staff\r\n", "expn", reply.NOT_IMPLEMENTED),
        (b"NOOP\n", "other", reply.BARE_LF_IN_COMMAND),
        (3000 * b"x" + b"\r\n", "other", reply.LINE_TOO_LONG),
    ],
)
def test_what_is_no_command_of_ours_is_answered_and_moves_no_deadline(
    session: FakeSession, line: bytes, verb: str, answer: Reply
) -> None:
    assert session.take(line)
    assert session.answers == [(verb, answer)]
    assert session.commands_expected == 0


def test_a_browser_is_sent_away(session: FakeSession) -> None:
    assert session.take(b"post / HTTP/1.1\r\n")
    assert (session.ended, session.answers) == ([reply.NOT_HTTP], [])


def test_half_a_command_is_not_taken(session: FakeSession) -> None:
    assert not session.take(b"NO")
    assert session.take(b"OP") is False
    assert session.answers == []


async def test_a_client_is_greeted_when_it_is_known_who_it_is() -> None:
    async with Front() as front:
        await front.peer()
        assert front.session.arrived is front.session.client
        assert front.handler.replies == [("connect", 220)]


async def test_a_client_that_is_refused_is_not_greeted() -> None:
    async with Front() as front:
        front.handler.connect_answer = make(554, "5.7.1 Not you")
        peer = await front.peer(greeted=False)
        assert await peer.rest() == b"554 5.7.1 Not you\r\n"
