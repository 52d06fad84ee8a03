"""What can be had at best: the formulas that figures of a simulation are divided by.

c servers, service times of mean S, arrivals at rate a, work in servers (erlangs) A = a S, load
rho = A / c. "First" is the class of rank 0; sigma is the load down to a class, its own included.

Exponential service is assumed where a formula says M/M. Times that vary less wait less, so for the
nearly constant ones of a mail server with messages of one size these are upper bounds; for sizes
with a long tail, `blocking_factor` says what to multiply with.

Sources: Erlang (1917); Cobham, Priority Assignment in Waiting Line Problems (1954); Davis, Waiting-
Time Distribution of a Multi-Server, Priority Queuing System (1966); Kleinrock, Queueing Systems II;
Jain, Chiu and Hawe, A Quantitative Measure of Fairness (1984); Postfix, SCHEDULER_README; Lorden,
Procedures for Reacting to a Change in Distribution (1971).

Seconds, arrivals a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, inf, log


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A wait that is nothing, or with `chance` exponential at rate `speed`."""

    chance: float
    speed: float

    @property
    def mean(self) -> float:
        """Seconds that a message waits, those that do not wait included."""
        return self.chance / self.speed if self.speed > 0.0 else inf

    def percentile(self, share: float) -> float:
        """Seconds within which `share` (0..1) of the messages have their turn."""
        if self.speed <= 0.0:
            return inf
        missed = 1.0 - share
        return log(self.chance / missed) / self.speed if self.chance > missed else 0.0

    def exceeds(self, seconds: float) -> float:
        """The share (0..1) of messages that wait longer."""
        return self.chance * exp(-self.speed * seconds) if self.speed > 0.0 else 1.0


def erlang_c(servers: int, work: float) -> float:
    """The chance that all `servers` are busy when `work` erlangs are offered; 1 in overload."""
    if work >= servers:
        return 1.0
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = work * blocked / (count + work * blocked)
    return blocked / (1.0 - work / servers * (1.0 - blocked))


def fifo_wait(servers: int, service: float, rate: float) -> Wait:
    """The wait of all mail in M/M/c, first come, first served."""
    return Wait(
        chance=erlang_c(servers, rate * service),
        speed=servers / service - rate,
    )


def priority_waits(servers: int, service: float, rates: Sequence[float]) -> list[float]:
    """Mean waits by class in M/M/c, the class of the first of `rates` first, nobody interrupted.

    Cobham: C(c, A) S / (c (1 - sigma(k-1)) (1 - sigma(k))). From the class on that does not fit
    any more, waits grow without bound; better classes then find all servers busy always.
    """
    busy = erlang_c(servers, sum(rates) * service)
    waits = []
    before = 0.0
    for rate in rates:
        load = before + rate * service / servers
        if load >= 1.0:
            waits.append(inf)
        else:
            waits.append(busy * service / servers / ((1.0 - before) * (1.0 - load)))
        before = min(1.0, load)
    return waits


def first_wait(
    servers: int, service: float, rate: float, others: float = inf, reserve: int = 0
) -> Wait:
    """The wait of rank 0, which arrives at `rate`, while lower classes bring `others` a second.

    In overload, which is the default, it is that of a birth-death process that begins at
    c - reserve busy servers (see `mailshed.control.reserve`). A reserve counts only there.
    """
    speed = servers / service - rate
    if (rate + others) * service < servers:
        return Wait(chance=erlang_c(servers, (rate + others) * service), speed=speed)
    if speed <= 0.0:
        return Wait(chance=1.0, speed=0.0)
    weights = [1.0]
    for extra in range(1, reserve + 1):
        weights.append(weights[-1] * rate * service / (servers - reserve + extra))
    waiting = weights.pop() / (1.0 - rate * service / servers)
    return Wait(chance=waiting / (sum(weights) + waiting), speed=speed)


def single_server_waits(
    rates: Sequence[float], means: Sequence[float], squares: Sequence[float]
) -> list[float]:
    """Mean waits by class in M/G/1 with priorities; `squares` are second moments of service."""
    residual = sum(rate * square for rate, square in zip(rates, squares, strict=True)) / 2.0
    waits = []
    before = 0.0
    for rate, mean in zip(rates, means, strict=True):
        load = before + rate * mean
        waits.append(inf if load >= 1.0 else residual / ((1.0 - before) * (1.0 - load)))
        before = min(1.0, load)
    return waits


def blocking_factor(mean: float, square: float) -> float:
    """What service times of this mean and second moment make of an M/M/c wait: (1 + C^2) / 2."""
    return square / mean**2 / 2.0


def fluid_delay(load: float, seconds: float) -> float:
    """The delay of first come, first served, `seconds` after the load began to be this high."""
    return max(0.0, load - 1.0) * seconds


def drain_time(backlog: float, capacity: float, live: float) -> float:
    """Seconds until `backlog` is gone, all in the same unit of work; infinite if it only grows."""
    if backlog <= 0.0:
        return 0.0
    return backlog / (capacity - live) if capacity > live else inf


def goodput(offered: float, capacity: float) -> float:
    """Work a second that can be done."""
    return min(offered, capacity)


def contended_best(cost: float, coherence: float, most: int = 1000) -> tuple[int, float]:
    """Concurrency at which a contended server does most, and how much, with 1 for one at a time.

    Gunther's universal scalability law: N / (1 + cost (N - 1) + coherence N (N - 1)).
    """
    best = max(
        range(1, most + 1),
        key=lambda count: count / (1 + cost * (count - 1) + coherence * count * (count - 1)),
    )
    return best, best / (1 + cost * (best - 1) + coherence * best * (best - 1))


def postfix_deferral(feedback: float) -> float:
    """The share of attempts that a server refuses at its cap, by Postfix's less-than-1 feedback."""
    return 1.0 / (1.0 + ceil(1.0 / feedback))


def jain(values: Sequence[float]) -> float:
    """Fairness of an allocation: 1 if all are equal, 1/n if one has everything."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares > 0.0 else 1.0


def detection_delay(threshold: float, rate: float, ratio: float) -> float:
    """Mean units of time until a CUSUM of Poisson counts at `rate` notices a jump by `ratio`.

    Threshold over drift, which is the Kullback-Leibler distance: no test with as few false alarms
    is sooner (Lorden).
    """
    assert ratio > 1.0
    return threshold / (rate * (ratio * log(ratio) - ratio + 1.0))
