"""Who teaches the expected times, and when: the gate, the epochs, the probes.

A message is light, and may teach, if it starts with no more than three tenths of the limit in
flight. Why that neither drifts nor collapses: let b be the expected time over the true one. With c
servers the limit settles at no more than b c + B, so light samples have at most 0.3 (b c + B) in
flight and take at most max(1, 0.3 b + 0.3 B / c) times the true time. That is the next b: the error
shrinks to three tenths each time, and b = 1 stays as soon as c >= 0.43 B.

The first expected times are learned from forty messages, or after ten seconds from what there is;
until then the lowest limit holds. Then once an epoch, by itself if there were light samples enough
or no others, else by a probe.

Pure; times are seconds, `now` is monotonic.
"""

from math import inf

from mailshed.control.baseline import Baseline
from mailshed.control.baseline_probe import SAMPLES_ENOUGH, BaselineProbe
from mailshed.control.scale import SAMPLES_MIN

GATE_SHARE = 0.3
"""Of the limit: a message is light with so many in flight, and a probe holds the limit to them."""
FIRST_SECONDS = 10.0


class Learner:
    """The expected times of one backend, and what keeps them true."""

    def __init__(self, lowest: int) -> None:
        self._lowest = lowest
        self.baseline = Baseline()
        self.probe = BaselineProbe()
        self.gate = lowest
        """A message that starts with no more than so many in flight, itself included, is light."""
        self.crowded = 0
        """Messages since the last lesson that were not light."""
        self._began: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether there are expected times."""
        return self.baseline.is_known

    @property
    def until(self) -> float:
        """When a light message must have ended."""
        return self.probe.ends_at if self.probe.is_on else inf

    def hold(self, limit: int, slots: int) -> int:
        """`slots`, or what is left of them for the sake of learning; `limit` sets the gate."""
        self.gate = max(self._lowest, int(GATE_SHARE * limit))
        if not self.is_known:
            return min(slots, self._lowest)
        return min(slots, self.probe.slots) if self.probe.is_on else slots

    def begin_probe(
        self, now: float, limit: int, service: float, in_flight: int, *, is_urgent: bool = False
    ) -> None:
        """Hold the limit down; messages take `service` seconds just now."""
        slots = max(self._lowest, int(GATE_SHARE * limit))
        self.probe.begin(now, slots, service, is_urgent=is_urgent)
        self.probe.settle(now, in_flight)

    def learn_first(self, now: float, in_flight: int) -> bool:
        """Learn the first expected times, as soon as there are samples enough; whether it did."""
        if self._began is None:
            if not (in_flight or self.baseline.samples):
                return False
            self._began = now
        enough = SAMPLES_ENOUGH if now - self._began < FIRST_SECONDS else SAMPLES_MIN
        if self.baseline.samples < enough:
            return False
        self._learn()
        self.probe.start_epoch(now)
        return self.is_known

    def look_at_probe(self, now: float, in_flight: int) -> float | None:
        """If the probe is over, end it: by what factor all expected times were off."""
        self.probe.settle(now, in_flight)
        samples = self.baseline.light(self.gate)
        if not self.probe.is_over(now, samples):
            return None
        shift = self._learn()
        self.probe.end(now, samples, is_lesson=shift != 1.0)
        return shift

    def end_epoch(self, now: float, limit: int, usual: float, in_flight: int) -> float:
        """Learn if that is possible, else begin a probe; by what factor expected times were off."""
        if self.baseline.samples < SAMPLES_ENOUGH and self.crowded:
            self.begin_probe(now, limit, usual, in_flight)
            return 1.0
        shift = self._learn()
        self.probe.start_epoch(now)
        return shift

    def _learn(self) -> float:
        self.crowded = 0
        return self.baseline.learn(self.gate).shift
