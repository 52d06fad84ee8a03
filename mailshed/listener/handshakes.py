"""TLS handshakes with clients: how many at the same time, how long each may take, how each ended.

STARTTLS and connections that begin with TLS come through the same door. It is asked first whether
there is room (`admission.handshakes`), so that a client which asked politely can be told 454; then
the loop's own `start_tls` does the work. With uvloop that costs 35 KiB a connection, and 290 KiB
through the protocol that aiosmtpd builds by hand.

A handshake that fails is an everyday event (port scanners, clients that do not know our issuer), so
it is a value here and no exception: `note` is told how each ended, in words for an operator.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

from mailshed.admission.handshakes import OpenHandshakes
from mailshed.config.policy import TlsPolicy
from mailshed.listener.tls import Certificates, state_of
from mailshed.mail.envelope import Client, TlsState
from mailshed.maillog import MailLog
from mailshed.metrics.recorder import Metrics

# Seconds for a client to answer our goodbye (close_notify) before the connection is cut; few do.
SHUTDOWN_TIMEOUT = 5.0

# Seconds by which the loop's clock may be behind when one of its timers is due.
CLOCK_GRAIN = 0.02

Result = Literal["ok", "failed", "timeout", "refused"]

# What OpenSSL says, for whoever has to find out why a client cannot connect.
_IN_WORDS = {
    "UNSUPPORTED_PROTOCOL": "the client speaks no version of TLS that is spoken here",
    "NO_SHARED_CIPHER": "the client offers no cipher that is spoken here",
    "WRONG_VERSION_NUMBER": "the client does not speak TLS",
    "HTTP_REQUEST": "the client speaks HTTP",
    "UNEXPECTED_MESSAGE": "the client does not speak TLS",
    "TLSV1_ALERT_UNKNOWN_CA": "the client does not know the issuer of our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the client does not trust our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the client does not trust our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client says that our certificate has expired",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the client speaks no version of TLS that is spoken here",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """How one ended; `refused` is one that did not begin, for want of room."""

    client: Client
    result: Result
    state: TlsState | None = None
    """What was agreed on, if it is `ok`."""
    detail: str = ""
    """Why it is not."""


class Handshakes:
    """The door of all listeners. `note` must not raise."""

    def __init__(
        self,
        certificates: Certificates,
        policy: TlsPolicy,
        *,
        is_clinical: Callable[[Client], bool],
        note: Callable[[Handshake], None],
    ) -> None:
        self.certificates = certificates
        self.policy = policy
        self._is_clinical = is_clinical
        self._note = note
        self._open = OpenHandshakes()

    @property
    def under_way(self) -> int:
        """How many there are now."""
        return self._open.total

    def enter(self, client: Client) -> bool:
        """Take a place for a handshake, which `shake` gives back; False if there is none."""
        is_clinical = self._is_clinical(client)
        if self._open.enter(client.address, self.policy, is_clinical=is_clinical):
            return True
        detail = "too many handshakes at the same time"
        self._note(Handshake(client=client, result="refused", detail=detail))
        return False

    async def shake(
        self,
        transport: asyncio.BaseTransport,
        protocol: asyncio.BaseProtocol,
        client: Client,
        early: bytes = b"",
    ) -> tuple[asyncio.Transport, TlsState] | None:
        """Do the handshake; None if it failed, and then the connection is closed.

        `early` was read from the connection and belongs to the handshake. What the client sends
        right behind its last handshake message goes to `protocol`, which may be before this
        returns. If the connection is lost meanwhile, `protocol` may be told or not.
        """
        began = asyncio.get_running_loop().time()
        try:
            secured, agreed = await self._start_tls(transport, protocol, early)
        except OSError as error:
            self._note_failure(client, began, _in_words(error))
            return None
        except asyncio.CancelledError:
            self._note_failure(client, began, "broken off")
            raise
        finally:
            self._open.leave(client.address)
        state = state_of(agreed)
        self._note(Handshake(client=client, result="ok", state=state))
        return secured, state

    async def _start_tls(
        self, transport: asyncio.BaseTransport, protocol: asyncio.BaseProtocol, early: bytes
    ) -> tuple[asyncio.Transport, ssl.SSLObject]:
        if transport.is_closing():  # else the loop would wait for it until the timeout
            raise ConnectionResetError
        # uvloop's are no subclasses.
        stream = cast("asyncio.Transport", transport)
        if early:
            stream.pause_reading()  # what comes meanwhile comes behind it
            await _soon_after(lambda: _feed(stream, early))
        secured = await asyncio.get_running_loop().start_tls(
            stream,
            protocol,
            self.certificates.context,
            server_side=True,
            ssl_handshake_timeout=self.policy.handshake_timeout,
            ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
        )
        # Both loops return as if all were well when the client leaves without a word.
        agreed = None if secured is None else secured.get_extra_info("ssl_object")
        if secured is None or agreed is None:
            raise ConnectionResetError
        return secured, agreed

    def _note_failure(self, client: Client, began: float, detail: str) -> None:
        timeout = self.policy.handshake_timeout
        is_late = asyncio.get_running_loop().time() - began > timeout - CLOCK_GRAIN
        result: Result = "timeout" if is_late else "failed"
        detail = f"not done after {timeout:g} s" if is_late else detail
        self._note(Handshake(client=client, result=result, detail=detail))


async def _soon_after(act: Callable[[], None]) -> None:
    """Have `act` called right after what the caller does next has been scheduled.

    `start_tls` schedules two calls, which give the connection to the TLS layer and let it read on;
    `act` comes behind them, and before the loop looks for input.
    """
    loop = asyncio.get_running_loop()
    turn = loop.create_future()

    def begin() -> None:
        if not turn.done():
            turn.set_result(None)  # schedules the caller, and behind it:
            loop.call_soon(lambda: loop.call_soon(act))

    loop.call_soon(begin)
    await turn


def _feed(transport: asyncio.BaseTransport, octets: bytes) -> None:
    """Give the protocol of a connection what was read from it before."""
    # uvloop's has the methods, but is no subclass.
    receiver = cast("asyncio.BufferedProtocol", transport.get_protocol())
    while octets and not transport.is_closing():
        room = memoryview(receiver.get_buffer(len(octets)))
        count = min(len(room), len(octets))
        room[:count] = octets[:count]
        receiver.buffer_updated(count)
        octets = octets[count:]


def recorder(metrics: Metrics, maillog: MailLog) -> Callable[[Handshake], None]:
    """Count and log how handshakes end; strangers' failures are too common for the log."""

    def note(ended: Handshake) -> None:
        client = ended.client
        metrics.tls_handshake(ended.result, None if ended.state is None else ended.state.version)
        if ended.result != "ok":
            maillog.tls_failed(
                client.session_id,
                listener=client.listener,
                client=client.address_text,
                result=ended.result,
                detail=ended.detail,
                is_stranger=not client.is_trusted,
            )

    return note


def _in_words(error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return "the client left"
    reason = error.reason or ""
    return _IN_WORDS.get(reason, reason.lower().replace("_", " ") or "the client left")
