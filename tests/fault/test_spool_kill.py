"""kill -9 at any moment: what was acknowledged is there, whole, and nothing is there in part."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from mailshed.spool.schema import DATABASE
from tests.support.spools import joined, sqlite_spool

ROOT = Path(__file__).parents[2]

# Adds and settles without end, and prints a line after each promise has been kept.
CHILD = """
import asyncio, os, random, sys
from pathlib import Path
from mailshed.spool.store import Settlement
from mailshed.terms import Ending
from tests.support.builders import spool_record, queue_id
from tests.support.spools import pieces, sqlite_spool

def say(text):
    os.write(1, text.encode() + b"\\n")

async def work(spool, chance, worker):
    while True:
        record = spool_record(queue_id=f"{os.getpid()}-{worker}-{chance.getrandbits(60)}")
        data = chance.randbytes(chance.choice((100, 5000, 300_000, 900_000)))
        if chance.random() < 0.2:
            copy = spool_record(queue_id=record.queue_id + "-copy")
            await spool.add_copies((record, copy), pieces(data))
            say(f"copied {record.queue_id} {__import__('hashlib').sha256(data).hexdigest()}")
            continue
        await spool.add(record, pieces(data))
        say(f"added {record.queue_id} {__import__('hashlib').sha256(data).hexdigest()}")
        if chance.random() < 0.3:
            say(f"settling {record.queue_id}")
            await spool.settle(Settlement(
                queue_id=record.queue_id, endings={0: Ending.DELIVERED}, attempts=1,
                next_attempt_wall=0.0))
            say(f"settled {record.queue_id}")

async def main():
    spool = sqlite_spool(Path(sys.argv[1]))
    await spool.open()
    seed = int(sys.argv[2])
    async with asyncio.TaskGroup() as group:
        for worker in range(8):
            group.create_task(work(spool, random.Random(seed * 100 + worker), worker))

asyncio.run(main())
"""


@pytest.mark.parametrize("seed", range(3))
async def test_what_was_acknowledged_survives_and_what_was_settled_stays_away(
    tmp_path: Path, seed: int
) -> None:
    added: dict[str, str] = {}
    settling: set[str] = set()
    settled: set[str] = set()
    for run in range(3):
        lines = _run_and_kill(tmp_path, seed * 10 + run, Random(seed * 10 + run).randint(20, 150))
        for kind, queue_id, *digest in (line.split() for line in lines):
            match kind:
                case "added":
                    added[queue_id] = digest[0]
                case "copied":
                    added[queue_id] = added[f"{queue_id}-copy"] = digest[0]
                case "settling":
                    settling.add(queue_id)
                case "settled":
                    settled.add(queue_id)
    spool = sqlite_spool(tmp_path)
    await spool.open()
    found = {record.queue_id: record for record in await spool.due(4e9, "personal", 1_000_000)}
    assert added.keys() - settling <= found.keys(), "lost"
    assert not settled & found.keys(), "settled and yet there"
    for queue_id in found:
        if queue_id.endswith("-copy"):
            assert queue_id.removesuffix("-copy") in found, "one copy without the other"
    for queue_id in found.keys() & added.keys():
        content = await joined(spool.content(queue_id))
        assert sha256(content).hexdigest() == added[queue_id]
    totals = await spool.totals()
    ledger = totals.ledger["personal"]
    assert ledger["accepted"] - ledger.get("delivered", 0) == totals.messages == len(found)
    await spool.close()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        orphans = """
            SELECT count(*) FROM chunk
            WHERE chunk_id >> 16 NOT IN (SELECT message_id FROM message)
        """
        assert connection.execute(orphans).fetchone() == (0,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _run_and_kill(folder: Path, seed: int, lines_wanted: int) -> list[str]:
    """Let a process work until it has said so much; kill it; return all that it has said."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, folder, str(seed)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    ) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(lines_wanted)]
        child.kill()
        lines += child.stdout.readlines()
    assert "" not in lines, "it ended by itself"
    # The last line may have been cut off by the kill; then nobody has read a promise.
    return [line for line in lines if line.endswith("\n")]
