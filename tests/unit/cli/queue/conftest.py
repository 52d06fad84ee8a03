"""What the tests of the verbs of the queue share: a message, a spool, and how a verb is run."""

import asyncio
from pathlib import Path
from typing import Any

from mailshed.cli.main import main
from mailshed.spool.store import SpoolRecord
from tests.support.spools import pieces, sqlite_spool
from tests.unit.cli.conftest import ScriptedService

NUMBER = "190011234567890"
PATIENT = f"{NUMBER}@patient.mssante.fr"
CONTENT = b"Received: from a\r\nSubject: secret\r\n\r\n..Hello.\r\n"


def message(**changes: Any) -> dict[str, Any]:
    return {
        "queue_id": "01JZX4K7ABCDEFGH",
        "class": "bulk",
        "state": "deferred",
        "received": "2026-11-21T09:31:02Z",
        "received_epoch": 1795253462.0,
        "age_seconds": 250.0,
        "size": 12_345,
        "attempts": 3,
        "next_attempt": "2026-11-21T09:40:00Z",
        "reason": "saturated",
        "sender": "news@example.org",
        "recipients": [
            {"address": "a@example.net", "state": "deferred", "last_reply": "451 4.3.0 later"},
            {"address": "b@example.net", "state": "queued", "last_reply": ""},
        ],
        **changes,
    }


def queue(service: ScriptedService, *arguments: str) -> int:
    """Run `mailshed queue ARGUMENTS...`; return its exit code."""
    return main(["queue", *arguments, "--config", str(service.config)])


def fill(path: Path, *records: SpoolRecord) -> None:
    """Make a spool with these messages, each with `CONTENT`, and close it."""

    async def store() -> None:
        spool = sqlite_spool(path)
        await spool.open()
        for record in records:
            await spool.add(record, pieces(CONTENT))
        await spool.close()

    asyncio.run(store())
