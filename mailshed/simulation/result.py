"""What came of a run: values to assert about, to print and to draw, and the same as JSON.

`Result.to_json` is a function of scenario, seed and limit, byte for byte.
"""

import json
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from mailshed.simulation.histogram import Histogram
from mailshed.simulation.ledger import Account, Ledger
from mailshed.simulation.mail import Place

if TYPE_CHECKING:
    from mailshed.simulation.engine import Simulation

POINTS_MAX = 8000
"""Points of a trace; with more, every second one is left out, and so on from then on."""


class Point(NamedTuple):
    """How things stood at a moment."""

    time: float
    """Seconds since the start."""
    limit: int
    in_flight: int
    waiting: int
    spooled: int
    """Messages in the spool."""
    fluid_backlog: float
    """Work that the ideal mail server would have before it."""
    work_done: float
    fluid_done: float
    capacity: float
    pressure: float
    """On the whole service, 0 to 1."""
    spooled_by_class: tuple[int, ...] = ()
    """In the order of the scenario's classes; one number if it knows no classes."""


class Trace:
    """A run from second to second, in bounded memory."""

    def __init__(self, every: float) -> None:
        self.every = every
        self.points: list[Point] = []
        self.at_close: dict[str, dict[bytes, int]] = {}
        """Messages delivered to each sender's credit when the last mail had come, by stream."""
        self.close_work = 0.0, 0.0

    def add(self, simulation: "Simulation") -> None:
        """Note how things stand."""
        ledger, station = simulation.ledger, simulation.station
        self.points.append(
            Point(
                simulation.agenda.elapsed,
                station.limit(simulation.agenda.now),
                station.in_flight,
                station.waiting,
                ledger.spool_messages,
                ledger.fluid.backlog,
                simulation.backend.done_work,
                ledger.fluid.done,
                simulation.backend.capacity,
                station.shedding.pressure.value,
                tuple(ledger.spooled(each.name) for each in station.shedding.classes),
            )
        )
        if len(self.points) > POINTS_MAX:
            del self.points[1::2]
            self.every *= 2

    def close(self, ledger: Ledger, work_done: float) -> None:
        """No more mail comes."""
        self.at_close = {each.stream.name: dict(each.by_sender) for each in ledger.accounts}
        self.close_work = work_done, ledger.fluid.done

    def between(self, start: float, end: float) -> list[Point]:
        """The points in a span of time, its end excluded."""
        return [point for point in self.points if start <= point.time < end]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What became of a stream, or of all streams of a class.

    In recipients; see `ledger.Account` for those that count messages.
    """

    name: str
    offered: int
    delivered: int
    bounced: int
    refused: int
    in_spool: int
    in_hand: int
    with_sender: int
    messages: int
    relayed: int
    waited: int
    spooled: int
    adopted: int
    deferred: int
    errors: int
    lost: int
    gave_up: int
    in_doubt: int
    sent_again: int
    duplicates: int
    work_offered: float
    work_done: float
    drained_at: float | None
    sojourn: Histogram
    wait: Histogram

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        numbers = {
            name: _rounded(getattr(self, name))
            for name in self.__slots__
            if name not in ("sojourn", "wait")
        }
        return numbers | {
            name: {
                "mean": _rounded(times.mean),
                "p50": _rounded(times.quantile(0.5)),
                "p99": _rounded(times.quantile(0.99)),
                "max": _rounded(times.largest),
            }
            for name, times in (("sojourn", self.sojourn), ("wait", self.wait))
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a run."""

    scenario: str
    seed: int
    elapsed: float
    """Seconds from the first mail to the end."""
    streams: tuple[Part, ...]
    classes: tuple[Part, ...]
    class_names: tuple[str, ...]
    """In the order of the points of the trace."""
    trace: Trace
    work_done: float
    """In seconds of one server, when the last mail had come."""
    fluid_done: float
    """What the ideal mail server had done by then."""
    peak_at: float
    """When the ideal mail server had most before it."""
    fluid_empty_at: float | None
    """When it was empty again."""
    empty_at: float | None
    """When no mail was in the spool any more, nor with a sender that was told 4xx."""
    is_drained: bool
    """Whether all mail has come to its end."""
    attempts: int
    """Transactions with the mail server."""
    refused: int
    """Of these, those with 421 or no connection."""
    retries: int
    events: int

    @property
    def work_ratio(self) -> float:
        """Work done while mail came, of what an ideal mail server would have done."""
        return self.work_done / self.fluid_done if self.fluid_done else 1.0

    @property
    def drain_time(self) -> float:
        """Seconds from the greatest backlog to none; inf if there always was one since."""
        return inf if self.empty_at is None else self.empty_at - self.peak_at

    @property
    def drain_bound(self) -> float:
        """The same for the ideal mail server."""
        return inf if self.fluid_empty_at is None else self.fluid_empty_at - self.peak_at

    @property
    def refused_ratio(self) -> float:
        """Transactions with 421 or no connection, of all."""
        return self.refused / self.attempts if self.attempts else 0.0

    def of_class(self, name: str) -> Part:
        """What became of a class."""
        return next(part for part in self.classes if part.name == name)

    def of_stream(self, name: str) -> Part:
        """What became of a stream."""
        return next(part for part in self.streams if part.name == name)

    def limits(self, start: float = 0.0, end: float = float("inf")) -> tuple[int, float, int]:
        """The limit in a span of time: its minimum, mean and maximum."""
        limits = [point.limit for point in self.trace.between(start, end)]
        return min(limits), sum(limits) / len(limits), max(limits)

    def work_ratio_between(self, start: float, end: float) -> float:
        """As `work_ratio`, in a span of time."""
        points = self.trace.between(start, end)
        first, last = points[0], points[-1]
        possible = last.fluid_done - first.fluid_done
        return (last.work_done - first.work_done) / possible if possible else 1.0

    def to_json(self) -> str:
        """All of it, as text."""
        document = {
            "scenario": self.scenario,
            "seed": self.seed,
            "elapsed": _rounded(self.elapsed),
            "work_done": _rounded(self.work_done),
            "fluid_done": _rounded(self.fluid_done),
            "work_ratio": _rounded(self.work_ratio),
            "drain_time": _finite(self.drain_time),
            "drain_bound": _finite(self.drain_bound),
            "is_drained": self.is_drained,
            "attempts": self.attempts,
            "refused": self.refused,
            "retries": self.retries,
            "events": self.events,
            "classes": [part.to_dict() for part in self.classes],
            "streams": [part.to_dict() for part in self.streams],
            "trace": {
                "classes": self.class_names,
                "columns": Point._fields,
                "points": [[_rounded(value) for value in point] for point in self.trace.points],
            },
        }
        return json.dumps(document, indent=1, sort_keys=True) + "\n"


