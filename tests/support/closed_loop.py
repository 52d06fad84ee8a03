"""A limit in a closed loop with a model of a backend, in virtual time: hours take milliseconds.

Much less than the simulator of the daemon: no classes, no spool, no waiting room, only a limit, a
backend, and mail that either always waits or comes at a rate. Enough to see whether the limit finds
what the backend can do, and what it does when that changes.

A backend is a way to share its speed among those in it. `servers(c)` works on c at a time, first
come, first served; `sharing(c)` gives all a share as soon as there are more than c; `contended`
loses by every further message (Gunther's universal scalability law). Work is counted in seconds of
the unloaded backend, so what c servers can do is c a second.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from mailshed.control.limit import Flight, Limit, SlotEnding
from mailshed.mail.delivery import StageTimes

TICK = 0.25
MIB = 1024**2
REFUSAL_SECONDS = 0.001
NO_TIMES = StageTimes()


@dataclass(eq=False, slots=True)
class Job:
    """One message at the backend."""

    flight: Flight
    work: float
    delay: float
    """Seconds that the backend makes it wait for the reply to MAIL."""
    late: float = 0.0
    """For how long its replies lay with us after they were read."""


class Model:
    """A backend: at most `places` are worked on, each at `rate(n)` if n are."""

    def __init__(
        self, rate: Callable[[int], float], best: float, places: int | None = None
    ) -> None:
        self._rate = rate
        self._places = places
        self.best = best
        """Work a second that it can do, at `speed` 1."""
        self.speed = 1.0
        self._done = 0.0
        """Work that each of those inside has had, since ever."""
        self._at = 0.0
        self._inside: list[tuple[float, int, Job]] = []
        self._outside: deque[Job] = deque()
        self._numbers = count()

    def pass_until(self, now: float) -> None:
        """Work until `now`."""
        if self._inside:
            self._done += (now - self._at) * self.speed * self._rate(len(self._inside))
        self._at = now

    def set_speed(self, now: float, speed: float) -> None:
        """From `now` on it is so fast; 0 is a stall."""
        self.pass_until(now)
        self.speed = speed

    def add(self, now: float, job: Job) -> None:
        """A message comes in."""
        self.pass_until(now)
        if self._places is not None and len(self._inside) >= self._places:
            self._outside.append(job)
        else:
            heapq.heappush(self._inside, (self._done + job.work, next(self._numbers), job))

    def next_at(self) -> float:
        """When the next one is done, as things stand."""
        if not self._inside or self.speed == 0.0:
            return float("inf")
        left = max(0.0, self._inside[0][0] - self._done)
        return self._at + left / (self.speed * self._rate(len(self._inside)))

    def pop(self, now: float) -> Job:
        """Take out the one that is done at `now`."""
        self.pass_until(now)
        job = heapq.heappop(self._inside)[2]
        if self._outside:
            following = self._outside.popleft()
            heapq.heappush(
                self._inside, (self._done + following.work, next(self._numbers), following)
            )
        return job


def servers(c: int) -> Model:
    """Make c servers with one queue."""
    return Model(lambda _: 1.0, float(c), c)


def sharing(c: int) -> Model:
    """Make c processors that all messages share."""
    return Model(lambda n: min(1.0, c / n), float(c))


def contended(contention: float, coherence: float) -> Model:
    """Make a backend whose messages are in each other's way."""

    def rate(n: int) -> float:
        return 1.0 / (1.0 + contention * (n - 1) + coherence * n * (n - 1))

    return Model(rate, max(n * rate(n) for n in range(1, 1000)))


@dataclass(slots=True)
class Mail:
    """What the messages are like: sizes by Pareto, service times lognormal about a line."""

    base: float = 0.05
    """Seconds for a message of no size, unloaded, the median."""
    per_mib: float = 0.04
    noise: float = 0.5
    size_min: int = 4000
    size_max: int = 30 * MIB
    tail: float = 1.2
    first_share: float = 0.05
    slow_share: float = 0.0
    slow_factor: float = 10.0
    busy_share: float = 0.0

    def draw(self, rng: random.Random) -> tuple[int, float]:
        """Size and work of one."""
        size = min(int(self.size_min * rng.paretovariate(self.tail)), self.size_max)
        work = (self.base + self.per_mib * size / MIB) * rng.lognormvariate(0.0, self.noise)
        if self.slow_share and rng.random() < self.slow_share:
            work *= self.slow_factor
        return size, work


@dataclass(slots=True)
class Span:
    """What happened between two instants."""

    seconds: float
    work: float
    attempts: int
    refused: int
    limit_mean: float
    limit_min: int
    limit_max: int
    best: float

    @property
    def use(self) -> float:
        """Work done, over what the backend can do at speed 1."""
        return self.work / (self.seconds * self.best)


