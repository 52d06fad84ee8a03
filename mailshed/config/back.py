"""The sections of the configuration about the mail servers behind us.

Mail goes by the domains of its recipients: to the backend that lists them, else to the first one
that lists none. What one section cannot know of the others is checked in `routes.py`.
"""

import ssl
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from mailshed.config.certificate import CertificateError, load_authorities
from mailshed.config.fields import (
    Count,
    Domain,
    Duration,
    FilePath,
    Flag,
    Host,
    Name,
    Text,
    is_loopback,
)
from mailshed.config.sections import Section, fault
from mailshed.errors import SecretFileError
from mailshed.secretfile import read_login

SMTP_PORT = 25
LMTP_PORT = 24

# What only a connection over the network has, and what only a server.
_FOR_TCP = ("tls", "tls_verify", "tls_name", "ca_file", "credentials_file", "proxy_protocol")
_FOR_SERVERS = ("protocol", "identity", "chunking")


class Backend(Section):
    """The mail server behind us: an SMTP server, or a Maildir for trials."""

    name: Name = Field(description="Name in logs and metrics.")
    host: Host | None = Field(None, description="Host name or address of the SMTP server.")
    port: Count = Field(
        25, ge=1, le=65535, description="Port of the server; with protocol: lmtp by default 24."
    )
    socket: FilePath | None = Field(
        None, description="UNIX socket of the server, instead of host and port."
    )
    protocol: Literal["smtp", "lmtp"] = Field(
        "smtp",
        description="What the server speaks: SMTP, or LMTP (RFC 2033), in which it answers for "
        "each recipient. A message to several goes through the spool then, since its client hears "
        "one answer.",
    )
    identity: Literal["none", "xclient", "xforward"] = Field(
        "none",
        description="Whether the server is told whose message it gets: never; with XCLIENT, so "
        "that its own rules see the client; or with XFORWARD, for its log only.",
    )
    chunking: Literal["never", "auto"] = Field(
        "never",
        description="Whether BDAT (RFC 3030) takes the place of DATA where the server offers it "
        "and that saves a round trip: mail to several recipients.",
    )
    maildir: FilePath | None = Field(
        None, description="Deliver into this Maildir instead of an SMTP server (for trials)."
    )
    tls: Literal["none", "opportunistic", "starttls", "implicit"] = Field(
        "opportunistic",
        description="Whether connections are encrypted: never; if the server offers STARTTLS and "
        "that works; or always, with STARTTLS (RFC 3207) or before the greeting (port 465). With "
        "the last two, no mail and no password ever goes in clear.",
    )
    tls_verify: Flag | None = Field(
        None,
        description="With tls: starttls or implicit, whether the server's certificate has to be "
        "signed by somebody we trust, and for its name; by default it has.",
    )
    tls_name: Host | None = Field(
        None, description="The name or address in the server's certificate; by default host."
    )
    ca_file: FilePath | None = Field(
        None,
        description="Certificates in PEM form that are trusted, of authorities or the server's "
        "own; by default the system's.",
    )
    credentials_file: FilePath | None = Field(
        None,
        description="File with our login at the server: user name and password, a line each; mode "
        "0600 or 0640.",
    )
    proxy_protocol: Flag = Field(
        False,
        description="Whether the server expects a PROXY header (version 2) before all else.",
    )
    preset: Literal["generic", "exchange", "postfix", "dovecot"] = Field(
        "generic",
        description="What kind of server it is: some say more in their replies than the codes do.",
    )
    in_flight_max: Count = Field(
        20,
        ge=1,
        le=10_000,
        description="Messages handed over at the same time; Exchange allows one source 20.",
    )
    limit: Literal["fixed", "adaptive"] = Field(
        "adaptive",
        description="Whether it is always in_flight_max, or as many as keep the server busy, found "
        "out from its response times and refusals, up to in_flight_max.",
    )
    in_flight_min: Count = Field(
        2, ge=1, le=10_000, description="The adaptive limit never falls below so many."
    )
    in_flight_start: Count = Field(
        4, ge=1, le=10_000, description="The adaptive limit begins with so many."
    )
    response_max: Duration = Field(
        5.0,
        gt=0,
        description="If the server is slower than usual and takes longer than this for clinical "
        "mail, the adaptive limit falls, to half of what was good at the lowest.",
    )
    connect_timeout: Duration = Field(
        10.0, gt=0, description="Seconds for the connection and the server's greeting."
    )
    command_timeout: Duration = Field(
        30.0, gt=0, description="Seconds for the reply to EHLO, MAIL, RCPT and DATA."
    )
    dot_timeout: Duration = Field(
        540.0,
        gt=0,
        description="Seconds for the reply to the final dot. Clients wait 600 for ours (RFC 5321, "
        "4.5.3.2.6), of which a wait for a slot and the envelope take some.",
    )
    idle_timeout: Duration = Field(
        10.0, gt=0, description="Seconds after which an unused connection is closed."
    )
    messages_per_connection: Count = Field(
        100, ge=1, description="Messages after which a connection is replaced by a new one."
    )
    domains: tuple[Domain, ...] = Field(
        (),
        description="Recipient domains that it serves, with a leading dot all subdomains; the most"
        " exact entry wins. The first backend without any serves all other domains.",
    )
    fallback: Text | None = Field(
        None,
        description="Name of another backend, such as a neighbour's, that takes its mail while it"
        " is away for long; by default that mail waits.",
    )
    fallback_after: Duration = Field(
        600.0, ge=0, description="Seconds that it has to be away before its fallback is used."
    )

    @model_validator(mode="before")
    @classmethod
    def _port_of_lmtp(cls, section: object) -> object:
        """RFC 2033, 5: LMTP is not for port 25."""
        if isinstance(section, dict) and section.get("protocol") == "lmtp":
            return {"port": LMTP_PORT} | section
        return section

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if [self.host, self.socket, self.maildir].count(None) != 2:
            raise ValueError("needs one of host (with port), socket and maildir")
        if self.protocol == "lmtp" and self.port == SMTP_PORT:
            raise fault("must not be 25, which is for SMTP (RFC 2033, 5)", "port")
        return self

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        """What is for connections over the network, or for servers, is for nothing else."""
        useless: tuple[str, ...] = ()
        if self.socket is not None:
            useless = _FOR_TCP
        elif self.maildir is not None:
            useless = (*_FOR_TCP, *_FOR_SERVERS)
        for key in useless:
            if getattr(self, key) != Backend.model_fields[key].default:
                kind = "maildir" if self.socket is None else "socket"
                raise fault(f"is of no use with {kind}", key)
        return self

    @model_validator(mode="after")
    def _protected(self) -> Self:
        """A password goes only where nobody listens, and what is verified is said completely."""
        is_required = self.tls in ("starttls", "implicit")
        stays_here = self.host is not None and is_loopback(self.host)
        if self.credentials_file is not None and not stays_here:
            if not is_required:
                message = "needs tls: starttls or implicit, so that the password is never in clear"
                raise fault(message, "credentials_file")
            if self.tls_verify is False:
                message = (
                    "would give our password to whoever answers, since credentials_file is set;"
                    " put the server's own certificate into ca_file instead"
                )
                raise fault(message, "tls_verify")
        for key in ("tls_verify", "tls_name", "ca_file"):
            if getattr(self, key) and not is_required:
                raise fault(f"is of no use with tls: {self.tls}, which verifies nobody", key)
        return self

    @model_validator(mode="after")
    def _can_come_back(self) -> Self:
        if self.fallback is not None and self.maildir is not None:
            message = "is not for a Maildir: nothing would notice that it is there again"
            raise fault(message, "fallback")
        return self

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        most = self.in_flight_max
        for key in ("in_flight_min", "in_flight_start"):
            if key in self.model_fields_set and getattr(self, key) > most:
                raise fault(f"must not be greater than in_flight_max ({most})", key)
        return self


def file_faults(section: Backend) -> Iterator[tuple[str, str]]:
    """What is wrong with the files that the section names, which are read, by their keys."""
    try:
        if section.ca_file is not None:
            load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), section.ca_file)
    except CertificateError as error:
        yield error.key, str(error)
    try:
        if section.credentials_file is not None:
            read_login(section.credentials_file)
    except SecretFileError as error:
        yield "credentials_file", str(error)
