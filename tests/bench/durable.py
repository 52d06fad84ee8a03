"""What a durable acknowledgement costs, beside a Postfix that makes the same promise.

All mail is forced into the spool, since the backend is away; Postfix puts the same mail on hold.
Both answer after a sync of their own, on the same disk, to the same client, in alternating rounds.
How long a sync takes is measured in the same minutes, with a file of our own: `Disk`.
"""

import contextlib
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.tools import Run, generate
from tests.support.daemon import Daemon, Scrape
from tests.support.postfix import Postfix
from tests.support.processes import cpu_seconds, free_port

_SYNCS = 100
_SYNC_OCTETS = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Durable:
    """Acknowledgements a second and 99th percentiles in seconds, medians of the rounds."""

    connections: int
    mailshed: float
    postfix: float
    ratio: float
    """The median of the rounds' own ratios."""
    mailshed_p99: float
    postfix_p99: float
    mailshed_cpu: float
    """Seconds a message, of all processes; the least of the rounds."""
    postfix_cpu: float
    messages_per_commit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Seconds of an fdatasync(2) after 64 KiB were overwritten."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One of the two: where it listens, and the session of all its processes."""

    port: int
    session: int


def measure_durable(
    folder: Path, *, connections: Sequence[int], messages: int, octets: int, rounds: int
) -> tuple[list[Durable], Disk, float]:
    """Rates by number of connections, the disk, and the 99th percentile of mailshed's commits."""
    results = []
    port = free_port()
    backend = {"name": "sink", "host": "127.0.0.1", "port": port, "in_flight_max": 20}
    overrides = {"backends": [backend], "spool": {"disk_reserve": "256MiB"}}
    with (
        _holding_postfix() as server,
        Daemon(folder=folder / "durable", backend_port=port, overrides=overrides) as daemon,
    ):
        disk = measure_disk(folder)
        ours = _Side(port=daemon.port, session=daemon.pid)
        theirs = _Side(port=server.port, session=server.pid)
        for count in connections:
            before = _commits(daemon)
            pairs = [
                [_acknowledge(side, count, messages, octets) for side in (ours, theirs)]
                for _ in range(rounds)
            ]
            results.append(_summary(count, pairs, _commits(daemon) - before))
        return results, disk, histogram_quantile(daemon.metrics(), "spool_sync_seconds", 0.99)


def _acknowledge(side: _Side, connections: int, messages: int, octets: int) -> tuple[Run, float]:
    """One round, and its CPU seconds a message."""
    before = cpu_seconds(side.session)
    run = generate(
        side.port, connections=connections, messages=messages, octets=octets, mode="reuse"
    )
    return run, (cpu_seconds(side.session) - before) / messages


def _summary(
    connections: int, pairs: Sequence[Sequence[tuple[Run, float]]], commits: float
) -> Durable:
    ours = [pair[0] for pair in pairs]
    theirs = [pair[1] for pair in pairs]
    messages = sum(run.messages for run, _ in ours)
    return Durable(
        connections=connections,
        mailshed=_median(_rate(run) for run, _ in ours),
        postfix=_median(_rate(run) for run, _ in theirs),
        ratio=_median(_rate(our) / _rate(their) for (our, _), (their, _) in pairs),
        mailshed_p99=_median(run.p99_seconds for run, _ in ours),
        postfix_p99=_median(run.p99_seconds for run, _ in theirs),
        mailshed_cpu=min(cpu for _, cpu in ours),
        postfix_cpu=min(cpu for _, cpu in theirs),
        messages_per_commit=messages / max(1.0, commits),
    )


def _median(values: Iterator[float]) -> float:
    return statistics.median(list(values))


def _rate(run: Run) -> float:
    return run.messages / run.seconds


def _commits(daemon: Daemon) -> float:
    return daemon.metrics().total("spool_sync_seconds_count")


@contextlib.contextmanager
def _holding_postfix() -> Iterator[Postfix]:
    """A Postfix that accepts and keeps: mail is put on hold, so it does nothing but store it."""
    settings = {
        "smtpd_relay_restrictions": "check_client_access static:HOLD",
        "in_flow_delay": "0",
    }
    with Postfix(smtpd_processes=200, settings=settings) as server:
        yield server


def measure_disk(folder: Path) -> Disk:
    """How long the disk takes to make durable what a commit of a few messages writes."""
    seconds = []
    path = folder / "synced"
    path.write_bytes(bytes(_SYNCS * _SYNC_OCTETS))
    with path.open("r+b", buffering=0) as file:
        os.fsync(file.fileno())
        for _ in range(_SYNCS):
            file.write(os.urandom(_SYNC_OCTETS))
            began = time.monotonic()
            os.fdatasync(file.fileno())
            seconds.append(time.monotonic() - began)
    path.unlink()
    seconds.sort()
    return Disk(p50=seconds[_SYNCS // 2], p99=seconds[-2])


def histogram_quantile(scrape: Scrape, name: str, share: float) -> float:
    """The quantile as Prometheus estimates it: linear within the bucket that has it."""
    buckets = sorted(
        (float(labels["le"]), value)
        for sample, labels, value in scrape.samples
        if sample == f"mailshed_{name}_bucket"
    )
    wanted = share * buckets[-1][1]
    below, before = 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted:
            within = (wanted - before) / (count - before) if count > before else 1.0
            return below if bound == float("inf") else below + (bound - below) * within
        below, before = bound, count
    return below
