"""Seconds as a function of one quantity, learned as medians: octets to seconds, recipients too.

The quantity falls into buckets, each twice as wide as the one before. A bucket's value is the
median of what was seen in it, so that a heavy tail of slow transactions moves nothing. Mail is not
spread evenly: most buckets of large messages have seen too little to say anything. Those get their
value from a straight line a + b q with a, b >= 0, fitted to the buckets that know better (least
squares of the relative errors, with the number of samples as weight).

A line through a few buckets of small messages says nothing about large ones: a millisecond of noise
between 4 and 8 KiB would become seconds at 30 MiB. So there is one more point to fit, the `Prior`,
a guess that counts as a single sample and loses against anything that has been measured.

Pure; values are seconds.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

BUCKETS = 13
RING = 64
"""The latest samples of a bucket, of which the median is taken."""
SAMPLES_MIN = 5
"""Fewer of them say nothing."""
BLEND = 0.3
"""The part of a new median in a bucket's value: a bad hour is not learned at once. More while the
old value rests on few samples."""
SECONDS_MIN = 1e-6
"""No value is less, so that one can divide by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """A guess: what costs t at the lowest bucket costs t * `factor` + `seconds` at `quantity`."""

    quantity: float
    factor: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Learned:
    """What one bucket has learned: `seconds` at the typical `quantity`, from so many `samples`."""

    seconds: float
    quantity: float
    samples: int


class Scale:
    """Seconds by quantity; bucket j begins at `unit` * 2 ** j, and the last one has no end."""

    def __init__(self, unit_bits: int, prior: Prior) -> None:
        self._bits = unit_bits
        self._prior = prior
        self._rings: tuple[deque[tuple[float, float, int]], ...] = tuple(
            deque(maxlen=RING) for _ in range(BUCKETS)
        )
        self._learned: dict[int, Learned] = {}
        self._table: list[float] = []

    @property
    def is_known(self) -> bool:
        """Whether anything has been learned."""
        return bool(self._table)

    @property
    def learned(self) -> dict[int, Learned]:
        """What is known, by bucket."""
        return dict(self._learned)

    @property
    def samples(self) -> int:
        """On how many samples all of it rests."""
        return sum(each.samples for each in self._learned.values())

    def bucket(self, quantity: int) -> int:
        """Number of the bucket of `quantity`."""
        return min(max((quantity >> self._bits).bit_length() - 1, 0), BUCKETS - 1)

    def has(self, quantity: int) -> bool:
        """Whether the value for `quantity` was measured, and is not from the line."""
        return self.bucket(quantity) in self._learned

    def seconds(self, quantity: int) -> float:
        """The value for `quantity`; only once something is known."""
        # As in `bucket`, but this is called for each message.
        number = (quantity >> self._bits).bit_length() - 1
        if number <= 0:
            return self._table[0]
        return self._table[number if number < BUCKETS else BUCKETS - 1]

    def note(self, quantity: int, seconds: float, in_flight: int) -> None:
        """Keep a sample until the next `learn`; `in_flight` says how lightly it was taken."""
        self._rings[self.bucket(quantity)].append((seconds, quantity, in_flight))

    def learn(self, in_flight_max: int, *, is_anew: bool) -> None:
        """Make values of the samples taken at no more than `in_flight_max`.

        `is_anew`: what was known before does not count in a bucket that has samples.
        """
        for number, ring in enumerate(self._rings):
            fit = [(seconds, quantity) for seconds, quantity, n in ring if n <= in_flight_max]
            if len(fit) < SAMPLES_MIN:
                continue  # they may be joined by those of the next time
            ring.clear()
            value = median(seconds for seconds, _ in fit)
            old = self._learned.get(number)
            samples = len(fit)
            if old is not None and not is_anew:
                part = max(BLEND, samples / (samples + old.samples))
                value = (1.0 - part) * old.seconds + part * value
                samples = min(RING, samples + old.samples)
            typical = float(median(quantity for _, quantity in fit))
            self._learned[number] = Learned(max(value, SECONDS_MIN), typical, samples)
        self._refresh()

    def multiply(self, ratio: float) -> None:
        """All of it has become slower by `ratio`, or faster."""
        self.restore(
            (number, Learned(max(each.seconds * ratio, SECONDS_MIN), each.quantity, each.samples))
            for number, each in self._learned.items()
        )

    def restore(self, learned: Iterable[tuple[int, Learned]]) -> None:
        """Know `learned`, by number of bucket, and nothing else."""
        self._learned = dict(learned)
        self._refresh()

    def _refresh(self) -> None:
        """Work out the values of all buckets."""
        if not self._learned:
            return
        intercept, slope = self._line()
        middles = [1.5 * 2.0 ** (number + self._bits) for number in range(BUCKETS)]
        self._table = [
            self._learned[number].seconds
            if number in self._learned
            else max(intercept + slope * middles[number], SECONDS_MIN)
            for number in range(BUCKETS)
        ]

    def _line(self) -> tuple[float, float]:
        """Intercept and slope, neither of them negative, of the line through what is known."""
        lowest = self._learned[min(self._learned)]
        guess = lowest.seconds * self._prior.factor + self._prior.seconds
        # Where the lowest bucket known is one of large messages, the guess lies beyond it.
        far = lowest.quantity + self._prior.quantity
        points = [(each.quantity, each.seconds, each.samples) for each in self._learned.values()]
        return fit_line([*points, (far, guess, 1)])


def fit_line(points: list[tuple[float, float, int]]) -> tuple[float, float]:
    """Fit a + b q to points (q, seconds, weight) with a, b >= 0; returns a, b."""
    total = on_q = on_qq = on_t = on_qt = 0.0
    for quantity, seconds, samples in points:
        weight = samples / seconds**2
        total += weight
        on_q += weight * quantity
        on_qq += weight * quantity**2
        on_t += weight * seconds
        on_qt += weight * quantity * seconds
    determinant = total * on_qq - on_q**2
    if determinant > 1e-9 * total * on_qq:
        slope = (total * on_qt - on_q * on_t) / determinant
        intercept = (on_t - slope * on_q) / total
        if slope >= 0.0 and intercept >= 0.0:
            return intercept, slope
        if intercept < 0.0:
            return 0.0, on_qt / on_qq
    return on_t / total, 0.0
