"""The file of a scenario: which mail is sent to which mail server, for `mailshed simulate`.

It is read like a configuration, and its faults are shown like those of one, with file, line, column
and key. It may name the site's own configuration; classes, quotas, retry pauses and the bound of
slots are then that one's, otherwise those that are shipped. Rates are messages an hour, as people
count mail; times are durations from the beginning of the run.

`mailshed.simulation.build` makes a scenario of it.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mailshed.config.document import read_as
from mailshed.config.faults import Fault, KeyPath, did_you_mean, render
from mailshed.config.fields import Count, Duration, FilePath, Flag, Name, Share, Size, Text, Version
from mailshed.config.load import load
from mailshed.config.marks import Document
from mailshed.config.schema import Config
from mailshed.config.sections import fault
from mailshed.config.shipped import shipped_configuration
from mailshed.errors import ConfigError

DAY_HOURS, WEEK_HOURS = 24, 168
STREAMS_MAX = 100
Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
Profile = Literal["flat", "office", "day"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class _Span(_Section):
    """Something that holds from one time to another."""

    start: Duration = Field(alias="from", description="Since when.")
    end: Duration | None = Field(None, alias="to", description="Until when; by default the end.")

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise fault("must be later than from", "to")
        return self


class FactorSection(_Span):
    """So many times as much mail."""

    factor: Share = Field(ge=0, description="So many times as much.")
    every: Duration | None = Field(None, gt=0, description="Again after each such time.")


class ChangeSection(_Span):
    """How the mail server is different for a time; what is not named stays as it is."""

    servers: Share | None = Field(None, gt=0, description="So many times as many servers.")
    speed: Share | None = Field(
        None,
        ge=0,
        description="So many times as fast; 0: it stalls, and still accepts connections.",
    )
    refusing: Flag | None = Field(None, description="It accepts no connections.")
    connections_max: Count | None = Field(None, ge=1, description="As in the section above it.")
    full_share: Share | None = Field(None, ge=0, le=1, description="As in the section above it.")


class BackendSection(_Section):
    """The mail server: what a message costs it, and what goes wrong with it."""

    model: Literal["fifo", "sharing", "contended"] = Field(
        "fifo",
        description="Whether it serves so many messages at a time (fifo), all at once at equal "
        "parts (sharing), or all at once and in each other's way (contended).",
    )
    servers: Count = Field(8, ge=1, le=1000, description="Messages at a time, or cores.")
    base: Duration = Field(0.05, gt=0, description="Time of one server for each message.")
    per_mib: Duration = Field(0.04, ge=0, description="The same for each MiB.")
    per_recipient: Duration = Field(0.005, ge=0, description="The same for each further recipient.")
    latency: Duration = Field(0.0, ge=0, description="Time in which a message needs no server.")
    noise: Share = Field(
        0.5, ge=0, le=2, description="How uneven it is: standard deviation of the logarithm."
    )
    connections_max: Count | None = Field(
        None, ge=1, description="Further connections are told 421; by default there is no bound."
    )
    tarpit_above: Count | None = Field(
        None, ge=1, description="With more in flight, MAIL is answered late (Exchange)."
    )
    tarpit_delay: Duration = Field(5.0, ge=0, description="So much later.")
    busy_above: Count | None = Field(
        None, ge=1, description="With more in flight, MAIL is answered 452 4.3.1."
    )
    slow_share: Share = Field(
        0.0, ge=0, le=1, description="Share of the mailboxes that are in a slow database."
    )
    slow_factor: Share = Field(10.0, ge=1, description="They take so many times as long.")
    full_share: Share = Field(0.0, ge=0, le=1, description="Share of the mailboxes that are full.")
    mailboxes: Count = Field(2000, ge=1, description="Mailboxes there are.")
    changes: tuple[ChangeSection, ...] = Field(
        (), max_length=STREAMS_MAX, description="When it is different."
    )


class SizesSection(_Section):
    """Sizes of messages: a Pareto law between two bounds."""

    smallest: Size = Field(4096, ge=1, description="The smallest.")
    largest: Size = Field(30 * 1024**2, ge=1, description="The largest.")
    shape: Share = Field(
        1.1, gt=0, description="The smaller, the more large ones; that of mail is near 1.1."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.largest < self.smallest:
            raise fault("must be at least smallest", "largest")
        return self


class StreamSection(_Section):
    """One kind of mail."""

    name: Name = Field(description="Name in the table.")
    traffic_class: Text = Field(alias="class", description="The class that it has.")
    per_hour: Share = Field(ge=0, description="Messages an hour, where profile and factors are 1.")
    profile: Profile | tuple[Share, ...] = Field(
        "flat",
        description="How it follows the hours of the week: flat, office (weekdays 7 to 18), day "
        "(all days 7 to 21), or a list of 24 factors for the hours of a day, or of 168 for those "
        "of a week from Monday on.",
    )
    factors: tuple[FactorSection, ...] = Field(
        (), max_length=STREAMS_MAX, description="When there is more of it, or less."
    )
    sizes: SizesSection = Field(default_factory=SizesSection, description="How large it is.")
    recipients: Count = Field(1, ge=1, le=1000, description="Recipients of each message.")
    senders: Count = Field(100, ge=1, le=100_000, description="Senders, all alike.")
    elephant_share: Share = Field(
        0.0, ge=0, le=1, description="Share of it that comes from one sender more."
    )
    clients: Literal["mta", "user_agent", "device"] = Field(
        "mta", description="What sends it, as for a listener: only mail servers try again."
    )
    hosts: Count = Field(1, ge=1, le=10_000, description="Addresses that it comes from.")
    retry_min: Duration = Field(300.0, gt=0, description="Pause of a mail server after a 4xx.")
    retry_max: Duration = Field(4000.0, gt=0, description="Longest such pause; it doubles.")
    synchronised: Flag = Field(False, description="All of them try again at the same moments.")

    @model_validator(mode="after")
    def _whole_profile(self) -> Self:
        if isinstance(self.profile, tuple):
            if len(self.profile) not in {DAY_HOURS, WEEK_HOURS}:
                raise fault(f"has {len(self.profile)} factors, expected 24 or 168", "profile")
            if min(self.profile) < 0:
                raise fault("has a factor below 0", "profile")
        return self


class SpoolSection(_Section):
    """The spool, where it is not to be that of the configuration."""

    messages_max: Count | None = Field(None, ge=1, description="Most messages it may hold.")
    octets_max: Size | None = Field(None, ge=1, description="Most octets it may hold.")


class ScenarioFile(_Section):
    """The whole file."""

    version: Version = Field(description="Version of this format.")
    name: Text = Field(description="What it is, for people.")
    config: FilePath | None = Field(
        None, description="The site's configuration; by default what is shipped."
    )
    start_day: Day = Field("monday", description="Day of the week on which the run begins.")
    start_time: Duration = Field(0.0, lt=86400, description="Time of that day.")
    duration: Duration = Field(gt=0, le=31 * 86400, description="For so long mail comes.")
    settle: Duration = Field(
        86400.0, ge=0, le=31 * 86400, description="After that so long at most, to drain the spool."
    )
    scale: Share = Field(1.0, gt=0, description="So many times as much mail in all streams.")
    limit: Literal["adaptive", "fixed"] | None = Field(
        None,
        description="Whether the limit follows the mail server, or is in_flight_max; by default "
        "as in the configuration.",
    )
    in_flight_max: Count | None = Field(
        None, ge=1, le=10_000, description="Slots; by default those of the configuration."
    )
    backend: BackendSection = Field(default_factory=BackendSection, description="The mail server.")
    spool: SpoolSection = Field(default_factory=SpoolSection, description="The spool.")
    streams: tuple[StreamSection, ...] = Field(
        min_length=1, max_length=STREAMS_MAX, description="The mail that is sent."
    )


def load_scenario(path: Path) -> tuple[ScenarioFile, Config]:
    """Read the scenario at `path` and the configuration that it names.

    Raises ConfigError whose text lists every fault.
    """
    expected = "expected a mapping with keys such as version, duration and streams"
    file, document = read_as(path, ScenarioFile, expected)
    faults: list[Fault] = []
    config = shipped_configuration()
    if file.config is not None:
        if not file.config.is_file():
            faults.append(_fault(document, ("config",), f"there is no file {file.config}"))
            raise ConfigError(render(path, document.lines, faults))
        config = load(file.config, has_secrets=False)
    faults += _relations(file, config, document)
    if faults:
        raise ConfigError(render(path, document.lines, faults))
    return file, config


def _relations(file: ScenarioFile, config: Config, document: Document) -> list[Fault]:
    """What is wrong with the streams among each other, and with their classes."""
    classes = [each.name for each in config.classes]
    found: list[Fault] = []
    seen: set[str] = set()
    for index, stream in enumerate(file.streams):
        if stream.name in seen:
            found.append(
                _fault(document, ("streams", index, "name"), "is the name of another stream, too")
            )
        seen.add(stream.name)
        if stream.traffic_class not in classes:
            message = f"no such class{did_you_mean(stream.traffic_class, classes)}"
            found.append(_fault(document, ("streams", index, "class"), message))
    return found


def _fault(document: Document, path: KeyPath, message: str) -> Fault:
    return Fault(span=document.span(path), path=path, message=message)
