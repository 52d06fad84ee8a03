"""What is fuzzed as a whole: our side of a dialog, on a transport that only takes notes.

Each dialog is held with the octets in one piece, and once more with the same octets cut: nothing
that is said may depend on where a network has cut it. Time is virtual, so a peer that falls silent
is as good an input as any other.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from mailshed.authentication import dovecot
from mailshed.authentication.dovecot import LINE_OCTETS_MAX
from mailshed.authentication.sasl import Mechanism, credentials
from mailshed.authentication.verdict import Accepted, Verdict
from mailshed.config.policy import AuthMode, ListenerPolicy, ProxyMode, TlsMode
from mailshed.listener.handshakes import Handshakes
from mailshed.listener.protocol import SmtpSession
from mailshed.listener.server import SessionFactory
from mailshed.mail import reply
from mailshed.mail.address import Mailbox
from mailshed.mail.envelope import TlsState
from mailshed.mail.reply import Reply
from mailshed.metrics import Metrics, new_registry
from mailshed.relay.wire import WireProtocol
from mailshed.terms import Stage
from tests.fuzz.properties import CONTROL, FALSE_END, check_reply, check_words, pieces, replies_in
from tests.support.builders import client, session_limits
from tests.support.front import HOSTNAME, ScriptedHandler, settle
from tests.support.virtual_time import VirtualTimeLoop

T = TypeVar("T")

DIALOGS_A_LOOP = 100
"""A loop of virtual time has an end, and each dialog of a silent peer takes hours of it."""


class NotedTransport(asyncio.Transport):
    """Keeps what was written; when it is closed, its protocol hears so, as from a real one."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.protocol: asyncio.BaseProtocol | None = None
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Note it."""
        self.written += data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Only who the other end is."""
        return ("127.0.0.1", 40000) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""

    def get_write_buffer_size(self) -> int:
        """Nothing: the peer reads all that is said."""
        return 0

    def pause_reading(self) -> None:
        """Inputs are shorter than any buffer."""

    def resume_reading(self) -> None:
        """The same."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Tell another one from now on."""
        self.protocol = protocol

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._is_closing

    def close(self) -> None:
        """Close it."""
        if not self._is_closing:
            self._is_closing = True
            if self.protocol is not None:
                loop = asyncio.get_running_loop()
                loop.call_soon(self.protocol.connection_lost, None)

    abort = close


class Bench:
    """A loop for the dialogs of one target, made anew from time to time."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._left = 0

    def run(self, dialog: Coroutine[Any, Any, T]) -> T:
        """Hold a dialog; what anything in the loop raised, is raised."""
        if self._runner is None or not self._left:
            self.close()
            self._runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
            self._left = DIALOGS_A_LOOP
        self._left -= 1
        faults: list[dict[str, Any]] = []
        self._runner.get_loop().set_exception_handler(lambda _, context: faults.append(context))
        outcome = self._runner.run(dialog)
        if faults:
            raise AssertionError(faults[0]) from faults[0].get("exception")
        return outcome

    def close(self) -> None:
        """Close the loop."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None


BENCH = Bench()

# The front.


class _Handler(ScriptedHandler):
    """Knows some recipients, refuses some, and has to ask about others."""

    __slots__ = ()

    def recipient(  # type: ignore[override]
        self, session: SmtpSession, mailbox: Mailbox
    ) -> Reply | Callable[[], Awaitable[Reply | None]] | None:
        """By the first letter of the address."""
        match mailbox.raw[:1].lower():
            case b"x":
                return reply.UNKNOWN_RECIPIENT
            case b"y":
                return reply.TOO_MANY_UNKNOWN
            case b"w":
                return _nobody_objects
            case _:
                return None


async def _nobody_objects() -> Reply | None:
    await asyncio.sleep(0.1)
    return None


