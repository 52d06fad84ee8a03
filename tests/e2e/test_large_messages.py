"""Story: eight scans of 25 MiB arrive at once and slowly, and memory stays where it was told to.

The budget for mail data in memory is 8 MiB for all messages together; what is over it goes to
unlinked files. The peak of the resident set (VmHWM of proc(5)) is what an out-of-memory killer
sees. All messages arrive unaltered.
"""

import hashlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.corpus import dot_stuffed
from tests.support.daemon import Daemon
from tests.support.postfix import Postfix
from tests.support.processes import (
    reset_resident_peak,
    resident_octets,
    resident_peak_octets,
)
from tests.support.smtp_dialog import Dialog

MESSAGES = 8
OCTETS = 25 * 1024**2
PIECE_OCTETS = 128 * 1024
UPLOAD_SECONDS = 6.0
MEMORY_BUDGET = 8 * 1024**2
# Socket buffers, pieces on their way to disk and to the backend, the allocator's own slack: about
# 1.5 MiB a message here. What it excludes is one message in memory.
MARGIN = 24 * 1024**2


def _large_mail(number: int) -> bytes:
    """About 25 MiB of lines that differ from each other and between messages; some start dotted."""
    header = f"Subject: scan {number}\r\nMessage-Id: <scan-{number}@test.example>\r\n\r\n"
    digests = [hashlib.sha512(f"{number}/{line}".encode()).hexdigest() for line in range(2000)]
    block = "".join(
        f"{'.' if line % 50 == 0 else ''}{text}\r\n" for line, text in enumerate(digests)
    )
    return (header + block * (OCTETS // len(block) + 1)).encode()


def _upload(port: int, number: int, wire: bytes) -> None:
    """Send one message in pieces, spread over the upload time."""
    stuffed = dot_stuffed(wire)
    with Dialog(port) as dialog:
        dialog.command("EHLO scanner.hospital.example", 250)
        dialog.command(f"MAIL FROM:<scanner@personal.example> SIZE={len(wire)}", 250)
        dialog.command(f"RCPT TO:<scan-{number}@hospital.example>", 250)
        dialog.command("DATA", 354)
        start = time.monotonic()
        pieces = range(0, len(stuffed), PIECE_OCTETS)
        for index, offset in enumerate(pieces):
            dialog.send(stuffed[offset : offset + PIECE_OCTETS])
            due = start + UPLOAD_SECONDS * index / len(pieces)
            time.sleep(max(0.0, due - time.monotonic()))
        dialog.command(".", 250)


def test_memory_is_bounded_while_eight_large_messages_trickle_in(tmp_path: Path) -> None:
    mails = [_large_mail(number) for number in range(MESSAGES)]
    with (
        Postfix() as server,
        Daemon(
            folder=tmp_path / "mailshed",
            backend_port=server.port,
            overrides={
                "limits": {"content_memory_max": "8MiB"},
                # A limit that begins low would have some of them spooled, and the spool's cache of
                # 16 MiB is not what is measured here.
                "backends": [
                    {"name": "postfix", "host": "127.0.0.1", "port": server.port, "limit": "fixed"}
                ],
            },
        ) as daemon,
    ):
        _upload(daemon.port, MESSAGES, b"Subject: first\r\n\r\n")  # everything is loaded by now
        base = resident_octets(daemon.pid)
        reset_resident_peak(daemon.pid)
        with ThreadPoolExecutor(MESSAGES) as pool:
            uploads = [
                pool.submit(_upload, daemon.port, number, wire) for number, wire in enumerate(mails)
            ]
        for upload in uploads:
            upload.result()
        peak = resident_peak_octets(daemon.pid)
        daemon.wait_spool_empty()
        server.wait_delivered(MESSAGES + 1)
        delivered = {item.recipient: item.original for item in server.delivered()}

    assert len(delivered) == MESSAGES + 1
    for number, wire in enumerate(mails):
        stored = delivered[f"scan-{number}@hospital.example"]
        expected = wire.replace(b"\r\n", b"\n")
        assert hashlib.sha256(stored).digest() == hashlib.sha256(expected).digest(), number
    grown = peak - base
    sys.stdout.write(f"\nresident: {base / 2**20:.1f} MiB at rest, {peak / 2**20:.1f} at most\n")
    assert grown < MEMORY_BUDGET + MARGIN, f"grew by {grown / 2**20:.1f} MiB"
