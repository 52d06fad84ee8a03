"""A power cut at any moment loses nothing that was promised, and leaves nothing in part.

A process adds, settles and amends messages, large and small, while every write and sync of it is
written down. From that, files are made as a cut at some place may have left them, opened as the
service opens them, and compared with the promises that had been made before the cut. A spool that
does not sync at COMMIT (`synchronous=NORMAL`) fails this, which shows that it can fail.

The number of cuts is MAILSHED_TEST_POWER_CUTS (default 150).
"""

import asyncio
import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mailshed.spool.recovery import recount
from mailshed.spool.schema import DATABASE, has_sums
from tests.fault.power_cut import Image, PowerCuts, library
from tests.support.spools import joined, sqlite_spool

CUTS = int(os.environ.get("MAILSHED_TEST_POWER_CUTS", "150"))
RUN_SECONDS = 120.0
ROOT = Path(__file__).parents[2]

CHILD = """
import asyncio, ctypes, hashlib, os, random, sys
from pathlib import Path
from mailshed.spool import schema
from mailshed.spool.store import Settlement
from mailshed.terms import Ending, QueueAction
from tests.support.builders import spool_record
from tests.support.spools import pieces, sqlite_spool

folder, seed, messages, synchronous = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
log = ctypes.CDLL(None)

def mark(text):
    log.write_log_mark(text.encode())

if synchronous != "FULL":
    configure = schema._configure
    def careless(connection):
        configure(connection)
        connection.execute(f"PRAGMA synchronous = {synchronous}")
    schema._configure = careless

async def work(spool, chance, worker):
    for number in range(messages):
        record = spool_record(queue_id=f"{worker}-{number}")
        data = chance.randbytes(chance.choice((100, 5000, 20_000, 300_000)))
        mark(f"begin add {record.queue_id}")
        await spool.add(record, pieces(data))
        mark(f"add {record.queue_id} {hashlib.sha256(data).hexdigest()}")
        fate = chance.random()
        if fate < 0.4:
            mark(f"begin settle {record.queue_id}")
            await spool.settle(Settlement(
                queue_id=record.queue_id, endings={0: Ending.DELIVERED}, attempts=1,
                next_attempt_wall=0.0))
            mark(f"settle {record.queue_id}")
        elif fate < 0.5:
            mark(f"begin settle {record.queue_id}")
            await spool.amend(record.queue_id, QueueAction.DELETE, 0.0)
            mark(f"settle {record.queue_id}")

async def main():
    spool = sqlite_spool(Path(folder))
    await spool.open()
    async with asyncio.TaskGroup() as group:
        for worker in range(4):
            group.create_task(work(spool, random.Random(seed * 100 + worker), worker))
    await spool.close()

asyncio.run(main())
"""


def record(folder: Path, *, seed: int, messages: int, synchronous: str = "FULL") -> PowerCuts:
    """Run the process to its end; return what it wrote."""
    watched, log = folder / "spool", folder / "log"
    environment = os.environ | {
        "LD_PRELOAD": str(library()),
        "WRITE_LOG": str(log),
        "WRITE_LOG_FOLDER": str(watched),
    }
    command = [sys.executable, "-c", CHILD, str(watched), str(seed), str(messages), synchronous]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=RUN_SECONDS)
    return PowerCuts(log)


async def flaw(image: Image, folder: Path) -> str:
    """What is wrong with the spool that a cut left; empty if nothing is."""
    added = {}
    for promise in image.promises:
        kind, queue_id, *digest = promise.split()
        if kind == "add":
            added[queue_id] = digest[0]
    begun = {text.split()[1] for text in image.begun if text.startswith("add ")}
    leaving = {text.split()[1] for text in image.begun if text.startswith("settle ")}
    left = {text.split()[1] for text in image.promises if text.startswith("settle ")}
    image.restore(folder)
    spool = sqlite_spool(folder)
    await spool.open()
    try:
        found = {each.queue_id: each for each in await spool.due(4e9, "personal", 1_000_000)}
        if lost := added.keys() - leaving - found.keys():
            return f"lost {sorted(lost)[:5]} of {len(added)}"
        if back := left & found.keys():
            return f"settled and there again: {sorted(back)[:5]}"
        if made_up := found.keys() - begun:
            return f"never sent: {sorted(made_up)[:5]}"
        for queue_id in found:
            content = await joined(spool.content(queue_id))
            known = added.get(queue_id)
            if known is not None and hashlib.sha256(content).hexdigest() != known:
                return f"{queue_id} is altered"
        ledger = (await spool.totals()).ledger.get("personal", {})
        ended = ledger.get("delivered", 0) + ledger.get("removed", 0)
        if ledger.get("accepted", 0) - ended != len(found):
            return f"the ledger says {ledger}, and there are {len(found)}"
    finally:
        await spool.close()
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        (finding,) = connection.execute("PRAGMA integrity_check").fetchone()
    return "" if finding == "ok" else f"damaged: {finding}"


def wrong_sums(image: Image, folder: Path) -> str:
    """How the sums that the database keeps differ from what is in it; empty if they do not."""
    image.restore(folder)
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        if not has_sums(connection):
            return ""  # the cut came before them
        kept = set(connection.execute("SELECT * FROM holding WHERE messages <> 0"))
        counted = set(recount(connection))
    return "" if kept == counted else f"kept {kept}, counted {counted}"


def flaws(cuts: PowerCuts, count: int, seed: int, folder: Path) -> list[str]:
    """What is wrong after `count` cuts."""
    found = []
    for number, image in enumerate(cuts.images(count, random.Random(seed))):
        place, other_place = folder / f"cut{number}", folder / f"sums{number}"
        try:
            found.append(asyncio.run(flaw(image, place)) or wrong_sums(image, other_place))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the cut has done
            found.append(repr(error))
        shutil.rmtree(place)
        shutil.rmtree(other_place, ignore_errors=True)
    return [text for text in found if text]


@pytest.mark.parametrize("seed", range(3))
def test_nothing_that_was_promised_is_lost(tmp_path: Path, seed: int) -> None:
    cuts = record(tmp_path, seed=seed, messages=60)
    assert len(cuts) > 1000, "too little was written to be cut"
    assert flaws(cuts, max(1, CUTS // 3), seed, tmp_path) == []


def test_a_spool_that_does_not_sync_at_commit_is_found_out(tmp_path: Path) -> None:
    cuts = record(tmp_path, seed=1, messages=60, synchronous="NORMAL")
    assert len(flaws(cuts, 30, 1, tmp_path)) >= 10