class _NoHandshake:
    """In place of a TLS handshake: what is said in clear from then on is noted, and it fails."""

    def enter(self, _client: object) -> bool:
        """Always."""
        return True

    def begin(self, transport: NotedTransport, _protocol: object) -> NotedTransport:
        """Tell the session of nothing any more, not even of the end, as in truth."""
        transport.protocol = None
        return transport

    async def finish(self, transport: NotedTransport, _client: object) -> None:
        """Fail after a while; the connection is closed."""
        await asyncio.sleep(1.0)
        transport.close()


_IN_CLEAR = ListenerPolicy(name="smtp", tls=TlsMode.STARTTLS, auth=AuthMode.OFFERED)
_PROTECTED = ListenerPolicy(
    name="submission",
    tls=TlsMode.STARTTLS,
    auth=AuthMode.OFFERED,
    mechanisms=tuple(Mechanism),
    proxy=ProxyMode.XCLIENT,
)
_TLS = TlsState("TLSv1.3", "TLS_AES_256_GCM_SHA384")
_METRICS = Metrics(new_registry())
_LIMITS = session_limits(message_size_max=65536, recipients_max=5, errors_max=10)


@dataclass(frozen=True)
class _Said:
    """What came of a session."""

    replies: list[Reply]
    taken: list[tuple[bytes | None, list[bytes], bytes]]


def session(data: bytes) -> None:
    """A client of ours: whole replies, one for each thing asked, no false end of mail, an end."""
    for policy, tls in ((_IN_CLEAR, None), (_PROTECTED, _TLS)):
        whole = BENCH.run(_session(data, policy, tls, is_cut=False))
        cut = BENCH.run(_session(data, policy, tls, is_cut=True))
        # What comes behind STARTTLS is judged by when it comes, and is never answered.
        if not _has_starttls(whole) and not _has_starttls(cut):
            assert whole == cut


def _has_starttls(said: _Said) -> bool:
    return not {reply.TLS_READY, reply.TLS_TOO_EAGER}.isdisjoint(said.replies)


async def _session(
    data: bytes, policy: ListenerPolicy, tls: TlsState | None, *, is_cut: bool
) -> _Said:
    handler = _Handler(tls=tls, metrics=_METRICS)
    factory = SessionFactory(
        policy=policy,
        hostname=HOSTNAME,
        handler=handler,
        limits=_LIMITS,
        handshakes=cast("Handshakes", _NoHandshake()),
    )
    made, transport = factory(), NotedTransport()
    handler.open_sessions.add(made)
    transport.protocol = made
    made.connection_made(transport)
    await settle()
    for piece in pieces(data, is_cut=is_cut, octets_max=37):
        if made.timer.is_paused:
            await asyncio.sleep(2.0)  # work of ours, which takes no longer
        if transport.is_closing() or made.closed.done():
            break
        made.data_received(piece)
        await settle(2)
    await asyncio.sleep(2.0)
    await _leave(made, transport, data[-1:])
    assert made.closed.done()
    assert not handler.open_sessions
    assert handler.store.memory.used == 0
    return _judged(bytes(transport.written), handler)


async def _leave(made: SmtpSession, transport: NotedTransport, how: bytes) -> None:
    """The client says no more, or has gone, or breaks the connection; the session ends anyhow."""
    if not (transport.is_closing() or made.closed.done()):
        match how:
            case b"\n":
                made.eof_received()
            case b"\r":
                transport.close()
    async with asyncio.timeout(2 * _LIMITS.session_idle_max):
        await made.closed
    await settle()


def _judged(wire: bytes, handler: _Handler) -> _Said:
    replies = replies_in(wire)
    codes = [code for _, code in handler.replies]
    # A client that has gone does not hear what was queued for it.
    assert [each.code for each in replies] == codes[: len(replies)]
    assert reply.INTERNAL not in replies
    if reply.TLS_READY in replies:
        assert replies.index(reply.TLS_READY) == len(replies) - 1, "said in clear"
    for taken in handler.taken:
        assert not FALSE_END.search(b"\r\n" + taken.data)
        assert not CONTROL.search(taken.reverse_path or b"")
        assert 0 < len(taken.recipients) <= _LIMITS.recipients_max
        assert not any(CONTROL.search(path) for path in taken.forward_paths)
    for credentials_ in handler.said:
        assert isinstance(credentials_, Exception) or credentials_.login.isprintable()
    return _Said(
        replies, [(each.reverse_path, each.forward_paths, each.data) for each in handler.taken]
    )


