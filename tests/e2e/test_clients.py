"""Story: the tools that administrators test mail with work against mailshed as they are."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import Item, send_lock_step
from tests.support.daemon import Daemon
from tests.support.debian import require
from tests.support.postfix import Postfix
from tests.support.processes import DEADLINE

SENDER = "someone@personal.example"
RECIPIENT = "everyone@hospital.example"
MAIL = (
    f"From: <{SENDER}>\r\nTo: <{RECIPIENT}>\r\nSubject: trial\r\n\r\n"
    ".a dot at the start of a line\r\n"
).encode()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Daemon, Postfix]]:
    """The proxy in front of Postfix."""
    with (
        Postfix() as server,
        Daemon(folder=tmp_path / "mailshed", backend_port=server.port) as daemon,
    ):
        yield daemon, server


def _run(*argv: str | Path) -> None:
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, f"{argv[0]}: {done.stdout}{done.stderr}"


def _the_only_delivery(server: Postfix) -> bytes:
    server.wait_delivered(1)
    (delivered,) = server.delivered()
    assert delivered.recipient == RECIPIENT
    return delivered.original


def test_swaks_delivers(servers: tuple[Daemon, Postfix], tmp_path: Path) -> None:
    daemon, server = servers
    file = tmp_path / "mail.txt"
    file.write_bytes(MAIL.replace(b"\r\n", b"\n"))
    swaks = require("swaks")
    _run(
        swaks,
        *("--server", f"127.0.0.1:{daemon.port}", "--pipeline", "--helo", "swaks.example"),
        *("--from", SENDER, "--to", RECIPIENT, "--data", f"@{file}"),
    )
    assert _the_only_delivery(server).startswith(MAIL.replace(b"\r\n", b"\n"))


def test_smtp_source_delivers(servers: tuple[Daemon, Postfix]) -> None:
    daemon, server = servers
    smtp_source = require("postfix", binary="smtp-source")
    _run(
        smtp_source,
        *("-m", "1", "-l", "20000", "-f", SENDER, "-t", RECIPIENT, f"127.0.0.1:{daemon.port}"),
    )
    assert _the_only_delivery(server).count(b"X") > 19_000


def test_curl_delivers(servers: tuple[Daemon, Postfix], tmp_path: Path) -> None:
    daemon, server = servers
    file = tmp_path / "mail.eml"
    file.write_bytes(MAIL)
    curl = require("curl")
    _run(
        curl,
        *("--silent", "--show-error", f"smtp://127.0.0.1:{daemon.port}/curl.example"),
        *("--mail-from", SENDER, "--mail-rcpt", RECIPIENT, "--upload-file", file),
    )
    assert _the_only_delivery(server) == MAIL.replace(b"\r\n", b"\n")


def test_smtplib_delivers(servers: tuple[Daemon, Postfix]) -> None:
    daemon, server = servers
    (reply,) = send_lock_step(daemon.port, [Item(sender=SENDER, recipient=RECIPIENT, wire=MAIL)])
    assert reply.startswith("250")
    assert _the_only_delivery(server) == MAIL.replace(b"\r\n", b"\n")
