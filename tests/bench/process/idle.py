"""Ten thousand idle sessions, and the mail of others beside them.

Two daemons run at the same time, one full and one empty, and a client sends to them in turn, a few
seconds each, at a constant rate and over a new connection each time. So what the machine does
meanwhile hits both alike. A delay is from the connect to the 250 after the dot.
"""

import gc
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.process.client import Client, message
from tests.bench.process.crowd import crowd
from tests.bench.process.memory import PATIENCE, left
from tests.bench.process.place import Place, place
from tests.support.processes import resident_octets

RATE = 150.0
_OCTETS = 4 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """Memory in octets, delays in seconds."""

    sessions: int
    rest: int
    resident: int
    left: int
    """What is resident some time after they have left."""
    messages: int
    p50_alone: float
    p50_beside: float
    p99_alone: float
    p99_beside: float

    @property
    def p99_ratio(self) -> float:
        """How many times as long mail takes beside them."""
        return self.p99_beside / self.p99_alone


def measure_idle(
    folder: Path, sessions: int, rounds: int, seconds: float, patience: float = PATIENCE
) -> Idle:
    """Fill one of two daemons, and send to both in turn; wait for memory to come back."""
    with place(folder / "empty") as empty, place(folder / "full") as full:
        for here in (empty, full):
            _send(here, 1.0)
        rest = resident_octets(full.daemon.pid)
        with crowd(full.daemon.port, sessions):
            gc.freeze()  # ours: thousands of sockets
            alone: list[float] = []
            beside: list[float] = []
            for _ in range(rounds):
                alone += _send(empty, seconds)
                beside += _send(full, seconds)
            resident = resident_octets(full.daemon.pid)
        gc.unfreeze()
        remaining = left(full.daemon.pid, rest, patience)
    return Idle(
        sessions=sessions,
        rest=rest,
        resident=resident,
        left=remaining,
        messages=len(beside),
        p50_alone=percentile(alone, 0.5),
        p50_beside=percentile(beside, 0.5),
        p99_alone=percentile(alone, 0.99),
        p99_beside=percentile(beside, 0.99),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank, of at least one value."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _send(here: Place, seconds: float) -> list[float]:
    """Delays of the messages of so many seconds."""
    data = message(_OCTETS)
    began = time.monotonic()
    taken = []
    for number in range(int(RATE * seconds)):
        time.sleep(max(0.0, began + number / RATE - time.monotonic()))
        start = time.monotonic()
        with Client(here) as client:
            client.send(data)
            taken.append(time.monotonic() - start)
    return taken
