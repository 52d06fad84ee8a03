"""The SMTP front in this process: a real listener on loopback, with a scripted mail handler behind.

`Front` is what a session is in the daemon, sockets included, without anything behind it: its
handler remembers the messages it is given and answers what the test says. `Peer` is the other end
of one connection; it sends octets as they are, cut as the test wants them, and reads replies
without tidying anything up. Both work on asyncio's own loop and on uvloop.
"""

import asyncio
import socket
import struct
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from io import StringIO
from ipaddress import ip_address
from pathlib import Path
from time import monotonic
from typing import Any, Self

from mailshed.admission.sessions import Standing, Visitor
from mailshed.authentication.sasl import Credentials
from mailshed.config.policy import ListenerPolicy, ProxyMode, SessionLimits
from mailshed.errors import CredentialsError
from mailshed.listener.caps import SessionCaps
from mailshed.listener.deadlines import Phase
from mailshed.listener.handshakes import Handshakes
from mailshed.listener.protocol import SmtpSession
from mailshed.listener.server import Factory, SessionFactory, SmtpServer, bind
from mailshed.mail.address import Mailbox
from mailshed.mail.content import Content, ContentStore
from mailshed.mail.envelope import Client, Recipient, TlsState
from mailshed.mail.networks import Address
from mailshed.mail.proxy_protocol import Endpoint
from mailshed.mail.reply import AUTH_FAILED, AUTHENTICATED, INTERNAL, Reply, make
from mailshed.mail.xclient import Introduction
from mailshed.maillog import MailLog
from mailshed.metrics import Metrics, new_registry
from mailshed.terms import Stage
from tests.support.builders import content_store, session_limits

HOSTNAME = "mail.example.com"
DEADLINE = 20.0
"""Seconds for anything that should happen at once, on a busy machine."""
TAKEN = make(250, "2.0.0 Ok: taken")


async def settle(turns: int = 8) -> None:
    """Let the event loop turn, so that what was sent over loopback is read as it was cut."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until `condition` holds; fail after the deadline, saying `what` did not happen."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE
    while not condition():
        assert loop.time() < deadline, f"never happened: {what}"
        await asyncio.sleep(0.001)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One message that the handler was given."""

    reverse_path: bytes | None
    parameters: tuple[bytes, ...]
    recipients: tuple[Recipient, ...]
    data: bytes
    helo: str
    is_extended: bool

    @property
    def forward_paths(self) -> list[bytes]:
        """The recipients' addresses."""
        return [each.mailbox.raw for each in self.recipients]


