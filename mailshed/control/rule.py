"""What one window says about the limit: cut it, leave it, let it grow.

With x the median of service time over expected time and N messages in flight, Little's law gives
the part of N that does nothing but wait inside the backend, behind other messages of ours:

    Q = N (1 - 1/x)

The backend serves first come, first served, so whatever waits there is beyond the reach of classes:
a clinical message stands in line behind it. But some of it has to be there, or slots stand idle
between one message and the next. So Q is held between two targets, A and B: below A the limit grows
by 5 % (or half, in a slow start), above B it falls by 10 %, above 2 B by 30 %. A median of n
samples with lognormal noise s has an error of 1.25 s / sqrt(n); a limit that grows by 5 % and falls
by 10 % does not collapse while fewer than 32 % of its windows are false alarms.

It grows only if it was used, if the slowest tenth of the messages is not much slower than the
slowest tenth at light load, and if the backend does not delay us on purpose.

Besides there is an absolute rule, for latency that is not our doing: if clinical mail takes longer
than `response_max` and the backend is slower than it should be, the limit falls to half of what was
good, and no further.

Pure.
"""

from dataclasses import dataclass
from enum import Enum

QUEUE_LOW = 2.5
QUEUE_LOW_SHARE = 0.10
QUEUE_HIGH = 5.0
QUEUE_HIGH_SHARE = 0.20
"""The targets A and B: so many messages, or the share of the limit if that is more."""
TAIL_MAX = 6.0
TAIL_FACTOR = 2.0
"""The slowest tenth is too slow beyond both: absolutely, and against light load."""
USED_SHARE = 0.8
"""Of the limit: so many in flight at some time, and it was used."""
WAITED_SHARE = 0.5
"""The same if somebody waited all the time: thresholds keep some classes from the last slots."""
BUSY_SHARE = 0.05
"""More of the messages refused for want of room, and it is not an oddity of a few of them."""
SLOW_X = 1.25
"""The absolute rule needs a backend that is slower than expected by so much."""
CUT = 0.7
EASE = 0.9
GROWTH_SHARE = 0.05
GROWTH_USED = 0.75
"""It grows no further than so that this share of it would be used: what has been let in and not
come yet would come all at once."""
GROWTH_MIN = 1.0
SLOW_START = 1.5


class Cause(Enum):
    """Why the limit is what it is."""

    START = "start"  # nothing has happened yet
    BASELINE = "baseline"  # the first expected times are known
    ROOM = "room"  # it was used, and the backend has no queue to speak of
    SLOW_START = "slow_start"  # the same, on the way up after a start or a fall
    QUEUE = "queue"  # too many of our messages wait inside the backend
    RESPONSE = "response"  # clinical mail takes too long
    BUSY = "busy"  # the backend says that it has no room
    STALL = "stall"  # nothing comes back, or a command timed out
    REFUSED = "refused"  # the backend allows no more connections
    DELAYED = "delayed"  # the backend answers MAIL late, for all or for more than so many
    AWAY = "away"  # nothing but failures
    CEILING = "ceiling"  # the learned ceiling has moved


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One window. `x` and `tail` are the median and 90th percentile of the normalised times."""

    limit: float
    """Without the swing of the slow loop, the ceiling included."""
    x: float
    error: float
    """Standard error of `x`."""
    tail: float
    tail_usual: float
    """At light load."""
    in_flight: float
    """Average, as far as it is with the backend."""
    in_flight_max: int
    was_backlogged: bool
    """Somebody waited all the time."""
    busy: float
    """Share of the messages for which the backend had no room."""
    first_slow: float
    """The 95th percentile of the service times of rank 0; 0 if there were too few."""
    is_delayed: bool
    """The backend delays its reply to MAIL, and nothing else."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The new limit as a factor of the old one, and why; no cause: leave it.

    `queue` is Q. `may_grow_on`: it is short enough for a slow start to go on.
    """

    factor: float
    cause: Cause | None
    queue: float
    may_grow_on: bool


def targets(limit: float, factor: float) -> tuple[float, float]:
    """A and B for this limit; `factor` is that of the slow loop.

    A factor below 1 leaves the shares alone: with hundreds in flight a tenth of them is a short
    queue, and less is lost in the errors of x and of the expected times.
    """
    share = limit * max(1.0, factor)
    return (
        max(factor * QUEUE_LOW, QUEUE_LOW_SHARE * share),
        max(factor * QUEUE_HIGH, QUEUE_HIGH_SHARE * share),
    )


def judge(seen: Observation, *, factor: float, response_max: float, is_slow_start: bool) -> Verdict:
    """Say what to do after one window."""
    queue = seen.in_flight * (1.0 - 1.0 / max(1.0, seen.x))
    # Few samples that scatter are no reason to cut: what x surely is at least.
    sure = seen.in_flight * (1.0 - 1.0 / max(1.0, seen.x - seen.error))
    low, high = targets(seen.limit, factor)
    if seen.busy > BUSY_SHARE:
        fall, cause = CUT, Cause.BUSY
    elif sure > 2 * high:
        fall, cause = CUT, Cause.QUEUE
    elif sure > high:
        fall, cause = EASE, Cause.QUEUE
    elif seen.x - seen.error > SLOW_X and seen.first_slow > response_max:
        fall, cause = CUT, Cause.RESPONSE
    else:
        return _rise(seen, queue, low, is_wanted=sure < low, is_slow_start=is_slow_start)
    return Verdict(fall, cause, queue, may_grow_on=False)


def _rise(
    seen: Observation, queue: float, low: float, *, is_wanted: bool, is_slow_start: bool
) -> Verdict:
    """Let it grow, or leave it."""
    may_grow_on = queue <= low
    if not (is_wanted and _was_used(seen) and _is_healthy(seen)):
        return Verdict(1.0, None, queue, may_grow_on)
    growth = SLOW_START if is_slow_start else 1.0 + max(GROWTH_MIN / seen.limit, GROWTH_SHARE)
    most = (seen.in_flight_max / GROWTH_USED + GROWTH_MIN) / seen.limit
    if most <= 1.0:
        return Verdict(1.0, None, queue, may_grow_on)
    cause = Cause.SLOW_START if is_slow_start else Cause.ROOM
    return Verdict(min(growth, most), cause, queue, may_grow_on)


def _was_used(seen: Observation) -> bool:
    share = WAITED_SHARE if seen.was_backlogged else USED_SHARE
    return seen.in_flight_max >= share * seen.limit


def _is_healthy(seen: Observation) -> bool:
    tail_max = max(TAIL_MAX, TAIL_FACTOR * seen.tail_usual)
    return seen.tail < tail_max and seen.busy == 0.0 and not seen.is_delayed
