"""The configuration file as frozen pydantic models: every key, its type, default and meaning.

This is the only place of defaults. Each field's description is one sentence with its unit; the
reference in docs/configuration.md is generated from them. Durations are written `30s`, `5m`, `4h`,
`4d`; sizes `64KiB`, `10MiB`, `1GiB`; inside there are only seconds (float) and octets (int).
Relative paths are relative to the working directory of the process.
"""

import socket
from ipaddress import ip_network
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from mailshed.config.authentication import Authentication
from mailshed.config.back import Backend
from mailshed.config.classification import Classification
from mailshed.config.fields import (
    Count,
    Domain,
    Duration,
    Hostname,
    MailAddress,
    Name,
    NetworkField,
    Share,
    Version,
    is_hostname,
)
from mailshed.config.front import Listener
from mailshed.config.quotas import Quotas
from mailshed.config.sections import (
    Admin,
    Limits,
    Log,
    Metrics,
    Section,
    Spool,
    Surge,
    Verification,
    fault,
)
from mailshed.config.sources import Sources
from mailshed.config.tls import Tls


def _default_hostname() -> str:
    """Return the host's own name, made fully qualified the way Postfix does: `.localdomain`."""
    name = socket.getfqdn()
    for candidate in (name, f"{name}.localdomain"):
        if is_hostname(candidate):
            return candidate
    return "localhost.localdomain"


class TrafficClassSection(Section):
    """One class of mail and what it is promised."""

    name: Name = Field(description="Name in rules, logs and metrics.")
    rank: Count = Field(ge=0, le=99, description="Order; 0 first, and 0 is never shed.")
    threshold: Share = Field(
        gt=0,
        le=1,
        description="Share of in_flight_max above which the class may not start, where slots come "
        "back slowly (some 0.1 s of service for each slot, and more).",
    )
    guarantee: Share = Field(
        0.0, ge=0, le=1, description="Share of in_flight_max that the class may have in any case."
    )
    weight: Share = Field(
        1.0,
        gt=0,
        le=1000,
        description="Its part, relative to the weights of others, of the slots for which classes "
        "wait; without effect for rank 0, which goes first.",
    )
    defer_fill: Share | None = Field(
        None,
        gt=0,
        le=1,
        description="How full the spool may be (0 to 1) before mail servers get 4xx instead of "
        "having this class spooled; by default they never do.",
    )
    over_quota: Literal["spool", "defer"] = Field(
        "spool",
        description="What becomes of mail over a hard quota: it is spooled, or mail servers get "
        "4xx.",
    )
    wait_max: Duration = Field(
        ge=0, description="Seconds a mail server's message may wait for a slot before the spool."
    )
    wait_max_user_agent: Duration | None = Field(
        None, ge=0, description="The same for a user agent; by default as wait_max."
    )
    wait_target: Duration | None = Field(
        None,
        ge=0,
        le=60,
        description="Seconds that a wait for a slot may normally take: if for some seconds nobody "
        "of the class has waited less, its new mail is spooled at once and twice that is the "
        "longest wait; by default any wait is normal.",
    )
    waits_at_level: Count | None = Field(
        None,
        ge=2,
        le=4,
        description="Shed level (2 to 4) from which on, if an operator forces it, new mail of this "
        "class is spooled at once; by default at none. Not for rank 0.",
    )
    objective: Duration = Field(gt=0, description="Seconds from arrival to delivery, promised.")
    report_after: Duration | None = Field(
        None,
        gt=0,
        description="Seconds after which the sender of a waiting message is told once that it is "
        "late, if it came from a trusted client; by default never.",
    )

    @model_validator(mode="after")
    def _first_is_never_shed(self) -> Self:
        if self.rank == 0 and self.waits_at_level is not None:
            raise fault("is not for rank 0, which is never shed", "waits_at_level")
        return self


# What each of the shipped classes has beside its promises.
_SHARES: dict[str, dict[str, object]] = {
    "clinical": {},
    "continuity": {"guarantee": 0.1, "weight": 8.0, "defer_fill": 0.97},
    "personal": {"guarantee": 0.2, "weight": 8.0, "defer_fill": 0.9},
    "calendar": {"guarantee": 0.1, "weight": 4.0, "defer_fill": 0.8},
    "application": {"guarantee": 0.1, "weight": 4.0, "defer_fill": 0.8},
    "telework": {"guarantee": 0.1, "weight": 3.0, "defer_fill": 0.7, "over_quota": "defer"},
    "bulk": {"weight": 1.0, "defer_fill": 0.5, "over_quota": "defer"},
}
# When its mail is kept back: beyond a normal wait, and from a forced level on.
_KEPT_BACK: dict[str, dict[str, object]] = {
    "continuity": {"wait_target": "500ms"},
    "personal": {"wait_target": "500ms", "waits_at_level": 4},
    "calendar": {"wait_target": "1s", "waits_at_level": 4},
    "application": {"wait_target": "1s", "waits_at_level": 3},
    "telework": {"wait_target": "1s", "waits_at_level": 3},
    "bulk": {"wait_target": "0s", "waits_at_level": 2},
}