@dataclass(eq=False, slots=True)
class ScriptedHandler:
    """What stands behind the sessions: it does as the test says."""

    is_trusted: bool = True
    answers: deque[Reply | BaseException | None] = field(default_factory=deque)
    """For the next messages, in order; then they are all taken."""
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared, messages wait for their answer."""
    rest: Callable[[], Awaitable[None]] | None = None
    """Makes the reply to MAIL late."""
    recipient_answer: Callable[[Mailbox], Reply | None] = field(default=lambda _mailbox: None)
    connect_answer: Reply | None = None
    store: ContentStore = field(default_factory=lambda: content_store(Path(tempfile.gettempdir())))
    open_sessions: set[SmtpSession] = field(default_factory=set)
    sessions: list[SmtpSession] = field(default_factory=list)
    """All that ever connected."""
    clinical_hosts: tuple[str, ...] = ("127.0.0.1",)
    """Addresses of clients that may use the sessions held in reserve."""
    proxy_hosts: tuple[str, ...] = ("127.0.0.1",)
    """Addresses of trusted proxies, where a listener has any."""
    metrics: Metrics = field(default_factory=lambda: Metrics(new_registry()))
    log: StringIO = field(default_factory=StringIO)
    caps: SessionCaps = field(init=False)
    replies: list[tuple[str, int]] = field(default_factory=list)
    introductions: list[Introduction] = field(default_factory=list)
    introduction_answer: Reply | None = None
    delays: list[Phase] = field(default_factory=list)
    rejections: list[tuple[Stage, bytes, int]] = field(default_factory=list)
    """Refused commands that were not asked about: their arguments and codes."""
    discarded_data: list[tuple[int, Reply | None]] = field(default_factory=list)
    """Mail data that became no message: octets that came, and what the client was told."""
    taken: list[Taken] = field(default_factory=list)
    offered_behind: frozenset[str] = frozenset({"SMTPUTF8"})
    """Extensions of the mail servers behind."""
    tls: TlsState | None = None
    """What protects connections from their first octet on, as far as sessions are told."""
    said: list[Credentials | CredentialsError] = field(default_factory=list)
    """What clients have said with AUTH."""
    auth_answer: Reply = AUTHENTICATED
    may_verify: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared, AUTH waits for its answer."""
    verifying: int = 0
    """Those that wait for it."""
    sender_answer: Reply | None = None
    is_keeping: bool = True
    """Whether mail data is remembered, or only counted."""
    octets: int = 0
    """Of mail data, of all messages."""
    working: int = 0
    """Messages that wait for their answer."""
    tasks: dict[SmtpSession, "asyncio.Task[None]"] = field(default_factory=dict)
    """The work on the last message of a session; it ends with it, unlike in the daemon."""

    def __post_init__(self) -> None:
        self.may_answer.set()
        self.may_verify.set()
        self.caps = SessionCaps(
            metrics=self.metrics,
            maillog=MailLog(self.log),
            now=monotonic,
            on_stress=self._fit_all,
        )

    def _fit_all(self) -> None:
        for session in self.open_sessions:
            self._fit(session)

    def _fit(self, session: SmtpSession) -> None:
        is_stranger = session.visitor is None or session.visitor.standing is Standing.STRANGER
        session.hurry(is_hurried=self.caps.is_stressed and is_stranger)

    def connected(self, session: SmtpSession) -> Reply | None:
        """Make a client of loopback, or of who the proxy says it is."""
        self.sessions.append(session)
        peer = session.peer or Endpoint(address=ip_address("127.0.0.1"), port=1)
        session.client = Client(
            session_id=f"s{len(self.sessions)}",
            listener=session.listener,
            address=peer.address,
            port=peer.port,
            is_trusted=self.is_trusted,
            tls=self.tls,
        )
        self._fit(session)
        return self.connect_answer

    def disconnected(self, session: SmtpSession) -> None:
        """Forget the session."""
        if session in self.tasks:
            self.tasks.pop(session).cancel()
        self.open_sessions.discard(session)
        if session.visitor is not None:
            self.caps.leave(session.visitor, session.limits)
            session.visitor = None

    def visitor(self, address: Address, policy: ListenerPolicy, *, is_proxied: bool) -> Visitor:
        """Ask the test."""
        if policy.proxy is not ProxyMode.NONE and not is_proxied:
            if str(address) in self.proxy_hosts:
                return Visitor(address, Standing.PROXY)
        elif str(address) in self.clinical_hosts:
            return Visitor(address, Standing.CLINICAL)
        return Visitor(address, Standing.STRANGER)

    @property
    def refusals(self) -> list[str]:
        """Why connections got no session."""
        counted = self.metrics.registry.collect()
        return [
            sample.labels["cause"]
            for family in counted
            if family.name == "mailshed_smtp_connections_refused"
            for sample in family.samples
            for _ in range(int(sample.value))
        ]

    def replied(self, session: SmtpSession, verb: str, sent: Reply) -> None:
        """Remember a reply."""
        self.replies.append((verb, sent.code))

    def is_proxy(self, session: SmtpSession) -> bool:
        """Ask the test."""
        return str(session.arrived.address) in self.proxy_hosts

    def introduced(self, session: SmtpSession, said: Introduction) -> Reply | None:
        """Believe it."""
        self.introductions.append(said)
        return self.introduction_answer

    def overdue(self, session: SmtpSession, phase: Phase) -> None:
        """Remember what the client was too slow with."""
        self.delays.append(phase)

    async def authenticate(
        self, session: SmtpSession, said: Credentials | CredentialsError
    ) -> Reply:
        """Remember what was said, wait if the test wants that, and answer."""
        self.said.append(said)
        self.verifying += 1
        try:
            await self.may_verify.wait()
        finally:
            self.verifying -= 1
        if isinstance(said, CredentialsError):
            return AUTH_FAILED
        if self.auth_answer.is_success:
            session.client = replace(session.client, user=said.login, is_trusted=True)
        return self.auth_answer

    def sender(self, session: SmtpSession) -> Reply | None:
        """Ask the test."""
        return self.sender_answer

    def mail(self, session: SmtpSession) -> Callable[[], Awaitable[None]] | None:
        """Be slow if the test says so."""
        return self.rest

    def recipient(self, session: SmtpSession, mailbox: Mailbox) -> Reply | None:
        """Ask the test."""
        return self.recipient_answer(mailbox)

    def rejected(self, session: SmtpSession, stage: Stage, argument: bytes, answer: Reply) -> None:
        """Remember a refused command."""
        self.rejections.append((stage, argument, answer.code))

    def discarded(self, session: SmtpSession, octets: int, answer: Reply | None) -> None:
        """Remember mail data that became no message."""
        self.discarded_data.append((octets, answer))

    def is_offered_behind(self, keyword: str) -> bool:
        """Ask the test."""
        return keyword in self.offered_behind

    def new_content(self, session: SmtpSession) -> Content:
        """Make a place for mail data."""
        return self.store.new(is_privileged=self.is_trusted)

    def content(
        self, session: SmtpSession, content: Content, answer: Callable[[Reply | None], None]
    ) -> None:
        """Have the message worked on; a fault that is due happens at once."""
        if self.answers and isinstance(fault := self.answers[0], BaseException):
            self.answers.popleft()
            raise fault

        async def work() -> None:
            try:
                said = await self.work(session, content)
            except Exception as error:  # noqa: BLE001 - as in the daemon, the client hears 451
                context = {"message": "the work on a message failed", "exception": error}
                session.loop.call_exception_handler(context)
                said = INTERNAL
            finally:
                content.close()
            answer(said)

        self.tasks[session] = asyncio.get_running_loop().create_task(work())

    async def work(self, session: SmtpSession, content: Content) -> Reply | None:
        """Remember the message, wait if the test wants that, and answer."""
        envelope, library = session.envelope, session.session
        assert envelope.mail is not None
        assert library is not None
        data = bytearray()
        async for chunk in content.chunks():
            self.octets += len(chunk)
            data += chunk if self.is_keeping else b""
        content.close()
        mailbox = envelope.mail.mailbox
        self.taken.append(
            Taken(
                reverse_path=None if mailbox is None else mailbox.raw,
                parameters=envelope.mail.parameters,
                recipients=tuple(envelope.recipients),
                data=bytes(data),
                helo=library.host_name or "",
                is_extended=library.extended_smtp,
            )
        )
        self.working += 1
        try:
            await self.may_answer.wait()
        finally:
            self.working -= 1
        answer = self.answers.popleft() if self.answers else TAKEN
        assert not isinstance(answer, BaseException)
        return answer


