"""Our side of TLS: which versions and ciphers are spoken, and the certificate that is shown.

One context serves all listeners. A new certificate makes a new context, which takes the old one's
place as a whole: handshakes that begin from then on show it, and sessions that are open keep what
they have. So a certificate that is renewed every few weeks needs no restart.

What is spoken follows RFC 9325 and Mozilla's "intermediate" list, without its finite-field
Diffie-Hellman: TLS 1.2 with forward secrecy and an AEAD, or TLS 1.3. No compression (CRIME), no
renegotiation (a client could ask for private key operations without end), no ALPN, no client
certificates. Session tickets are on: a client that comes again saves us the key operation, and
nothing is kept here for it. Their key lives as long as the context.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from mailshed.config.certificate import Certificate, CertificateError, load_pair
from mailshed.config.policy import TlsPolicy
from mailshed.errors import ConfigError
from mailshed.mail.envelope import TlsState

CIPHERS = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384": "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305": "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "ECDHE-RSA-CHACHA20-POLY1305": "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
}
"""Those of TLS 1.2, in OpenSSL's name and in IANA's; those of TLS 1.3 are OpenSSL's own choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A context that is ready for use, and what it was made of."""

    context: ssl.SSLContext
    certificate: Certificate
    policy: TlsPolicy

    def is_like(self, other: "Loaded | None") -> bool:
        """Whether clients would see no difference."""
        return (
            other is not None
            and self.certificate == other.certificate
            and self.policy.minimum == other.policy.minimum
        )


class Certificates:
    """The one that is shown; `announce` is told of each new one."""

    def __init__(self, announce: Callable[[Loaded], None] = lambda _loaded: None) -> None:
        self._announce = announce
        self.current: Loaded | None = None
        """None before the service has started."""

    @property
    def context(self) -> ssl.SSLContext:
        """What handshakes that begin now are done with."""
        assert self.current is not None, "a listener accepts before the certificate is loaded"
        return self.current.context

    def use(self, loaded: Loaded) -> None:
        """Show this from now on. If nothing is new, the old context stays, and its tickets good."""
        if not loaded.is_like(self.current):
            self.current = loaded
            self._announce(loaded)


def load(policy: TlsPolicy) -> Loaded:
    """Make a context with what is in the files now; this blocks. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = policy.minimum
    context.set_ciphers(":".join(CIPHERS))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    try:
        certificate = load_pair(context, policy.certificate, policy.key)
    except CertificateError as error:
        raise ConfigError(f"tls.{error.key}: {error}") from error
    return Loaded(context=context, certificate=certificate, policy=policy)


def state_of(session: ssl.SSLObject) -> TlsState:
    """What a finished handshake has agreed on."""
    cipher = session.cipher()
    name = cipher[0] if cipher is not None else ""
    return TlsState(version=session.version() or "", cipher=CIPHERS.get(name, name))
