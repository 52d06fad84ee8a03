"""What deciding costs: CPU microseconds of one message that finds a free slot, and of one in line.

Run it as `python -m tests.bench.bench_admission`. No sockets and no event loop: quotas, policy,
room and scheduler alone, with a thousand senders. The best of several rounds is printed: the
machine is shared, and noise only ever adds.
"""

import random
import sys
import timeit
from collections.abc import Callable
from itertools import count

from mailshed.admission.entrance import Entrance
from mailshed.admission.quota import Sending
from mailshed.admission.room import Occupancy
from mailshed.admission.scheduler import Scheduler
from mailshed.clock import SystemClock
from mailshed.config.policy import AdmissionPolicy, Quota, QuotaPolicy
from mailshed.control.limit import FixedLimit
from mailshed.relay.gate import Gate
from mailshed.work import Work
from tests.support.builders import CLASSES, PERSONAL, WALL, client

ROUNDS = 7
MESSAGES = 20_000
SENDERS = [b"sender%d@example.org" % number for number in range(1000)]
TERMS = AdmissionPolicy(
    lowest_defer_fill=0.5, quotas=QuotaPolicy(per_sender=Quota(soft=1e6, hard=1e6))
)
LINE = 200
"""Messages in line."""


def enter() -> Callable[[], None]:
    """One message that is decided about, takes a slot, and gives it back unused."""
    clock = SystemClock()
    gate = Gate(limit=FixedLimit(20), clock=clock, rng=random.Random(1))
    entrance = Entrance(lambda: 0.1)
    who, numbers = client("10.0.0.1", is_trusted=True), count()

    def message() -> None:
        state = gate.state(PERSONAL, 10_000)
        sending = Sending(who, SENDERS[next(numbers) % len(SENDERS)], PERSONAL)
        entrance.decide(sending, state, TERMS, clock.monotonic())
        slot = gate.try_acquire(Work(PERSONAL, 10_000))
        assert slot is not None
        gate.release(slot, None)

    return message


def stand_in_line() -> Callable[[], None]:
    """One message that joins a line of others, and the next of them that is served."""
    scheduler: Scheduler[int] = Scheduler()
    numbers = count()
    idle = Occupancy(0, 0, 20, 20)

    def offer() -> None:
        number = next(numbers)
        scheduler.offer(
            number,
            CLASSES[number % len(CLASSES)],
            wall=WALL,
            arrived_wall=WALL,
            sender=SENDERS[number % len(SENDERS)],
            size=10_000,
        )

    for _ in range(LINE):
        offer()

    def message() -> None:
        offer()
        assert scheduler.next(idle, {}, WALL) is not None

    return message


def main() -> None:
    """Measure and print."""
    for name, make in (("slot free", enter), ("in line", stand_in_line)):
        best = min(timeit.repeat(make(), number=MESSAGES, repeat=ROUNDS)) / MESSAGES
        sys.stdout.write(f"{name:>10}: {best * 1e6:6.2f} us\n")


if __name__ == "__main__":
    main()
