"""The sections of the configuration that are about places and bounds, each a frozen model.

Where mail waits, what may grow how far. `front` has those about clients, `back` those about mail
servers; `schema` joins them with the sections about classes and rules, and says how values are
written.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from mailshed.config.fields import (
    Count,
    Duration,
    EndpointField,
    FilePath,
    Flag,
    Holiday,
    MailAddress,
    Share,
    Size,
    TimeZone,
)
from mailshed.config.units import format_duration


class Section(BaseModel):
    """One mapping of the file: frozen, and without keys that are not here."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


def fault(message: str, *path: str) -> PydanticCustomError:
    """Make a fault that a section finds in the whole of itself, but that lies at `path` in it."""
    return PydanticCustomError("relation", "{message}", {"message": message, "path": path})


class Spool(Section):
    """Where acknowledged mail waits for the backend."""

    path: FilePath = Field(
        description="Folder of the spool, on a local disk; created with mode 0700."
    )
    octets_max: Size = Field(
        10 * 1024**3, ge=1024**2, description="Most octets of mail data the spool may hold."
    )
    messages_max: Count = Field(1_000_000, ge=1, description="Most messages the spool may hold.")
    disk_reserve: Size = Field(
        256 * 1024**2,
        ge=0,
        description="Octets of free disk below which no mail is spooled, so that marks can be; "
        "a quarter more is kept for clinical mail.",
    )
    lifetime: Duration = Field(
        4 * 86400.0, gt=0, description="Seconds after which undelivered mail is returned."
    )
    retry_min: Duration = Field(
        30.0, gt=0, description="Seconds before a deferred message is tried again, at least."
    )
    retry_max: Duration = Field(
        900.0, gt=0, description="Seconds before a deferred message is tried again, at most."
    )
    reports_per_minute: Count = Field(
        10,
        ge=1,
        le=1000,
        description="Reports to one address in a minute; what is beyond goes into one summary.",
    )
    allow_network_filesystem: bool = Field(
        False,
        strict=True,
        description="Whether the folder may be on a network file system, where nobody can promise "
        "that a commit is durable.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.retry_min > self.retry_max:
            message = f"must not be greater than retry_max ({format_duration(self.retry_max)})"
            raise fault(message, "retry_min")
        if self.retry_max >= self.lifetime:
            message = f"must be less than lifetime ({format_duration(self.lifetime)})"
            raise fault(f"{message}, or mail expires untried", "retry_max")
        return self


class Metrics(Section):
    """The operations port: /metrics, /healthz, /readyz."""

    bind: EndpointField = Field(description="Address and port of the operations HTTP server.")


class Admin(Section):
    """The socket that `mailshed status` and `mailshed queue` talk to."""

    socket: FilePath | None = Field(
        None, description="Path of the Unix socket; by default admin.sock in the spool's folder."
    )


class Limits(Section):
    """Bounds on everything a client can make grow."""

    sessions_max: Count = Field(
        5000,
        ge=1,
        description="SMTP sessions at the same time; then 421. "
        "The last 5 % of them are for clinical networks.",
    )
    sessions_per_address: Count = Field(
        50, ge=1, description="Of them, of one address that is not trusted; then 421."
    )
    sessions_per_trusted_address: Count = Field(
        1000,
        ge=1,
        description="Of them, of one address in trusted_networks or in a clinical network; then "
        "421.",
    )
    sessions_per_network: Count = Field(
        200, ge=1, description="Of them, of all strangers of one /24, or /64 of IPv6; then 421."
    )
    connection_rate_max: Count = Field(
        1200,
        ge=0,
        description="Connections a minute of one address that is not trusted; then 421. 0 for any "
        "number.",
    )
    message_size_max: Size = Field(
        50 * 1024**2, ge=64 * 1024, description="Largest message, in octets; then 552."
    )
    recipients_max: Count = Field(
        1000, ge=100, description="Recipients of one message; then 452 (RFC 5321 asks for 100)."
    )
    errors_max: Count = Field(
        20, ge=1, description="Refused commands in one session; then 421 and the end."
    )
    command_timeout: Duration = Field(
        300.0, gt=0, description="Seconds a client may take for its next command; then 421."
    )
    line_timeout: Duration = Field(
        60.0,
        gt=0,
        description="Seconds from the first octet of a command to the end of its line; then 421.",
    )
    reply_timeout: Duration = Field(
        60.0,
        gt=0,
        description="Seconds that a client may leave replies unread when there are too many to be "
        "sent; then the connection is broken off.",
    )
    session_idle_max: Duration = Field(
        3600.0, gt=0, description="Seconds a session may go on without any mail; then 421."
    )
    proxy_timeout: Duration = Field(
        5.0,
        gt=0,
        le=60,
        description="Seconds a trusted proxy may take for its PROXY header; then the connection "
        "is closed.",
    )
    stress_timeout: Duration = Field(
        10.0,
        gt=0,
        description="Seconds that take the place of the timeouts above, and of those of mail data, "
        "for strangers while more than 80 % of sessions_max are open.",
    )
    stress_errors_max: Count = Field(
        3, ge=1, description="What takes the place of errors_max then."
    )
    data_timeout: Duration = Field(
        180.0, gt=0, description="Seconds without progress in mail data; then 421."
    )
    data_rate_min: Count = Field(
        500, ge=0, description="Octets per second that mail data must reach after a minute."
    )
    line_octets_max: Size = Field(
        1024**2,
        ge=0,
        description="Longest line of mail data, in octets; then 550. RFC 5321 has 998, and mail "
        "with longer lines is common. 0 for any length.",
    )
    respond_by: Duration = Field(
        60.0,
        gt=0,
        le=600,
        description="Seconds after its final dot at which a mail server has its reply, even if the "
        "backend has not answered: its message is kept, and the answer settles the copy. Up to "
        "240 if the backend is known to need longer.",
    )
    respond_by_user_agent: Duration = Field(
        20.0,
        gt=0,
        le=600,
        description="The same for a mail program or a device; up to 45.",
    )
    content_memory_max: Size = Field(
        64 * 1024**2, ge=1024**2, description="Memory for all mail data in transit; then disk."
    )
    content_memory_per_message: Size = Field(
        1024**2, ge=64 * 1024, description="Memory for one message's data; then disk."
    )
    content_disk_max: Size = Field(
        2 * 1024**3, ge=0, description="Disk for all mail data in transit; then 452."
    )
    slow_replies_max: Count = Field(
        200,
        ge=0,
        description="Replies to MAIL that may be late at the same time, up to five seconds each, "
        "so that mail servers send bulk and telework mail more slowly under pressure; 0 for none.",
    )
    shutdown_timeout: Duration = Field(
        100.0, gt=0, description="Seconds that open transactions may take to finish at a stop."
    )


class Verification(Section):
    """Whether recipients of our domains exist, found out before RCPT is answered."""

    mode: Literal["call_ahead", "file", "none"] = Field(
        "call_ahead",
        description="Ask the backend (MAIL, RCPT and RSET) and remember what it says; or look into "
        "recipients_file; or take every address of domains. A Maildir is never asked.",
    )
    recipients_file: FilePath | None = Field(
        None,
        description="All recipients there are, one address a line, or @domain for a whole domain; "
        "read at the start and at a reload.",
    )
    sender: MailAddress = Field(
        "", description="Reverse-path of the questions to the backend; by default the null one."
    )
    wait_trusted: Duration = Field(
        2.0,
        ge=0,
        le=60,
        description="Seconds that a message of a trusted client or of a clinical network may wait "
        "for answers about its recipients; then they are believed.",
    )
    wait_stranger: Duration = Field(
        5.0,
        ge=0,
        le=60,
        description="Seconds that a recipient of any other client may wait for an answer; then "
        "450.",
    )
    positive_ttl: Duration = Field(
        86400.0, gt=0, description="Seconds for which a mailbox that exists is known."
    )
    negative_ttl: Duration = Field(
        600.0, gt=0, description="Seconds for which a mailbox that does not exist is known."
    )
    entries_max: Count = Field(
        100_000,
        ge=100,
        le=10_000_000,
        description="Addresses that are remembered, 200 to 500 octets each.",
    )
    unknown_max: Count = Field(
        20,
        ge=1,
        description="Unknown recipients that a stranger's address may name in unknown_window; each "
        "further one is answered a second late, and twice as many end the session with 421.",
    )
    unknown_window: Duration = Field(
        600.0, gt=0, description="Seconds after which a client's unknown recipients are forgotten."
    )

    @model_validator(mode="after")
    def _file_is_used(self) -> Self:
        if self.mode == "file" and self.recipients_file is None:
            raise fault("is needed for mode: file", "recipients_file")
        if self.mode != "file" and self.recipients_file is not None:
            raise fault("is not read unless mode is file", "recipients_file")
        return self


class Surge(Section):
    """Whether much more mail comes than is usual at this hour of the week, by class and network."""

    enabled: Flag = Field(True, description="Learn what is usual, and tell what is not.")
    time_zone: TimeZone = Field(
        "", description="Where the people are who write the mail; by default the system's."
    )
    holidays: tuple[Holiday, ...] = Field(
        (),
        max_length=1000,
        description='Days with the mail of a Sunday: "2026-04-06", or "12-25" for every year.',
    )
    quota: Share | None = Field(
        1.2,
        ge=1,
        le=100,
        description="A class in a surge has, under pressure, a hard quota of so many times the "
        "messages that are expected of it; null: surges are only told. Never for rank 0.",
    )


class Log(Section):
    """One event a line on standard error."""

    format: Literal["text", "json"] = Field("text", description="key=value text, or JSON.")
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is logged."
    )
