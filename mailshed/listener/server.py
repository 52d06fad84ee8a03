"""Listening sockets and the sessions on them.

Sockets are bound before anything else of the service starts, so that a taken port is a message at
start and nothing else. Each accepted connection becomes an `SmtpSession`, unless it is over a cap
(`arrival`). At a stop the sockets close first, then idle sessions are told 421, then those with a
transaction under way are given time to finish it.
"""

import asyncio
import errno
import socket
from typing import Protocol

from aiosmtpd.smtp import SMTP

from mailshed.admission.sessions import Visitor
from mailshed.config.policy import ListenerPolicy, SessionLimits
from mailshed.errors import StartError
from mailshed.listener.arrival import Arrival
from mailshed.listener.caps import SessionCaps
from mailshed.listener.handshakes import Handshakes
from mailshed.listener.interface import MailHandler
from mailshed.listener.protocol import SmtpSession
from mailshed.listener.proxy_header import ProxyHeaderReceiver
from mailshed.mail import reply
from mailshed.mail.networks import Address
from mailshed.mail.proxy_protocol import Endpoint
from mailshed.mail.reply import Reply
from mailshed.metrics.labels import Shut
from mailshed.supervisor import Supervisor
from mailshed.turnstile import Turnstile

# Connections the kernel holds for us between two turns of the event loop; asyncio's default of 100
# is what a burst of a few hundred clients overruns.
BACKLOG = 4096

# Connections that are accepted in one turn of the event loop. libuv accepts one for each descriptor
# that listens, so a socket has so many of them; with one, thousands of clients who come while the
# loop is busy wait for as many turns, which is seconds. More would make the turns long.
ACCEPTS_PER_TURN = 8


# Sessions whose client has left that are ended in one turn: some 50 us each. Ten thousand clients
# may leave at the same moment, as when a firewall between us and them starts anew.
DEPARTURES_PER_TURN = 64


class Factory(Protocol):
    """Makes the sessions of one listener."""

    policy: ListenerPolicy
    limits: SessionLimits
    """Of the sessions that are made from now on."""

    def __call__(self) -> SmtpSession:
        """Make one session, not connected yet."""
        ...


class SessionFactory:
    """Makes the sessions of a listener cheaply: what they have in common is on a class of its own.

    The constructor of aiosmtpd inspects the handler and the class by reflection, which costs more
    than all the rest of a short session. So it runs once, and what it has set are attributes of
    that class: an inherited method finds them, and no session has to carry them.
    """

    def __init__(
        self,
        *,
        policy: ListenerPolicy,
        hostname: str,
        handler: MailHandler,
        limits: SessionLimits,
        handshakes: Handshakes | None = None,
    ) -> None:
        """`handshakes` is needed by a listener that has TLS."""
        self.policy = policy
        self.limits = limits
        """Of the sessions that are made from now on; may be replaced."""
        self._loop = asyncio.get_running_loop()
        template = SMTP(
            object(),
            hostname=hostname,
            ident="mailshed",
            data_size_limit=limits.message_size_max,
            timeout=limits.command_timeout,
            loop=self._loop,
        )
        of_streams = vars(asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=self._loop)))
        shared = {name: value for name, value in vars(template).items() if name not in of_streams}
        # Bound methods of the template; `commands` has the table of ours.
        shared.update(_smtp_methods={}, _auth_methods={}, _handle_hooks={})
        shared.update(
            handler=handler,
            policy=policy,
            handshakes=handshakes,
            tasks=Supervisor(self._report),
            departures=Turnstile(DEPARTURES_PER_TURN),
            greeting=reply.make(220, f"{hostname} ESMTP mailshed"),
        )
        self._new: type[SmtpSession] = type("SmtpSession", (SmtpSession,), shared)

    def __call__(self) -> SmtpSession:
        """Make one session, not connected yet."""
        return self._new(self.limits)

    def _report(self, name: str, error: BaseException) -> None:
        """Tell of a fault of ours that no session has caught."""
        self._loop.call_exception_handler({"message": f"{name} failed", "exception": error})


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
    caps: SessionCaps

    def visitor(self, address: Address, policy: ListenerPolicy, *, is_proxied: bool) -> Visitor:
        """Say what is known of who connects from this address, itself or through a proxy."""
        ...


class SmtpServer:
    """One listener: its socket, its sessions, its limit."""

    def __init__(
        self, factory: Factory, listening: socket.socket, *, handler: SessionCounter
    ) -> None:
        self.factory = factory
        self._listening = listening
        self._handler = handler
        self._servers: list[asyncio.Server] = []
        self._is_accepting = True
        self._arrival = Arrival(self)
        self.awaited: set[ProxyHeaderReceiver] = set()
        """Proxies whose header has not come yet."""

    @property
    def port(self) -> int:
        """The port that is bound, also if the configuration said 0."""
        port = self._listening.getsockname()[1]
        assert isinstance(port, int)
        return port

    async def start(self) -> None:
        """Begin to accept connections."""
        loop = asyncio.get_running_loop()
        # Replies that nobody reads lie in the kernel before they lie here, and stay there when the
        # session has ended. Accepted sockets inherit what is set here (tcp(7)).
        patience = round(self.factory.limits.reply_timeout * 1000)
        self._listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
        twins = [self._listening.dup() for _ in range(ACCEPTS_PER_TURN - 1)]
        for listening in (self._listening, *twins):
            self._servers.append(
                await loop.create_server(self._new_protocol, sock=listening, backlog=BACKLOG)
            )

    def _new_protocol(self) -> asyncio.Protocol:
        return self._arrival

    # What an arrival asks.

    @property
    def policy(self) -> ListenerPolicy:
        """What the listener offers."""
        return self.factory.policy

    @property
    def proxy_timeout(self) -> float:
        """Seconds that a proxy may take for its header."""
        return self.factory.limits.proxy_timeout

    def visitor(self, peer: Endpoint, *, is_proxied: bool) -> Visitor:
        """Say what is known of whoever connects from there."""
        return self._handler.visitor(peer.address, self.policy, is_proxied=is_proxied)

    def enter(self, visitor: Visitor) -> Reply | None:
        """Take a place for a connection, or say why there is none."""
        if not self._is_accepting:  # it was in the loop's hands when the socket closed
            return reply.SHUTTING_DOWN
        return self._handler.caps.enter(visitor, self.policy.name, self.factory.limits)

    def leave(self, visitor: Visitor) -> None:
        """Give a place back."""
        self._handler.caps.leave(visitor, self.factory.limits)

    def refuse(self, visitor: Visitor, cause: Shut, answer: Reply | None, detail: str) -> None:
        """Note that a connection is turned away, for another reason than want of a place."""
        self._handler.caps.refuse(visitor, self.policy.name, cause, answer, detail)

    def new_session(self, visitor: Visitor, peer: Endpoint) -> SmtpSession:
        """Make the session of a client that has a place."""
        session = self.factory()
        session.visitor, session.peer = visitor, peer
        self._handler.open_sessions.add(session)
        return session

    # The end.

    def stop_accepting(self) -> None:
        """Close the listening socket; sessions go on. Safe to call twice, or without a start."""
        self._is_accepting = False
        for awaited in list(self.awaited):
            awaited.abort()
        for server in self._servers:
            server.close()
        if not self._servers:
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
            session.transport.abort()
    return len(left)
