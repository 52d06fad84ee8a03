"""What the adaptive limit costs: CPU microseconds a message, of start, end, `limit` and `tick`.

Run it as `python -m tests.bench.bench_control`. No sockets and no event loop: a limit, and as many
messages in flight as it allows, at a rate, with the ticks that fall into that time and the probes
and lessons of its clock. The best of several rounds is printed: the machine is shared, and noise
only ever adds. The bound is 20 us.
"""

import random
import sys
import timeit
from collections import deque
from collections.abc import Callable

from mailshed.control.adaptive import AdaptiveLimit
from mailshed.control.limit import Flight, SlotEnding
from mailshed.mail.delivery import StageTimes

ROUNDS = 7
MESSAGES = 20_000
TICKS_PER_SECOND = 4
RATES = (50, 500, 2000)
"""Messages a second."""
SERVICE = 0.05
SIZES = 1000


def messages(rate: int) -> Callable[[], None]:
    """One message that ends and one that starts, a `rate`-th of a second after the last one."""
    rng = random.Random(1)
    limit = AdaptiveLimit(highest=200)
    in_flight: deque[Flight] = deque()
    held = max(2, int(rate * SERVICE))
    sizes = [int(4000 * rng.paretovariate(1.2)) for _ in range(SIZES)]
    services = [SERVICE * rng.lognormvariate(0.0, 0.5) for _ in range(SIZES)]
    times = [StageTimes(mail=s / 10, envelope=s / 5, content=s / 10, service=s) for s in services]
    step, ticks_every, number = 1.0 / rate, max(1, rate // TICKS_PER_SECOND), 0

    def message() -> None:
        nonlocal number
        number += 1
        now = number * step
        if len(in_flight) >= held:
            flight = in_flight.popleft()
            limit.on_end(now, flight, SlotEnding.COMPLETED, times[number % SIZES])
        limit.limit(now)
        flight = Flight(sizes[number % SIZES], 1, number % 20 == 0, now, len(in_flight) + 1)
        in_flight.append(flight)
        limit.on_start(now, flight)
        if number % ticks_every == 0:
            limit.tick(now, is_backlogged=True)

    return message


def cost(rate: int, rounds: int = ROUNDS, number: int = MESSAGES) -> float:
    """CPU seconds a message at `rate`."""
    return min(timeit.repeat(messages(rate), number=number, repeat=rounds)) / number


def main() -> None:
    """Measure and print."""
    for rate in RATES:
        sys.stdout.write(f"{rate:>5} messages/s: {cost(rate) * 1e6:6.2f} us\n")


if __name__ == "__main__":
    main()