def result_of(simulation: "Simulation") -> Result:
    """What came of a run that has ended."""
    ledger, trace = simulation.ledger, simulation.trace
    fluid = ledger.fluid
    classes = [
        _part(each.name, [one for one in ledger.accounts if one.traffic_class is each])
        for each in simulation.scenario.classes
    ]
    is_drained = not ledger.open
    work_done, fluid_done = trace.close_work
    return Result(
        scenario=simulation.scenario.name,
        seed=simulation.seed,
        elapsed=simulation.agenda.elapsed,
        streams=tuple(_part(each.stream.name, [each]) for each in ledger.accounts),
        classes=tuple(part for part in classes if part.messages),
        class_names=tuple(each.name for each in simulation.station.shedding.classes),
        trace=trace,
        work_done=work_done,
        fluid_done=fluid_done,
        peak_at=fluid.peak_at,
        fluid_empty_at=fluid.empty_at,
        empty_at=simulation.empty_at,
        is_drained=is_drained,
        attempts=simulation.backend.attempts,
        refused=simulation.relay.refused,
        retries=simulation.drain.retries,
        events=simulation.events,
    )


def _part(name: str, accounts: list[Account]) -> Part:
    def total(counter: str) -> Any:
        return sum(getattr(account, counter) for account in accounts)

    def place(where: Place) -> int:
        return sum(account.places[where] for account in accounts)

    drained = [account.drained_at for account in accounts if account.drained_at is not None]
    return Part(
        name=name,
        offered=total("offered"),
        delivered=place(Place.DELIVERED),
        bounced=place(Place.BOUNCED),
        refused=place(Place.REFUSED),
        in_spool=place(Place.SPOOL),
        in_hand=place(Place.HAND),
        with_sender=place(Place.SENDER),
        messages=total("messages"),
        relayed=total("relayed"),
        waited=total("waited"),
        spooled=total("spooled"),
        adopted=total("adopted"),
        deferred=total("deferred"),
        errors=total("errors"),
        lost=total("lost"),
        gave_up=total("gave_up"),
        in_doubt=total("in_doubt"),
        sent_again=total("sent_again"),
        duplicates=total("duplicates"),
        work_offered=total("work_offered"),
        work_done=total("work_done"),
        drained_at=max(drained, default=None),
        sojourn=Histogram.merged(account.sojourn for account in accounts),
        wait=Histogram.merged(account.wait for account in accounts),
    )


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def _finite(seconds: float) -> float | None:
    return None if seconds == inf else round(seconds, 6)
