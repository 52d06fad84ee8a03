"""`python -m tests.bench.queue`: what a long queue costs, and what a durable acknowledgement costs.

Three measurements, each against something in the same run:

- *A long queue*: the daemon's memory, its start, the command line and the drain with 100,000
  messages in the spool, beside the same with 1,000. The drain goes to the sink written in C.
- *Durable acknowledgements*: all mail is forced into the spool (the backend is away), beside a
  Postfix that puts the same mail on hold. Both answer after their own sync, on the same disk, to
  the same client. The time of a commit is read from mailshed's own metric.
- *A large message*: how many commits begin after a small clinical message was handed to the spool's
  writer, up to its own, while bulk messages of 25 MiB are being stored. Its own is one; one more is
  the group that the writer had in hand already.

About six minutes; `--quick` is a smoke test of the bench itself.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.beside import Beside, measure_beside
from tests.bench.tools import NoCompilerError, Run, Sink, build, generate
from tests.support.daemon import Daemon, Scrape
from tests.support.postfix import Postfix
from tests.support.processes import free_port, resident_octets, wait_until

_DRAIN_DEADLINE = 900.0
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything."""

    queues: tuple[int, ...] = (1_000, 100_000)
    queue_octets: int = 2 * 1024
    fill_at_once: int = 20_000
    acknowledged: int = 6_000
    acknowledged_octets: int = 10 * 1024
    connections: tuple[int, ...] = (20, 100)
    rounds: int = 3
    large_messages: int = 4
    large_octets: int = 25 * _MIB
    small_messages: int = 300


