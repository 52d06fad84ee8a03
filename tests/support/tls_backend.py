"""A scripted mail server with TLS, AUTH and PROXY headers, which remembers what came in clear.

It is a `ScriptedBackend`, with more to say::

    async with TlsBackend(context, extensions=("STARTTLS", "AUTH PLAIN")) as server:
        server.accounts["relay"] = "secret"
        server.starttls = say("454 4.7.0 not now")

`extensions` are what it offers before TLS, `after_tls` what it offers after it. `clear` is every
octet of all clients that was not encrypted, TLS's own handshake aside: what somebody on the network
has seen.
"""

import asyncio
import socket
import ssl
from base64 import b64decode
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Self

from mailshed.mail.proxy_protocol import ProxyHeader, ProxyHeaderParser
from tests.support.scripted_backend import (
    DEFAULT_EXTENSIONS,
    Action,
    Say,
    ScriptedBackend,
    Session,
    SessionOver,
    say,
)

_GARBAGE = b"this is not TLS, is it\r\n"
READY = say("220 2.0.0 ready to start TLS")


class Handshake(Enum):
    """What the server does where a handshake is due."""

    DO = "do"
    STALL = "stall"
    LISTEN = "listen"  # as STALL, and notice when the client goes
    CLOSE = "close"
    GARBAGE = "garbage"


def server_context(
    pair: tuple[Path, Path], least: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
) -> ssl.SSLContext:
    """A server's context with this certificate and key, as of `Authority.issue`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = least
    context.load_cert_chain(*pair)
    return context


class TlsBackend(ScriptedBackend):
    """The server; see the module."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        extensions: tuple[str, ...] = (*DEFAULT_EXTENSIONS, "STARTTLS"),
        after_tls: tuple[str, ...] = DEFAULT_EXTENSIONS,
        is_implicit: bool = False,
        is_behind_proxy: bool = False,
    ) -> None:
        super().__init__(extensions=extensions)
        self.context = context
        self.after_tls = after_tls
        self.is_implicit = is_implicit
        self.is_behind_proxy = is_behind_proxy
        self.handshake = Handshake.DO
        self.starttls: Action = READY
        self.accounts: dict[str, str] = {}
        self.auth: Action | None = None
        """Answers each step of AUTH, if given; by default it depends on `accounts`."""
        self.clear = bytearray()
        self.ended = 0
        """Clients that went in the middle of a handshake."""
        self.headers: list[ProxyHeader] = []
        self.peers: list[tuple[str, int]] = []
        """Where the connections came from, as the kernel says."""
        self._encrypted: set[int] = set()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None

    @property
    def logins(self) -> int:
        """How many times AUTH was tried."""
        return sum(command.upper().startswith(b"AUTH") for command in self.commands)

    def is_encrypted(self, session: Session) -> bool:
        """Whether this session has come to TLS."""
        return id(session) in self._encrypted

    def _offered(self, session: Session) -> tuple[str, ...]:
        return self.after_tls if self.is_encrypted(session) else self.extensions

    async def __aenter__(self) -> Self:
        if not (self.is_implicit or self.is_behind_proxy):
            return await super().__aenter__()
        # Something comes before the dialog, and a stream would read more than that.
        self._listener = self._listen()
        self._listener.listen()
        self._listener.setblocking(False)
        self._accepting = asyncio.get_running_loop().create_task(self._accept(self._listener))
        return self

    async def stop(self) -> None:
        """Stop listening and drop all connections."""
        if self._accepting is None or self._listener is None:
            await super().stop()
            return
        for session in self.sessions:
            session.writer.transport.abort()
        tasks = {self._accepting, *self._tasks}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()
        self._accepting = None

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                connection, peer = await loop.sock_accept(listener)
                self.peers.append(peer[:2])
                group.create_task(self._receive(connection))

    async def _receive(self, connection: socket.socket) -> None:
        """Read what comes first, and begin the dialog."""
        loop, context = asyncio.get_running_loop(), None
        with connection:
            if self.is_behind_proxy:
                parser = ProxyHeaderParser()
                while (header := parser.feed(await loop.sock_recv(connection, 1))) is None:
                    pass
                self.headers.append(header)
            if self.is_implicit:
                context = self.context
                match self.handshake:
                    case Handshake.STALL:
                        await asyncio.Event().wait()
                    case Handshake.CLOSE:
                        return
                    case Handshake.GARBAGE:
                        await loop.sock_sendall(connection, _GARBAGE)
                        return
            protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader(), self._serve)
            with suppress(OSError):  # the client does not like our certificate
                await loop.connect_accepted_socket(lambda: protocol, connection.dup(), ssl=context)

    async def _session(self, session: Session) -> None:
        if session.writer.get_extra_info("ssl_object") is not None:
            self._encrypted.add(id(session))
        await super()._session(session)

    async def _other(self, session: Session, verb: bytes, argument: bytes) -> None:
        match verb:
            case b"STARTTLS" if not self.is_encrypted(session):
                if await self._do(session, self.starttls) == b"2":
                    await self._encrypt(session)
            case b"AUTH":
                await self._auth(session, argument)
            case _:
                await super()._other(session, verb, argument)

    async def _encrypt(self, session: Session) -> None:
        match self.handshake:
            case Handshake.STALL:
                await asyncio.Event().wait()
            case Handshake.LISTEN:
                with suppress(ConnectionError):
                    await session.reader.read()
                self.ended += 1
                raise SessionOver
            case Handshake.CLOSE:
                raise SessionOver
            case Handshake.GARBAGE:
                await self._do(session, Say(_GARBAGE, is_last=True))
        self._encrypted.add(id(session))
        try:
            await session.writer.start_tls(self.context)
        except OSError as error:  # the client does not like our certificate
            raise SessionOver from error
        session.reset()
        session.buffer.clear()

    async def _auth(self, session: Session, argument: bytes) -> None:
        mechanism, _, first = argument.partition(b" ")
        if self.auth is not None:
            await self._do(session, self.auth)
            return
        if mechanism.upper() == b"PLAIN":
            _, user, password = b64decode(first or await self._ask(session)).split(b"\0")
        else:
            user = b64decode(first or await self._ask(session))
            password = b64decode(await self._ask(session))
        is_right = self.accounts.get(user.decode()) == password.decode()
        answer = "235 2.7.0 welcome" if is_right else "535 5.7.8 who are you?"
        await self._do(session, say(answer))

    async def _ask(self, session: Session) -> bytes:
        await self._do(session, say("334 "))
        line = await self._line(session)
        session.commands.append(line)
        return line

    async def _fill(self, session: Session) -> None:
        before = len(session.buffer)
        await super()._fill(session)
        if not self.is_encrypted(session):
            self.clear += session.buffer[before:]
