"""One window of observation: what was served, how long it took, how many were in flight.

Messages in flight are an area under a curve, so that an average over the window is exact however
they come and go. Samples are kept as they are and worked out once, when the window is over: while
messages pass it is only appended.

Pure; times are seconds.
"""

from dataclasses import dataclass
from math import sqrt
from statistics import median
from typing import NamedTuple

SAMPLES_MAX = 1024
"""A window of a fast backend keeps so many; the latest replace the oldest."""


class Sample(NamedTuple):
    """One message that was served."""

    service: float
    expected: float
    mail: float
    envelope: float
    expected_envelope: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """How much slower than at light load each stage is, as medians; 0 where nobody told."""

    mail: float = 0.0
    envelope: float = 0.0
    data: float = 0.0
    rest: float = 0.0
    """All but the reply to MAIL."""


class Window:
    """The present window of one backend."""

    def __init__(self) -> None:
        self.in_flight = 0
        """At this moment."""
        self.began = 0.0
        self.samples: list[Sample] = []
        self.busy = 0
        """Messages that the backend had no room for."""
        self.strangers = 0
        """Samples of a size that has not been measured at light load."""
        self.service_seconds = self.slot_seconds = 0.0
        """Of the samples: with the backend, and in their slots altogether."""
        self.ticks = self.backlogged = 0
        """How often time passed, and how often somebody waited then."""
        self.in_flight_max = 0
        self._added = 0
        self._area = 0.0
        self._changed = 0.0

    def begin(self, now: float) -> None:
        """Begin anew at `now`, which may be a little in the future."""
        self.began = self._changed = now
        self.samples = []
        self.busy = self.strangers = self.ticks = self.backlogged = self._added = 0
        self.service_seconds = self.slot_seconds = self._area = 0.0
        self.in_flight_max = self.in_flight

    def step(self, now: float, change: int) -> None:
        """So many more messages are in flight from `now` on."""
        if now > self._changed:
            self._area += self.in_flight * (now - self._changed)
            self._changed = now
        self.in_flight += change
        if self.in_flight > self.in_flight_max:  # noqa: PLR1730 - faster, and for each message
            self.in_flight_max = self.in_flight

    def add(self, sample: Sample, slot_seconds: float) -> None:
        """A message was served."""
        samples = self.samples
        if len(samples) < SAMPLES_MAX:
            samples.append(sample)
        else:
            samples[self._added % SAMPLES_MAX] = sample
        self._added += 1
        self.service_seconds += sample.service
        self.slot_seconds += slot_seconds

    def in_flight_average(self, now: float) -> float:
        """Messages in flight, averaged over the window so far."""
        seconds = now - self.began
        if seconds <= 0.0:
            return float(self.in_flight)
        return (self._area + self.in_flight * max(0.0, now - self._changed)) / seconds

    @property
    def service_share(self) -> float:
        """The part of the time in its slot that a message is with the backend."""
        if self.slot_seconds <= 0.0:
            return 1.0
        return min(1.0, self.service_seconds / self.slot_seconds)

    def stages(self, mail: float) -> Stages:
        """How the stages compare with light load; `mail` is that of the reply to MAIL."""
        if not self.samples:
            return Stages()
        told = [each.mail for each in self.samples if each.mail > 0.0]
        return Stages(
            mail=median(told) / mail if told and mail > 0.0 else 0.0,
            envelope=median(each.envelope / each.expected_envelope for each in self.samples),
            data=median(
                (each.service - each.envelope) / max(each.expected - each.expected_envelope, 1e-6)
                for each in self.samples
            ),
            rest=median(
                (each.service - each.mail) / max(each.expected - mail, 1e-6)
                for each in self.samples
            ),
        )


def middle_and_tail(values: list[float]) -> tuple[float, float]:
    """Median and 90th percentile; sorts `values`."""
    values.sort()
    return median(values), values[int(0.9 * (len(values) - 1))]


def error_of_median(values: list[float]) -> float:
    """Standard error of the median of sorted `values`, by their quartiles."""
    count = len(values)
    quartiles = values[(3 * count) // 4] - values[count // 4]
    return 1.2533 * quartiles / 1.349 / sqrt(count)
