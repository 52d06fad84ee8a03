"""A disk that is really full: a file system of 4 MiB in a mount namespace of its own.

Mail is refused while there is room for marks, marks are written to the last, and afterwards, as
well as after a restart on the full disk, the spool has exactly what it acknowledged.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CHILD = """
import asyncio, json, os, sys
from pathlib import Path
from mailshed.clock import SystemClock
from mailshed.errors import SpoolError, SpoolFull
from mailshed.spool.store import Settlement
from mailshed.terms import Ending
from tests.support.builders import spool_record
from tests.support.spools import pieces, sqlite_spool

folder = Path(sys.argv[1])

def settlement(record):
    return Settlement(queue_id=record.queue_id, endings={0: Ending.DELIVERED}, attempts=1,
                      next_attempt_wall=0.0)

async def main():
    spool = sqlite_spool(folder / "spool", disk_reserve=1 << 20, clock=SystemClock())
    await spool.open()
    kept, full = [], 0
    while full < 20:
        record = spool_record()
        try:
            await spool.add(record, pieces(os.urandom(20_000)))
            kept.append(record)
        except SpoolFull:
            full += 1
    stored = len(kept)
    while len(kept) > stored // 2:
        await spool.settle(settlement(kept.pop(0)))
    # Now someone else fills the disk to the last octet.
    with (folder / "ballast").open("wb") as ballast:
        try:
            while True:
                os.write(ballast.fileno(), bytes(4096))
        except OSError:
            pass
    try:
        await spool.add(spool_record(), pieces(os.urandom(20_000)))
        raise AssertionError("accepted on a full disk")
    except SpoolFull:
        pass
    healthy = spool.unhealthy_reason()
    await spool.close()
    spool = sqlite_spool(folder / "spool", disk_reserve=0)
    await spool.open()
    found = {record.queue_id for record in await spool.due(4e9, "personal", 1000)}
    (folder / "ballast").unlink()
    again = spool_record()
    await spool.add(again, pieces(os.urandom(20_000)))
    await spool.settle(settlement(again))
    await spool.close()
    print(json.dumps({
        "stored": stored,
        "kept": len(kept),
        "same": found == {record.queue_id for record in kept},
        "unhealthy": healthy,
    }))

asyncio.run(main())
"""


def test_marks_are_written_and_nothing_is_lost_on_a_full_disk(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    script = 'mount -t tmpfs -o size=4m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    command = ["-rm", "sh", "-c", script, "sh", str(tmp_path), sys.executable, CHILD]
    if unshare is None or not _can_mount(unshare, tmp_path):
        if os.environ.get("CI") == "true":
            pytest.fail("unshare(1) cannot mount here: run as root, or allow user namespaces")
        pytest.skip("unshare(1) cannot mount here: run as root, or allow user namespaces")
    run = subprocess.run(
        [unshare, *command], check=True, stdout=subprocess.PIPE, cwd=ROOT, timeout=120
    )
    result = json.loads(run.stdout)
    assert result["stored"] >= 10
    assert result == {
        "stored": result["stored"],
        "kept": result["stored"] // 2,
        "same": True,
        "unhealthy": None,
    }
    assert list(tmp_path.iterdir()) == []


def _can_mount(unshare: str, folder: Path) -> bool:
    probe = [unshare, "-rm", "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    return subprocess.run(probe, check=False, stderr=subprocess.DEVNULL).returncode == 0
