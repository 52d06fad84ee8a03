"""Whether a backend is there at all: a circuit breaker for mail, and the way back behind it.

CLOSED, everything passes. A failure (no connection, no answer before our dot) adds 1/n, where n is
the slots in use, but no more than the limit; any answer clears the sum. At 1, with three failures
at least, a whole cohort has failed without a single answer in between, and the breaker opens: with
twenty messages in flight after a dozen failures, with little traffic after three. That is
Postfix's cohort feedback (SCHEDULER_README). A message that is in doubt counts like a failure, but
once for each sender: one poisonous message must not keep all mail away. And it opens when more than
half of the slots hold messages, of distinct senders, that have had no answer for a minute or are in
doubt since (`outstanding`): then the backend takes mail in and does not give it back.

OPEN, the backend is probed, one probe at a time (`backoff` has the pauses). First a connection with
EHLO, then MAIL and RSET, then a message; each success makes the next step due at once, each failure
leads back to the first. Where nobody can ask such questions (`can_ask`), messages are the probes,
and two have to be answered. A message that has had no answer for a minute is left to itself, and
another one is tried. What was in flight before is told apart (`stragglers`): it holds no slot as
far as limits are concerned, and its failures say nothing new. Its answers do.

HALF_OPEN, everybody may start, up to `cap` slots: 2 at first, half as many more with each window
that had answers and no failure. Spooled mail of low rank comes after all other (`DRAIN_RANK`). When
the cap has reached half of what was good before, and no failure came for half a minute, it closes.

A window without traffic widens the cap, too, only slower: a site at night must not stay half open
until the morning rush. The limit is not the breaker's; whoever hands out slots takes the smaller of
the two.

Pure: `now` is monotonic seconds, the jitter a number in [0, 1).
"""

from dataclasses import dataclass
from enum import Enum

from mailshed.control.backoff import Backoff
from mailshed.control.limit import Flight, SlotEnding
from mailshed.control.outstanding import STUCK_SECONDS, Outstanding

FAILURES_TO_OPEN = 3
FAILURES_TO_REOPEN = 2
"""Half open, it takes less to be sure."""
SUCCESSES_TO_HALF_OPEN = 2
STUCK_SENDERS_MIN = 2
CAP_MIN = 2.0
CAP_GROWTH = 1.5
WINDOW_SECONDS = 1.0
"""Of growth, at least; it also needs as many answers as the cap has slots."""
IDLE_WINDOW_SECONDS = 10.0
"""Of growth, at most: with fewer answers, there is less mail than the cap allows."""
QUIET_SECONDS = 30.0
GOOD_SHARE = 0.5
DRAIN_RANK = 4
"""Half open, spooled mail of this rank and worse ones comes after all other."""
FAILED = (SlotEnding.REFUSED, SlotEnding.STALLED, SlotEnding.IN_DOUBT)
"""What is no answer."""
# For sums that should be whole: ten tenths are a little less than 1.
_MARGIN = 1e-9


class BreakerState(Enum):
    """Whether mail goes to the backend."""

    CLOSED = "closed"  # all of it
    HALF_OPEN = "half_open"  # it answers again: more and more
    OPEN = "open"  # only probes


class Step(Enum):
    """What a probe is, in their order."""

    EHLO = "ehlo"
    MAIL = "mail"
    MESSAGE = "message"


@dataclass(frozen=True, slots=True)
class Question:
    """A probe that is no message, from `try_ask` to `on_answer`."""

    step: Step
    probe: int


