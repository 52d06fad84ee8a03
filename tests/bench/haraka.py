"""Haraka, the other open source SMTP server that can stand before a mail server, as a peer.

It is fetched once with npm into tests/.cache, in one version and with dependencies no newer than a
date, so that two people measure the same. The configuration is the shipped one but for addresses
and the check of sender domains in the DNS: `rcpt_to.in_host_list` and `queue/smtp_forward`, which
hands each message to the backend while the client waits and passes on what the backend says. It has
no queue of its own in this set-up.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.support.debian import program
from tests.support.load import DOMAIN
from tests.support.npm import npm_package
from tests.support.processes import Process, free_port

VERSION = "3.1.1"
_BEFORE = "2026-03-01"

_FILES = {
    "smtp.ini": "listen=127.0.0.1:{port}\nnodes=0\n",
    "smtp_forward.ini": "host=127.0.0.1\nport={backend}\n",
    "host_list": f"{DOMAIN}\n",
    "plugins": "rcpt_to.in_host_list\nqueue/smtp_forward\n",
    "me": "haraka.hospital.example\n",
    "log.ini": "level=warn\n",
}


def fetch() -> Path:
    """The program, fetched if it is not there yet; raises NoPackageError."""
    return npm_package("Haraka", VERSION, before=_BEFORE) / "Haraka/bin/haraka"


@contextlib.contextmanager
def haraka(folder: Path, backend_port: int) -> Iterator[int]:
    """Haraka in front of the backend; its port."""
    with haraka_process(folder, backend_port) as (port, _):
        yield port


@contextlib.contextmanager
def haraka_process(folder: Path, backend_port: int) -> Iterator[tuple[int, Process]]:
    """The same; its port and its process."""
    port = free_port()
    binary = fetch()
    shutil.copytree(binary.parents[1] / "config", folder / "config")
    for name, text in _FILES.items():
        (folder / "config" / name).write_text(text.format(port=port, backend=backend_port))
    node = program("node")
    assert node is not None, "node is not installed"
    with Process([node, binary, "-c", folder], folder / "haraka.log", cwd=folder) as process:
        process.wait_for_port(port)
        yield port, process
