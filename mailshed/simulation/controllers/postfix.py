"""Postfix's queue manager: feedback from deliveries that find the server there, or do not.

    handshake and dialog came to an end:  L := L + 1 for each L such deliveries
    no connection, 421, no answer:        L := L - 1 for each L of those;  cohorts += 1/L
    cohorts >= 1:                         the server counts as dead for 300 s, then from the start

L stays within `initial_destination_concurrency` (5) of what is in flight and is at most
`default_destination_concurrency_limit` (20). A 4xx within the dialog is a success here, and so is
an answer that took a minute: a server that gets slow is no reason to send it less.

A limit cannot be 0, so what counts as dead has one slot here; the breaker, which stands before all
limits, keeps it closed meanwhile if the server is away.

Source: Postfix, SCHEDULER_README, with `1/concurrency` for both feedbacks, which it recommends.
"""

from math import inf

from mailshed.control.limit import Flight, SlotEnding
from mailshed.mail.delivery import StageTimes
from mailshed.simulation.controllers.known import KnownLimit

INITIAL_CONCURRENCY = 5
CONCURRENCY_LIMIT = 20
COHORT_LIMIT = 1.0
DEAD_SECONDS = 300.0
"""`minimal_backoff_time`."""

_FAILURES = frozenset({SlotEnding.REFUSED, SlotEnding.STALLED, SlotEnding.IN_DOUBT})


class PostfixLimit(KnownLimit):
    """The concurrency of one destination in Postfix's queue manager."""

    def __init__(
        self,
        *,
        initial: int = INITIAL_CONCURRENCY,
        ceiling: int = CONCURRENCY_LIMIT,
    ) -> None:
        super().__init__(start=initial, floor=1, ceiling=ceiling)
        self._initial = initial
        self._in_flight = 0
        self._success = 0.0
        self._failure = 0.0
        self._cohorts = 0.0
        self._dead_until = -inf

    def on_start(self, now: float, flight: Flight) -> None:  # noqa: ARG002
        """Note that a message has taken a slot."""
        self._in_flight += 1

    def on_end(self, now: float, flight: Flight, ending: SlotEnding, times: StageTimes) -> None:  # noqa: ARG002
        """Learn from a slot that came back; service times are not looked at."""
        self._in_flight -= 1
        if ending is SlotEnding.UNUSED:
            return
        if ending in _FAILURES:
            self._on_failure(now)
        else:
            self._on_success(now)

    def _on_success(self, now: float) -> None:
        self._cohorts = 0.0
        if now < self._dead_until:
            self._dead_until = -inf
            self._start_again()
            return
        window = int(self._estimate)
        if window < self._ceiling and window < self._in_flight + 1 + self._initial:
            feedback = 1.0 / window
            self._success += feedback
            # Half of the feedback makes up for rounding: three thirds are one.
            while self._success + feedback / 2 >= 1.0:
                self._estimate += 1.0
                self._success -= 1.0
                self._failure = 0.0
            self._set(self._estimate)

    def _on_failure(self, now: float) -> None:
        if now < self._dead_until:
            return
        window = int(self._estimate)
        self._cohorts += 1.0 / window
        if self._cohorts >= COHORT_LIMIT:
            self._dead_until = now + DEAD_SECONDS
            self._set(1)
            return
        feedback = 1.0 / window
        self._failure -= feedback
        while self._failure - feedback / 2 < 0.0:
            self._estimate -= 1.0
            self._success = 0.0
            self._failure += 1.0
        self._set(self._estimate)

    def limit(self, now: float) -> int:
        """Slots that may be in use; the first question after a pause begins anew."""
        if self._dead_until != -inf and now >= self._dead_until:
            self._dead_until = -inf
            self._start_again()
        return super().limit(now)

    def _start_again(self) -> None:
        self._estimate = float(self._initial)
        self._success = self._failure = self._cohorts = 0.0
