"""When mail comes, how large it is and who sends it: random numbers of a stream's own.

Each stream is a Poisson process whose rate is constant in pieces: within an hour of the week, and
between the beginnings and ends of its factors. A gap that reaches beyond a piece is drawn anew from
its end, which is exact, since the exponential law has no memory. All that a message is comes from
the stream's own generator in a fixed order, so the same mail is sent whatever becomes of it, and
controllers can be compared on it.

Sizes are Pareto between two bounds, by inversion.
"""

from dataclasses import dataclass
from math import exp, inf
from random import Random

from mailshed.simulation.scenario import HOURS_A_WEEK, BackendModel, Factor, Sizes, Stream

_HOUR = 3600.0
# The epoch was a Thursday, 00:00 UTC.
_EPOCH_HOUR = 72


@dataclass(frozen=True, slots=True)
class Letter:
    """What a message is, whoever has it."""

    size: int
    sender: bytes
    host: int
    mailbox: int
    """The number of its first recipient's mailbox; further ones have the next numbers."""
    noise: float
    """What its work is multiplied with: its own factor, and that of a slow database."""


class Arrivals:
    """The mail of one stream for one mail server."""

    def __init__(
        self, stream: Stream, backend: BackendModel, rng: Random, start_wall: float
    ) -> None:
        self.stream = stream
        self._rng = rng
        self._first_hour = start_wall / _HOUR + _EPOCH_HOUR
        self._noise = backend.noise
        self._mean = -(backend.noise**2) / 2  # so that the mean of the factor is 1
        self._mailboxes = backend.mailboxes
        self._slow_from = backend.mailboxes * (1.0 - backend.slow_share)
        self._slow_factor = backend.slow_factor
        self._sizes = stream.sizes
        self._tail = (stream.sizes.smallest / stream.sizes.largest) ** stream.sizes.shape
        self._time = stream.begins
        self._rate, self._until = self._piece(self._time)

    def next_time(self) -> float:
        """When the next message comes (seconds from the start of the run); inf if none does."""
        random = self._rng.expovariate
        while self._time < self.stream.ends:
            if self._rate > 0:
                when = self._time + random(self._rate)
                if when < self._until:
                    self._time = when
                    return when
            if self._until == inf:
                break
            self._time = self._until
            self._rate, self._until = self._piece(self._time)
        return inf

    def letter(self) -> Letter:
        """What the next message is."""
        random = self._rng.random
        sizes, stream = self._sizes, self.stream
        # Inversion: the survival function falls from 1 at the smallest to `tail` at the largest.
        share = 1.0 - random() * (1.0 - self._tail)
        size = int(sizes.smallest * share ** (-1.0 / sizes.shape))
        if stream.elephant and random() < stream.elephant:
            sender = b"elephant@%s" % stream.name.encode()
        else:
            sender = b"%d@%s" % (int(random() * stream.senders), stream.name.encode())
        host = int(random() * stream.hosts) if stream.hosts > 1 else 0
        mailbox = int(random() * self._mailboxes)
        noise = exp(self._mean + self._noise * self._rng.gauss(0.0, 1.0)) if self._noise else 1.0
        if mailbox >= self._slow_from:
            noise *= self._slow_factor
        return Letter(size, sender, host, mailbox, noise)

    def rate_at(self, time: float) -> float:
        """Messages a second at `time`."""
        return self._piece(time)[0]

    def _piece(self, time: float) -> tuple[float, float]:
        """The rate at `time`, and until when it stays."""
        stream = self.stream
        if time < stream.begins:
            return 0.0, stream.begins
        until = stream.ends
        rate = stream.rate
        if len(stream.profile) > 1:
            parts = len(stream.profile)
            position = (self._first_hour + time / _HOUR) * parts / HOURS_A_WEEK
            # At a boundary, rounding must not give the piece that has just ended.
            part = int(position + 1e-9)
            rate *= stream.profile[part % parts]
            until = min(until, ((part + 1) * HOURS_A_WEEK / parts - self._first_hour) * _HOUR)
        for factor in stream.factors:
            is_on, change = _phase(factor, time)
            rate *= factor.factor if is_on else 1.0
            until = min(until, change)
        return (rate if time < stream.ends else 0.0), until


def mean_size(sizes: Sizes) -> float:
    """The mean of the sizes, in octets."""
    low, high, shape = float(sizes.smallest), float(sizes.largest), sizes.shape
    if low >= high:
        return low
    if abs(shape - 1.0) < 1e-9:
        shape += 1e-6
    mass = 1.0 - (low / high) ** shape
    mean: float = (
        low**shape * shape / (shape - 1.0) * (low ** (1.0 - shape) - high ** (1.0 - shape)) / mass
    )
    return mean


def _phase(factor: Factor, time: float) -> tuple[bool, float]:
    """Whether the factor holds at `time`, and when that changes."""
    if time < factor.start:
        return False, factor.start
    if factor.every is None:
        return (True, factor.end) if time < factor.end else (False, inf)
    begun = factor.start + (time - factor.start + 1e-9) // factor.every * factor.every
    end = begun + (factor.end - factor.start)
    return (True, end) if time < end - 1e-9 else (False, begun + factor.every)
