r"""SMTP dialogs as text files: parser and runner.

::

    # A comment says why.
    > EHLO client.example.org       a command; lines that follow one another leave in one write
    < 250-mail.example.com          one line of a reply, exactly
    < 250...                        or only its beginning
    <* 250                          one whole reply with this code, however many lines it has
    >! RSET\n                       octets as they are, with the escapes of Python, no CRLF added

A line that begins with `@` is a step of another kind::

    @limits errors_max=3            bounds of the session; before the first step
    @stranger                       the client is nobody we trust; before the first step
    @auth offered                   the listener has AUTH, and its clients count as under TLS
    @auth offered in clear          the same, and they do not; both before the first step
    @password wrong                 what AUTH comes to from now on: right, wrong or unknown
    @answer 550-5.7.1 No\r\n550 5.7.1 never
                                    what the next message is answered, all lines; `gone` for nothing
    @refuse bob@example.net 550 5.1.1 No such user
                                    what RCPT for this mailbox is answered
    @hold, @release                 let messages wait for their answer; answer them
    @working                        wait until the handler works on a message
    @half-close, @reset             end our side; break the connection
    @silence                        nothing is said
    @closed                         the server has ended the connection and said nothing more
    @taken <a@x> BODY=7BIT -> <b@y> NOTIFY=NEVER, <c@z>
    | Subject: hello                the next message that was taken, and its mail data, line by line

Messages that a dialog does not name with `@taken` must not exist. The whole dialog can be sent
octet by octet, which must make no difference.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

from mailshed.authentication.sasl import Mechanism
from mailshed.config.policy import AuthMode, ListenerPolicy
from mailshed.mail.envelope import TlsState
from mailshed.mail.reply import AUTH_FAILED, AUTH_UNAVAILABLE, AUTHENTICATED, Reply
from tests.support.front import Front, Peer, ScriptedHandler, Taken, until

_DIRECTIVES = {
    *("limits", "answer", "refuse", "hold", "release", "working", "half-close", "reset"),
    *("silence", "closed", "password"),
}
_PASSWORDS = {"right": AUTHENTICATED, "wrong": AUTH_FAILED, "unknown": AUTH_UNAVAILABLE}
_TLS = TlsState("TLSv1.3", "TLS_AES_256_GCM_SHA384")


@dataclass(frozen=True, slots=True)
class Send:
    """Octets for one write."""

    where: str
    data: bytes


@dataclass(frozen=True, slots=True)
class ExpectReply:
    """One whole reply."""

    where: str
    code: bytes


@dataclass(frozen=True, slots=True)
class Expect:
    """One line of a reply."""

    where: str
    text: bytes
    is_prefix: bool


@dataclass(frozen=True, slots=True)
class Message:
    """A message that must have been taken."""

    where: str
    envelope: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Directive:
    """Any other step."""

    where: str
    word: str
    argument: str


Step = Send | Expect | ExpectReply | Message | Directive


@dataclass(slots=True)
class Dialog:
    """One file: its steps in order, and the bounds it wants."""

    name: str
    steps: list[Step] = field(default_factory=list)
    limits: dict[str, float] = field(default_factory=dict)
    is_trusted: bool = True
    auth: AuthMode = AuthMode.NONE
    is_secure: bool = False


def parse(text: str, name: str) -> Dialog:
    """Read a dialog; `name` is for messages."""
    dialog = Dialog(name)
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{name}:{number}: {line}"
        mark = line[:2].rstrip()
        argument = line[len(mark) + 1 :]
        last = dialog.steps[-1] if dialog.steps else None
        match mark:
            case "" | "#":
                continue
            case ">" | ">!":
                data = unescaped(argument) if mark == ">!" else argument.encode() + b"\r\n"
                if isinstance(last, Send):
                    dialog.steps[-1] = Send(last.where, last.data + data)
                else:
                    dialog.steps.append(Send(where, data))
            case "<":
                text_, is_prefix = argument.removesuffix("..."), argument.endswith("...")
                dialog.steps.append(Expect(where, unescaped(text_), is_prefix))
            case "<*":
                dialog.steps.append(ExpectReply(where, argument.encode()))
            case "|":
                assert isinstance(last, Message), where
                data = last.data + argument.encode() + b"\r\n"
                dialog.steps[-1] = Message(last.where, last.envelope, data)
            case _:
                assert mark[0] == "@", where
                _add_directive(dialog, where, *line[1:].partition(" ")[::2])
    return dialog


def _add_directive(dialog: Dialog, where: str, word: str, argument: str) -> None:
    if word == "limits":
        for item in argument.split():
            key, _, value = item.partition("=")
            dialog.limits[key] = float(value) if "." in value else int(value)
    elif word == "stranger":
        dialog.is_trusted = False
    elif word == "auth":
        mode, _, how = argument.partition(" ")
        dialog.auth, dialog.is_secure = AuthMode(mode), how != "in clear"
    elif word == "taken":
        dialog.steps.append(Message(where, argument, b""))
    else:
        assert word in _DIRECTIVES, where
        dialog.steps.append(Directive(where, word, argument))


def unescaped(text: str) -> bytes:
    r"""Turn `\r`, `\n`, `\0`, `\\` and `\xff` into octets."""
    plain = {"r": "\r", "n": "\n", "0": "\0", "\\": "\\"}

    def octet(match: re.Match[str]) -> str:
        return chr(int(match[1][1:], 16)) if match[1][0] == "x" else plain[match[1]]

    return re.sub(r"\\(x[0-9a-f]{2}|[rn0\\])", octet, text).encode("latin-1")


async def run(dialog: Dialog, *, is_octet_by_octet: bool = False) -> None:
    """Hold `dialog` with a front of its own."""
    tls = _TLS if dialog.is_secure else None
    handler = ScriptedHandler(is_trusted=dialog.is_trusted, tls=tls)
    front = Front(handler, **dialog.limits)
    front.policy = ListenerPolicy(name="smtp", auth=dialog.auth, mechanisms=tuple(Mechanism))
    async with front:
        peer = await front.peer(greeted=False)
        player = _Player(handler, peer, is_octet_by_octet=is_octet_by_octet)
        for step in dialog.steps:
            await player.play(step)
        assert list(player.untold) == [], "messages that the dialog does not name"


class _Player:
    def __init__(self, handler: ScriptedHandler, peer: Peer, *, is_octet_by_octet: bool) -> None:
        self._handler = handler
        self._peer = peer
        self._is_octet_by_octet = is_octet_by_octet
        self._told = 0
        self._refused: dict[str, Reply] = {}
        handler.recipient_answer = lambda mailbox: self._refused.get(str(mailbox))

    @property
    def untold(self) -> Iterator[Taken]:
        """Messages that were taken and not named yet."""
        return iter(self._handler.taken[self._told :])

    async def play(self, step: Step) -> None:
        """Do one step."""
        match step:
            case Send(data=data):
                cuts = tuple(range(1, len(data))) if self._is_octet_by_octet else ()
                await self._peer.send(data, cuts=cuts)
            case Expect(where, text, is_prefix):
                line = await self._peer.line()
                fits = line.startswith(text) if is_prefix else line == text
                assert fits, f"{where}\ngot {line!r}"
            case ExpectReply(where, code):
                reply = await self._peer.reply()
                assert reply.startswith(code), f"{where}\ngot {reply!r}"
            case Message(where, envelope, data):
                await until(lambda: next(self.untold, None) is not None, where)
                taken = next(self.untold)
                self._told += 1
                assert (shown(taken), taken.data) == (envelope, data), where
            case Directive(where, word, argument):
                await self._obey(where, word, argument)
            case _:
                assert_never(step)

    async def _obey(self, where: str, word: str, argument: str) -> None:
        match word:
            case "password":
                self._handler.auth_answer = _PASSWORDS[argument]
            case "answer":
                self._handler.answers.append(None if argument == "gone" else _reply(argument))
            case "refuse":
                address, _, text = argument.partition(" ")
                self._refused[address] = _reply(text)
            case "hold" | "release":
                may_answer = self._handler.may_answer
                (may_answer.set if word == "release" else may_answer.clear)()
            case "working":
                await until(lambda: self._handler.working > 0, where)
            case "half-close":
                self._peer.half_close()
            case "reset":
                self._peer.reset()
            case "silence":
                assert await self._peer.is_silent(), where
            case "closed":
                assert await self._peer.rest() == b"", where
            case _:
                raise AssertionError(where)


def _reply(text: str) -> Reply:
    return Reply(int(text[:3]), unescaped(text) + b"\r\n")


def shown(taken: Taken) -> str:
    """The envelope of a message as a dialog writes it."""

    def path(raw: bytes, parameters: tuple[bytes, ...]) -> str:
        return " ".join([f"<{raw.decode()}>", *(each.decode() for each in parameters)])

    recipients = ", ".join(path(each.mailbox.raw, each.parameters) for each in taken.recipients)
    return f"{path(taken.reverse_path or b'', taken.parameters)} -> {recipients}"


def read(folder: Path) -> list[Dialog]:
    """All dialogs of a folder, in order of their names."""
    return [parse(path.read_text(), path.stem) for path in sorted(folder.glob("*.dialog"))]
