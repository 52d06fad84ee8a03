"""When the garbage collector looks at everything there is.

CPython looks at all objects again whenever a quarter has been added to those that live long. With
thousands of sessions that is a stop of a quarter of a second, for all of them, and it comes just
when somebody opens many: 50 objects each, 25 ns to look at one. What it finds is nearly nothing,
since sessions leave no cycles (a test watches that) and everything else is freed by its count of
references at once.

So what is there after the start, code and configuration, is looked at never again (`gc.freeze`),
the young generations are collected as always, which takes milliseconds, and the old one when we say
so: every minute while there are few sessions, and seldom while there are many. Units: seconds.

Sources: the `gc` module's documentation; Include/internal/pycore_gc.h of CPython 3.11, whose
thresholds are those of 3.13 too. From 3.14 on the old generation is collected in steps, and the
threshold for it is ignored.
"""

import gc

INTERVAL = 60.0
"""Between two looks at whether it is time."""

FEW_SESSIONS = 500
"""With so many a look at everything takes some ten milliseconds."""

LONG = 900.0
"""After so long everything is looked at all the same."""

YOUNG_ROUNDS = 2
"""Rounds of the youngest generation for one of the middle one; the interpreter's 10 make it long,
while sessions come as fast as others go: the youngest then is larger than its threshold."""

_NEVER = 1_000_000_000


def begin() -> None:
    """Take over from the interpreter, when all that stays has been made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(gc.get_threshold()[0], YOUNG_ROUNDS, _NEVER)


class Rounds:
    """When the next look at everything is due. Pure; `now` is monotonic."""

    def __init__(self, now: float) -> None:
        self._last = now

    def is_due(self, now: float, sessions: int) -> bool:
        """Whether to collect now, with so many sessions open; the caller then does."""
        if sessions > FEW_SESSIONS and now - self._last < LONG:
            return False
        self._last = now
        return True
