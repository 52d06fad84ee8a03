"""The sections of the configuration about the mail servers behind us."""

from typing import Literal, Self

from pydantic import Field, model_validator

from mailshed.config.fields import Count, Duration, FilePath, Host, Name
from mailshed.config.sections import Section, fault


class Backend(Section):
    """The mail server behind us: an SMTP server, or a Maildir for trials."""

    name: Name = Field(description="Name in logs and metrics.")
    host: Host | None = Field(None, description="Host name or address of the SMTP server.")
    port: Count = Field(25, ge=1, le=65535, description="Port of the SMTP server.")
    maildir: FilePath | None = Field(
        None, description="Deliver into this Maildir instead of an SMTP server (for trials)."
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

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.host is None) == (self.maildir is None):
            raise ValueError("needs either host (with port) or maildir")
        return self

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        most = self.in_flight_max
        for key in ("in_flight_min", "in_flight_start"):
            if key in self.model_fields_set and getattr(self, key) > most:
                raise fault(f"must not be greater than in_flight_max ({most})", key)
        return self
