"""`python -m tests.bench.queue`: what a long queue costs, and what a durable acknowledgement costs.

Three measurements, each against something in the same run (`--only` makes one of them):

- `durable`: acknowledgements of mail that is forced into the spool, beside a Postfix that puts the
  same mail on hold (`durable`).
- `queue`: the daemon's start, memory, command line and drain with a million messages in the spool,
  beside the same with 20,000 (`long_queue`). Takes 2 GB of disk for a while; `--messages` chooses.
- `large`: how many commits begin after a small clinical message was handed to the spool's writer,
  up to its own, while bulk messages of 25 MiB are being stored (`beside`). Its own is one; one more
  is the group that the writer had in hand already.

About ten minutes; `--quick` is a smoke test of the bench itself.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.beside import Beside, measure_beside
from tests.bench.durable import Disk, Durable, measure_durable
from tests.bench.long_queue import LongQueue, measure_queues
from tests.bench.tools import NoCompilerError, build

PARTS = ("durable", "queue", "large")
_MIB = 1024 * 1024
# Octets of disk for each message beside its content, files of the WAL included; generous.
_DISK_PER_MESSAGE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything."""

    queues: tuple[int, ...] = (20_000, 1_000_000)
    queue_octets: int = 1024
    drained: int = 15_000
    drain_rounds: int = 3
    acknowledged: int = 6_000
    acknowledged_octets: int = 10 * 1024
    connections: tuple[int, ...] = (20, 100, 200)
    rounds: int = 3
    large_messages: int = 4
    large_octets: int = 25 * _MIB
    small_messages: int = 300


QUICK = Size(
    queues=(50, 200),
    drained=150,
    drain_rounds=1,
    acknowledged=100,
    connections=(20,),
    rounds=1,
    large_messages=1,
    large_octets=2 * _MIB,
    small_messages=20,
)


def run(size: Size, parts: Sequence[str] = PARTS) -> str:
    """Measure these parts; the figures for people."""
    texts = []
    with tempfile.TemporaryDirectory(prefix="mailshed-queue-", dir="/var/tmp") as name:
        folder = Path(name)
        if "durable" in parts:
            texts.append(_durable(folder, size))
        if "queue" in parts:
            texts.append(_long_queue(folder, size))
        if "large" in parts:
            texts.append(_large(folder, size))
    return "\n".join(texts)


def _durable(folder: Path, size: Size) -> str:
    durable, disk, sync_p99 = measure_durable(
        folder,
        connections=size.connections,
        messages=size.acknowledged,
        octets=size.acknowledged_octets,
        rounds=size.rounds,
    )
    return durable_table(durable, disk, sync_p99, size)


def durable_table(durable: list[Durable], disk: Disk, sync_p99: float, size: Size) -> str:
    """The figures of acknowledgements as text."""
    lines = [
        f"durable acknowledgements of {size.acknowledged_octets // 1024} KiB messages:",
        (
            f"  {'connections':>11}{'mailshed/s':>12}{'p99 ms':>8}{'CPU us':>8}{'a commit':>10}"
            f"{'Postfix/s':>11}{'p99 ms':>8}{'CPU us':>8}{'ratio':>7}"
        ),
        *(
            f"  {each.connections:>11}{each.mailshed:>12,.0f}{each.mailshed_p99 * 1e3:>8.0f}"
            f"{each.mailshed_cpu * 1e6:>8,.0f}{each.messages_per_commit:>10.1f}"
            f"{each.postfix:>11,.0f}{each.postfix_p99 * 1e3:>8.0f}{each.postfix_cpu * 1e6:>8,.0f}"
            f"{each.ratio:>7.2f}"
            for each in durable
        ),
        f"  99 % of mailshed's commits took less than {sync_p99 * 1e3:.1f} ms (spool_sync_seconds)",
        (
            "  the disk alone makes 64 KiB durable in"
            f" {disk.p50 * 1e3:.1f} ms, 99 % of the time in {disk.p99 * 1e3:.1f} ms"
        ),
    ]
    return "\n".join(lines) + "\n"


def _long_queue(folder: Path, size: Size) -> str:
    needed = sum(size.queues) * (size.queue_octets + _DISK_PER_MESSAGE)
    free = shutil.disk_usage(folder).free
    if free < 2 * needed:
        return (
            f"a long queue: {free // _MIB} MiB of disk are free, {2 * needed // _MIB} are wanted\n"
        )
    queues = measure_queues(
        folder, size.queues, size.queue_octets, drained=size.drained, rounds=size.drain_rounds
    )
    return queue_table(queues, size)


def queue_table(queues: list[LongQueue], size: Size) -> str:
    """The figures of the queues as text; the drain beside that of the first queue."""
    lines = [
        f"{size.queue_octets // 1024} KiB messages in the spool; seconds:",
        (
            f"  {'queued':>9}{'MiB':>7}{'filled':>8}{'start':>7}{'cold':>7}{'killed':>8}"
            f"{'verified':>10}{'count':>7}{'list':>7}{'scrape':>8}{'RSS MiB':>9}"
        ),
        *(
            f"  {each.messages:>9,}{each.octets / _MIB:>7,.0f}{each.filled:>8.1f}{each.start:>7.2f}"
            f"{each.start_cold:>7.2f}{each.start_after_kill:>8.2f}{each.verified:>10.2f}"
            f"{each.count:>7.2f}{each.listing:>7.2f}{each.scrape:>8.3f}{each.resident / _MIB:>9.0f}"
            for each in queues
        ),
        f"  {'queued':>9}  first {size.drained:,} drained, messages/s and CPU us a message:",
        *(
            f"  {each.messages:>9,}  median {each.drain_rate:,.0f}/s"
            f" ({', '.join(f'{rate:,.0f}' for rate in each.drain_rates)})"
            f" = {each.drain_rate / queues[0].drain_rate:.2f}x,"
            f" least {min(each.drain_cpu) * 1e6:.0f} us"
            f" ({', '.join(f'{cpu * 1e6:.0f}' for cpu in each.drain_cpu)})"
            for each in queues
        ),
    ]
    return "\n".join(lines) + "\n"


def _large(folder: Path, size: Size) -> str:
    beside = asyncio.run(
        measure_beside(
            folder,
            large_messages=size.large_messages,
            large_octets=size.large_octets,
            small_messages=size.small_messages,
        )
    )
    return large_table(beside, size)


def large_table(beside: Beside, size: Size) -> str:
    """The figures of a small message beside large ones as text."""
    lines = [
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
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part")
    parser.add_argument(
        "--messages", type=int, action="append", help="length of a queue, several times for several"
    )
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else Size()
    if arguments.messages:
        size = replace(size, queues=tuple(sorted(arguments.messages)))
    try:
        build("smtp_gen")
        build("smtp_sink")
    except NoCompilerError as error:
        sys.stderr.write(f"{error}\n")
        return 69
    sys.stdout.write(run(size, arguments.only or PARTS))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