def is_full(session: SmtpSession) -> bool:
    """Whether what we write to the client does not leave our side, since it does not read."""
    stuffed: bool = session._is_stuffed
    return stuffed


class Front:
    """A listener on a free port; an async context manager that leaves nothing behind."""

    def __init__(self, handler: Any = None, **limits: Any) -> None:
        self.policy = ListenerPolicy(name="smtp")
        """May be replaced before the front is entered."""
        self.handshakes: Handshakes | None = None
        """To be set before the front is entered, if the policy has TLS."""
        self.new_factory: Callable[..., Factory] = SessionFactory
        """May be replaced before the front is entered."""
        self.handler = ScriptedHandler() if handler is None else handler
        self.limits: SessionLimits = session_limits(**limits)
        self._stack = AsyncExitStack()
        self.port = 0

    async def __aenter__(self) -> Self:
        self.factory = self.new_factory(
            policy=self.policy,
            hostname=HOSTNAME,
            handler=self.handler,
            limits=self.limits,
            handshakes=self.handshakes,
        )
        self.server = SmtpServer(self.factory, bind("smtp", "127.0.0.1", 0), handler=self.handler)
        self.port = self.server.port
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        self.server.stop_accepting()
        for session in list(self.handler.open_sessions):
            if session.transport is not None:
                session.transport.abort()
        await until(lambda: not self.handler.open_sessions, "all sessions are closed")
        await settle()

    def on_exit(self, close: Callable[[], None]) -> None:
        """Have this done when the front is left."""
        self._stack.callback(close)

    @property
    def session(self) -> SmtpSession:
        """The newest session."""
        newest: SmtpSession = self.handler.sessions[-1]
        return newest

    async def peer(
        self, *, greeted: bool = True, receive_buffer: int = 0, host: str = "127.0.0.1"
    ) -> "Peer":
        """Connect from `host`; `greeted`: read the greeting too. Closed with the front."""
        peer = Peer(self.port, receive_buffer=receive_buffer, host=host)
        self._stack.callback(peer.close)
        await peer.connect()
        if greeted:
            assert (await peer.reply()).startswith(b"220 ")
        return peer

    async def in_transaction(self, **options: Any) -> "Peer":
        """Connect and go as far as one accepted recipient."""
        peer = await self.peer(**options)
        await peer.command("EHLO client.example.org", 250)
        await peer.command("MAIL FROM:<alice@example.org>", 250)
        await peer.command("RCPT TO:<bob@example.net>", 250)
        return peer

    async def in_data(self, **options: Any) -> "Peer":
        """Connect and go as far as the 354."""
        peer = await self.in_transaction(**options)
        await peer.command("DATA", 354)
        return peer


