"""The expected time of a message: how long the unloaded backend would take for it.

Overload shows as time, but a message of 30 MiB takes long anyway. So every service time is divided
by an expected time, and what is left says how busy the backend is, whatever the mix of messages:

    tau = envelope(recipients) + data(size)

Both are `Scale`s, medians by bucket, of samples that were *light*: taken while so few messages of
ours were in flight that we cannot have been in our own way. Who is light is decided when a message
starts (`observer`); here the number in flight comes with each sample, and `learn` takes those only
that are light by the limit of that moment, since a limit that has fallen says that what looked
light before was not.

A backend that has become slower for good, whatever we send (a new virus scanner), would have its
limit cut for weeks if each bucket moved by a part of the difference at a time. So all light samples
together are compared with what was expected of them; if their median is off by more than chance
explains, everything is multiplied by it at once.

A document of all that survives a restart. A day later it is only a beginning: `is_stale`, so that
the first new samples replace it.

Pure; times are seconds.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, isfinite, log, sqrt
from statistics import quantiles
from typing import Any

from mailshed.control.scale import BLEND, BUCKETS, SECONDS_MIN, Learned, Prior, Scale

VERSION = 1
STALE_SECONDS = 86400.0
POOL = 256
"""Light samples that are compared as a whole, the latest."""
POOL_MIN = 12
"""Fewer are not compared."""
SHIFT_MIN = 1.15
"""A smaller factor is left to the buckets."""
SHIFT_ERRORS = 3.0
"""So many standard errors from 1, and it is not chance."""
TAIL_USUAL = 3.0
"""Of the 90th percentile of service time over expected time, until it is known."""
SECONDS_MAX = 3600.0

# 40 ms a MiB, a disk and a LAN; envelopes of 8 recipients cost twice those of one.
_DATA = Prior(quantity=1024.0**2, factor=1.0, seconds=0.04)
_ENVELOPE = Prior(quantity=8.0, factor=2.0, seconds=0.0)
_MAIL = Prior(quantity=1.0, factor=1.0, seconds=0.0)
_KIBI_4 = 12
_ONE = 0


@dataclass(frozen=True, slots=True)
class Lesson:
    """What `learn` has done."""

    samples: int
    """Light ones that there were."""
    shift: float = 1.0
    """By what everything was multiplied."""


class Baseline:
    """The expected times of one backend."""

    def __init__(self) -> None:
        self._envelope = Scale(_ONE, _ENVELOPE)
        self._data = Scale(_KIBI_4, _DATA)
        self._mail = Scale(_ONE, _MAIL)
        self._pool: deque[tuple[int, int, float, int]] = deque(maxlen=POOL)
        self.tail = TAIL_USUAL
        """The 90th percentile of service time over expected time at light load."""
        self.is_stale = True
        """Whether new samples replace what is known, instead of changing it a little."""

    @property
    def is_known(self) -> bool:
        """Whether there is an expected time at all."""
        return self._data.is_known and self._envelope.is_known

    @property
    def samples(self) -> int:
        """Light samples since the last lesson; counted up to a bound."""
        return len(self._pool)

    def light(self, in_flight_max: int) -> int:
        """How many of them a lesson could use."""
        return sum(each[3] <= in_flight_max for each in self._pool)

    @property
    def mail(self) -> float:
        """Seconds to the reply to MAIL at light load; 0 if nobody told."""
        return self._mail.seconds(1) if self._mail.is_known else 0.0

    def expected(self, size: int, recipients: int) -> float:
        """Seconds of service; only once it is known."""
        return self._envelope.seconds(recipients) + self._data.seconds(size)

    def envelope(self, recipients: int) -> float:
        """Seconds of the envelope's part; only once it is known."""
        return self._envelope.seconds(recipients)

    def has(self, size: int) -> bool:
        """Whether messages of about this size have been measured."""
        return self._data.has(size)

    def medians(self) -> tuple[tuple[str, int, float], ...]:
        """All that is known: scale, lower bound of the bucket, seconds."""
        return tuple(
            (name, 1 << (bits + number), each.seconds)
            for name, bits, scale in (
                ("envelope", _ONE, self._envelope),
                ("data", _KIBI_4, self._data),
            )
            for number, each in sorted(scale.learned.items())
        )

    def note(
        self,
        *,
        size: int,
        recipients: int,
        in_flight: int,
        mail: float,
        envelope: float,
        data: float,
    ) -> None:
        """Keep a light sample: a message that was answered."""
        self._envelope.note(recipients, envelope, in_flight)
        self._data.note(size, data, in_flight)
        if mail > 0.0:
            self._mail.note(1, mail, in_flight)
        # A delay of the reply to MAIL alone is a tarpit, and says nothing about all the rest.
        self._pool.append((size, recipients, envelope + data - mail, in_flight))

    def note_envelope(self, *, recipients: int, in_flight: int, envelope: float) -> None:
        """Keep a light sample of a message that was refused before its data."""
        self._envelope.note(recipients, envelope, in_flight)

    def learn(self, in_flight_max: int) -> Lesson:
        """Learn from the samples taken with at most so many in flight; then they are forgotten."""
        light = [each for each in self._pool if each[3] <= in_flight_max]
        self._pool.clear()
        shift = self._shift(light)
        if shift != 1.0:
            self.multiply(shift)
        is_anew = self.is_stale or not self.is_known
        for scale in (self._envelope, self._data, self._mail):
            scale.learn(in_flight_max, is_anew=is_anew)
        if self.is_known and len(light) >= POOL_MIN:
            self.is_stale = False
            ratios = [time / self._rest(size, to) for size, to, time, _ in light]
            tail = quantiles(ratios, n=10)[-1]
            self.tail = tail if is_anew else (1.0 - BLEND) * self.tail + BLEND * tail
        return Lesson(len(light), shift)

    def multiply(self, ratio: float) -> None:
        """The backend takes `ratio` times as long, for everything."""
        for scale in (self._envelope, self._data, self._mail):
            scale.multiply(ratio)

    def _rest(self, size: int, recipients: int) -> float:
        """Expected seconds without those to the reply to MAIL."""
        return max(self.expected(size, recipients) - self.mail, SECONDS_MIN)

    def _shift(self, light: list[tuple[int, int, float, int]]) -> float:
        """By what factor the samples are off, if not by chance; else 1."""
        if not self.is_known or len(light) < POOL_MIN:
            return 1.0
        logs = [log(max(time, 1e-9) / self._rest(size, to)) for size, to, time, _ in light]
        low, middle, high = quantiles(logs, n=4)
        # The quartiles of a normal distribution lie 1.349 standard deviations apart, and the
        # median of n samples has 1.2533 times the error of their mean. What is known has one too.
        error = 1.2533 * (high - low) / 1.349 * sqrt(1 / len(logs) + 1 / self._data.samples)
        if abs(middle) < log(SHIFT_MIN) or abs(middle) < SHIFT_ERRORS * error:
            return 1.0
        return exp(middle)

    def to_document(self) -> dict[str, Any]:
        """What is to survive a restart, as plain JSON."""
        return {
            "version": VERSION,
            "tail": self.tail,
            **{
                name: [
                    [number, each.seconds, each.quantity, each.samples]
                    for number, each in sorted(scale.learned.items())
                ]
                for name, scale in self._scales().items()
            },
        }

    def restore(self, document: Mapping[str, Any], age_seconds: float) -> str | None:
        """Know what `document` says; returns None, or why it is of no use and was ignored.

        Older than a day, or from the future, it counts until there are new samples.
        """
        if document.get("version") != VERSION:
            return f"the baseline has version {document.get('version')!r}, not {VERSION}"
        try:
            tail = _number(document["tail"], 1.0, 1e6)
            found = {name: _learned(document[name]) for name in self._scales()}
        except KeyError as error:
            return f"the baseline has no {error}"
        except (TypeError, ValueError) as error:
            return f"the baseline is damaged: {error}"
        if not found["data"] or not found["envelope"]:
            return "the baseline is empty"
        for name, scale in self._scales().items():
            scale.restore(found[name])
        self.tail = tail
        self.is_stale = not 0.0 <= age_seconds <= STALE_SECONDS
        return None

    def _scales(self) -> dict[str, Scale]:
        return {"envelope": self._envelope, "data": self._data, "mail": self._mail}


def _learned(rows: object) -> list[tuple[int, Learned]]:
    if not isinstance(rows, list):
        raise TypeError(f"a list of buckets, not {type(rows).__name__}, is expected")
    result = []
    for row in rows:
        number, seconds, quantity, samples = row
        if type(number) is not int or not 0 <= number < BUCKETS:
            raise ValueError(f"there is no bucket {number!r}")
        kept = Learned(
            _number(seconds, SECONDS_MIN, SECONDS_MAX),
            _number(quantity, 0.0, 1e12),
            int(_number(samples, 1.0, 1e6)),
        )
        result.append((number, kept))
    return result


def _number(value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise TypeError(f"{value!r} is not a number")
    if not least <= value <= most:
        raise ValueError(f"{value!r} is not between {least:g} and {most:g}")
    return float(value)