# The back.

_GROUPS = (
    (Stage.MAIL, Stage.RCPT, Stage.RCPT, Stage.DATA),
    (Stage.DOT,),
    (Stage.DOT, Stage.DOT, Stage.DOT),  # LMTP
)


def backend_dialog(data: bytes) -> None:
    """A backend: the n-th reply is to the n-th command, and none is to nothing."""
    for stages in _GROUPS:
        whole = BENCH.run(_backend(data, stages, is_cut=False))
        assert BENCH.run(_backend(data, stages, is_cut=True)) == whole


async def _backend(
    data: bytes, stages: tuple[Stage, ...], *, is_cut: bool
) -> tuple[list[Reply], type[BaseException] | None, Stage | None]:
    wire, transport = WireProtocol(asyncio.get_running_loop()), NotedTransport()
    wire.connection_made(transport)
    transport.protocol = wire
    wire.expect(stages)
    for piece in pieces(data, is_cut=is_cut):
        wire.data_received(piece)
    # A silent server, and what is in doubt then, is `fault` as well.
    replies = await wire.receive(timeout=60.0)
    assert len(replies) <= len(stages)
    for each in replies:
        check_reply(each)
    fault = wire.fault
    if fault is None:
        assert wire.is_idle
        assert b"".join(each.wire for each in replies) == _with_crlf(data)
    else:
        check_words(str(fault))
        assert transport.is_closing()
    wire.abort()
    await settle(3)
    return replies, None if fault is None else type(fault), None if fault is None else fault.stage


def _with_crlf(data: bytes) -> bytes:
    """The same lines, as we pass them on."""
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


_CREDENTIALS = credentials(Mechanism.PLAIN, [b"\0alice\0secret"])
_CLIENT = client()


def dovecot_lines(data: bytes) -> None:
    """Dovecot's answers: a clear yes, a clear no, or nobody knows."""
    whole = BENCH.run(_dovecot(data, is_cut=False))
    assert BENCH.run(_dovecot(data, is_cut=True)) == whole
    if isinstance(whole, Accepted):
        assert b"OK\t" in data.replace(b"\x01", b"")
        check_words(whole.login)
    elif whole is not None:
        assert whole.detail.isprintable()
        assert "secret" not in whole.detail


async def _dovecot(data: bytes, *, is_cut: bool) -> Verdict | None:
    """The verdict; None if the connection was of no use."""
    end = re.search(rb"^DONE\n", data, re.MULTILINE)
    handshake = data[: end.end()] if end else data
    reader = asyncio.StreamReader(limit=LINE_OCTETS_MAX)
    protocol, transport = asyncio.StreamReaderProtocol(reader), NotedTransport()
    transport.protocol = protocol
    protocol.connection_made(transport)
    loop = asyncio.get_running_loop()
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    link = dovecot._Link(reader, writer)
    for piece in pieces(handshake, is_cut=is_cut):
        reader.feed_data(piece)
    if end is None:
        reader.feed_eof()
    verdict: list[Verdict | None] = []

    async def ask() -> None:
        try:
            verdict.append(await dovecot._ask(link, _CREDENTIALS, _CLIENT))
        except dovecot._Broken as error:
            check_words(str(error))
            verdict.append(None)

    try:
        await link.shake_hands()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ask())
            await settle(3)
            tasks.create_task(link.run())
            for piece in pieces(data[len(handshake) :], is_cut=is_cut):
                reader.feed_data(piece)
                await settle(3)
            reader.feed_eof()
        return verdict[0]
    except dovecot._Broken as error:
        check_words(str(error))
        return None
    finally:
        link.close()
        await settle(3)
