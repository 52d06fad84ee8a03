"""A disk quota that is used up: mail is refused as on a full disk, and nothing is sick.

strace makes the kernel's answer EDQUOT, for the WAL from some write on and for the file by which
the spool finds out what an I/O error meant. The quota is raised again: the calls are counted, and
the later ones pass.
"""

import json
import subprocess
import sys
from pathlib import Path

from mailshed.spool.schema import DATABASE
from tests.support.debian import require

ROOT = Path(__file__).parents[2]
FIRST, LAST = 150, 300
"""Writes to the WAL that fail. A message makes about a dozen; each retry of a full group one."""

CHILD = """
import asyncio, json, sys
from collections import Counter
from pathlib import Path
from mailshed.errors import SpoolError
from tests.support.builders import spool_record
from tests.support.spools import pieces, sqlite_spool

async def main():
    spool = sqlite_spool(Path(sys.argv[1]))
    await spool.open()
    ends, kept = [], set()
    while len(ends) < 1000 and not ("SpoolFull" in ends and ends[-5:] == ["kept"] * 5):
        record = spool_record()
        try:
            await spool.add(record, pieces(bytes(3000)))
            kept.add(record.queue_id)
            ends.append("kept")
        except SpoolError as error:
            ends.append(type(error).__name__)
    found = {record.queue_id for record in await spool.due(4e9, "personal", 10_000)}
    result = {"ends": Counter(ends), "same": found == kept, "sick": spool.unhealthy_reason()}
    await spool.close()
    print(json.dumps(result))

asyncio.run(main())
"""


def test_is_a_full_disk_and_no_fault(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    run = subprocess.run(
        [
            *(str(require("strace")), "-f", "-qq", "-o", str(tmp_path / "trace")),
            *("-P", str(folder / f"{DATABASE}-wal"), "-P", str(folder / "probe")),
            *("-e", "trace=write,pwrite64"),
            *("-e", f"inject=pwrite64:error=EDQUOT:when={FIRST}..{LAST}"),
            *("-e", "inject=write:error=EDQUOT"),
            *(sys.executable, "-c", CHILD, str(folder)),
        ],
        check=True,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        timeout=120,
    )
    result = json.loads(run.stdout)
    assert set(result["ends"]) == {"kept", "SpoolFull"}
    assert result["ends"]["SpoolFull"] >= 5
    assert result["same"]
    assert result["sick"] is None
    assert "EDQUOT" in (tmp_path / "trace").read_text()