@dataclass
class Loop:
    """The closed loop; `rate` None: somebody always waits."""

    limit: Limit
    model: Model
    mail: Mail = field(default_factory=Mail)
    rate: float | None = None
    seed: int = 1
    cap: int | None = None
    """The backend refuses more connections than that."""
    tarpit: float = 0.0
    is_away: bool = False
    late: float = 0.0
    """Our own event loop is so late, as far as a message sees it, in the mean; see `_delay`."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.now = 0.0
        self.waiting = 0
        self.flying = 0
        self._connected = 0
        self._events: list[tuple[float, int, str, Job | None]] = []
        self._numbers = count()
        self._plan("tick", TICK)
        self._next_arrival = float("inf")
        self.set_rate(self.rate)
        self._reset()

    def set_rate(self, rate: float | None) -> None:
        """From now on so many messages come in a second; None: somebody always waits."""
        self.rate = rate
        self._next_arrival = self.now + self.rng.expovariate(rate) if rate else float("inf")

    def run(self, seconds: float) -> Span:
        """Let time pass, and tell what happened."""
        self._reset()
        end = self.now + seconds
        self._fill()
        while True:
            done, planned = self.model.next_at(), self._events[0][0]
            at = min(done, planned, self._next_arrival)
            if at > end:
                break
            self.now = at
            if at == done:
                self._finish(self.model.pop(at))
            elif at == planned:
                self._happen()
            else:
                self.waiting += 1
                assert self.rate
                self._next_arrival = at + self.rng.expovariate(self.rate)
            self._fill()
        self.now = end
        self.model.pass_until(end)
        return Span(
            seconds,
            self._work,
            self._attempts,
            self._refused,
            self._limits / max(1, self._ticks),
            self._limit_min,
            self._limit_max,
            self.model.best,
        )

    def _reset(self) -> None:
        self._work = 0.0
        self._attempts = self._refused = self._ticks = self._limits = 0
        self._limit_min, self._limit_max = 1 << 30, 0

    def _plan(self, what: str, at: float, job: Job | None = None) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), what, job))

    def _happen(self) -> None:
        _, _, what, job = heapq.heappop(self._events)
        if what == "tick":
            self._tick()
            return
        assert job is not None
        if what == "end":
            self._end_late(job)
            return
        if what == "enter":
            self.model.add(self.now, job)
        else:
            self._refused += 1
            self._end(job, SlotEnding.REFUSED, NO_TIMES)

    def _tick(self) -> None:
        self.limit.tick(self.now, is_backlogged=self.rate is None or self.waiting > 0)
        limit = self.limit.limit(self.now)
        self._ticks += 1
        self._limits += limit
        self._limit_min = min(self._limit_min, limit)
        self._limit_max = max(self._limit_max, limit)
        self._plan("tick", self.now + TICK)

    def _fill(self) -> None:
        while self.rate is None or self.waiting:
            limit = self.limit.limit(self.now)
            is_first = self.rng.random() < self.mail.first_share
            most = min(limit + max(2, limit // 4), self.limit.ceiling) if is_first else limit
            if self.flying >= most:
                return
            if self.rate is not None:
                self.waiting -= 1
            self._start(is_first=is_first)

    def _start(self, *, is_first: bool) -> None:
        size, work = self.mail.draw(self.rng)
        self.flying += 1
        self._attempts += 1
        flight = Flight(size, 1, is_first, self.now, self.flying)
        self.limit.on_start(self.now, flight)
        job = Job(flight, work, self.tarpit)
        if self.is_away or (self.cap is not None and self._connected >= self.cap):
            self._plan("refuse", self.now + REFUSAL_SECONDS, job)
            return
        self._connected += 1
        if job.delay:
            self._plan("enter", self.now + job.delay, job)
        else:
            self.model.add(self.now, job)

    def _finish(self, job: Job) -> None:
        self._connected -= 1
        self._work += job.work
        if self.late:
            self._plan("end", self.now + self._delay(job), job)
            return
        service = self.now - job.flight.started_at
        inside = service - job.delay
        times = StageTimes(
            mail=0.1 * inside + job.delay,
            envelope=0.2 * inside + job.delay,
            content=0.1 * inside,
            service=service,
        )
        is_busy = self.mail.busy_share and self.rng.random() < self.mail.busy_share
        self._end(job, SlotEnding.BUSY if is_busy else SlotEnding.COMPLETED, times)

    def _delay(self, job: Job) -> float:
        """What our loop adds to a message, of which it sees a quarter, more or less by luck."""
        job.late = self.late * 2.0 * self.rng.random()
        return 4.0 * self.late

    def _end_late(self, job: Job) -> None:
        service, added = self.now - job.flight.started_at, 4.0 * self.late
        inside = service - added - job.delay
        times = StageTimes(
            mail=0.1 * inside + job.delay + added / 2,
            envelope=0.2 * inside + job.delay + added / 2,
            content=0.1 * inside,
            service=service,
            lateness=job.late,
        )
        self._end(job, SlotEnding.COMPLETED, times)

    def _end(self, job: Job, ending: SlotEnding, times: StageTimes) -> None:
        self.flying -= 1
        self.limit.on_end(self.now, job.flight, ending, times)
