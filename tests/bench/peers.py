"""What mailshed is measured against, in the same run: nothing, a TCP proxy, and a mail relay.

- `sink`: the generator talks to the sink itself. The bound of the bench, not of mail.
- `haproxy`: HAProxy in TCP mode with one thread. It copies octets and knows no SMTP: the bound for
  anything that stands in between.
- `postfix`: Postfix as a relay to the sink. It stores each message before its 250 (fsync), so its
  promise is made on its own; mailshed in pass-through makes the same promise by waiting for the
  backend. It is the peer in *what is promised*, not in how.
- `mailshed`: pass-through, with a limit that is not reached.

Every peer has a port to send to and a session whose CPU time can be read.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.debian import program
from tests.support.postfix import Postfix
from tests.support.processes import Process, free_port


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Something that takes mail on `port` and hands it to the sink."""

    name: str
    port: int
    session: int
    """Session of all its processes, for their CPU time."""


_HAPROXY = """\
global
    nbthread 1
    maxconn 4000
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen smtp
    bind 127.0.0.1:{port}
    server sink 127.0.0.1:{sink}
"""


@contextlib.contextmanager
def haproxy(folder: Path, sink_port: int) -> Iterator[Peer]:
    """HAProxy in TCP mode in front of the sink."""
    port = free_port()
    configuration = folder / "haproxy.cfg"
    configuration.write_text(_HAPROXY.format(port=port, sink=sink_port))
    binary = program("haproxy")
    assert binary is not None, "haproxy is not installed"
    # -db: in the foreground and in one process.
    with Process([binary, "-db", "-f", configuration], folder / "haproxy.log") as process:
        process.wait_for_port(port)
        yield Peer(name="haproxy", port=port, session=process.pid)


@contextlib.contextmanager
def postfix(sink_port: int) -> Iterator[Peer]:
    """Postfix as a relay to the sink."""
    settings = {
        "virtual_mailbox_domains": "",
        "default_transport": "smtp",
        "relay_transport": "smtp",
        "relayhost": f"[127.0.0.1]:{sink_port}",
        "smtp_dns_support_level": "disabled",
        "initial_destination_concurrency": "20",
        "in_flow_delay": "0",
    }
    with Postfix(settings=settings) as server:
        yield Peer(name="postfix", port=server.port, session=server.pid)


@contextlib.contextmanager
def mailshed(folder: Path, sink_port: int) -> Iterator[Peer]:
    """Our own pass-through: the limit is far above the load's connections."""
    overrides = {
        "backends": [{"name": "sink", "host": "127.0.0.1", "port": sink_port, "in_flight_max": 200}]
    }
    with Daemon(folder=folder / "mailshed", backend_port=sink_port, overrides=overrides) as daemon:
        yield Peer(name="mailshed", port=daemon.port, session=daemon.pid)
