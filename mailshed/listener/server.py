"""Listening sockets and the sessions on them.

Sockets are bound before anything else of the service starts, so that a taken port is a message at
start and nothing else. Each accepted connection becomes an `SmtpSession`; when as many are open as
the configuration allows, a connection gets 421 and ends, without the cost of a session. The last of
them are for clients that may always send (the clinical networks). At a stop the sockets close
first, then idle sessions are told 421, then those with a transaction under way are given time to
finish it.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Protocol, cast

from mailshed.config.policy import ListenerPolicy, SessionLimits
from mailshed.errors import StartError
from mailshed.listener.interface import MailHandler
from mailshed.listener.protocol import SmtpSession
from mailshed.listener.reader import WireReader
from mailshed.mail import reply
from mailshed.mail.reply import Reply

# Connections the kernel holds for us between two turns of the event loop; asyncio's default of 100
# is what a burst of a few hundred clients overruns.
BACKLOG = 4096

# A share of all sessions that only clients of clinical networks may use, so that whoever opens
# connections without end cannot keep them out. Of the default limit it is 250, far more than such
# a network has systems that send, and the others do not miss it.
RESERVED_SHARE = 0.05


def session_reserve(sessions_max: int) -> int:
    """How many of so many sessions are held in reserve: one at least, unless there is only one."""
    return min(max(1, int(sessions_max * RESERVED_SHARE)), sessions_max - 1)


class SessionFactory:
    """Makes sessions cheaply: aiosmtpd's constructor runs once, and its result is copied.

    The constructor inspects the handler and the class by reflection, which costs more than all
    the rest of a short session. What must not be shared between sessions is made anew here; a
    test holds the attributes of a copy against those of a constructed one.
    """

    def __init__(
        self, *, policy: ListenerPolicy, hostname: str, handler: MailHandler, limits: SessionLimits
    ) -> None:
        self.policy = policy
        self.handler = handler
        self.limits = limits
        self._loop = asyncio.get_running_loop()
        template = SmtpSession(
            object(),
            hostname=hostname,
            ident="mailshed",
            data_size_limit=limits.message_size_max,
            timeout=limits.command_timeout,
            loop=self._loop,
        )
        self._shared = {
            name: value for name, value in vars(template).items() if name not in _stream_state()
        }
        # Bound methods of the template; `SmtpSession` has its own table of commands.
        self._shared.update(_smtp_methods={}, _auth_methods={}, _handle_hooks={})

    def __call__(self) -> SmtpSession:
        """Make one session, not connected yet."""
        session = SmtpSession.__new__(SmtpSession)
        asyncio.StreamReaderProtocol.__init__(
            session,
            WireReader(self._loop),
            client_connected_cb=session._cb_client_connected,  # noqa: SLF001 - as its parent does
            loop=self._loop,
        )
        vars(session).update(self._shared)
        session.begin(self.handler, self.limits, self.policy)
        return session


def _stream_state() -> frozenset[str]:
    """Names of the attributes that asyncio's part of a session sets, each session its own."""

    async def nothing() -> None: ...

    loop = asyncio.get_running_loop()
    protocol = asyncio.StreamReaderProtocol(
        asyncio.StreamReader(loop=loop), lambda _reader, _writer: nothing(), loop
    )
    return frozenset(vars(protocol))


class _Arrival(asyncio.Protocol):
    """A connection whose peer is not known yet: it becomes a session, or hears one line and ends.

    Only here, and not when the event loop asks for a protocol, is there an address to judge by.
    """

    def __init__(self, admit: Callable[[str | None], SmtpSession | Reply]) -> None:
        self._admit = admit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, but are no subclasses.
        stream = cast("asyncio.Transport", transport)
        peer = stream.get_extra_info("peername")
        admitted = self._admit(peer[0] if peer else None)
        if isinstance(admitted, Reply):
            stream.write(admitted.wire)
            stream.close()
            return
        stream.set_protocol(admitted)
        admitted.connection_made(stream)


def bind(name: str, host: str, port: int) -> socket.socket:
    """Open a listening socket; raises StartError with advice if it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without the protocol named, asyncio does not set TCP_NODELAY on accepted connections.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise StartError(
            f"listener {name}: cannot listen on {host} port {port}: {error.strerror}"
            f"{_advice(error.errno, host, port)}"
        ) from error
    return listening


def _advice(number: int | None, host: str, port: int) -> str:
    """What to do about a bind(2) that failed; empty if the kernel's own word is all there is."""
    match number:
        case errno.EADDRINUSE:
            return (
                ". Another server has this port; "
                f"`ss -ltnp 'sport = :{port}'` shows which. Stop it, or choose another port."
            )
        case errno.EADDRNOTAVAIL:
            return f". {host} is not an address of this host; `ip addr` lists those that are."
        case errno.EACCES:
            return ". A port below 1024 needs root or CAP_NET_BIND_SERVICE."
        case _:
            return ""


class SessionCounter(Protocol):
    """Who knows all open sessions of the process."""

    open_sessions: set[SmtpSession]

    def refused(self, listener: str) -> None:
        """A connection to `listener` was over the limit."""
        ...

    def may_use_reserve(self, host: str) -> bool:
        """Whether a client at this address is one for whom sessions are held in reserve."""
        ...


class SmtpServer:
    """One listener: its socket, its sessions, its limit."""

    def __init__(
        self, factory: SessionFactory, listening: socket.socket, *, handler: SessionCounter
    ) -> None:
        self.factory = factory
        self._listening = listening
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._is_accepting = True

    @property
    def port(self) -> int:
        """The port that is bound, also if the configuration said 0."""
        port = self._listening.getsockname()[1]
        assert isinstance(port, int)
        return port

    async def start(self) -> None:
        """Begin to accept connections."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._new_protocol, sock=self._listening, backlog=BACKLOG
        )

    def _new_protocol(self) -> asyncio.Protocol:
        return _Arrival(self._admit)

    def _admit(self, host: str | None) -> SmtpSession | Reply:
        """Make the session of a client at this address (None: gone already), or say why not."""
        if not self._is_accepting:  # it was in the loop's hands when the socket closed
            return reply.SHUTTING_DOWN
        if not self._has_room_for(host):
            self._handler.refused(self.factory.policy.name)
            return reply.TOO_MANY_SESSIONS
        session = self.factory()
        self._handler.open_sessions.add(session)
        return session

    def _has_room_for(self, host: str | None) -> bool:
        sessions_max = self.factory.limits.sessions_max
        room = sessions_max - len(self._handler.open_sessions)
        if room > session_reserve(sessions_max):
            return True
        return room > 0 and host is not None and self._handler.may_use_reserve(host)

    def stop_accepting(self) -> None:
        """Close the listening socket; sessions go on. Safe to call twice, or without a start."""
        self._is_accepting = False
        if self._server is not None:
            self._server.close()
        else:
            self._listening.close()


async def finish_sessions(sessions: set[SmtpSession], timeout: float) -> int:
    """Tell idle sessions 421, let the others finish for `timeout` seconds; return how many did not.

    Those that did not are cut off; nothing was promised to them.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    for session in list(sessions):
        session.stop()
    while sessions and (seconds := deadline - loop.time()) > 0:
        await asyncio.wait([session.closed for session in sessions], timeout=seconds)
    left = list(sessions)
    for session in left:
        if session.transport is not None:
            cast("asyncio.WriteTransport", session.transport).abort()
    return len(left)
