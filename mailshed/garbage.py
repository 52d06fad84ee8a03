"""When the garbage collector looks at what.

CPython looks at all objects again whenever a quarter has been added to those that live long. With
thousands of sessions that is a stop of a quarter of a second, for all of them, and it comes just
when somebody opens many: 50 objects each, 25 ns to look at one. What it finds is nearly nothing,
since sessions leave no cycles (a test watches that) and everything else is freed by its count of
references at once.

So what is there after the start, code and configuration, is looked at never again (`gc.freeze`).
The young generations are collected four times a second: by themselves they are collected by how
many objects there are more than before, and where as many sessions end as begin they grow for
seconds. All objects are looked at every minute while there are few sessions, and seldom while there
are many. Memory that became free goes back to the kernel right after that (`allocator`). Units:
seconds.

Sources: the `gc` module's documentation; Modules/gcmodule.c of CPython 3.11, whose thresholds are
those of 3.13 too. From 3.14 on the old generation is collected in steps, and the threshold for it
is ignored.
"""

import gc

from mailshed import allocator

YOUNG_INTERVAL = 0.25
"""From one look at the young generations to the next: a few milliseconds, if hundreds came."""

INTERVAL = 60.0
"""From one look at everything to the next, with few sessions."""

FEW_SESSIONS = 500
"""With so many a look at everything takes some ten milliseconds."""

LONG = 900.0
"""From one look at everything to the next, with many."""

_YOUNG = 1
_NEVER = 1_000_000_000


def begin() -> None:
    """Take over from the interpreter, when all that stays has been made."""
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)


class Rounds:
    """What is due when; `now` is monotonic."""

    def __init__(self, now: float) -> None:
        self._last = now
        self._has_freed = False

    def is_full_due(self, now: float, sessions: int) -> bool:
        """Whether to look at everything now, with so many sessions open; the caller then does."""
        if now - self._last < (INTERVAL if sessions <= FEW_SESSIONS else LONG):
            return False
        self._last = now
        return True

    def collect(self, now: float, sessions: int) -> None:
        """Do what is due; to be called each `YOUNG_INTERVAL`."""
        if self.is_full_due(now, sessions):
            gc.collect()
            self._has_freed = True
            return
        gc.collect(_YOUNG)
        if self._has_freed:  # not in the same turn of the loop: both may take some milliseconds
            allocator.give_back()
            self._has_freed = False