class Breaker:
    """The breaker of one backend. `can_ask`: somebody asks its questions (`try_ask`)."""

    def __init__(self, *, can_ask: bool = False) -> None:
        self.can_ask = can_ask
        self._state = BreakerState.CLOSED
        self._backoff = Backoff()
        self._step = Step.MESSAGE
        # The cohort.
        self._share_failed = 0.0
        self._failures = 0
        self._senders: set[bytes] = set()
        """Of messages in doubt since the last answer: each counts once."""
        self._successes = 0
        self._good = 0
        """The limit when the backend last answered and nothing was amiss."""
        self._outstanding = Outstanding()
        # The way back.
        self._cap = CAP_MIN
        self._window_began = 0.0
        self._answers = 0
        self._quiet_since = 0.0

    # How things stand.

    @property
    def state(self) -> BreakerState:
        """Whether mail goes to the backend."""
        return self._state

    @property
    def is_open(self) -> bool:
        """Whether the backend counts as away."""
        return self._state is BreakerState.OPEN

    @property
    def is_closed(self) -> bool:
        """Whether everything passes."""
        return self._state is BreakerState.CLOSED

    @property
    def cap(self) -> int | None:
        """Slots that may be in use now, `stragglers` aside; None if any number may."""
        if self._state is BreakerState.CLOSED:
            return None
        return int(self._cap) if self._state is BreakerState.HALF_OPEN else 1

    @property
    def stragglers(self) -> int:
        """Messages in flight that hold no slot as far as limits are concerned.

        Those of an outage may hang for minutes after it, and after the breaker has closed.
        """
        if self._state is BreakerState.OPEN:
            # Also a message that was a probe, and was left to itself.
            return len(self._outstanding)
        return self._outstanding.stragglers

    @property
    def epoch(self) -> int:
        """Goes up when what is in flight becomes stragglers."""
        return self._outstanding.epoch

    @property
    def probe(self) -> int:
        """Number of the probe that is out, else 0; right after `try_enter`, that of its caller."""
        return self._backoff.probe

    @property
    def step(self) -> Step:
        """What the next probe is."""
        return self._step

    def next_probe(self, now: float) -> float:
        """Seconds from `now` until the next probe is due; 0 if now, or if it is not open."""
        return self._backoff.next_probe(now)

    def next_change(self, now: float) -> float:
        """Seconds from `now` until time alone may let more in; 0 if it will not."""
        is_back = self._state is BreakerState.HALF_OPEN
        return WINDOW_SECONDS if is_back else self._backoff.next_probe(now)

    def stuck(self, now: float) -> int:
        """Senders whose messages have had no answer for a minute, or are in doubt since."""
        return self._outstanding.stuck(now)

    # Messages.

    def may_enter(self, now: float) -> bool:
        """Whether a message may start."""
        if self._state is not BreakerState.OPEN:
            return True
        return self._step is Step.MESSAGE and self._backoff.may_enter(now)

    def try_enter(self, now: float) -> bool:
        """Ask to start a message; while open, True makes it the probe."""
        return self.may_enter(now) and self._backoff.try_enter(now)

    def on_start(self, flight: Flight, sender: bytes) -> None:
        """Note that a message of `sender` is with the backend."""
        self._outstanding.start(flight, sender)

    def on_end(
        self,
        now: float,
        flight: Flight,
        ending: SlotEnding,
        jitter: float,
        *,
        limit: int,
        probe: int = 0,
    ) -> None:
        """Learn from a message that came to its end; `probe` is its number if it was one.

        `limit` is how many slots there are, `cap` aside.
        """
        in_flight = len(self._outstanding) - self.stragglers
        sender, is_straggler = self._outstanding.end(flight)
        match ending:
            case SlotEnding.UNUSED:
                self._backoff.on_unused(probe)
            case SlotEnding.REFUSED | SlotEnding.STALLED | SlotEnding.IN_DOUBT:
                if self._state is BreakerState.OPEN:
                    self._on_failed_probe(now, ending, jitter, probe)
                elif not is_straggler:
                    self._on_failure(now, ending, jitter, sender, min(limit, in_flight))
            case _:
                self._on_success(now, probe, limit)

    # Questions.

    def try_ask(self, now: float) -> Question | None:
        """The question that is to be asked now, if one is; it is the probe then."""
        if not self.is_asking or not self._backoff.try_enter(now):
            return None
        return Question(self._step, self._backoff.probe)

    @property
    def _has_answered(self) -> bool:
        """Whether all questions were answered, and only a message is left to try."""
        return self.can_ask and self._step is Step.MESSAGE

    @property
    def is_asking(self) -> bool:
        """Whether the next probe is a question."""
        return self._state is BreakerState.OPEN and self._step is not Step.MESSAGE

    def on_answer(self, now: float, question: Question, ending: SlotEnding, jitter: float) -> None:
        """Learn from a question that came to its end. Any answer is one, also one of refusal."""
        match ending:
            case SlotEnding.UNUSED:
                self._backoff.on_unused(question.probe)
            case SlotEnding.REFUSED | SlotEnding.STALLED | SlotEnding.IN_DOUBT:
                if self._state is BreakerState.OPEN:
                    self._on_failed_probe(now, ending, jitter, question.probe)
            case _:
                if self._state is BreakerState.OPEN and self._backoff.on_step(now, question.probe):
                    self._step = Step.MAIL if question.step is Step.EHLO else Step.MESSAGE

    # Time.

    def tick(self, now: float, *, limit: int, is_backlogged: bool) -> None:
        """Let time pass, about four times a second; `is_backlogged`: there is mail to be sent."""
        match self._state:
            case BreakerState.OPEN:
                if self._backoff.age(now) > STUCK_SECONDS:
                    # No jitter is at hand, and probes so far apart do not keep in step.
                    self._on_failed_probe(now, SlotEnding.STALLED, 0.5, self._backoff.probe)
                elif self._has_answered and not self._backoff.probe and not is_backlogged:
                    self._half_open(now)  # and there is no message to try
                return
            case BreakerState.HALF_OPEN:
                self.widen(now)
            case BreakerState.CLOSED:
                pass
        slots = limit if self.cap is None else min(limit, self.cap)
        if self.stuck(now) > max(STUCK_SENDERS_MIN - 1, slots / 2):
            self._open(now, 0.5)

    def widen(self, now: float) -> None:
        """Half open, let more in if it is time for that; close if it is enough."""
        if self._state is not BreakerState.HALF_OPEN:
            return
        lasted = now - self._window_began
        is_used = lasted >= WINDOW_SECONDS and self._answers >= int(self._cap)
        if is_used or lasted >= IDLE_WINDOW_SECONDS:
            if self._quiet_since <= self._window_began:
                self._cap *= CAP_GROWTH
            self._window_began, self._answers = now, 0
        if now - self._quiet_since >= QUIET_SECONDS and self._cap >= GOOD_SHARE * self._good:
            self._state = BreakerState.CLOSED

    # How it is done.

    def _on_failure(
        self, now: float, ending: SlotEnding, jitter: float, sender: bytes, slots: int
    ) -> None:
        self._quiet_since = now
        if ending is SlotEnding.IN_DOUBT:
            self._outstanding.doubt(sender, now)
            if sender in self._senders:
                return
            self._senders.add(sender)
        self._share_failed += 1 / max(1, slots)
        self._failures += 1
        is_back = self._state is BreakerState.HALF_OPEN
        enough = FAILURES_TO_REOPEN if is_back else FAILURES_TO_OPEN
        if self._failures >= enough and self._share_failed >= 1 - _MARGIN:
            self._open(now, jitter)

    def _on_failed_probe(self, now: float, ending: SlotEnding, jitter: float, probe: int) -> None:
        is_refused = ending is SlotEnding.REFUSED
        if probe and self._backoff.on_failure(now, jitter, probe, is_refused=is_refused):
            self._successes = 0
            self._step = Step.EHLO if self.can_ask else Step.MESSAGE

    def _on_success(self, now: float, probe: int, limit: int) -> None:
        self._share_failed, self._failures = 0.0, 0
        self._senders.clear()
        match self._state:
            case BreakerState.CLOSED:
                self._good = limit
            case BreakerState.HALF_OPEN:
                self._answers += 1
                self.widen(now)
            case BreakerState.OPEN:
                self._successes += 1
                is_probe = self._backoff.on_step(now, probe)
                if self._successes >= SUCCESSES_TO_HALF_OPEN or (is_probe and self.can_ask):
                    self._half_open(now)
                else:
                    self._backoff.hasten(now)

    def _open(self, now: float, jitter: float) -> None:
        self._state = BreakerState.OPEN
        self._step = Step.EHLO if self.can_ask else Step.MESSAGE
        self._successes = 0
        self._new_epoch()
        self._backoff.on_failure(now, jitter)

    def _half_open(self, now: float) -> None:
        self._state = BreakerState.HALF_OPEN
        self._backoff.on_success()
        self._new_epoch()
        self._cap = CAP_MIN
        self._answers = 0
        self._window_began = self._quiet_since = now

    def _new_epoch(self) -> None:
        """What is in flight and what has failed belongs to the past."""
        self._outstanding.end_epoch()
        self._share_failed, self._failures = 0.0, 0
        self._senders.clear()
