"""The section of the configuration about TLS towards clients, and what listeners need of it.

The certificate and its key are read when the configuration is (`certificate`), so that
`mailshed config check` finds what would otherwise be found by the first client. How the settings
are meant: RFC 8314 (TLS for mail), RFC 9325 (which TLS).
"""

from collections.abc import Iterator, Mapping
from ssl import TLSVersion
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from mailshed.config.faults import KeyPath
from mailshed.config.fields import Count, Duration, FilePath, Kind
from mailshed.config.front import Listener
from mailshed.config.policy import TlsPolicy
from mailshed.config.sections import Section, fault

_VERSIONS = {"1.2": TLSVersion.TLSv1_2, "1.3": TLSVersion.TLSv1_3}


def _parse_version(value: object) -> str:
    """Read `"1.2"`, also without the quotes, which make it a number."""
    text = str(value)
    if isinstance(value, bool) or text not in _VERSIONS:
        raise ValueError(
            'expected "1.2" or "1.3"; older versions are broken, and not spoken (RFC 8996)'
        )
    return text


TlsVersionField = Annotated[str, BeforeValidator(_parse_version), Kind("1.2 or 1.3")]


class Tls(Section):
    """How listeners speak TLS; needed if one of them has `tls` set."""

    certificate: FilePath | None = Field(
        None,
        description="File with our certificate and those between it and the root (PEM), our own "
        "first; a new one is taken up within seconds.",
    )
    key: FilePath | None = Field(
        None,
        description="File with its private key (PEM, not encrypted), which others than its owner "
        "and group must not be able to read.",
    )
    minimum: TlsVersionField = Field("1.2", description="Oldest version of TLS that is spoken.")
    handshakes_max: Count = Field(
        64,
        ge=1,
        description="TLS handshakes at the same time; beyond, STARTTLS gets 454, and connections "
        "that begin with TLS are closed. A quarter of them are for clinical networks.",
    )
    handshakes_per_network: Count = Field(
        16,
        ge=1,
        description="Of them, of one /24, or /64 of IPv6, that is not clinical.",
    )
    handshake_timeout: Duration = Field(
        15.0, gt=0, le=60, description="Seconds that a handshake may take; then it is broken off."
    )

    @model_validator(mode="after")
    def _is_a_pair(self) -> "Tls":
        if self.certificate is not None and self.key is None:
            raise fault("is missing: a certificate is of no use without its key", "key")
        if self.key is not None and self.certificate is None:
            raise fault("is missing: a key is of no use without its certificate", "certificate")
        return self


def tls_policy(section: Tls) -> TlsPolicy | None:
    """Make the server's side of TLS; None if there is no certificate."""
    if section.certificate is None or section.key is None:
        return None
    return TlsPolicy(
        certificate=section.certificate,
        key=section.key,
        minimum=_VERSIONS[section.minimum],
        handshakes_max=section.handshakes_max,
        handshakes_per_network=section.handshakes_per_network,
        handshake_timeout=section.handshake_timeout,
    )


def tls_findings(
    listeners: Mapping[int, Listener], section: Tls | None
) -> Iterator[tuple[KeyPath, str]]:
    """What listeners ask for that cannot be; `section` is None if it has faults of its own."""
    for index, listener in listeners.items():
        if listener.tls != "none":
            if section is not None and section.certificate is None:
                message = "needs a certificate: set tls.certificate and tls.key to its files"
                yield ("listeners", index, "tls"), message
            continue
        if listener.tls_required:
            message = (
                "asks for TLS, which this listener does not offer; set tls to starttls or implicit"
            )
            yield ("listeners", index, "tls_required"), message
        if listener.auth != "none":
            message = (
                "needs TLS, since no password is taken over a clear connection; set tls to starttls"
                " or implicit"
            )
            yield ("listeners", index, "auth"), message
