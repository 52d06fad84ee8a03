"""TLS handshakes with clients: how many at the same time, how long each may take, how each ended.

STARTTLS and connections that begin with TLS come through the same door. It is asked first whether
there is room (`admission.handshakes`), so that a client which asked politely can be told 454; then
`TlsConnection` does the work: from `begin` on it has the connection, and `finish` waits for it.

A handshake that fails is an everyday event (port scanners, clients that do not know our issuer), so
it is a value here and no exception: `note` is told how each ended, in words for an operator.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mailshed.admission.handshakes import OpenHandshakes
from mailshed.config.policy import TlsPolicy
from mailshed.listener.tls import Certificates, state_of
from mailshed.listener.tls_connection import TlsConnection
from mailshed.mail.envelope import Client, TlsState
from mailshed.maillog import MailLog
from mailshed.metrics.recorder import Metrics

Result = Literal["ok", "failed", "timeout", "refused"]

Secured = tuple[TlsConnection, TlsState]
"""What a handshake makes of a connection, and what was agreed on."""

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
        """Take a place for a handshake, which `finish` gives back; False if there is none."""
        is_clinical = self._is_clinical(client)
        if self._open.enter(client.address, self.policy, is_clinical=is_clinical):
            return True
        detail = "too many handshakes at the same time"
        self._note(Handshake(client=client, result="refused", detail=detail))
        return False

    def begin(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> TlsConnection:
        """Let everything that is read from now on belong to TLS; `finish` is to follow.

        What the client sends right behind its last handshake message goes to `protocol`, which may
        be before `finish` returns.
        """
        connection = TlsConnection(transport, protocol, self.certificates.context)
        connection.begin()
        return connection

    async def finish(self, connection: TlsConnection, client: Client) -> Secured | None:
        """Do the handshake; None if it failed, and then the connection is closed."""
        timeout = self.policy.handshake_timeout
        try:
            agreed = await connection.shake_hands(timeout)
        except TimeoutError:
            detail = f"not done after {timeout:g} s"
            self._note(Handshake(client=client, result="timeout", detail=detail))
            return None
        except OSError as error:
            self._note(Handshake(client=client, result="failed", detail=_in_words(error)))
            return None
        finally:
            self._open.leave(client.address)
        state = state_of(agreed)
        self._note(Handshake(client=client, result="ok", state=state))
        return connection, state


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
    reason = getattr(error, "reason", None) or ""  # Python's own have none
    return _IN_WORDS.get(reason, reason.lower().replace("_", " ") or "the client left")
