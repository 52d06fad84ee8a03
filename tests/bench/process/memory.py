"""What one process has in memory: idle sessions, TLS sessions, large messages.

All figures are of resident memory (proc(5)). At rest is after everything has been used once, so
that nothing is still to be loaded. A peak is the kernel's own (VmHWM), reset before.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.bench.process.client import Client, Way, message
from tests.bench.process.place import SPILL, Place, place
from tests.bench.tools import Sink
from tests.support.processes import (
    DEADLINE,
    reset_resident_peak,
    resident_octets,
    resident_peak_octets,
    wait_until,
)

_SCAN = 25 * 1024 * 1024
_NEAR = 2 * 1024 * 1024
PATIENCE = 62.0
"""Seconds within which the daemon gives back what it does not need (mailshed.garbage.INTERVAL)."""
_SETTLE = 1.5
"""Seconds after which the daemon has collected what was left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsRest:
    """What a session has at rest, after one message."""

    way: Way
    sessions: int
    octets: float
    """Of one session."""


def measure_tls(folder: Path, sessions: int) -> list[TlsRest]:
    """Sessions that have sent one message each and are idle, beside plain ones."""
    found = []
    ways: tuple[Way, ...] = ("plain", "starttls", "implicit")
    for way in ways:
        with place(folder / way) as here:
            _at_rest(here, way, max(1, sessions // 20))
            before = resident_octets(here.daemon.pid)
            clients = _sessions(here, way, sessions)
            time.sleep(_SETTLE)
            after = resident_octets(here.daemon.pid)
            _close(clients)
        found.append(TlsRest(way=way, sessions=sessions, octets=(after - before) / sessions))
    return found


def _at_rest(here: Place, way: Way, sessions: int) -> None:
    _close(_sessions(here, way, sessions))
    wait_until(lambda: here.daemon.metrics().total("smtp_sessions") == 0, "they are gone")
    time.sleep(_SETTLE)


def _sessions(here: Place, way: Way, count: int) -> list[Client]:
    clients = []
    data = message(10 * 1024)
    for _ in range(count):
        client = Client(here, way)
        client.send(data)
        clients.append(client)
    return clients


def _close(clients: list[Client]) -> None:
    for client in clients:
        client.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """What so many large messages at once had in memory; octets."""

    way: str
    messages: int
    rest: int
    peak: int

    @property
    def per_message(self) -> float:
        """Memory of one message beyond what the spill limit allows it."""
        return (self.peak - self.rest) / self.messages - SPILL


@dataclass(frozen=True, slots=True, kw_only=True)
class Large:
    """All of them, and what is left some time after the messages that were passed on."""

    peaks: Sequence[Peak]
    rest: int
    left: int


def measure_large(
    folder: Path, counts: Sequence[int], octets: int = _SCAN, patience: float = PATIENCE
) -> Large:
    """So many large messages at once: passed on, under TLS, into the spool, and out of it.

    Then wait for memory to come back for so long.
    """
    data = message(octets)
    with place(folder / "plain") as here:
        rest, peaks = _passed_on(here, "plain", counts, data)
        with place(folder / "implicit") as other:
            peaks += _passed_on(other, "implicit", counts, data)[1]
        with place(folder / "spooling", is_spooling=True) as other:
            peaks += _spooled(other, folder, counts, data)
        resident = left(here.daemon.pid, rest, patience)
    return Large(peaks=peaks, rest=rest, left=resident)


def _passed_on(here: Place, way: Way, counts: Sequence[int], data: bytes) -> tuple[int, list[Peak]]:
    """What is resident at rest, and the peaks; the first message loads what is needed."""
    _send_one(here, way, data)
    rest = _rest(here)
    return rest, [_upload(here, way, count=count, rest=rest, data=data) for count in counts]


def _spooled(here: Place, folder: Path, counts: Sequence[int], data: bytes) -> list[Peak]:
    """In and out; the first message of each loads what is needed, and is not counted."""
    _send_one(here, "plain", data)
    _drain(here, folder, 0, 1)
    rest = _rest(here)
    found = []
    for count in counts:
        found.append(_upload(here, "plain", count=count, rest=rest, data=data, name="spooled"))
        found.append(_drain(here, folder, rest, count))
    return found


def _drain(here: Place, folder: Path, rest: int, count: int) -> Peak:
    reset_resident_peak(here.daemon.pid)
    with Sink(folder, here.sink_port) as sink:
        wait_until(lambda: sink.taken >= count, "the queue is sent", 2 * DEADLINE)
        peak = resident_peak_octets(here.daemon.pid)
        here.daemon.wait_spool_empty()
    return Peak(way="drained", messages=count, rest=rest, peak=peak)


def _upload(here: Place, way: Way, *, count: int, rest: int, data: bytes, name: str = "") -> Peak:
    reset_resident_peak(here.daemon.pid)
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda _: _send_one(here, way, data), range(count)))
    peak = resident_peak_octets(here.daemon.pid)
    return Peak(way=name or way, messages=count, rest=rest, peak=peak)


def _send_one(here: Place, way: Way, data: bytes) -> None:
    with Client(here, way) as client:
        client.send(data)


def _rest(here: Place) -> int:
    time.sleep(_SETTLE)
    return resident_octets(here.daemon.pid)


def left(pid: int, rest: int, patience: float) -> int:
    """What is resident when the daemon has come to rest again, or after that time."""
    end = time.monotonic() + patience
    while (resident := resident_octets(pid)) > rest + _NEAR and time.monotonic() < end:
        time.sleep(0.5)
    return resident
