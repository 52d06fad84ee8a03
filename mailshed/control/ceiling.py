"""The ceiling: how many connections the backend lets us have, learned from its refusals.

Many servers cap the connections of one source and say 421 to the next one (Exchange:
`MaxInboundConnectionPerSource`; Postfix: `smtpd_client_connection_count_limit`). That has nothing
to do with load or latency, so it is a number of its own: a refusal of what was the n-th message in
flight means that n - 1 are allowed. Messages that were let in before the last cut cut no more, nor
is there more than one cut a second.

A server may also delay its reply to MAIL for whoever has more connections than it likes. That
works in the same way, only that nobody was refused: so many are allowed as do not bring it about.
To try one more is dearer here. A refusal is one message's; but while there is one too many, all
that come are delayed, and hold their slots meanwhile. So it is tried every half hour only.

The cap may be raised, so while the ceiling is what binds, it rises by one after a quiet minute.
Each refusal doubles that time, up to ten minutes, and each rise that was used without one halves
it: a cap that stays costs one refusal in ten minutes, and one that was doubled is found soon.

A server that is being restarted refuses everything, and its cap has nothing to do with it. The two
are told apart by those who were in flight at the moment of the refusal: if one of them is still
answered, the server was well and meant the number. Until then the cut is provisional, and it is
taken back if nobody answers for ten seconds; and it is taken back if failures go on until the
backend counts as away, before anybody who came after the cut was answered.

Pure; `now` is monotonic seconds.
"""

from dataclasses import dataclass

CUT_SECONDS = 1.0
QUIET_MIN = 60.0
QUIET_MAX = 600.0
QUIET_DELAYED = 1800.0
PROOF_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A cut that is not proven: when it was made first, and what the ceiling was before."""

    since: float
    before: int | None


class Ceiling:
    """The learned ceiling of one backend; never below `lowest`, gone at `highest`."""

    def __init__(self, lowest: int, highest: int) -> None:
        self._lowest = lowest
        self._highest = highest
        self._learned: int | None = None
        self._quiet = QUIET_MIN
        self._quiet_since = 0.0
        self._cut_at = float("-inf")
        self._doubt: _Doubt | None = None
        self._is_rise_unproven = False
        self._untried: _Doubt | None = None
        """The latest cut, until somebody who came after it is answered."""

    @property
    def value(self) -> int:
        """Connections that the backend allows, as far as we know."""
        return self._highest if self._learned is None else self._learned

    @property
    def learned(self) -> int | None:
        """The same, None if it has refused none."""
        return self._learned

    def on_refused(self, now: float, started_at: float, in_flight: int) -> bool:
        """A message that had made it `in_flight` was refused; whether the ceiling came down."""
        if started_at <= self._cut_at or now - self._cut_at < CUT_SECONDS:
            return False
        self._cut_at = self._quiet_since = now
        if self._doubt is None:
            self._doubt = _Doubt(now, self._learned)
        if self._untried is None:
            self._untried = _Doubt(now, self._learned)
        before = self.value
        self._learned = max(self._lowest, min(before, in_flight - 1))
        self._is_rise_unproven = False
        return self._learned < before

    def on_delayed(self, now: float, in_flight: int) -> bool:
        """The n-th message in flight was delayed, and fewer were not; whether it came down."""
        self._cut_at = self._quiet_since = now
        self._quiet = QUIET_DELAYED
        self._is_rise_unproven = False
        before = self.value
        self._learned = max(self._lowest, min(before, in_flight - 1))
        return self._learned < before

    def on_answer(self, started_at: float) -> None:
        """A message was answered: proof, if it was in flight at the refusal."""
        if self._doubt is not None and started_at <= self._doubt.since:
            self._doubt = None
            self._quiet = min(QUIET_MAX, 2 * self._quiet)
        if self._untried is not None and started_at > self._cut_at:
            self._untried = None

    def on_away(self) -> None:
        """Nothing but failures: the refusals were about something else."""
        if self._untried is not None:
            self._learned = self._untried.before
            self._untried = self._doubt = None

    def tick(self, now: float, *, is_binding: bool) -> None:
        """Let time pass; `is_binding`: more would be in flight but for the ceiling."""
        if self._doubt is not None and now - self._doubt.since > PROOF_SECONDS:
            self._learned, self._doubt = self._doubt.before, None
        if self._learned is None or not is_binding or now - self._quiet_since < self._quiet:
            return
        if self._is_rise_unproven:
            self._quiet = max(QUIET_MIN, self._quiet / 2)
        self._quiet_since = now
        self._is_rise_unproven = True
        self._learned = self._learned + 1 if self._learned + 1 < self._highest else None
