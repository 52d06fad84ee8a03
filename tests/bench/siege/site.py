"""The site under attack: the daemon, its mail server, and the mail of a usual hour.

Clients have loopback addresses: the laboratory's network is clinical, the wards' and the VPN's are
trusted, mail from outside comes from a stranger. Attackers are strangers, from 127.1 on.

The mail is open-loop: 40 messages a second, each over its own connection, half of them clinical so
that a percentile of those means something. The mail server is the bench's sink, which takes no time
of its own: whatever a client waits for, it waits for us.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.tools import Sink
from tests.support.certificates import make_authority
from tests.support.daemon import Daemon
from tests.support.load import Load, poisson
from tests.support.processes import free_port

CLINICAL = "clinical"
MIX = {CLINICAL: 0.5, "personal": 0.2, "telework": 0.15, "bulk": 0.15}
SOURCES = {
    CLINICAL: "127.0.9.1",
    "personal": "127.0.11.1",
    "telework": "127.0.10.1",
    "bulk": "127.0.12.1",
}
RATE = 40.0
OCTETS = 4096


@dataclass(frozen=True, slots=True)
class Site:
    """Where it listens."""

    daemon: Daemon
    tls_port: int
    sink_pid: int

    def load(self, seconds: float, seed: int = 1, rate: float = RATE) -> Load:
        """Begin the mail of so many seconds."""
        messages = poisson(rate, seconds, MIX, seed, octets=OCTETS)
        return Load(self.daemon.port, messages, sources=SOURCES).start()


def overrides(
    port: int, tls_port: int, folder: Path, *, limits: Mapping[str, Any], tls: Mapping[str, Any]
) -> dict[str, Any]:
    """What differs from the daemon of other tests, beside these limits and settings of TLS."""
    certificate, key = make_authority(folder).issue()
    return {
        "listeners": [
            {"name": "smtp", "bind": f"127.0.0.1:{port}"},
            {"name": "smtps", "bind": f"127.0.0.1:{tls_port}", "tls": "implicit"},
        ],
        "tls": {"certificate": str(certificate), "key": str(key), **tls},
        "limits": dict(limits),
        "trusted_networks": ["127.0.9.0/24", "127.0.10.0/24", "127.0.11.0/24"],
        "classification": {
            "networks": {"laboratory": ["127.0.9.0/24"], "vpn": ["127.0.10.0/24"]},
            "rules": [
                {"name": "laboratory", "class": CLINICAL, "client_networks": ["laboratory"]},
                {"name": "vpn", "class": "telework", "client_networks": ["vpn"]},
            ],
        },
    }


@contextmanager
def site(folder: Path, limits: Mapping[str, Any], tls: Mapping[str, Any]) -> Iterator[Site]:
    """Start it, with these settings of both sections and otherwise as it is shipped."""
    folder.mkdir(parents=True)
    port, tls_port = free_port(), free_port()
    with Sink(folder) as sink:
        changes = overrides(port, tls_port, folder / "certificates", limits=limits, tls=tls)
        with Daemon(
            folder=folder / "mailshed", backend_port=sink.port, overrides=changes, port=port
        ) as daemon:
            yield Site(daemon, tls_port, sink.pid)
