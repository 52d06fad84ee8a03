"""The order of system calls: a promise follows a sync that follows the last write.

kill -9 cannot show a missing fsync, since the kernel keeps what was written. So a child process is
traced while it adds messages and says so on standard output: between the last write to the log of
the database and the line that acknowledges it, an fdatasync of that log must have returned.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

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

_CALL = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)")
_RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)")


@dataclass(frozen=True)
class Event:
    """The begin or the end of one system call."""

    name: str
    is_end: bool
    arguments: str
    """Of the call, with the path of its file (`strace -y`)."""
    result: str = ""


def events(trace: str) -> Iterator[Event]:
    """Begins and ends of all calls in the order in which strace saw them."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        if resumed := _RESUMED.fullmatch(line):
            arguments = begun.pop(resumed["pid"])
            yield Event(resumed["name"], True, arguments, resumed["rest"].rpartition("= ")[2])
        elif call := _CALL.fullmatch(line):
            name, rest = call["name"], call["rest"]
            yield Event(name, False, rest)
            if rest.endswith("<unfinished ...>"):
                begun[call["pid"]] = rest
            else:
                yield Event(name, True, rest, rest.rpartition("= ")[2])


def check(trace: str) -> list[str]:
    """The promises in the trace, each 'kept' or 'broken'."""
    promises = []
    is_synced = False
    syncing_since_last_write = False
    for event in events(trace):
        is_log = "spool.db-wal>" in event.arguments.partition(",")[0]
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
    strace = shutil.which("strace")
    if strace is None:
        if os.environ.get("CI") == "true":
            pytest.fail("strace is missing: apt-get install strace")
        pytest.skip("strace is missing: apt-get install strace")
    trace = tmp_path / "trace"
    watched = "trace=pwrite64,write,fdatasync,fsync"
    command = [strace, "-f", "-y", "-e", watched, "-e", "signal=none", "-o", str(trace)]
    command += [sys.executable, "-c", CHILD, str(tmp_path / "spool"), str(MESSAGES)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT, timeout=120)
    assert check(trace.read_text()) == ["kept"] * (MESSAGES + MESSAGES // 3)


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
