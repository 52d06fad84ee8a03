"""mailshed, everything on: classification, trace line, one log line a message, metrics.

- `mailshed`: with the sink behind it, a limit far above the load's connections, so that it is
  pass-through whatever it measures; with the backend away, mail is acknowledged once it is stored.
  Its metrics say afterwards that each message went that way and no other.
- `mailshed-adaptive`: the limit as shipped, which begins with four messages at a time and finds out
  what the sink can take. What it cannot pass on at once it may spool.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from tests.bench import loads
from tests.bench.peers.peer import Peer, Place
from tests.support.daemon import Daemon
from tests.support.processes import accepts, free_port

_IN_FLIGHT_MAX = 400
"""Twice the connections of the largest load."""


@contextlib.contextmanager
def pass_through(place: Place) -> Iterator[Peer]:
    """One that passes on all that comes, or keeps all of it if there is no backend."""
    is_away = not accepts(place.backend_port)
    limit = {"limit": "fixed", "in_flight_max": _IN_FLIGHT_MAX}
    with _daemon(place, limit) as daemon:

        def verify() -> None:
            metrics = daemon.metrics()
            wrong = "relayed" if is_away else "spooled"
            count = metrics.total("messages_accepted_total", disposition=wrong)
            assert metrics.total("messages_accepted_total"), "mailshed accepted nothing"
            assert count == 0, f"{count:g} messages were {wrong}:\n{daemon.log_tail}"

        yield _peer(loads.MAILSHED, daemon, verify)


@contextlib.contextmanager
def as_shipped(place: Place) -> Iterator[Peer]:
    """One with the limit that it has by default."""
    with _daemon(place, {}) as daemon:
        yield _peer(loads.ADAPTIVE, daemon, lambda: None)


def _daemon(place: Place, limit: dict[str, Any]) -> Daemon:
    backend = {"name": "backend", "host": "127.0.0.1", "port": place.backend_port, **limit}
    port, starttls_port, tls_port = free_port(), free_port(), free_port()
    listeners = [
        {"name": "smtp", "bind": f"127.0.0.1:{port}"},
        {"name": "starttls", "bind": f"127.0.0.1:{starttls_port}", "tls": "starttls"},
        {"name": "smtps", "bind": f"127.0.0.1:{tls_port}", "tls": "implicit"},
    ]
    overrides = {
        "backends": [backend],
        "listeners": listeners,
        "tls": {
            "certificate": str(place.certificate),
            "key": str(place.key),
            "handshakes_per_network": 64,  # all connections come from one address
        },
        # As shipped: the daemon of the tests retries within seconds.
        "spool": {"retry_min": "30s", "retry_max": "15m"},
    }
    return Daemon(
        folder=place.folder, backend_port=place.backend_port, overrides=overrides, port=port
    )


def _peer(name: str, daemon: Daemon, verify: Callable[[], None]) -> Peer:
    _, starttls_port, tls_port = (
        int(each["bind"].rpartition(":")[2]) for each in daemon.configuration["listeners"]
    )
    return Peer(
        name=name,
        port=daemon.port,
        starttls_port=starttls_port,
        tls_port=tls_port,
        session=daemon.pid,
        verify=verify,
    )
