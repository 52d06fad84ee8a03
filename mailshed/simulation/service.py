"""How a mail server shares itself among its messages: in line, all at once, or in each other's way.

A message has a *demand*, its work times its own factor, in seconds of one server that runs at speed
1. `FifoServers` serves so many at a time and keeps the others in line, as a pool of processes or a
disk does. `SharedServer` serves all of them at once, each with an equal part of what there is:

    processor sharing   part(n) = min(1, c/n)
    contended           part(n) = 1 / (1 + sigma (n - 1) + kappa n (n - 1))

The second is Gunther's universal scalability law (*Guerrilla Capacity Planning*, 2007) for the
total n * part(n): it rises, and beyond its best n it falls, which is what a server with locks and a
database does. The law's constants speak of a machine of `REFERENCE_SERVERS`; with more or fewer of
them, neighbours count for less or more.

Sharing costs O(log n) an event by virtual time: it advances at `part(n) * speed`, and a message
ends when it has advanced by its demand, which never changes.

A server that is told to be faster, slower or to stall (speed 0) says what that means for everybody
at once. Servers that are taken away finish what they are at.
"""

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Protocol

from mailshed.simulation.agenda import Agenda
from mailshed.simulation.mail import Job

Done = Callable[[Job], None]


class Service(Protocol):
    """The part of a mail server that does the work."""

    def start(self, job: Job) -> None:
        """Take on a message with `job.demand`."""
        ...

    def cancel(self, job: Job) -> None:
        """Work on it no longer."""
        ...

    def change(self, *, servers: int, speed: float) -> None:
        """Be as large and as fast from now on."""
        ...

    @property
    def capacity(self) -> float:
        """The most work that is done in a second."""
        ...

    @property
    def best_in_flight(self) -> int:
        """The fewest messages in service with which that much is done."""
        ...


class FifoServers:
    """So many messages at a time, the others first come, first served."""

    def __init__(self, agenda: Agenda, done: Done, servers: int) -> None:
        self._agenda = agenda
        self._done = done
        self._servers = servers
        self._speed = 1.0
        self._changed = agenda.now
        """When the speed changed; demands are as of then or, if later, of their start."""
        self._running: dict[Job, float] = {}
        """Each with its start."""
        self._line: deque[Job] = deque()

    @property
    def capacity(self) -> float:
        """The most work that is done in a second."""
        return self._servers * self._speed

    @property
    def best_in_flight(self) -> int:
        """One for each server."""
        return self._servers

    def start(self, job: Job) -> None:
        """Take on a message with `job.demand`."""
        if len(self._running) < self._servers:
            self._run(job)
        else:
            self._line.append(job)

    def cancel(self, job: Job) -> None:
        """Work on it no longer."""
        if self._running.pop(job, None) is not None:
            job.finish = inf
            self._fill()
        else:
            self._line.remove(job)

    def change(self, *, servers: int, speed: float) -> None:
        """Be as large and as fast from now on."""
        now, old = self._agenda.now, self._speed
        self._servers = servers
        if speed != old:
            for job, began in self._running.items():
                job.demand -= (now - max(began, self._changed)) * old
            self._speed, self._changed = speed, now
            for job in self._running:
                self._plan(job)
        self._fill()

    def _fill(self) -> None:
        while self._line and len(self._running) < self._servers:
            self._run(self._line.popleft())

    def _run(self, job: Job) -> None:
        self._running[job] = self._agenda.now
        self._plan(job)

    def _plan(self, job: Job) -> None:
        if self._speed > 0:
            job.finish = self._agenda.now + max(0.0, job.demand) / self._speed
            self._agenda.at(job.finish, self._end, job)
        else:
            job.finish = inf

    def _end(self, job: Job) -> None:
        if job.finish != self._agenda.now or self._running.pop(job, None) is None:
            return  # planned anew, or cancelled
        if self._line:
            self._fill()
        self._done(job)


class SharedServer:
    """All messages at once; `part(n)` is the speed of each of n, and `best` the n that is best."""

    def __init__(
        self, agenda: Agenda, done: Done, part: Callable[[int, int], float], servers: int
    ) -> None:
        self._agenda = agenda
        self._done = done
        self._part = part
        self._servers = servers
        self._speed = 1.0
        self._virtual = 0.0
        self._rate = 0.0
        self._since = agenda.now
        self._due = inf
        self._tie = 0
        self._ends: list[tuple[float, int, Job]] = []
        self._running: set[Job] = set()
        self._best: tuple[int, float] = 1, 0.0
        self._measure()

    @property
    def capacity(self) -> float:
        """The most work that is done in a second."""
        return self._best[1] * self._speed

    @property
    def best_in_flight(self) -> int:
        """The number of messages with which most is done."""
        return self._best[0]

    def start(self, job: Job) -> None:
        """Take on a message with `job.demand`."""
        self._advance()
        self._running.add(job)
        self._tie += 1
        heappush(self._ends, (self._virtual + job.demand, self._tie, job))
        self._plan()

    def cancel(self, job: Job) -> None:
        """Work on it no longer."""
        self._advance()
        self._running.remove(job)
        self._plan()

    def change(self, *, servers: int, speed: float) -> None:
        """Be as large and as fast from now on."""
        self._advance()
        self._servers, self._speed = servers, speed
        self._measure()
        self._plan()

    def _measure(self) -> None:
        """Find the best number of messages: the least one with which most is done."""
        best, most = 1, 0.0
        for number in range(1, 40 * self._servers + 1):
            done = number * self._part(number, self._servers)
            if done > most * (1 + 1e-9):
                best, most = number, done
        self._best = best, most

    def _advance(self) -> None:
        now = self._agenda.now
        self._virtual += (now - self._since) * self._rate
        self._since = now

    def _plan(self) -> None:
        ends, running = self._ends, self._running
        while ends and ends[0][2] not in running:
            heappop(ends)
        count = len(running)
        self._rate = self._part(count, self._servers) * self._speed if count else 0.0
        if self._rate <= 0:
            self._due = inf
            return
        self._due = self._agenda.now + max(0.0, ends[0][0] - self._virtual) / self._rate
        self._agenda.at(self._due, self._end, None)

    def _end(self, _: None) -> None:
        if self._agenda.now != self._due:
            return  # planned anew
        self._advance()
        job = heappop(self._ends)[2]
        self._running.remove(job)
        self._plan()
        self._done(job)


def sharing(count: int, servers: int) -> float:
    """The speed of each of `count` messages where `servers` cores are shared equally."""
    return min(1.0, servers / count)


def contended(contention: float, coherency: float) -> Callable[[int, int], float]:
    """The same where messages are in each other's way; see the module."""

    def part(count: int, servers: int) -> float:
        # The law of one machine of eight, stretched to as many servers as there are.
        number = 1.0 + (count - 1) * REFERENCE_SERVERS / servers
        slowed = 1.0 + contention * (number - 1) + coherency * number * (number - 1)
        return 1.0 / slowed

    return part


REFERENCE_SERVERS = 8
"""Of so many servers `contention` and `coherency` speak."""
