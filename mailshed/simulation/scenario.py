"""A scenario: what is sent to which mail server, and by which rules; one frozen value.

A run is a function of a scenario and a seed, and of nothing else. Streams of mail are independent
Poisson processes whose rate follows the hours of a week and factors for certain times. The mail
server is a model, with a schedule of what goes wrong with it. The rules are the site's own:
traffic classes, quotas, retry pauses.

Times are seconds from the beginning of the run, rates are messages a second, sizes are octets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from math import inf

from mailshed.config.policy import AdmissionPolicy
from mailshed.drain.retry import RetryPolicy
from mailshed.terms import ClientKind, TrafficClass

HOURS_A_WEEK = 168
MIB = 1024**2
MONDAY = 1584316800.0
"""Unix time of Monday, 16 March 2020, 00:00 UTC: hour 0 of the week in which a run begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Sizes with a heavy tail: Pareto between two bounds. Equal bounds: all of one size."""

    smallest: int = 4096
    largest: int = 30 * MIB
    shape: float = 1.1
    """The smaller, the heavier the tail; that of mail is near 1.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """From `start` to `end` there is `factor` times as much, once or `every` so many seconds."""

    start: float
    end: float
    factor: float
    every: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientBehaviour:
    """What the senders of a stream do with our answers.

    A mail server that is told 4xx tries again after `retry_min` seconds, then after twice as long
    each time, up to `retry_max`: Postfix's minimal_backoff_time and maximal_backoff_time. Its queue
    is looked at every `queue_run` seconds only; `is_synchronised`: all of them look at the same
    time, so that what was turned away comes back as a wave. Others do not try again.
    """

    kind: ClientKind = ClientKind.MTA
    retry_min: float = 300.0
    retry_max: float = 4000.0
    queue_run: float = 300.0
    is_synchronised: bool = False
    patience: float = 600.0
    """Seconds after its final dot at which the client gives up without a reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One kind of mail: how much, of which class, from whom."""

    name: str
    traffic_class: str
    rate: float
    """Messages a second, where profile and factors are 1."""
    profile: tuple[float, ...] = (1.0,)
    """Factors for equal parts of a week from Monday, 00:00 on: 168 of them for its hours."""
    factors: tuple[Factor, ...] = ()
    begins: float = 0.0
    ends: float = inf
    sizes: Sizes = Sizes()
    recipients: int = 1
    senders: int = 100
    """As many senders, all equal."""
    elephant: float = 0.0
    """This share of the mail comes from one sender more."""
    client: ClientBehaviour = ClientBehaviour()
    hosts: int = 1
    """The mail comes from so many addresses."""


class Server(Enum):
    """How the mail server shares itself among the messages that it has."""

    FIFO = "fifo"  # so many at a time, the others wait in line
    SHARING = "sharing"  # all at once, each the slower the more there are
    CONTENDED = "contended"  # all at once, and the more there are the less is done in all


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """From `start` to `end` the mail server is different; None: in this respect it is not.

    The latest change that names something decides about it.
    """

    start: float
    end: float = inf
    servers: float | None = None
    """So many times as many servers (rounded, one at least)."""
    speed: float | None = None
    """So many times as fast; 0: everything stalls, and connections are still accepted."""
    is_refusing: bool | None = None
    """No connection is accepted; what is in flight goes on."""
    connections_max: int | None = None
    full_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendModel:
    """The mail server. A message takes `base + per_mib * MiB + per_recipient * further` seconds.

    That is its *work*, times a lognormal factor of mean 1 that is the message's own.
    """

    server: Server = Server.FIFO
    servers: int = 8
    """Messages at a time, or cores."""
    base: float = 0.05
    per_mib: float = 0.04
    per_recipient: float = 0.005
    noise: float = 0.5
    """Standard deviation of the logarithm."""
    envelope: float = 0.1
    """The part of `base` that passes before our final dot."""
    latency: float = 0.0
    """Seconds beside the work, in which the message needs no server: a disk's network."""
    contention: float = 0.03
    """The share of the work that is serial (sigma of the universal scalability law)."""
    coherency: float = 0.005
    """What each pair in flight costs (kappa of the same)."""
    connections_max: int | None = None
    """Further connections are told 421."""
    tarpit_above: int | None = None
    """With more than so many in flight, MAIL is answered `tarpit_seconds` late."""
    tarpit_seconds: float = 5.0
    busy_above: int | None = None
    """With more than so many in flight, MAIL is answered 452 4.3.1."""
    slow_share: float = 0.0
    """This share of the mailboxes is in a database that takes `slow_factor` times as long."""
    slow_factor: float = 10.0
    full_share: float = 0.0
    """This share of the mailboxes is full: 452 4.2.2."""
    mailboxes: int = 2000
    changes: tuple[Change, ...] = ()

    def work(self, size: int, recipients: int) -> float:
        """Seconds of one server that such a message needs on average."""
        return self.base + self.per_mib * size / MIB + self.per_recipient * (recipients - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolModel:
    """What the spool holds, and how long it keeps it."""

    messages_max: int = 1_000_000
    octets_max: int = 10 * 1024**3
    lifetime: float = 4 * 86400.0
    retry: RetryPolicy = field(default_factory=lambda: RetryPolicy(delay_min=30.0, delay_max=900.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All of it.

    Mail is sent for `duration` seconds; the run ends when all of it has come to its end, but no
    later than `settle` seconds after that.
    """

    name: str
    duration: float
    settle: float = 0.0
    start_wall: float = MONDAY
    classes: tuple[TrafficClass, ...]
    streams: tuple[Stream, ...]
    backend: BackendModel = BackendModel()
    spool: SpoolModel = SpoolModel()
    admission: AdmissionPolicy = field(default_factory=AdmissionPolicy)
    in_flight_max: int = 200
    """Slots that are never exceeded: the operator's bound."""
    respond_by: float = 60.0
    respond_by_user_agent: float = 20.0
    command_timeout: float = 30.0
    dot_timeout: float = 540.0
    sample_every: float = 1.0
    """Seconds between the points of the trace."""

    def __post_init__(self) -> None:
        names = {each.name for each in self.classes}
        for stream in self.streams:
            assert stream.traffic_class in names, f"{stream.name} has a class that is not there"
        assert len({stream.name for stream in self.streams}) == len(self.streams)

    @property
    def by_name(self) -> Mapping[str, TrafficClass]:
        """The classes by their names."""
        return {each.name: each for each in self.classes}

    def scaled(self, factor: float) -> "Scenario":
        """The same with `factor` times as much mail in all streams."""
        streams = (replace(each, rate=each.rate * factor) for each in self.streams)
        return replace(self, streams=tuple(streams))
