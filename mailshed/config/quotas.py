"""The section `quotas`: who may send how much while the backend is under pressure."""

from typing import Self

from pydantic import Field, model_validator

from mailshed.config.fields import Count, Duration, Text
from mailshed.config.sections import Section, fault


class Quota(Section):
    """What counts as too much, in recipients a minute; a burst of it is never too much."""

    soft: Count | None = Field(
        None,
        ge=1,
        description="More than that has half a share of its class's slots; by default any number "
        "is right.",
    )
    hard: Count | None = Field(
        None,
        ge=1,
        description="More than that is not relayed: it is spooled, or its sender keeps it if the "
        "class's over_quota says so; by default never.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.soft is not None and self.hard is not None and self.soft > self.hard:
            raise fault(f"must not be greater than hard ({self.hard})", "soft")
        return self


class ClassQuota(Quota):
    """The quota of one class."""

    traffic_class: Text = Field(alias="class", description="The class.")


class Quotas(Section):
    """Who may send how much while the backend is under pressure; clinical mail is only counted."""

    burst: Duration = Field(
        600.0, gt=0, le=86400, description="Seconds' worth of a quota that may come at once."
    )
    per_sender: Quota = Field(
        default_factory=lambda: Quota(soft=60, hard=600),
        description="Of one user, or of one reverse-path.",
    )
    per_network: Quota = Field(
        default_factory=Quota, description="Of all clients of one /24, or /64 of IPv6."
    )
    per_class: tuple[ClassQuota, ...] = Field((), description="Of all mail of a class.")
    entries_max: Count = Field(
        200_000,
        ge=1000,
        le=10_000_000,
        description="Senders, networks and classes that are remembered, some 300 octets each.",
    )
