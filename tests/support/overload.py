"""More mail than a mail server can take: a server of known capacity, a mixed load, and the delays.

Postfix has four smtpd processes and a policy service that answers after 200 ms, so it takes 20
messages a second at most; `calibrate` measures its true rate with nothing in between. Delays are
from a client's first connect to the file in the server's Maildir, which is there a moment after the
server's 250: nothing of what a message waits for is left out.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.support.clients import Item, send_lock_step
from tests.support.load import CLASS_SENDERS, Message, Outcome, poisson
from tests.support.postfix import Delivered, Postfix

PROCESSES = 4
POLICY_SECONDS = 0.2
OVERLOAD = 3.0
# Clinical mail is two thirds of what the server takes, with personal mail nine tenths.
MIX = {"clinical": 0.22, "personal": 0.08, "telework": 0.50, "bulk": 0.20}
SEED = 20261122

CALIBRATION_MESSAGES = 60
CAPACITY = PROCESSES / POLICY_SECONDS
"""Messages a second that the server takes at most."""


def limited_postfix() -> Postfix:
    """The mail server; a context manager."""
    return Postfix(smtpd_processes=PROCESSES, policy_delay=POLICY_SECONDS)


def calibrate(server: Postfix) -> float:
    """Messages a second that the server takes from as many clients as it has processes."""
    shares = [
        [
            Item(
                sender=CLASS_SENDERS["personal"],
                recipient=f"calibration-{client}-{number}@hospital.example",
                wire=b"Subject: calibration\r\n\r\n",
            )
            for number in range(CALIBRATION_MESSAGES // PROCESSES)
        ]
        for client in range(PROCESSES)
    ]
    start = time.monotonic()
    with ThreadPoolExecutor(PROCESSES) as pool:
        for replies in pool.map(lambda items: send_lock_step(server.port, items), shares):
            assert all(reply.startswith("250") for reply in replies)
    seconds = time.monotonic() - start
    server.wait_delivered(CALIBRATION_MESSAGES)
    return CALIBRATION_MESSAGES / seconds


def mixed_load(capacity: float, seconds: float, prefix: str = "") -> list[Message]:
    """Arrivals at three times the capacity."""
    return poisson(OVERLOAD * capacity, seconds, MIX, SEED, prefix=prefix)


def delays(
    outcomes: Sequence[Outcome], delivered: Sequence[Delivered]
) -> Mapping[str, Sequence[float]]:
    """Seconds from the client's connect to the file in the Maildir, sorted, by class.

    Of those that have arrived, and of each its first copy.
    """
    arrived: dict[str, float] = {}
    for item in delivered:
        arrived.setdefault(item.recipient.partition("@")[0], item.arrived)
    found: dict[str, list[float]] = defaultdict(list)
    for outcome in outcomes:
        if (at := arrived.get(outcome.message.identity)) is not None:
            found[outcome.message.traffic_class].append(at - outcome.started)
    return {name: sorted(found[name]) for name in MIX}


def quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values, the one below which `share` of them lie; 0 if there are none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0
