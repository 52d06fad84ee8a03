"""Haraka, the other open source SMTP server that can stand before a mail server, as a peer.

It is fetched once with npm into tests/.cache, in one version and with dependencies no newer than a
date, so that two people measure the same. The configuration is the shipped one but for addresses
and the check of sender domains in the DNS: `rcpt_to.in_host_list` and `queue/smtp_forward`, which
hands each message to the backend while the client waits and passes on what the backend says. It has
no queue of its own in this set-up.
"""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.debian import program
from tests.support.load import DOMAIN
from tests.support.processes import Process, free_port

VERSION = "3.1.1"
_BEFORE = "2026-03-01"
_FOLDER = Path(__file__).parents[1] / f".cache/haraka-{VERSION}"
_FETCH_SECONDS = 300.0

_FILES = {
    "smtp.ini": "listen=127.0.0.1:{port}\nnodes=0\n",
    "smtp_forward.ini": "host=127.0.0.1\nport={backend}\n",
    "host_list": f"{DOMAIN}\n",
    "plugins": "rcpt_to.in_host_list\nqueue/smtp_forward\n",
    "me": "haraka.hospital.example\n",
    "log.ini": "level=warn\n",
}


class NoHarakaError(Exception):
    """It cannot be had; the text says why."""


def fetch() -> Path:
    """The program, fetched if it is not there yet; raises NoHarakaError."""
    binary = _FOLDER / "node_modules/Haraka/bin/haraka"
    if binary.exists():
        return binary
    npm = program("npm")
    if npm is None or program("node") is None:
        raise NoHarakaError("npm is missing: apt-get install npm")
    _FOLDER.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_FOLDER.parent) as folder:
        try:
            subprocess.run(
                [
                    *(npm, "install", "--prefix", folder, f"--before={_BEFORE}", "--silent"),
                    *("--no-audit", "--no-fund", "--omit=optional", "--ignore-scripts"),
                    f"Haraka@{VERSION}",
                ],
                check=True,
                capture_output=True,
                text=True,
                timeout=_FETCH_SECONDS,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise NoHarakaError(f"Haraka cannot be fetched with npm: {error}") from error
        Path(folder).rename(_FOLDER)
        Path(folder).mkdir()  # for the end of the block, which removes it
    return binary


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
