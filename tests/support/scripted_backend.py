"""A mail server that does what a test tells it, stage by stage, and remembers what it saw.

Left alone it is a plain, correct server. `once` and `always` replace its behaviour at a stage::

    async with ScriptedBackend() as server:
        server.once(Stage.RCPT, say("550 5.1.1 no such user"))
        server.always(Stage.DOT, STALL)

`once` may be called several times; its actions are used up in order, over all connections, and
then `always` or the plain behaviour comes back. A stage is consulted when the command has been
read; `Stage.CONNECT` is the greeting and `Stage.DOT` the end of the mail data, be it a dot or the
last chunk of BDAT. `is_lmtp` makes it an LMTP server (RFC 2033): then `Stage.DOT` is consulted once
for each recipient it has accepted. XCLIENT and XFORWARD are known if they are among the extensions,
and `answers` replaces what they are answered.
"""

import asyncio
import socket
import struct
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from mailshed.terms import Stage

DEFAULT_EXTENSIONS = ("PIPELINING", "SIZE 52428800", "8BITMIME", "DSN")


@dataclass(frozen=True, slots=True)
class Say:
    """Send these octets, which are the reply as far as the script is concerned."""

    octets: bytes
    is_last: bool = False
    """Close the connection afterwards."""


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection without an answer: FIN, or RST if `is_reset`."""

    is_reset: bool = False


@dataclass(frozen=True, slots=True)
class Stall:
    """Never answer, never read again, keep the connection open."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Do `then` when `event` is set."""

    event: asyncio.Event
    then: Say


Action = Say | Close | Stall | Wait

CLOSE = Close()
RESET = Close(is_reset=True)
STALL = Stall()


def say(*lines: str) -> Say:
    """Answer with these lines, as they are."""
    return Say("".join(f"{line}\r\n" for line in lines).encode("utf-8"))


def bye(line: str) -> Say:
    """Answer with this line and close, as a server does with 421."""
    return Say(f"{line}\r\n".encode(), is_last=True)


@dataclass(slots=True, kw_only=True)
class Received:
    """A message whose end of data was seen; `data` is in wire form, without the final dot."""

    reverse_path: bytes
    forward_paths: list[bytes]
    data: bytes
    is_accepted: bool
    accepted_paths: list[bytes] = field(default_factory=list)
    """For whom it was answered with 2xx: everybody or nobody, unless this is LMTP."""
    is_chunk: bool = False
    """Whether it came by BDAT; `data` is not dot-stuffed then."""
    identity: dict[str, str] = field(default_factory=dict)
    """What the session was said to be by XCLIENT, names in upper case, xtext as it came."""
    forwarded: dict[str, str] = field(default_factory=dict)
    """The same of XFORWARD, for this message."""


