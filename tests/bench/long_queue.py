"""What a long queue costs: the daemon's start, its memory, the command line, and the drain.

Each queue is filled by the spool's own writer (`filling`); what is measured is a daemon that finds
it. Drains of queues of different lengths alternate, since the machine's minutes differ more than
they do. The drain goes to the sink written in C, with a limit that is fixed; CPU time a message is
what is left when other programs take the rest.
"""

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.filling import fill
from tests.bench.tools import Sink
from tests.support.daemon import Daemon
from tests.support.processes import cpu_seconds, free_port, resident_octets, wait_until

_BACKEND = "sink"
_SLOTS = 200
_PATIENCE = 900.0
_LISTED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class LongQueue:
    """What was measured with `messages` in the spool; seconds and octets."""

    messages: int
    filled: float
    octets: int
    """Of the database."""
    start: float
    start_cold: float
    """With nothing of the database in the page cache."""
    start_after_kill: float
    verified: float
    """From the start until the spool is well, if it has to be read in full before."""
    resident: int
    count: float
    listing: float
    scrape: float
    """One reading of /metrics."""
    drain_rates: list[float] = field(default_factory=list)
    """Messages a second, a figure for each round."""
    drain_cpu: list[float] = field(default_factory=list)
    """Seconds a message."""

    @property
    def drain_rate(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.drain_rates)


def measure_queues(
    folder: Path, queues: Sequence[int], octets: int, *, drained: int, rounds: int
) -> list[LongQueue]:
    """Fill and look at a queue of each length, then drain up to `drained` of each in turn."""
    found = [_measure(_folder(folder, messages), messages, octets) for messages in queues]
    for number in range(rounds):
        for each in found:
            queue = _folder(folder, each.messages)
            if number and each.messages < rounds * drained:
                _refill(queue, each.messages, octets)
            rate, cpu = _drain(queue, min(drained, each.messages))
            each.drain_rates.append(rate)
            each.drain_cpu.append(cpu)
    return found


def _folder(folder: Path, messages: int) -> Path:
    return folder / f"queue-{messages}"


def _measure(folder: Path, messages: int, octets: int) -> LongQueue:
    """Fill a spool and look at the daemon that finds it."""
    began = time.monotonic()
    _refill(folder, messages, octets)
    filled = time.monotonic() - began
    database = folder / "spool/spool.db"
    daemon = _daemon(folder)
    with _running(daemon):
        start = _seconds_to_start(daemon)
        resident = resident_octets(daemon.pid)
        assert daemon.metrics().total("queue_messages") == messages
        count = _seconds_of(daemon, "count")
        listing = _seconds_of(daemon, "list", "--limit", str(_LISTED))
        scrape = min(_seconds_to_scrape(daemon) for _ in range(5))
        daemon.kill()
        start_after_kill = _seconds_to_start(daemon)
        assert daemon.terminate() == 0
        _forget_pages(database)
        start_cold = _seconds_to_start(daemon)
        assert daemon.terminate() == 0
        # What says that nothing has happened to the database since it was closed.
        (folder / "spool/condition").unlink()
        verified = _seconds_to_start(daemon)
        assert daemon.terminate() == 0
    return LongQueue(
        messages=messages,
        filled=filled,
        octets=database.stat().st_size,
        start=start,
        start_cold=start_cold,
        start_after_kill=start_after_kill,
        verified=verified,
        resident=resident,
        count=count,
        listing=listing,
        scrape=scrape,
    )


def _refill(folder: Path, messages: int, octets: int) -> None:
    """Make the spool anew."""
    spool = folder / "spool"
    folder.mkdir(exist_ok=True)
    for path in spool.glob("spool.db*"):
        path.unlink()
    fill(spool, messages, octets, backend=_BACKEND)


def _drain(queue: Path, messages: int) -> tuple[float, float]:
    """Drain the first `messages`: how many a second between a tenth and all, and seconds of CPU."""
    port = free_port()
    daemon = _daemon(queue, port)
    with _running(daemon):
        _seconds_to_start(daemon)
        with tempfile.TemporaryDirectory(dir=queue) as place, Sink(Path(place), port) as sink:
            _wait_taken(sink, messages // 10)
            began, first, busy = time.monotonic(), sink.taken, cpu_seconds(daemon.pid)
            _wait_taken(sink, messages)
            ended, last, done = time.monotonic(), sink.taken, cpu_seconds(daemon.pid)
        assert daemon.terminate() == 0
    drained = max(1, last - first)
    return drained / max(ended - began, 1e-9), (done - busy) / drained


def _daemon(folder: Path, port: int | None = None) -> Daemon:
    backend = {"name": _BACKEND, "host": "127.0.0.1", "port": port or free_port()}
    limit = {"in_flight_max": _SLOTS, "limit": "fixed"}
    return Daemon(
        folder=folder,
        backend_port=0,
        overrides={
            "backends": [backend | limit],
            "log": {"level": "warning"},
            # As shipped; the checkpoints of the spool depend on it.
            "spool": {"disk_reserve": "256MiB", "octets_max": "1TiB", "messages_max": 10_000_000},
        },
    )


@contextlib.contextmanager
def _running(daemon: Daemon) -> Iterator[None]:
    """See to it that nothing of the daemon is left; what is in here starts it."""
    daemon.write_configuration()
    try:
        yield
    finally:
        daemon.process.kill_session()


def _seconds_to_start(daemon: Daemon) -> float:
    """Until it is ready and its spool is well."""
    began = time.monotonic()
    daemon.start()
    wait_until(lambda: daemon.metrics().total("spool_healthy") == 1, "the spool is well", _PATIENCE)
    return time.monotonic() - began


def _seconds_of(daemon: Daemon, *words: str) -> float:
    began = time.monotonic()
    daemon.command("queue", *words)
    return time.monotonic() - began


def _seconds_to_scrape(daemon: Daemon) -> float:
    began = time.monotonic()
    assert daemon.get("/metrics")[0] == 200
    return time.monotonic() - began


def _forget_pages(database: Path) -> None:
    """Let the kernel forget what it has in memory of the file."""
    with database.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _wait_taken(sink: Sink, count: int) -> None:
    wait_until(lambda: sink.taken >= count, f"{count} messages are drained", _PATIENCE)