class Peer:
    """The client's end of one connection."""

    def __init__(self, port: int, *, receive_buffer: int = 0, host: str = "127.0.0.1") -> None:
        self._port = port
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.bind((host, 0))
        self._buffer = b""
        self.reads: list[bytes] = []
        """What each look at the connection brought."""

    async def connect(self) -> None:
        """Open the connection."""
        await self._loop.sock_connect(self._socket, ("127.0.0.1", self._port))

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def send(self, data: bytes, *, cuts: tuple[int, ...] = ()) -> None:
        """Send octets as they are, in as many pieces as `cuts` (offsets) say."""
        start = 0
        for cut in (*cuts, len(data)):
            async with asyncio.timeout(DEADLINE):
                await self._loop.sock_sendall(self._socket, data[start:cut])
            start = cut
            if cuts:
                await settle()

    async def line(self) -> bytes:
        """One line without its CRLF; empty if the connection ended instead."""
        while b"\r\n" not in self._buffer:
            if not await self._read():
                assert not self._buffer, f"cut off: {self._buffer!r}"
                return b""
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    async def reply(self) -> bytes:
        """One complete reply, all lines; empty if the connection ended instead."""
        lines = b""
        while line := await self.line():
            lines += line + b"\r\n"
            if line[3:4] != b"-":
                break
        return lines

    async def command(self, line: str, code: int) -> bytes:
        """Send one command and read its reply, which must have this code."""
        await self.send(line.encode("latin-1") + b"\r\n")
        reply = await self.reply()
        assert reply.startswith(str(code).encode()), f"{line}: {reply!r}"
        return reply

    async def greet(self) -> None:
        """EHLO."""
        await self.command("EHLO client.example.org", 250)

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        while await self._read():
            pass
        rest, self._buffer = self._buffer, b""
        return rest

    async def _read(self) -> bool:
        async with asyncio.timeout(DEADLINE):
            try:
                data = await self._loop.sock_recv(self._socket, 1 << 20)
            except ConnectionError:
                return False
        if data:
            self.reads.append(data)
        self._buffer += data
        return bool(data)

    async def is_silent(self) -> bool:
        """Whether nothing has come that was not read, now that the loop has turned."""
        await settle()
        with suppress(BlockingIOError):
            self._buffer += self._socket.recv(1 << 20)
        return not self._buffer

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection with RST."""
        linger = struct.pack("ii", 1, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()
