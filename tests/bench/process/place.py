"""The daemon under measurement, its mail server, and where it listens.

Everything is as it is shipped, but for the caps on sessions, since all the bench's clients live on
one host, and for the limit on the mail server, which is fixed and not reached: an adaptive one that
begins low would have mail spooled where the measurement is about passing it on.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.siege.favour import favour
from tests.bench.tools import Sink
from tests.support.certificates import make_authority
from tests.support.daemon import Daemon
from tests.support.processes import free_port

SPILL = 1024 * 1024
"""What a message may have in memory (limits.content_memory_per_message), as shipped."""
SESSIONS_MAX = 16_000
"""So that 10,000 are no stress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One daemon; its mail server is there from the start, or comes with `sink_port`."""

    daemon: Daemon
    starttls_port: int
    implicit_port: int
    sink_port: int
    beats: Path
    """What the probe has written, if there is one."""


@contextmanager
def place(
    folder: Path,
    *,
    is_spooling: bool = False,
    with_probe: bool = False,
    with_stacks: bool = False,
) -> Iterator[Place]:
    """Start it. While it is spooling, nobody is at `sink_port`."""
    folder.mkdir(parents=True)
    ports = [free_port() for _ in range(3)]
    beats = folder / "beats"
    probe = ("tests.bench.process.probe", str(beats), "stacks" if with_stacks else "none")
    with ExitStack() as stack:
        sink = None if is_spooling else stack.enter_context(Sink(folder))
        sink_port = free_port() if sink is None else sink.port
        daemon = stack.enter_context(
            Daemon(
                folder=folder / "mailshed",
                backend_port=sink_port,
                overrides=_overrides(ports, sink_port, folder / "certificates"),
                port=ports[0],
                program=probe if with_probe else ("mailshed",),
            )
        )
        favour(os.getpid(), daemon.pid, *([] if sink is None else [sink.pid]))
        yield Place(
            daemon=daemon,
            starttls_port=ports[1],
            implicit_port=ports[2],
            sink_port=sink_port,
            beats=beats,
        )


def _overrides(ports: list[int], sink_port: int, folder: Path) -> dict[str, Any]:
    certificate, key = make_authority(folder).issue()
    modes = (("smtp", "none"), ("starttls", "starttls"), ("smtps", "implicit"))
    return {
        "listeners": [
            {"name": name, "bind": f"127.0.0.1:{port}", "tls": tls}
            for (name, tls), port in zip(modes, ports, strict=True)
        ],
        "backends": [
            {
                "name": "sink",
                "host": "127.0.0.1",
                "port": sink_port,
                "in_flight_max": 300,
                "limit": "fixed",
            }
        ],
        "tls": {
            "certificate": str(certificate),
            "key": str(key),
            "handshakes_max": 1_000,
            "handshakes_per_network": 500,
        },
        "trusted_networks": ["127.0.0.1/32"],
        "limits": {
            "content_memory_per_message": f"{SPILL}B",
            "sessions_max": SESSIONS_MAX,
            "sessions_per_trusted_address": SESSIONS_MAX,
        },
    }
