"""Story: clients that never end what they begin, and the process grows by next to nothing.

What is measured is the real process: the peak of its resident set (VmHWM of proc(5)), which is what
an out-of-memory killer sees, and whether another client is served meanwhile. In this process, with
the same attacks and every cut, are tests/protocol/test_bounds.py and tests/unit/listener.
"""

import contextlib
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.daemon import Daemon
from tests.support.intensity import TIMES
from tests.support.processes import (
    DEADLINE,
    reset_resident_peak,
    resident_octets,
    resident_peak_octets,
    wait_until,
)
from tests.support.smtp_dialog import Dialog
from tests.support.smtp_sink import SmtpSink

MIB = 1024**2
ATTACKERS = 8
STREAMED = 32 * MIB * min(TIMES, 8)
"""Octets that each attacker wants to send."""
GROWN_MAX = 2 * MIB
"""For each connection."""
SIZE_MAX = 4 * MIB
MEMORY_BUDGET = 8 * MIB
BLOCK = 256 * 1024 * b"x"
BEGIN = (
    b"EHLO attacker.example\r\nMAIL FROM:<a@attacker.example>\r\nRCPT TO:<b@hospital.example>\r\n"
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    limits = {
        "message_size_max": "4MiB",
        "content_memory_max": "8MiB",
        "sessions_per_trusted_address": 1000,
    }
    with (
        SmtpSink() as sink,
        Daemon(
            folder=tmp_path_factory.mktemp("endless") / "mailshed",
            backend_port=sink.port,
            overrides={"limits": limits},
        ) as started,
    ):
        _send_one(started.port)  # everything is loaded by now
        yield started


def _send_one(port: int) -> float:
    """Send an ordinary message; the seconds it took."""
    began = time.monotonic()
    with Dialog(port) as dialog:
        for line in BEGIN.decode().splitlines():
            dialog.command(line, 250)
        dialog.command("DATA", 354)
        dialog.command("Subject: x\r\n\r\nx\r\n.", 250)
    return time.monotonic() - began


def _stream(port: int, beginning: bytes, octets: int) -> tuple[int, bytes]:
    """Send without end; how many octets went, and what was said."""
    sent, heard = 0, b""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(beginning)
            while sent < octets:
                connection.sendall(BLOCK)
                sent += len(BLOCK)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65536):
                heard += piece
    return sent, heard


def _attack(
    daemon: Daemon, beginning: bytes, octets: int = STREAMED
) -> tuple[list[tuple[int, bytes]], int, float]:
    """All attackers at once: what became of each, what memory grew by, and who waited how long."""
    base = resident_octets(daemon.pid)
    reset_resident_peak(daemon.pid)
    with ThreadPoolExecutor(ATTACKERS) as pool:
        running = [pool.submit(_stream, daemon.port, beginning, octets) for _ in range(ATTACKERS)]
        served = _send_one(daemon.port)
    wait_until(lambda: daemon.metrics().total("smtp_sessions") == 0, "all sessions have ended")
    return [each.result() for each in running], resident_peak_octets(daemon.pid) - base, served


@pytest.mark.parametrize(
    ("beginning", "reply"),
    [
        pytest.param(b"", b"421 4.7.0", id="command"),
        pytest.param(BEGIN + b"RCPT TO:<", b"421 4.7.0", id="rcpt"),
        pytest.param(BEGIN + b"DATA\r\n", b"552 5.3.4", id="data"),
        pytest.param(BEGIN + b"BDAT %d LAST\r\n" % (SIZE_MAX * 3), b"552 5.3.4", id="chunk"),
        pytest.param(BEGIN + b"BDAT 99999999999999999999\r\n", b"552 5.3.4", id="huge chunk"),
        pytest.param(BEGIN + b"BDAT " + b"9" * 30 + b"\r\n", b"501 5.5.4", id="absurd chunk"),
    ],
)
def test_a_line_without_end_costs_nothing(daemon: Daemon, beginning: bytes, reply: bytes) -> None:
    code = reply[:3].decode()
    before = daemon.metrics().total("smtp_replies_total", code=code)
    found, grown, served = _attack(daemon, beginning)
    # Our last words may be lost on the way to somebody who does not listen.
    assert daemon.metrics().total("smtp_replies_total", code=code) == before + ATTACKERS
    for sent, _ in found:
        # What lies in the buffers of two sockets was sent too.
        assert sent <= 2 * SIZE_MAX + 16 * MIB, "it went on for long"
    is_kept = b"DATA" in beginning
    assert grown <= ATTACKERS * GROWN_MAX + (MEMORY_BUDGET if is_kept else 0), grown
    assert served < 5.0


def test_a_message_ten_times_too_large_is_refused_to_everybody(daemon: Daemon) -> None:
    before = daemon.metrics().total("smtp_replies_total", code="552")
    _, grown, served = _attack(daemon, BEGIN + b"DATA\r\n", 10 * SIZE_MAX)
    assert daemon.metrics().total("smtp_replies_total", code="552") == before + ATTACKERS
    assert grown <= ATTACKERS * 256 * 1024 + MEMORY_BUDGET + 4 * MIB, grown
    assert served < 5.0


def test_a_hundred_thousand_recipients_are_a_few_hundred_and_the_end(daemon: Daemon) -> None:
    base = resident_octets(daemon.pid)
    reset_resident_peak(daemon.pid)
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=DEADLINE) as connection:
        heard = b""
        connection.settimeout(DEADLINE)
        recipients = b"".join(b"RCPT TO:<r%d@hospital.example>\r\n" % n for n in range(100_000))

        def send() -> None:
            with contextlib.suppress(ConnectionError):
                connection.sendall(BEGIN + recipients)

        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send)
            with contextlib.suppress(ConnectionError):
                while piece := connection.recv(65536):
                    heard += piece
            sending.result()
    replies = [line[:3] for line in heard.splitlines() if line[3:4] == b" "]
    assert replies.count(b"452") > 1000
    assert replies.count(b"250") <= 1003
    assert replies[-1] == b"421"
    assert resident_peak_octets(daemon.pid) - base <= 4 * MIB
