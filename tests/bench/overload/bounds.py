"""What no scheduler can beat, from the parameters alone: the figures that a run is divided by.

- *Top class under overload* (Cobham 1954, Davis 1966, non-preemptive): the lower classes are always
  backlogged, so every server is busy and one comes free at rate c / S. A message of the top class
  that arrives at rate a waits W ~ Exp(c / S - a), the 99th percentile of which is
  ln(100) / (c / S - a). With the service S itself that is the bound of its sojourn. It holds for
  exponential service; a constant S, as here, makes about half of W (Pollaczek-Khinchine), so a good
  scheduler may well be below it.
- *Drain* (fluid): what has arrived and could not be served, over the capacity.
- *Oracle*: the very messages of a run in the hands of somebody who knows the servers and obeys
  rank strictly. It says how lucky the seed was: what a run has above the oracle is its own doing,
  what the oracle has above or below the formula is chance and constant service.

Times are seconds after the start of the load. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

from mailshed.simulation.theory import first_wait

PERCENTILE = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """So many messages at a time, each for so many seconds."""

    count: int
    service: float

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.count / self.service


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """From `start` until the next stretch the mail server has these servers."""

    name: str
    start: float
    servers: Servers


def top_class_sojourn(servers: Servers, rate: float, percentile: float = PERCENTILE) -> float:
    """Percentile of the sojourn of a top class of `rate` messages a second, others backlogged."""
    wait = first_wait(servers.count, servers.service, rate)
    return servers.service + wait.percentile(percentile)


def stretch_at(stretches: Sequence[Stretch], time: float) -> Stretch:
    """The stretch in which `time` lies; before the first one it is the first."""
    found = stretches[0]
    for stretch in stretches[1:]:
        if time >= stretch.start:
            found = stretch
    return found


def work_between(stretches: Sequence[Stretch], start: float, end: float) -> float:
    """Messages that could be served between two times if there were always some."""
    total = 0.0
    ends = [*(stretch.start for stretch in stretches[1:]), inf]
    for stretch, until in zip(stretches, ends, strict=True):
        begin = start if stretch is stretches[0] else max(start, stretch.start)
        total += max(0.0, min(end, until) - begin) * stretch.servers.rate
    return total


def fluid_drain(arrivals: Sequence[float], stretches: Sequence[Stretch], end: float) -> float:
    """Seconds after `end` until all of `arrivals` (sorted, all before it) can be served."""
    backlog = before = 0.0
    for arrival in arrivals:
        backlog = max(0.0, backlog - work_between(stretches, before, arrival)) + 1
        before = arrival
    backlog = max(0.0, backlog - work_between(stretches, before, end))
    return backlog / stretch_at(stretches, end).servers.rate


def oracle(jobs: Sequence[tuple[float, int]], stretches: Sequence[Stretch]) -> list[float]:
    """When each of `jobs` (arrival, rank) ends if rank is obeyed strictly and servers are known.

    First come, first served within a rank; nobody is broken off, not even by fewer servers.
    """
    ends = [inf] * len(jobs)
    # Time, then ends before arrivals; an index is that of the arrival, -1 none.
    events: list[tuple[float, int, int]] = []
    for index, (arrival, _) in enumerate(jobs):
        heappush(events, (arrival, 1, index))
    for stretch in stretches[1:]:
        heappush(events, (stretch.start, 2, -1))
    waiting: list[tuple[int, float, int]] = []
    busy = 0
    while events:
        now, kind, index = heappop(events)
        if kind == 0:
            busy -= 1
        elif index >= 0:
            heappush(waiting, (jobs[index][1], now, index))
        servers = stretch_at(stretches, now).servers
        while waiting and busy < servers.count:
            _, _, first = heappop(waiting)
            busy += 1
            ends[first] = now + servers.service
            heappush(events, (ends[first], 0, -1))
    return ends
