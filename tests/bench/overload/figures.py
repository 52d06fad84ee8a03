"""What is left of a run as figures: delays by class and stretch, errors, losses, work, drain.

A delay is from a client's first connect to the server's 250 (or its file, see `backends`), so all
of what a message waits for is in it, the dialog included. A percentile is that of those that have
arrived: a peer that turns half of the mail away is not slow, it is in the column of errors.

- *errors*: clients that saw an error or lost their patience;
- *lost*: acknowledged, not at the server, and the peer says that it has nothing left;
- *waiting*: the same, but the peer still had mail when the patience of the bench ended;
- *goodput*: what the server has taken, over what it could have until it had the last;
- *drain*: seconds from the end of the load to the last message, or to the end of our patience.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan

from tests.bench.overload import bounds
from tests.bench.overload.backends import Arrival, Kind
from tests.bench.overload.bounds import Servers, Stretch
from tests.bench.overload.plan import CALM, FULL, HALF, MIX, RANKS, TOP, Plan
from tests.support.ledger import Fate
from tests.support.load import Message, Outcome
from tests.support.overload import quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """Percentiles, in seconds; nan if nothing has arrived."""

    p50: float
    p99: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Delays":
        """From delays in any order."""
        if not values:
            return cls(p50=nan, p99=nan, most=nan)
        ordered = sorted(values)
        return cls(p50=quantile(ordered, 0.5), p99=quantile(ordered, 0.99), most=ordered[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """What became of one class."""

    messages: int
    delays: Delays
    by_stretch: Mapping[str, Delays]
    """Of those that were sent while the server had its full and its half capacity."""
    errors: int
    lost: int
    waiting: int
    duplicates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What theory allows; the same for all peers before one backend."""

    top_p99: Mapping[str, float]
    """Of the top class, by stretch."""
    oracle: Mapping[str, Delays]
    """Of the very messages of the run: by class, and by stretch for the top class."""
    drain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What became of the load of one peer."""

    backend: str
    peer: str
    classes: Mapping[str, ClassFigures]
    goodput: float
    drain: float
    is_done: bool
    """Whether all had arrived before our patience ended."""
    bounds: Bounds
    held_most: int = 0
    """Most messages that the server had at a time, as far as it can say."""
    lag_p99: float = 0.0
    """Seconds that a client began late: a few milliseconds, or the machine was busy with others."""
    cpu_idle: float = 1.0
    """Share of the machine's CPU time that nobody used while the load came."""

    @property
    def top(self) -> ClassFigures:
        """Of the class that everything turns on."""
        return self.classes[TOP]

    def total(self, name: str) -> int:
        """The sum of `errors`, `lost`, `waiting` or `duplicates` over the classes."""
        return sum(getattr(each, name) for each in self.classes.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was seen of one run. All times are Unix times."""

    began: float
    """When the load began."""
    weakened: float
    restored: float
    ended: float
    """When the last message had arrived, or the bench had no more patience."""
    outcomes: Sequence[Outcome]
    arrivals: Sequence[Arrival]
    is_done: bool
    held_most: int = 0
    cpu_idle: float = 1.0


def work_out(kind: Kind, plan: Plan, peer: str, seen: Observation) -> Figures:
    """Everything that is told of one run."""
    stretches = _as_it_was(kind, plan, seen)
    first: dict[str, float] = {}
    copies = Counter[str]()
    sent = {outcome.message.identity for outcome in seen.outcomes}
    for arrival in seen.arrivals:
        if arrival.identity not in sent:
            continue  # of the light load before
        copies[arrival.identity] += 1
        first.setdefault(arrival.identity, arrival.at)
    last = max(first.values(), default=seen.ended) if seen.is_done else seen.ended
    could = bounds.work_between(stretches, 0.0, last - seen.began)
    return Figures(
        backend=kind.name,
        peer=peer,
        classes={name: _of_class(name, stretches, seen, first, copies) for name in plan.mix},
        goodput=len(first) / could,
        drain=last - seen.began - plan.seconds,
        is_done=seen.is_done,
        bounds=work_out_bounds(
            plan, kind.normal, stretches, [outcome.message for outcome in seen.outcomes]
        ),
        held_most=seen.held_most,
        cpu_idle=seen.cpu_idle,
        lag_p99=quantile(
            sorted(each.started - seen.began - each.message.due for each in seen.outcomes), 0.99
        ),
    )


def _as_it_was(kind: Kind, plan: Plan, seen: Observation) -> tuple[Stretch, ...]:
    """The stretches, with the times at which the server was changed in fact."""
    planned = plan.stretches(kind.normal, kind.weak)
    times = (0.0, seen.weakened - seen.began, seen.restored - seen.began, plan.seconds)
    return tuple(
        Stretch(name=each.name, start=start, servers=each.servers)
        for each, start in zip(planned, times, strict=True)
    )


def _of_class(
    name: str,
    stretches: Sequence[Stretch],
    seen: Observation,
    first: Mapping[str, float],
    copies: Mapping[str, int],
) -> ClassFigures:
    of_class = [each for each in seen.outcomes if each.message.traffic_class == name]
    delays: dict[str, list[float]] = {FULL: [], HALF: []}
    for outcome in of_class:
        if (at := first.get(outcome.message.identity)) is not None:
            delays[sent_in(outcome.message, stretches)].append(at - outcome.started)
    missing = sum(
        outcome.fate is Fate.ACKNOWLEDGED and outcome.message.identity not in first
        for outcome in of_class
    )
    return ClassFigures(
        messages=len(of_class),
        delays=Delays.of([*delays[FULL], *delays[HALF]]),
        by_stretch={stretch: Delays.of(values) for stretch, values in delays.items()},
        errors=sum(outcome.fate is not Fate.ACKNOWLEDGED for outcome in of_class),
        lost=missing if seen.is_done else 0,
        waiting=0 if seen.is_done else missing,
        duplicates=sum(max(0, copies.get(outcome.message.identity, 0) - 1) for outcome in of_class),
    )


def sent_in(message: Message, stretches: Sequence[Stretch]) -> str:
    """Whether the server had its full or its half capacity when the message was due."""
    name = bounds.stretch_at(stretches, message.due).name
    return FULL if name == CALM else name


def work_out_bounds(
    plan: Plan, normal: Servers, stretches: Sequence[Stretch], messages: Sequence[Message]
) -> Bounds:
    """The bounds of a load, the oracle's run of it included."""
    ordered = sorted(messages, key=lambda message: message.due)
    ranks = RANKS if plan.mix is MIX else {name: rank for rank, name in enumerate(plan.mix)}
    jobs = [(each.due, ranks[each.traffic_class]) for each in ordered]
    ends = bounds.oracle(jobs, stretches)
    delays: dict[str, list[float]] = {name: [] for name in (*plan.mix, FULL, HALF)}
    for message, end in zip(ordered, ends, strict=True):
        delays[message.traffic_class].append(end - message.due)
        if message.traffic_class == TOP:
            delays[sent_in(message, stretches)].append(end - message.due)
    rate = plan.rate(TOP, normal.rate)
    top_p99 = {}
    for stretch in stretches:
        if stretch.name in (FULL, HALF):
            top_p99[stretch.name] = bounds.top_class_sojourn(stretch.servers, rate)
    return Bounds(
        top_p99=top_p99,
        oracle={name: Delays.of(values) for name, values in delays.items()},
        drain=bounds.fluid_drain([each.due for each in ordered], stretches, plan.seconds),
    )


def ratio(value: float, bound: float) -> float:
    """`value` in parts of `bound`; inf where there is no bound to speak of."""
    return value / bound if bound > 0 else inf
