"""The limit that follows the backend: as many messages in flight as keep it busy, and few more.

The operator of a hospital's mail server cannot say how many messages it serves best at a time, and
on the day that counts it is another number. So it is measured, all the time, from nothing but how
long the server takes and what it says. Each part is a module of its own: `learner` knows how long a
message would take unloaded, and keeps that true; `observer` makes windows of what it sees, `rule`
judges a window, `allowance` is the number and its slow starts, `elasticity` tunes the rule,
`ceiling` has what the server allows, `capacity` the work that it can do.

Three things happen between windows, since they cannot wait:
- A message that was refused lowers the ceiling at once; a command that timed out cuts by 30 %.
- A *stall*, when all that is in flight is late by far and nothing has come back for a second,
  halves the limit each second, without a single answer.
- Nothing but failures, as many as the limit: start again at the lowest limit.

After a cut the next window begins one service time later: what is served right then was let in
before the cut, and would have it made twice.

Until the first expected times are known the limit is the lowest one, so that they can be learned at
all; that takes forty messages. While a probe is on, the limit is held for everybody. Rank 0 may go
over it as always (`room`); such messages are not light, and spoil only a sample or two.

Pure; times are seconds, `now` is monotonic.
"""

from collections import Counter
from collections.abc import Mapping
from math import inf
from typing import Any

from mailshed.control.allowance import Allowance
from mailshed.control.capacity import Capacity
from mailshed.control.ceiling import Ceiling
from mailshed.control.elasticity import Elasticity
from mailshed.control.learner import Learner
from mailshed.control.limit import Flight, LimitChange, Reading, SlotEnding
from mailshed.control.limit_picture import LimitPicture
from mailshed.control.observer import WINDOW_SAMPLES, Observer, Seen
from mailshed.control.rule import CUT, QUEUE_LOW, Cause, Observation, Verdict, judge, targets
from mailshed.mail.delivery import StageTimes

STALL_CUT = 0.5
CUT_SECONDS = 1.0
"""Between two cuts that do not come from windows."""
SETTLE_MAX = 5.0
FAILURES_MIN = 3
"""Failures without an answer in between: so many and as many as the limit, and it starts again."""
STRANGERS_SHARE = 0.3
"""Of the samples: if more are of a size that has not been measured, it is time to."""
TAIL_MARGIN = 2.0
_MARGIN = 1e-9


