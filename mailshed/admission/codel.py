"""Which classes have a standing queue: the controlled delay of live mail, class by class.

A queue that comes and goes with bursts is good; one that stays only makes everybody wait. CoDel
(RFC 8289) tells them apart by the *least* wait of some seconds: in a good queue somebody has hardly
waited. So if for `INTERVAL_SECONDS` nobody of a class was served within the class's `wait_target`,
the class is overloaded, and whoever has waited for two targets is sent to the spool early instead
of using up the patience of its client. The form, sloughing by age while overloaded and judging
once an interval, is that of Facebook's folly (Maurer, "Fail at Scale", ACM Queue 13(8), 2015);
there is no square root here, since what is sloughed is not sent again at once, as TCP would.

A class of which nobody is served at all has no least wait; then the longest of those who wait, or
have given up, counts. And a wait says little in a class that has a message now and then, so it
takes `SAMPLES_MIN` of them.

Classes without a `wait_target`, and clinical mail in any case, are never overloaded. Pure: `now` is
monotonic seconds, and so are all waits.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

from mailshed.terms import TrafficClass

INTERVAL_SECONDS = 5.0
"""Longer than bursts, shorter than the patience of clients."""
SAMPLES_MIN = 3
PATIENCE_TARGETS = 2.0
"""So many targets may one wait while its class is overloaded."""


@dataclass(slots=True)
class _Interval:
    """What has been seen of one class since the interval began."""

    ends_at: float
    served: int = 0
    unserved: int = 0
    least: float = inf
    """Wait of the one that was served soonest."""
    longest: float = 0.0
    """Wait of those that left without being served."""


class WaitWatch:
    """The waits of live mail of all classes at one backend."""

    def __init__(self) -> None:
        self._now: dict[str, _Interval] = {}
        self._least: dict[str, float] = {}
        """Least waits of the last interval."""
        self._overloaded: set[str] = set()

    @property
    def overloaded(self) -> frozenset[str]:
        """Names of the classes that are overloaded."""
        return frozenset(self._overloaded)

    def on_served(self, traffic_class: TrafficClass, wait: float, now: float) -> None:
        """Note that a live message has its slot after `wait`, which may be nothing."""
        interval = self._interval(traffic_class, now)
        if interval is not None:
            interval.served += 1
            interval.least = min(interval.least, wait)

    def on_left(self, traffic_class: TrafficClass, wait: float, now: float) -> None:
        """Note that a live message no longer waits, and was not served."""
        interval = self._interval(traffic_class, now)
        if interval is not None:
            interval.unserved += 1
            interval.longest = max(interval.longest, wait)

    def tick(
        self,
        now: float,
        classes: Iterable[TrafficClass],
        waits: Callable[[TrafficClass], tuple[int, float]],
    ) -> None:
        """Judge those of `classes` whose interval is over.

        `waits` says how many live messages of a class wait now, and how long the first of them has.
        Classes that are not named are forgotten.
        """
        known = {each.name: each for each in classes if each.wait_target is not None}
        for name in self._now.keys() - known.keys():
            self._forget(name)
        for name, traffic_class in known.items():
            interval = self._interval(traffic_class, now)
            if interval is not None and now >= interval.ends_at:
                self._judge(traffic_class, interval, *waits(traffic_class))
                self._now[name] = _Interval(now + INTERVAL_SECONDS)

    def least_wait(self, traffic_class: TrafficClass) -> float:
        """The least wait of the last interval, or of this one if somebody has been quicker."""
        interval = self._now.get(traffic_class.name)
        so_far = inf if interval is None else interval.least
        return min(self._least.get(traffic_class.name, 0.0), so_far)

    def patience(self, traffic_class: TrafficClass) -> float:
        """After so many seconds one of this class should not wait any longer, as things are."""
        target = traffic_class.wait_target
        if target is None or traffic_class.rank == 0 or traffic_class.name not in self._overloaded:
            return inf
        return PATIENCE_TARGETS * target

    def _interval(self, traffic_class: TrafficClass, now: float) -> _Interval | None:
        if traffic_class.wait_target is None:
            return None
        interval = self._now.get(traffic_class.name)
        if interval is None:
            interval = self._now[traffic_class.name] = _Interval(now + INTERVAL_SECONDS)
        return interval

    def _judge(
        self, traffic_class: TrafficClass, interval: _Interval, waiting: int, oldest: float
    ) -> None:
        name, target = traffic_class.name, traffic_class.wait_target
        assert target is not None, "only classes with a target have intervals"
        if interval.served:
            least = interval.least
        else:
            least = max(interval.longest, oldest if waiting else 0.0)
        self._least[name] = least
        samples = interval.served + interval.unserved + waiting
        if samples >= SAMPLES_MIN and least > target and traffic_class.rank > 0:
            self._overloaded.add(name)
        else:
            self._overloaded.discard(name)

    def _forget(self, name: str) -> None:
        del self._now[name]
        self._least.pop(name, None)
        self._overloaded.discard(name)
