"""How long a backlog may take: the fluid bound of queueing theory, and what it needs.

A queue of `backlog` messages that is served at `capacity` and grows at `arrival` a second is empty
after backlog / (capacity - arrival) seconds, if the server is never idle. A drain that stays within
a quarter above that wastes next to nothing; pauses that are there on purpose come on top.
"""

import time
from concurrent.futures import ThreadPoolExecutor

from tests.support.clients import Item, send_lock_step
from tests.support.load import CLASS_SENDERS
from tests.support.postfix import Postfix

SLACK = 1.25
"""How much longer than the fluid bound a drain may take."""


def measure_capacity(
    server: Postfix, slots: int, *, port: int | None = None, messages: int = 80
) -> float:
    """Messages a second that `server` takes from `slots` clients, perhaps through another `port`.

    It is left as it was, with an empty Maildir.
    """
    shares = [
        [
            Item(
                sender=CLASS_SENDERS["personal"],
                recipient=f"calibration-{client}-{number}@hospital.example",
                wire=b"Subject: calibration\r\n\r\n",
            )
            for number in range(messages // slots)
        ]
        for client in range(slots)
    ]
    began = time.monotonic()
    with ThreadPoolExecutor(slots) as pool:
        for replies in pool.map(lambda items: send_lock_step(port or server.port, items), shares):
            assert all(reply.startswith("250") for reply in replies)
    seconds = time.monotonic() - began
    server.wait_delivered(slots * (messages // slots))
    server.take_delivered()
    return slots * (messages // slots) / seconds


def drain_bound(backlog: int, capacity: float, arrival: float) -> float:
    """Seconds that a drain may take, pauses apart."""
    assert arrival < capacity, f"{arrival:.1f} a second can never be served at {capacity:.1f}"
    return SLACK * backlog / (capacity - arrival)