def _default_classes() -> tuple[TrafficClassSection, ...]:
    table = (
        # name, rank, threshold, wait MTA, wait user agent, objective, report after
        ("clinical", 0, 1.0, "2s", "2s", "10s", "15m"),
        ("continuity", 1, 0.95, "10s", "5s", "5m", "30m"),
        ("personal", 1, 0.95, "10s", "5s", "2m", "2h"),
        ("calendar", 2, 0.90, "10s", "5s", "5m", "1h"),
        ("application", 3, 0.90, "5s", "5s", "5m", "4h"),
        ("telework", 4, 0.80, "5s", "3s", "15m", "4h"),
        ("bulk", 5, 0.60, "0s", "0s", "4h", None),
    )
    return tuple(
        TrafficClassSection.model_validate(
            {
                "name": name,
                "rank": rank,
                "threshold": threshold,
                "wait_max": wait,
                "wait_max_user_agent": wait_user_agent,
                "objective": objective,
                "report_after": report_after,
                **_SHARES[name],
                **_KEPT_BACK.get(name, {}),
            }
        )
        for name, rank, threshold, wait, wait_user_agent, objective, report_after in table
    )


class Config(Section):
    """The whole file."""

    version: Version = Field(description="Version of this format.")
    mode: Literal["enforce", "observe"] = Field(
        "enforce",
        description="Act on decisions, or only count what would be done (for the first days): then "
        "the backend is not protected.",
    )
    hostname: Hostname = Field(
        default_factory=_default_hostname,
        description="Our name in greetings and trace lines; by default the host's.",
    )
    postmaster: MailAddress = Field(
        "", description="Where our reports point people to; by default postmaster@hostname."
    )
    domains: tuple[Domain, ...] = Field(
        (), description="Domains that anyone may send to; others need a trusted client."
    )
    trusted_networks: tuple[NetworkField, ...] = Field(
        (ip_network("127.0.0.0/8"), ip_network("::1/128")),
        description="Clients that may send to anyone.",
    )
    trusted_proxies: tuple[NetworkField, ...] = Field(
        (),
        description="Proxies whose word counts on whose connection they pass on, where a listener "
        "has proxy set: HAProxy, or a Postfix with XCLIENT.",
    )
    listeners: tuple[Listener, ...] = Field(min_length=1, description="Where clients connect.")
    tls: Tls = Field(default_factory=Tls, description="How listeners speak TLS.")
    backends: tuple[Backend, ...] = Field(
        min_length=1,
        max_length=16,
        description="The mail servers behind: one, or several by domain.",
    )
    spool: Spool = Field(description="Where acknowledged mail waits.")
    metrics: Metrics = Field(description="The operations port.")
    admin: Admin = Field(default_factory=Admin, description="The command line's socket.")
    limits: Limits = Field(default_factory=Limits, description="Bounds on what can grow.")
    verification: Verification = Field(
        default_factory=Verification, description="Whether recipients exist."
    )
    authentication: Authentication = Field(
        default_factory=Authentication, description="Whether a password is right."
    )
    log: Log = Field(default_factory=Log, description="What is logged and how.")
    quotas: Quotas = Field(
        default_factory=Quotas, description="Who may send how much under pressure."
    )
    surge: Surge = Field(default_factory=Surge, description="How much mail is unusual.")
    classes: tuple[TrafficClassSection, ...] = Field(
        default_factory=_default_classes, min_length=1, description="Classes of mail."
    )
    classification: Classification = Field(
        default_factory=Classification, description="Which message is of which class."
    )
    normalize_networks: tuple[NetworkField, ...] = Field(
        (),
        description="Clients whose bare CR, LF and NUL are normalised instead of refused.",
    )

    _sources: Sources = PrivateAttr(default_factory=Sources)

    @property
    def sources(self) -> Sources:
        """What the file refers to outside of itself, as it was when it was loaded."""
        return self._sources

    @property
    def is_observing(self) -> bool:
        """Whether decisions are only counted."""
        return self.mode == "observe"

    @property
    def admin_socket(self) -> Path:
        """Where the command line's socket is, default included."""
        return self.admin.socket or self.spool.path / "admin.sock"
