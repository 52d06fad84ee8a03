"""The order of system calls: a promise follows a sync that follows the last write.

kill -9 cannot show a missing fsync, since the kernel keeps what was written. So a child process is
traced while it adds messages and says so on standard output: between the last write to the log of
the database and the line that acknowledges it, an fdatasync of that log must have returned.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fault import straces

ROOT = Path(__file__).parents[2]
MESSAGES = 30

# One promise at a time, so that every write to the log belongs to the next line on stdout. The
# pause of the writer before it checkpoints is longer than the test.
CHILD = """
import asyncio, os, sys
from pathlib import Path
from mailshed.spool.store import Settlement
from mailshed.terms import Ending
from tests.support.builders import spool_record
from tests.support.spools import pieces, sqlite_spool

async def main():
    spool = sqlite_spool(Path(sys.argv[1]))
    await spool.open()
    for number in range(int(sys.argv[2])):
        record = spool_record()
        size = 600_000 if number % 10 == 9 else 3000
        await spool.add(record, pieces(os.urandom(size)))
        os.write(1, b"promise added\\n")
        if number % 3 == 0:
            await spool.settle(Settlement(
                queue_id=record.queue_id, endings={0: Ending.DELIVERED}, attempts=1,
                next_attempt_wall=0.0))
            os.write(1, b"promise settled\\n")
    await spool.close()

asyncio.run(main())
"""


def check(trace: str) -> list[str]:
    """The promises in the trace, each 'kept' or 'broken'."""
    promises = []
    is_synced = False
    syncing_since_last_write = False
    for event in straces.events(trace):
        is_log = "spool.db-wal>" in event.file
        match event.name:
            case "pwrite64" | "write" if is_log:
                is_synced = syncing_since_last_write = False
            case "fdatasync" | "fsync" if is_log and not event.is_end:
                syncing_since_last_write = True
            case "fdatasync" | "fsync" if is_log and event.result == "0":
                is_synced = syncing_since_last_write
            case "write" if '"promise ' in event.arguments and not event.is_end:
                promises.append("kept" if is_synced else "broken")
    return promises


def test_a_sync_has_returned_between_the_last_write_and_the_promise(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    command = [*straces.command(trace, "pwrite64,write,fdatasync,fsync"), sys.executable]
    command += ["-c", CHILD, str(tmp_path / "spool"), str(MESSAGES)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT, timeout=120)
    assert check(straces.read(trace)) == ["kept"] * (MESSAGES + MESSAGES // 3)


WRITE = '7 pwrite64(9</s/spool.db-wal>, "..."..., 24, 32) = 24\n'
SYNC = "7 fdatasync(9</s/spool.db-wal>) = 0\n"
SAY = '8 write(1</dev/null>, "promise added\\n", 14) = 14\n'


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        (WRITE + SYNC + SAY, "kept"),
        (WRITE + SAY + SYNC, "broken"),
        (WRITE + SAY, "broken"),
        (WRITE + SYNC + WRITE + SAY, "broken"),
        (WRITE + SYNC.replace("= 0", "= -1 EIO (Input/output error)") + SAY, "broken"),
        (WRITE + SYNC.replace("-wal", "") + SAY, "broken"),
        (
            WRITE
            + "7 fdatasync(9</s/spool.db-wal> <unfinished ...>\n"
            + SAY
            + "7 <... fdatasync resumed>) = 0\n",
            "broken",
        ),
        (
            WRITE
            + "7 fdatasync(9</s/spool.db-wal> <unfinished ...>\n7 <... fdatasync resumed>) = 0\n"
            + SAY,
            "kept",
        ),
    ],
)
def test_the_check_itself_can_tell(trace: str, expected: str) -> None:
    assert check(trace) == [expected]
