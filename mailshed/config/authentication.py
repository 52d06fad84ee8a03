"""The section of the configuration about authentication, and the plain policy made from it.

Who knows the passwords is asked over a connection of its own: a mail server, as a client would ask
it, or Dovecot's authentication service. Credentials leave this host over TLS only; without it they
may be sent to loopback, where nobody listens in.

`config.lists` reads the file that says as whom each user may send, `config.gather` finds it.
"""

import ssl
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from mailshed.authentication.sasl import Mechanism
from mailshed.config.certificate import CertificateError, load_authorities
from mailshed.config.faults import KeyPath
from mailshed.config.fields import Count, Duration, FilePath, Host
from mailshed.config.front import Listener
from mailshed.config.policy import AuthenticationPolicy, SenderRule
from mailshed.config.sections import Section, fault
from mailshed.config.sources import Sources
from mailshed.mail.domains import DomainSet

# Taking effect at the next start: what is connected to, and what sessions are made with.
_POLICY = {
    *("failures_max", "failures_per_address", "failures_per_login", "failures_window"),
    *("cache_ttl", "entries_max", "senders", "senders_file"),
}


class Authentication(Section):
    """Who knows whether a password is right, and what follows from it."""

    verifier: Literal["backend", "dovecot"] = Field(
        "backend",
        description="Who is asked: a mail server, by logging in to it, or Dovecot's authentication "
        "service.",
    )
    host: Host | None = Field(
        None, description="The mail server that is asked; for verifier backend."
    )
    port: Count = Field(587, ge=1, le=65535, description="Its port for submission.")
    tls: Literal["starttls", "implicit", "none"] = Field(
        "starttls",
        description="How it speaks TLS, which is required, as is a certificate with its name; none "
        "is for loopback only.",
    )
    tls_name: Host | None = Field(
        None, description="The name in its certificate, if that is another than host."
    )
    ca_file: FilePath | None = Field(
        None,
        description="Certificates (PEM) of the authorities that vouch for it; by default those "
        "that the system trusts.",
    )
    dovecot_socket: FilePath | None = Field(
        None,
        description="Socket of Dovecot's authentication service, as one makes it for Postfix; for "
        "verifier dovecot.",
    )
    mechanisms: tuple[Literal["plain", "login", "xoauth2"], ...] = Field(
        ("plain", "login"), min_length=1, description="How clients may say who they are."
    )
    timeout: Duration = Field(
        10.0, gt=0, le=120, description="Seconds for an answer; then 454, and clients come back."
    )
    connections_max: Count = Field(
        10, ge=1, le=1000, description="Questions to the verifier at the same time; others wait."
    )
    failures_max: Count = Field(
        3, ge=1, le=100, description="Wrong passwords in one session; then 421."
    )
    failures_per_address: Count = Field(
        30,
        ge=1,
        le=1000,
        description="Different wrong passwords of one address (/64 of IPv6) within "
        "failures_window, for users who have not logged in from there lately; then 454 until some "
        "are older.",
    )
    failures_per_login: Count = Field(
        10,
        ge=1,
        le=1000,
        description="The same for one login, from anywhere; from where it has logged in lately "
        "only those from there count.",
    )
    failures_window: Duration = Field(
        600.0, gt=0, le=86400, description="Seconds for which wrong passwords count."
    )
    cache_ttl: Duration = Field(
        0.0,
        ge=0,
        le=7 * 86400,
        description="Seconds for which a right password counts while the verifier is away, also "
        "if it has been changed meanwhile; 0 for not at all: then 454.",
    )
    entries_max: Count = Field(
        10_000,
        ge=100,
        le=1_000_000,
        description="Addresses and logins whose failures are remembered, and right passwords "
        "(as digests).",
    )
    senders: Literal["any", "own", "file"] = Field(
        "any",
        description="As whom a user may send: anybody, only the login itself (or the login at one "
        "of domains), or what senders_file lists; else 553.",
    )
    senders_file: FilePath | None = Field(
        None,
        description="File with lines such as `alice: alice@example.org, @lab.example.org`; for "
        "senders file.",
    )

    @model_validator(mode="after")
    def _no_clear_text(self) -> Self:
        if self.tls == "none" and self.host is not None and not _is_loopback(self.host):
            message = "is for a server on loopback only: passwords would cross the network in clear"
            raise fault(message, "tls")
        return self

    @model_validator(mode="after")
    def _file_fits(self) -> Self:
        if (self.senders == "file") != (self.senders_file is not None):
            key = "senders_file" if self.senders_file is None else "senders"
            raise fault("senders: file and senders_file need each other", key)
        return self

    @model_validator(mode="after")
    def _mechanisms_are_distinct(self) -> Self:
        if len(set(self.mechanisms)) < len(self.mechanisms):
            raise fault("names a mechanism twice", "mechanisms")
        return self

    @property
    def sasl_mechanisms(self) -> tuple[Mechanism, ...]:
        """The mechanisms as they are offered."""
        return tuple(Mechanism(each.upper()) for each in self.mechanisms)

    @property
    def can_verify(self) -> bool:
        """Whether it says who is to be asked."""
        place = self.host if self.verifier == "backend" else self.dovecot_socket
        return place is not None

    @property
    def at_start(self) -> dict[str, object]:
        """What takes effect at the start only."""
        return self.model_dump(exclude=_POLICY)


def authentication_findings(
    listeners: Mapping[int, Listener], section: Authentication | None
) -> Iterator[tuple[KeyPath, str]]:
    """What listeners ask for that cannot be; `section` is None if it has faults of its own."""
    if section is None or section.can_verify:
        return
    key = "host" if section.verifier == "backend" else "dovecot_socket"
    for index, listener in listeners.items():
        if listener.auth != "none":
            message = f"needs somebody who knows the passwords: set authentication.{key}"
            yield ("listeners", index, "auth"), message


def file_faults(section: Authentication) -> Iterator[tuple[str, str]]:
    """What is wrong with the files of the verifier, which are read, by their keys."""
    try:
        if section.ca_file is not None:
            load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), section.ca_file)
    except CertificateError as error:
        yield error.key, str(error)


def policy_of(
    section: Authentication, domains: tuple[str, ...], sources: Sources
) -> AuthenticationPolicy:
    """Make the policy; `domains` are those that we accept mail for."""
    path: Path | None = section.senders_file
    return AuthenticationPolicy(
        failures_per_address=section.failures_per_address,
        failures_per_login=section.failures_per_login,
        failures_window=section.failures_window,
        cache_ttl=section.cache_ttl,
        entries_max=section.entries_max,
        senders=SenderRule(section.senders),
        domains=DomainSet(domains),
        sender_entries=() if path is None else sources.lists["sender_logins", path],
    )


def _is_loopback(host: str) -> bool:
    """Whether nothing that is sent there leaves this host, as far as the name tells."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
