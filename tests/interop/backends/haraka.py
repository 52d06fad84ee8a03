"""Haraka, with its own plugins but for the one that stores mail (haraka_keep.js)."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.haraka import VERSION, fetch
from tests.interop.backends.backend import Backend, Pair, take_files
from tests.interop.ways import BACKEND_WAYS, LOGIN, PASSWORD
from tests.support.debian import program
from tests.support.processes import Process, free_port

_KEEP = Path(__file__).with_name("haraka_keep.js")
_FILES = {
    "smtp.ini": "listen=127.0.0.1:{port}\nnodes=0\n",
    "plugins": "tls\nauth/flat_file\nrcpt_to.in_host_list\nkeep\n",
    "tls.ini": "key={key}\ncert={certificate}\n",
    "auth_flat_file.ini": "[core]\nmethods=PLAIN\n[users]\n{login}={password}\n",
    "host_list": "{domains}\n",
    "me": "haraka.hospital.example\n",
    "log.ini": "level=notice\n",
}


@contextmanager
def haraka(folder: Path, pair: Pair) -> Iterator[Backend]:
    """Start it."""
    port = free_port()
    binary = fetch()
    shutil.copytree(binary.parents[1] / "config", folder / "config")
    (folder / "plugins").mkdir()
    shutil.copy(_KEEP, folder / "plugins/keep.js")
    for name, text in _FILES.items():
        made = text.format(
            port=port,
            certificate=pair[0],
            key=pair[1],
            login=LOGIN,
            password=PASSWORD,
            domains="\n".join(way.domain for way in BACKEND_WAYS),
        )
        (folder / "config" / name).write_text(made)
    node = program("node")
    assert node is not None, "node is not installed"
    inbox = folder / "inbox"
    for name in ("tmp", "new"):
        (inbox / name).mkdir(parents=True)
    with Process(
        [node, binary, "-c", folder],
        folder / "haraka.log",
        cwd=folder,
        environment={"HARAKA_INBOX": str(inbox)},
    ) as process:
        process.wait_for_port(port)
        yield Backend(
            name="Haraka",
            version=VERSION,
            port=port,
            take=lambda: [each.replace(b"\r\n", b"\n") for each in take_files(inbox / "new")],
            log=lambda: process.log_text,
            encrypted=r"with ESMTPSA? .*TLS|\(version=TLS",
            authenticated=r"with ESMTPSA ",
        )