@dataclass(slots=True)
class Session:
    """One connection as the server saw it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    commands: list[bytes] = field(default_factory=list)
    buffer: bytearray = field(default_factory=bytearray)
    reverse_path: bytes | None = None
    forward_paths: list[bytes] = field(default_factory=list)
    identity: dict[str, str] = field(default_factory=dict)
    forwarded: dict[str, str] = field(default_factory=dict)
    is_greeted: bool = False
    """Whether EHLO came, since the greeting or XCLIENT."""

    def reset(self) -> None:
        """Forget the envelope."""
        self.reverse_path = None
        self.forward_paths = []
        self.forwarded = {}


class SessionOver(Exception):
    """The session is to end."""


class ScriptedBackend:
    """The server; an async context manager that listens on a free port of 127.0.0.1."""

    def __init__(
        self,
        *,
        extensions: tuple[str, ...] = DEFAULT_EXTENSIONS,
        receive_buffer: int = 0,
        is_lmtp: bool = False,
    ) -> None:
        self.extensions = extensions
        self.is_lmtp = is_lmtp
        self.answers: defaultdict[bytes, deque[Action]] = defaultdict(deque)
        """What XCLIENT and XFORWARD are answered, once each, in order."""
        self.host = "127.0.0.1"
        self.port = 0
        self.sessions: list[Session] = []
        """Every connection since the start, the open and the closed ones."""
        self.received: list[Received] = []
        self.early: tuple[int, Action] | None = None
        """What to do inside the mail data after so many octets of it, once."""
        self.may_read = asyncio.Event()
        """Cleared, the server reads no more mail data."""
        self.may_read.set()
        self.rcpt: Callable[[bytes], Action] | None = None
        """Decides for each forward-path, if given; `once` and `always` come first."""
        self.rset: Action = say("250 2.0.0 reset")
        self._receive_buffer = receive_buffer
        self._once: defaultdict[Stage, deque[Action]] = defaultdict(deque)
        self._always: dict[Stage, Action] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def once(self, stage: Stage, *actions: Action) -> None:
        """Do each of `actions` once, in order, when `stage` comes."""
        self._once[stage].extend(actions)

    def always(self, stage: Stage, action: Action | None) -> None:
        """Do `action` whenever `stage` comes; None for the plain behaviour."""
        if action is None:
            self._always.pop(stage, None)
        else:
            self._always[stage] = action

    @property
    def messages(self) -> list[Received]:
        """The messages that were answered with 2xx, in order."""
        return [message for message in self.received if message.is_accepted]

    @property
    def commands(self) -> list[bytes]:
        """All commands of all connections, without CRLF, connection by connection."""
        return [command for session in self.sessions for command in session.commands]

    @property
    def open_sessions(self) -> int:
        """How many connections are open."""
        return len(self._tasks)

    def push(self, octets: bytes) -> None:
        """Send `octets` on all connections, unasked."""
        for session in self.sessions:
            if not session.writer.is_closing():
                session.writer.write(octets)

    def hang_up(self) -> None:
        """Close all connections, unasked."""
        for session in self.sessions:
            session.writer.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, sock=self._listen())
        return self

    def _listen(self) -> socket.socket:
        # Named in full: asyncio sets TCP_NODELAY only if the protocol is not left to the kernel.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._receive_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        listener.bind((self.host, self.port))
        self.port = listener.getsockname()[1]
        return listener

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop listening and drop all connections; entering again listens on the same port."""
        if self._server is None:
            return
        self._server.close()
        for session in self.sessions:
            session.writer.transport.abort()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        session = Session(reader, writer)
        self.sessions.append(session)
        try:
            await self._session(session)
        except (SessionOver, ConnectionError, asyncio.CancelledError):
            pass  # cancelled by `stop`, which waits for this task to end
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _session(self, session: Session) -> None:
        await self._act(session, Stage.CONNECT, say("220 scripted.test ESMTP"))
        while True:
            line = await self._line(session)
            session.commands.append(line)
            verb, _, argument = line.partition(b" ")
            match verb.upper():
                case (b"EHLO" | b"LHLO") as hello if (hello == b"LHLO") == self.is_lmtp:
                    session.is_greeted = True
                    lines = ("scripted.test", *self._offered(session))
                    dashes = "-" * (len(lines) - 1) + " "
                    plain = say(*(f"250{d}{text}" for d, text in zip(dashes, lines, strict=True)))
                    await self._act(session, Stage.EHLO, plain)
                case b"MAIL":
                    await self._mail(session, argument)
                case b"RCPT":
                    await self._rcpt(session, argument)
                case b"DATA":
                    await self._data(session)
                case b"BDAT" if "CHUNKING" in self.extensions:
                    await self._bdat(session, argument)
                case (b"XCLIENT" | b"XFORWARD") as told:
                    await self._told(session, told, argument)
                case b"RSET":
                    session.reset()
                    await self._do(session, self.rset)
                case b"QUIT":
                    await self._act(session, Stage.QUIT, bye("221 2.0.0 bye"))
                case _:
                    await self._other(session, verb.upper(), argument)

    async def _told(self, session: Session, verb: bytes, argument: bytes) -> None:
        """Take attributes as Postfix does: XCLIENT leads back to the greeting."""
        offered = {each.partition(" ")[0] for each in self.extensions}
        plain = say("220 again ESMTP" if verb == b"XCLIENT" else "250 2.0.0 noted")
        if verb.decode() not in offered:
            plain = say("550 5.7.0 insufficient authorization")
        elif session.reverse_path is not None:
            plain = say("503 5.5.1 mail transaction in progress")
        action = self.answers[verb].popleft() if self.answers[verb] else plain
        if await self._do(session, action) != b"2":
            return
        pairs = (each.partition("=") for each in argument.decode().split(" "))
        attributes = {name.upper(): value for name, _, value in pairs}
        if verb == b"XCLIENT":
            session.identity |= attributes
            session.is_greeted = False
            session.reset()
        else:
            session.forwarded |= attributes

    def _offered(self, _session: Session) -> tuple[str, ...]:
        """What EHLO tells this client."""
        return self.extensions

    async def _other(self, session: Session, _verb: bytes, _argument: bytes) -> None:
        """Answer a command that plain SMTP does not have."""
        await self._do(session, say("500 5.5.2 what?"))

    async def _mail(self, session: Session, argument: bytes) -> None:
        plain = say("250 2.1.0 sender ok")
        if not session.is_greeted:
            plain = say("503 5.5.1 need EHLO")
        elif session.reverse_path is not None:
            plain = say("503 5.5.1 nested MAIL")
        if await self._act(session, Stage.MAIL, plain) == b"2":
            session.reverse_path = _path(argument)

    async def _rcpt(self, session: Session, argument: bytes) -> None:
        path = _path(argument)
        plain: Action = say("250 2.1.5 recipient ok")
        if session.reverse_path is None:
            plain = say("503 5.5.1 need MAIL")
        elif self.rcpt is not None:
            plain = self.rcpt(path)
        if await self._act(session, Stage.RCPT, plain) == b"2":
            session.forward_paths.append(path)

    async def _data(self, session: Session) -> None:
        plain = say("354 go ahead")
        if not session.forward_paths:
            plain = say("554 5.5.1 no valid recipients")
        if await self._act(session, Stage.DATA, plain) != b"3":
            return
        await self._end(session, await self._mail_data(session))

    async def _bdat(self, session: Session, argument: bytes) -> None:
        """RFC 3030: the chunk is read whatever becomes of it."""
        size, *is_last = argument.upper().split(b" ")
        while len(session.buffer) < int(size):
            await self._fill(session)
        data = bytes(session.buffer[: int(size)])
        del session.buffer[: int(size)]
        if not session.forward_paths:
            await self._do(session, say("503 5.5.1 no valid recipients"))
        else:
            assert is_last == [b"LAST"], "this server takes a message in one chunk"
            await self._end(session, data, is_chunk=True)

    async def _end(self, session: Session, data: bytes, *, is_chunk: bool = False) -> None:
        """Answer a complete message, once or for each recipient."""
        message = Received(
            reverse_path=session.reverse_path or b"",
            forward_paths=session.forward_paths,
            data=data,
            is_accepted=False,
            is_chunk=is_chunk,
            identity=dict(session.identity),
            forwarded=session.forwarded,
        )
        self.received.append(message)
        session.reset()
        plain = say("250 2.0.0 taken")
        if not message.forward_paths:
            plain = say("554 5.5.1 no valid recipients")
        for paths in (
            [[each] for each in message.forward_paths] if self.is_lmtp else [message.forward_paths]
        ):
            action = self._action(Stage.DOT, plain)
            answer = action.then if isinstance(action, Wait) else action
            if isinstance(answer, Say) and answer.octets.startswith(b"2"):
                message.is_accepted = True
                message.accepted_paths += paths
            await self._do(session, action)

    async def _mail_data(self, session: Session) -> bytes:
        """Read to the end of data and leave what comes after it in the buffer."""
        buffer = session.buffer
        buffer[:0] = b"\r\n"  # so that a dot at the very start is one after CRLF
        searched = 0
        while (end := buffer.find(b"\r\n.\r\n", searched)) < 0:
            if self.early is not None and len(buffer) - 2 >= self.early[0]:
                (_, action), self.early = self.early, None
                await self._do(session, action)
            searched = max(0, len(buffer) - 4)
            await self.may_read.wait()
            await self._fill(session)
        data = bytes(buffer[2 : end + 2])
        del buffer[: end + 5]
        return data

    async def _line(self, session: Session) -> bytes:
        while (end := session.buffer.find(b"\r\n")) < 0:
            await self._fill(session)
        line = bytes(session.buffer[:end])
        del session.buffer[: end + 2]
        return line

    async def _fill(self, session: Session) -> None:
        chunk = await session.reader.read(65536)
        if not chunk:
            raise SessionOver
        session.buffer += chunk

    def _action(self, stage: Stage, plain: Action) -> Action:
        if self._once[stage]:
            return self._once[stage].popleft()
        return self._always.get(stage, plain)

    async def _act(self, session: Session, stage: Stage, plain: Action) -> bytes:
        return await self._do(session, self._action(stage, plain))

    async def _do(self, session: Session, action: Action) -> bytes:
        """Obey; return the first octet that was said."""
        match action:
            case Say(octets, is_last):
                session.writer.write(octets)
                await session.writer.drain()
                if is_last:
                    raise SessionOver
                return octets[:1]
            case Close(is_reset):
                if is_reset:
                    linger = struct.pack("ii", 1, 0)
                    raw = session.writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    session.writer.transport.abort()
                raise SessionOver
            case Wait(event, then):
                await event.wait()
                return await self._do(session, then)
            case Stall():
                await asyncio.Event().wait()
                raise AssertionError("unreachable")


def _path(argument: bytes) -> bytes:
    """The path inside the angle brackets of an argument of MAIL or RCPT."""
    return argument[argument.index(b"<") + 1 : argument.rindex(b">")]