class AdaptiveLimit:
    """The adaptive limit of one backend; a `Limit`, and `Measuring`."""

    def __init__(
        self,
        *,
        highest: int,
        lowest: int = 2,
        start: int = 4,
        response_max: float = 5.0,
        has_late_dot: bool = False,
    ) -> None:
        assert 1 <= lowest <= highest
        self._lowest = lowest
        self._response_max = response_max
        self._learner = Learner(lowest)
        self._baseline = self._learner.baseline
        self._observer = Observer(self._baseline, has_late_dot=has_late_dot)
        self._allowance = Allowance(lowest=lowest, highest=highest, start=start)
        self._ceiling = Ceiling(lowest, highest)
        self._elasticity = Elasticity()
        self._capacity = Capacity()
        self._is_swinging = False
        self._last_cut = -inf
        self._failures = 0
        self._queue = self._in_flight = 0.0
        self._windows = 0
        self._cause = Cause.START
        self._changes: Counter[str] = Counter()
        self._slots = lowest
        self._refresh()
        self._reported = self._settled

    # What others ask.

    @property
    def ceiling(self) -> int:
        """Slots that are never exceeded, not even for rank 0."""
        return self._ceiling.value

    @property
    def capacity(self) -> float:
        """The best work rate seen lately, in slot-seconds a second; 0 if nothing is known."""
        return self._capacity.estimate

    def limit(self, now: float) -> int:  # noqa: ARG002 - time passes in `tick`
        """Slots that may be in use."""
        return self._slots

    def expected(self, size: int, recipients: int) -> float | None:
        """Seconds that the unloaded backend needs for such a message; None if not known yet."""
        return self._baseline.expected(size, recipients) if self._baseline.is_known else None

    def reading(self, now: float) -> Reading:  # noqa: ARG002 - as of the last window
        """What is known of the backend."""
        low, high = targets(self._bound, self._elasticity.factor)
        return Reading(
            capacity=self.capacity if self._capacity.is_proven else None,
            queue=self._queue if self._windows else None,
            queue_low=low,
            queue_high=high,
            windows=self._windows,
        )

    def picture(self) -> LimitPicture:
        """How the limit stands, with its reasons."""
        return LimitPicture(
            limit=self._slots,
            ceiling=self.ceiling,
            learned_ceiling=self._ceiling.learned,
            x=self._observer.x,
            queue=self._queue,
            in_flight_average=self._in_flight,
            capacity=self.capacity,
            queue_factor=self._elasticity.factor,
            elasticity=self._elasticity.estimate,
            stages=self._observer.stages,
            is_delayed=self._observer.is_delayed,
            is_probing=self._learner.probe.is_on,
            is_baseline_known=self._baseline.is_known,
            is_baseline_stale=self._baseline.is_stale,
            baseline=self._baseline.medians(),
            tail=self._baseline.tail,
            cause=self._cause.value,
            changes=dict(self._changes),
        )

    def to_document(self) -> dict[str, Any]:
        """What is to survive a restart, as plain JSON."""
        return self._baseline.to_document()

    def restore(self, document: Mapping[str, Any], age_seconds: float) -> str | None:
        """Know what `document` says; returns None, or why it was ignored."""
        reason = self._baseline.restore(document, age_seconds)
        self._refresh()
        self._reported = self._settled
        return reason

    # What happens.

    def on_start(self, now: float, flight: Flight) -> None:
        """Note that a message has taken a slot."""
        learner = self._learner
        if not self._observer.start(now, flight, learner.gate, learner.until):
            learner.crowded += 1

    def on_end(self, now: float, flight: Flight, ending: SlotEnding, times: StageTimes) -> None:
        """Learn from a slot that came back."""
        expected, is_light = self._observer.end(now, flight)
        if ending is SlotEnding.COMPLETED:
            self._on_answer(now, flight)
            self._capacity.note(expected)
            self._observer.served(now, flight, times, expected, is_light=is_light)
            if self._observer.is_one_too_many(flight, times.mail):
                self._on_delayed(now, flight)
            if self._learner.probe.is_on:
                self._learner.probe.settle(now, self._observer.in_flight)
        elif ending is SlotEnding.REFUSED:
            self._on_refused(now, flight)
        elif ending is SlotEnding.STALLED:
            if flight.started_at > self._last_cut and now - self._last_cut >= CUT_SECONDS:
                self._cut(now, CUT, Cause.STALL)
            self._on_failure()
        elif ending not in (SlotEnding.IN_DOUBT, SlotEnding.UNUSED):
            self._on_answer(now, flight)
            if ending is SlotEnding.BUSY:
                self._observer.window.busy += 1
            elif ending is SlotEnding.REJECTED and is_light and times.envelope > 0.0:
                self._baseline.note_envelope(
                    recipients=flight.recipients,
                    in_flight=flight.in_flight,
                    envelope=times.envelope,
                )

    def on_crowded(self, now: float, connections: int) -> None:
        """Note that the backend greets no more than so many connections at a time.

        As good as a refusal of one more, but nobody was refused.
        """
        self._lower_ceiling(now, now, connections + 1)
        self._refresh()

    def tick(self, now: float, *, is_backlogged: bool) -> LimitChange | None:
        """Let time pass; `is_backlogged`: somebody waits for a slot, or there is spooled mail."""
        window = self._observer.window
        window.ticks += 1
        window.backlogged += is_backlogged
        self._capacity.tick(now, is_backlogged=is_backlogged)
        ceiling = self._ceiling.value
        self._ceiling.tick(now, is_binding=self._allowance.value >= ceiling)
        if self._ceiling.value != ceiling:
            self._cause = Cause.CEILING
        observer, learner = self._observer, self._learner
        if not learner.is_known:
            if learner.learn_first(now, observer.in_flight):
                self._cause = Cause.BASELINE
                window.begin(now)
        elif learner.probe.is_on:
            shift = learner.look_at_probe(now, observer.in_flight)
            if shift is not None:
                self._on_lesson(shift)
                window.begin(now)
        elif now - self._last_cut >= CUT_SECONDS and observer.is_stalled(now):
            self._on_stall(now)
        elif learner.probe.is_epoch_over(now):
            self._on_lesson(
                learner.end_epoch(now, self._settled, observer.usual, observer.in_flight)
            )
        elif seen := observer.look(now, QUEUE_LOW * self._elasticity.factor):
            self._on_window(now, seen)
        self._refresh()
        before, self._reported = self._reported, self._settled
        if before == self._reported:
            return None
        self._changes[self._cause.value] += 1
        return LimitChange(before=before, after=self._reported, cause=self._cause.value)

    # Between windows.

    def _on_answer(self, now: float, flight: Flight) -> None:
        self._observer.note_answer(now, flight)
        self._failures = 0
        self._ceiling.on_answer(flight.started_at)

    def _lower_ceiling(self, now: float, started_at: float, in_flight: int) -> None:
        """One that began at `started_at` and made it `in_flight` was one too many."""
        if self._ceiling.on_refused(now, started_at, in_flight):
            self._last_cut = now
            self._cause = Cause.REFUSED
            self._allowance.bound(self._ceiling.value)

    def _on_refused(self, now: float, flight: Flight) -> None:
        self._lower_ceiling(now, flight.started_at, flight.in_flight)
        self._on_failure()
        self._refresh()

    def _on_delayed(self, now: float, flight: Flight) -> None:
        """The backend answers MAIL late for more than so many."""
        if self._ceiling.on_delayed(now, flight.in_flight):
            self._cause = Cause.DELAYED
            self._allowance.bound(self._ceiling.value)
            self._refresh()

    def _on_failure(self) -> None:
        """One more without an answer in between; with enough of them nobody is there."""
        self._failures += 1
        if self._failures >= max(FAILURES_MIN, self._allowance.value):
            self._failures = 0
            self._cause = Cause.AWAY
            self._ceiling.on_away()
            self._start_again(self._lowest)
            self._refresh()

    def _on_stall(self, now: float) -> None:
        """Nothing comes back."""
        used = min(self._allowance.value, float(self._observer.in_flight))
        self._start_again(STALL_CUT * used)
        self._last_cut = now
        self._cause = Cause.STALL
        self._observer.note_stall(now)

    def _start_again(self, limit: float) -> None:
        self._allowance.start_again(limit)
        self._elasticity.forget()

    def _cut(
        self, now: float, factor: float, cause: Cause, used: float = inf, floor: float = 0.0
    ) -> None:
        """Lower the limit, and look again when what it let in before is through."""
        self._allowance.cut(factor, used, floor)
        self._last_cut = now
        self._cause = cause
        self._observer.window.begin(now + min(self._observer.service, SETTLE_MAX))
        self._refresh()

    # Windows.

    def _on_window(self, now: float, seen: Seen) -> None:
        """Judge the window, and do what the verdict says."""
        window, allowance = self._observer.window, self._allowance
        is_strange = len(
            window.samples
        ) >= WINDOW_SAMPLES and window.strangers > STRANGERS_SHARE * len(window.samples)
        observed = self._observation(now, seen)
        # Less than what it takes unloaded cannot be had by sending less.
        least = TAIL_MARGIN * self._baseline.tail * self._observer.usual
        verdict = judge(
            observed,
            factor=self._elasticity.factor,
            response_max=max(self._response_max, least),
            is_slow_start=allowance.is_slow_start,
        )
        self._windows += 1
        self._queue, self._in_flight = verdict.queue, observed.in_flight
        self._swing(observed)
        self._obey(now, observed, verdict)
        if not verdict.may_grow_on:
            allowance.is_slow_start = False
        is_lost = allowance.is_lost and not verdict.may_grow_on
        if (is_lost or is_strange) and self._learner.probe.may_hurry(now):
            self._begin_probe(now)

    def _observation(self, now: float, seen: Seen) -> Observation:
        window, allowance = self._observer.window, self._allowance
        return Observation(
            limit=self._bound,
            x=seen.x,
            error=seen.error,
            tail=seen.tail,
            tail_usual=self._baseline.tail,
            in_flight=window.in_flight_average(now) * window.service_share,
            in_flight_max=window.in_flight_max,
            was_backlogged=window.backlogged == window.ticks,
            busy=window.busy / (len(window.samples) + window.busy) if window.busy else 0.0,
            first_slow=self._observer.first_slow(now),
            # Back to what was good is no increase.
            is_delayed=self._observer.is_delayed and allowance.value >= allowance.good,
        )

    def _obey(self, now: float, observed: Observation, verdict: Verdict) -> None:
        """Change the limit as the verdict says, and begin the next window."""
        window, allowance, cause = self._observer.window, self._allowance, verdict.cause
        if cause is not None and verdict.factor < 1.0:
            floor = 0.0
            if cause is Cause.RESPONSE:
                floor = allowance.recovery
                self._observer.forget_first()
            self._cut(now, verdict.factor, cause, float(observed.in_flight_max), floor)
            return
        if cause is not None:
            self._cause = cause
            allowance.grow(observed.limit * verdict.factor, self._ceiling.value)
        allowance.note_good(now - window.began)
        window.begin(now)

    def _swing(self, seen: Observation) -> None:
        """Let the slow loop see the window."""
        # What the ceiling binds does not show what the backend could do.
        is_bound = self._allowance.value >= self._ceiling.value
        self._is_swinging = seen.was_backlogged and not (self._allowance.is_slow_start or is_bound)
        if self._is_swinging:
            self._elasticity.note(seen.in_flight, seen.x)
        else:
            self._elasticity.forget()

    # Learning.

    def _begin_probe(self, now: float) -> None:
        """Probe at once, since what is known may be wrong: it may take as long as it does now."""
        observer = self._observer
        self._learner.begin_probe(
            now, self._settled, observer.service, observer.in_flight, is_urgent=True
        )

    def _on_lesson(self, shift: float) -> None:
        """All expected times have been multiplied."""
        if shift != 1.0:
            self._capacity.rescale(shift)
            self._elasticity.forget()
            if shift > 1.0:
                self._allowance.return_to_good()  # it was cut for a queue that was none

    # The outcome.

    @property
    def _bound(self) -> float:
        """The limit within the ceiling."""
        return min(self._allowance.value, float(self._ceiling.value))

    @property
    def _settled(self) -> int:
        """The limit in whole slots, without probes and swings."""
        return max(self._lowest, int(self._bound + _MARGIN))

    def _refresh(self) -> None:
        """Work out what `limit` answers."""
        slots = settled = self._settled
        if self._is_swinging:
            bound = self._bound
            low, _ = targets(bound, self._elasticity.factor)
            swung = int(bound * self._elasticity.swing(low / bound) + _MARGIN)
            slots = max(self._lowest, min(swung, self._ceiling.value))
        self._slots = self._learner.hold(settled, slots)