QUICK = Size(
    queues=(50, 200),
    acknowledged=100,
    connections=(20,),
    rounds=1,
    large_messages=1,
    large_octets=2 * _MIB,
    small_messages=20,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LongQueue:
    """What was measured with `messages` in the spool; seconds and octets."""

    messages: int
    resident: int
    resident_after_start: int
    start: float
    start_after_kill: float
    verified: float
    """From the start until the spool is well, if it has to be read in full before."""
    count: float
    listing: float
    drain_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Durable:
    """Acknowledgements a second, medians of the rounds; latency of mailshed's, in seconds."""

    connections: int
    mailshed: float
    postfix: float
    mailshed_p99: float
    postfix_p99: float


# A long queue.


def measure_queue(folder: Path, messages: int, size: Size) -> LongQueue:
    """Fill the spool of a daemon, look at it, start it anew, drain it."""
    port = free_port()
    with Daemon(
        folder=folder / f"queue-{messages}",
        backend_port=port,
        overrides={"backends": [_backend(port)], "log": {"level": "warning"}},
    ) as daemon:
        for begun in range(0, messages, size.fill_at_once):
            generate(
                daemon.port,
                connections=20,
                messages=min(size.fill_at_once, messages - begun),
                octets=size.queue_octets,
                mode="reuse",
            )
        wait_until(lambda: daemon.metrics().total("queue_messages") == messages, "all are queued")
        resident = resident_octets(daemon.pid)
        daemon.kill()
        start_after_kill = _seconds_to_start(daemon)
        assert daemon.terminate() == 0
        # What says that nothing has happened to the database since it was closed.
        (daemon.folder / "spool/condition").unlink()
        verified = _seconds_to_start(daemon)
        assert daemon.terminate() == 0
        start = _seconds_to_start(daemon)
        after_start = resident_octets(daemon.pid)
        count, listing = _seconds_of(daemon, "count"), _seconds_of(daemon, "list")
        with Sink(folder, port) as sink:
            rate = _drain_rate(sink, messages)
            daemon.wait_spool_empty()
    return LongQueue(
        messages=messages,
        resident=resident,
        resident_after_start=after_start,
        start=start,
        start_after_kill=start_after_kill,
        verified=verified,
        count=count,
        listing=listing,
        drain_rate=rate,
    )


def _backend(port: int) -> dict[str, object]:
    return {"name": "sink", "host": "127.0.0.1", "port": port, "in_flight_max": 20}


def _seconds_to_start(daemon: Daemon) -> float:
    """Until it is ready and its spool is well."""
    began = time.monotonic()
    daemon.start()
    wait_until(lambda: daemon.metrics().total("spool_healthy") == 1, "the spool is well")
    return time.monotonic() - began


def _seconds_of(daemon: Daemon, verb: str) -> float:
    began = time.monotonic()
    daemon.command("queue", verb)
    return time.monotonic() - began


def _drain_rate(sink: Sink, messages: int) -> float:
    """Messages a second between the first and the last tenth."""
    marks = []
    for share in (0.1, 0.9):
        _wait_taken(sink, int(share * messages))
        marks.append((time.monotonic(), sink.taken))
    _wait_taken(sink, messages)
    (began, first), (ended, last) = marks
    return (last - first) / max(ended - began, 1e-9)


def _wait_taken(sink: Sink, count: int) -> None:
    wait_until(lambda: sink.taken >= count, f"{count} messages are drained", _DRAIN_DEADLINE)


# Durable acknowledgements.


def measure_durable(folder: Path, size: Size) -> tuple[list[Durable], float]:
    """Rates by number of connections, and the 99th percentile of mailshed's commits in seconds."""
    results = []
    with (
        _holding_postfix() as server,
        Daemon(
            folder=folder / "durable",
            backend_port=(port := free_port()),
            overrides={"backends": [_backend(port)]},
        ) as daemon,
    ):
        for connections in size.connections:
            ours, theirs = [], []
            for _ in range(size.rounds):
                ours.append(_acknowledge(daemon.port, connections, size))
                theirs.append(_acknowledge(server.port, connections, size))
            results.append(
                Durable(
                    connections=connections,
                    mailshed=_rate(ours),
                    postfix=_rate(theirs),
                    mailshed_p99=statistics.median(run.p99_seconds for run in ours),
                    postfix_p99=statistics.median(run.p99_seconds for run in theirs),
                )
            )
        return results, histogram_quantile(daemon.metrics(), "spool_sync_seconds", 0.99)


def _acknowledge(port: int, connections: int, size: Size) -> Run:
    return generate(
        port,
        connections=connections,
        messages=size.acknowledged,
        octets=size.acknowledged_octets,
        mode="reuse",
    )


def _rate(runs: list[Run]) -> float:
    return statistics.median(run.messages / run.seconds for run in runs)


@contextlib.contextmanager
def _holding_postfix() -> Iterator[Postfix]:
    """A Postfix that accepts and keeps: mail is put on hold, so it does nothing but store it."""
    settings = {
        "smtpd_relay_restrictions": "check_client_access static:HOLD",
        "in_flow_delay": "0",
    }
    with Postfix(smtpd_processes=200, settings=settings) as server:
        yield server


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


# All of it.


def run(size: Size) -> str:
    """Measure everything; the figures for people."""
    with tempfile.TemporaryDirectory(prefix="mailshed-queue-", dir="/var/tmp") as name:
        folder = Path(name)
        durable, sync_p99 = measure_durable(folder, size)
        queues = [measure_queue(folder, messages, size) for messages in size.queues]
        beside = asyncio.run(
            measure_beside(
                folder,
                large_messages=size.large_messages,
                large_octets=size.large_octets,
                small_messages=size.small_messages,
            )
        )
    return table(queues, durable, sync_p99, beside, size)


def table(
    queues: list[LongQueue], durable: list[Durable], sync_p99: float, beside: Beside, size: Size
) -> str:
    """The figures as text."""
    lines = [
        f"{size.queue_octets // 1024} KiB messages in the spool:",
        (
            f"  {'queued':>8}{'MiB':>7}{'after start':>13}{'start s':>9}{'after kill':>12}"
            f"{'verified':>10}{'count s':>9}{'list s':>8}{'drained/s':>11}"
        ),
        *(
            f"  {each.messages:>8,}{each.resident / _MIB:>7.0f}"
            f"{each.resident_after_start / _MIB:>13.0f}{each.start:>9.2f}"
            f"{each.start_after_kill:>12.2f}{each.verified:>10.2f}{each.count:>9.2f}{each.listing:>8.2f}"
            f"{each.drain_rate:>11,.0f}"
            for each in queues
        ),
        "",
        f"durable acknowledgements of {size.acknowledged_octets // 1024} KiB messages:",
        f"  {'connections':>11}{'mailshed/s':>12}{'p99 ms':>8}{'Postfix/s':>11}{'p99 ms':>8}",
        *(
            f"  {each.connections:>11}{each.mailshed:>12,.0f}{each.mailshed_p99 * 1e3:>8.0f}"
            f"{each.postfix:>11,.0f}{each.postfix_p99 * 1e3:>8.0f}"
            for each in durable
        ),
        f"  99 % of mailshed's commits took less than {sync_p99 * 1e3:.1f} ms (spool_sync_seconds)",
        "",
        (
            f"a small clinical message beside {size.large_messages} bulk messages of "
            f"{size.large_octets // _MIB} MiB ({beside.groups} commits):"
        ),
        (
            f"  commits begun until it was stored, at most: {beside.commits_alone} alone, "
            f"{beside.commits_max} beside them"
        ),
        (
            f"  99 % within {beside.alone_p99 * 1e3:.1f} ms alone, {beside.beside_p99 * 1e3:.1f} ms"
            " beside them"
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.queue", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test of the bench itself")
    arguments = parser.parse_args()
    try:
        build("smtp_gen")
        build("smtp_sink")
    except NoCompilerError as error:
        sys.stderr.write(f"{error}\n")
        return 69
    sys.stdout.write(run(QUICK if arguments.quick else Size()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
