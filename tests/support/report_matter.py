"""Values that reports are written from: a message to Bob that failed, unless a test has another."""

from dataclasses import replace
from typing import Any

from mailshed.drain.matter import Matter, Original, ReportedRecipient, ReportPolicy
from mailshed.terms import QueueId, ReportKind
from tests.support.builders import WALL

POLICY = ReportPolicy(
    hostname="mx.hospital.example", postmaster="postmaster@hospital.example", lifetime=86400.0
)
HEADER = b"From: alice@example.org\r\nSubject: Results\r\nMessage-ID: <1@example.org>\r\n"
CONTENT = HEADER + b"\r\nThe body, which is nobody's business.\r\n"
REPORT_ID = QueueId("REPORT0000000001")
BOB = ReportedRecipient(
    address=b"bob@example.net", status="5.1.1", reply="550 5.1.1 No such user here"
)
LATE = ReportedRecipient(
    address=b"carol@example.net",
    status="4.4.7",
    reply="connect: connection refused",
    is_expired=True,
)
WAITING = ReportedRecipient(
    address=b"dora@example.net", status="4.2.2", reply="452 4.2.2 Mailbox full"
)
ABSENT = ReportedRecipient(
    address=b"erik@example.net", status="4.4.1", reply="the mail server cannot be reached"
)
TAKEN = ReportedRecipient(
    address=b"fred@example.net",
    status="2.1.5",
    reply="250 2.1.5 Ok: queued as 12345",
    attempted_wall=WALL + 30,
)


def original(**changes: Any) -> Original:
    """A message of Alice's."""
    made = Original(
        queue_id=QueueId("ORIGINAL00000001"),
        reverse_path=b"alice@example.org",
        received_wall=WALL,
        expires_wall=WALL + 4 * 86400,
        content=CONTENT,
        size=len(CONTENT),
    )
    if "content" in changes:
        changes.setdefault("size", len(changes["content"]))
    return replace(made, **changes)


def matter(
    *about: ReportedRecipient,
    kind: ReportKind = ReportKind.FAILED,
    remote_mta: str = "",
    wall: float = WALL + 60,
    **changes: Any,
) -> Matter:
    """What a report says; `changes` are those of the original."""
    return Matter(
        kind=kind,
        original=original(**changes),
        recipients=about or (BOB,),
        policy=POLICY,
        wall=wall,
        remote_mta=remote_mta,
    )
