"""Runs that are looked at from second to second, and what is asked of them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from mailshed.control.adaptive import AdaptiveLimit
from mailshed.control.limit_picture import LimitPicture
from mailshed.simulation.agenda import MONOTONIC_START
from mailshed.simulation.controllers.registry import CONTROLLERS, ORACLE, OURS
from mailshed.simulation.engine import Simulation
from mailshed.simulation.mail import Place
from mailshed.simulation.result import Result
from mailshed.simulation.scenario import Scenario

HEALED_X = 1.25
HEALED_SECONDS = 30.0
DRAIN_SHARE = 1.25
"""The recovery invariant: what is allowed once the trouble is over."""
LOWEST = 2
"""The lowest limit there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """How things stood at `time`, seconds since the start."""

    time: float
    limit: int
    in_flight: int
    elephants: int
    attempts: int
    refused: int
    delivered: int
    backlog: int
    """Messages in the spool and with senders that were told 4xx."""
    picture: LimitPicture


@dataclass(slots=True)
class Watched:
    """A run of ours: what came of it, and how it went."""

    scenario: Scenario
    moments: list[Moment] = field(default_factory=list)
    result: Result = field(init=False)

    def between(self, start: float, end: float) -> list[Moment]:
        """The moments of a span of time."""
        return [moment for moment in self.moments if start <= moment.time <= end]

    def mean_limit(self, start: float, end: float) -> float:
        """The mean of the limit in a span of time."""
        limits = [moment.limit for moment in self.between(start, end)]
        return sum(limits) / len(limits)

    def counted(self, what: str, start: float, end: float) -> int:
        """By how much a counter has grown in a span of time."""
        moments = self.between(start, end)
        grown: int = getattr(moments[-1], what) - getattr(moments[0], what)
        return grown

    def assert_recovers(self, healed: float, pause: float = 0.0) -> None:
        """The recovery invariant: the trouble was over at `healed`.

        `pause`: that long a client keeps to itself what was turned away.
        """
        result = self.result
        after = self.between(healed + HEALED_SECONDS, healed + 2 * HEALED_SECONDS)
        calm = [moment for moment in after if moment.picture.x <= HEALED_X or not moment.backlog]
        begin, end = after[0].backlog, after[-1].backlog
        assert calm or end < begin, f"still pressed: {after[-1]}"
        assert end < begin or not end, f"the backlog does not fall: {begin}, then {end}"
        assert result.is_drained, f"{self.moments[-1].backlog} messages are left"
        assert result.empty_at is not None
        assert result.fluid_empty_at is not None
        bound = max(0.0, result.fluid_empty_at - healed)
        took = result.empty_at - healed
        most = DRAIN_SHARE * bound + HEALED_SECONDS + pause
        assert took <= most, f"{took:.0f} s, bound {bound:.0f} s"

    def assert_nobody_loses(self) -> None:
        """Whatever has happened: all mail arrives, once, and no user saw an error."""
        result = self.result
        for part in result.classes:
            assert part.delivered == part.offered, part
            assert part.duplicates <= part.in_doubt, part
            assert part.errors == part.lost == part.bounced == 0, part


def watch(
    scenario: Scenario,
    seed: int,
    *,
    controller: str = OURS,
    every: float = 1.0,
    prepare: Callable[[Simulation], None] | None = None,
) -> Watched:
    """Run the service as it is, or without its slow loop; look at it `every` so many seconds."""
    simulation = Simulation(scenario, seed, CONTROLLERS[controller].limit)
    watched = Watched(scenario)
    limit, agenda = simulation.limit, simulation.agenda
    assert isinstance(limit, AdaptiveLimit)

    def look(_: object) -> None:
        ledger = simulation.ledger
        watched.moments.append(
            Moment(
                time=agenda.elapsed,
                limit=simulation.station.limit(agenda.now),
                in_flight=simulation.station.in_flight,
                elephants=simulation.station._elephants,
                attempts=simulation.backend.attempts,
                refused=simulation.relay.refused,
                delivered=sum(account.sojourn.count for account in ledger.accounts),
                backlog=ledger.spool_messages + ledger.total(Place.SENDER),
                picture=limit.picture(),
            )
        )
        agenda.after(every, look, None)

    agenda.at(MONOTONIC_START, look, None)
    if prepare is not None:
        prepare(simulation)
    watched.result = simulation.run()
    return watched


def oracle(scenario: Scenario, seed: int) -> Result:
    """The same mail with a limit that knows."""
    return CONTROLLERS[ORACLE].run(scenario, seed)
