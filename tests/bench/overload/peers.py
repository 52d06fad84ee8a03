"""What stands before the mail server, each as a person would set it up.

- `direct`: nothing. The clients speak with the server itself.
- `postfix`: a Postfix relay with its defaults; it says 250 and queues.
- `postfix-tuned`: the best that we could make of Postfix. Each class is known by the domain of its
  sender and has a transport of its own (`sender_dependent_default_transport_maps`), each transport
  a concurrency: clinical mail as much as the server has, personal mail half of that, telework and
  bulk together exactly that, by their volume. So while all is well the server has a little more
  than it can do at a time and never idles. Deferred mail is tried again after 30 s instead of 300.
- `haraka`: `queue/smtp_forward`, its shipped way to a mail server; the client waits meanwhile.
- `mailshed-fixed`: may hand over as many messages at a time as the server can serve, a number that
  somebody has to know. `mailshed-adaptive`: finds it out; all else is as shipped.

Nobody is told when the server weakens.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Literal

from mailshed.config.back import Backend as BackendSection
from tests.bench.haraka import haraka
from tests.bench.overload.plan import MIX
from tests.support.daemon import Daemon
from tests.support.load import CLASS_SENDERS
from tests.support.postfix import Postfix
from tests.support.processes import free_port

DIRECT, POSTFIX, POSTFIX_TUNED, HARAKA = "direct", "postfix", "postfix-tuned", "haraka"
FIXED, ADAPTIVE = "mailshed-fixed", "mailshed-adaptive"

_SMTPD_PROCESSES = 100  # Postfix's default_process_limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Something that takes mail on `port`."""

    port: int
    is_done: Callable[[], bool] = lambda: True
    """Whether its own queue is empty; asking may cost it something."""
    daemon: Daemon | None = None
    """mailshed itself, for a look at its metrics."""


Limit = Literal["fixed", "adaptive"]
LIMITS: Mapping[str, Limit] = {FIXED: "fixed", ADAPTIVE: "adaptive"}
"""The peers that are mailshed."""

Start = Callable[[Path, int, int], AbstractContextManager[Peer]]
"""Takes a folder, the port of the mail server, and how many messages that serves at a time."""


@contextlib.contextmanager
def _direct(_folder: Path, backend_port: int, _servers: int) -> Iterator[Peer]:
    yield Peer(port=backend_port)


def _relay_settings(backend_port: int) -> dict[str, str]:
    """A relay to the server, with defaults where the Postfix of the tests has others."""
    return {
        "virtual_mailbox_domains": "",
        "default_transport": "smtp",
        "relay_transport": "smtp",
        "relayhost": f"[127.0.0.1]:{backend_port}",
        "smtp_dns_support_level": "disabled",
        "minimal_backoff_time": "300s",
        "queue_run_delay": "300s",
    }


@contextlib.contextmanager
def _postfix(_folder: Path, backend_port: int, _servers: int) -> Iterator[Peer]:
    settings = _relay_settings(backend_port)
    with Postfix(settings=settings, smtpd_processes=_SMTPD_PROCESSES) as relay:
        yield Peer(port=relay.port, is_done=lambda: relay.is_queue_empty)


def class_concurrencies(servers: int) -> dict[str, int]:
    """Connections of each class's transport of a tuned Postfix."""
    low = MIX["telework"] + MIX["bulk"]
    bulk = max(1, round(servers * MIX["bulk"] / low))
    return {
        "clinical": servers,
        "personal": ceil(servers / 2),
        "telework": max(1, servers - bulk),
        "bulk": bulk,
    }


@contextlib.contextmanager
def _postfix_tuned(_folder: Path, backend_port: int, servers: int) -> Iterator[Peer]:
    settings = _relay_settings(backend_port) | {
        "minimal_backoff_time": "30s",
        "queue_run_delay": "30s",
        # A connection that is kept for the next message keeps a process of the server busy.
        "smtp_connection_cache_on_demand": "no",
    }
    services = transports = ""
    for name, connections in class_concurrencies(servers).items():
        services += f"{name} unix - - n - {connections} smtp\n"
        domain = CLASS_SENDERS[name].partition("@")[2]
        transports += f"{{ @{domain} = {name}:[127.0.0.1]:{backend_port} }} "
        settings[f"{name}_destination_concurrency_limit"] = str(connections)
        settings[f"{name}_initial_destination_concurrency"] = str(connections)
    settings["sender_dependent_default_transport_maps"] = f"inline:{{ {transports}}}"
    settings["relayhost"] = ""
    with Postfix(settings=settings, services=services, smtpd_processes=_SMTPD_PROCESSES) as relay:
        yield Peer(port=relay.port, is_done=lambda: relay.is_queue_empty)


@contextlib.contextmanager
def _haraka(folder: Path, backend_port: int, _servers: int) -> Iterator[Peer]:
    with haraka(folder, backend_port) as port:
        yield Peer(port=port)


def mailshed(kind: Limit, folder: Path, backend_port: int, servers: int) -> Daemon:
    """A mailshed that has not been started; the simulator gets its configuration as well."""
    backend: dict[str, Any] = {"name": "server", "host": "127.0.0.1", "port": backend_port}
    if kind == "fixed":
        backend["in_flight_max"] = servers
    if has_adaptive():
        backend["limit"] = kind
    port = free_port()
    overrides = {
        "backends": [backend],
        "listeners": [{"name": "submission", "bind": f"127.0.0.1:{port}", "clients": "user_agent"}],
        # As shipped: the daemon of the tests retries within seconds.
        "spool": {"retry_min": "30s", "retry_max": "15m"},
    }
    return Daemon(folder=folder, backend_port=backend_port, overrides=overrides, port=port)


@contextlib.contextmanager
def _mailshed(kind: Limit, folder: Path, backend_port: int, servers: int) -> Iterator[Peer]:
    with mailshed(kind, folder, backend_port, servers) as daemon:

        def is_done() -> bool:
            scrape = daemon.metrics()
            return not (scrape.total("queue_messages") or scrape.total("backend_in_flight"))

        yield Peer(port=daemon.port, is_done=is_done, daemon=daemon)


def has_adaptive() -> bool:
    """Whether this mailshed has a limit that adapts."""
    return "limit" in BackendSection.model_fields


PEERS: Mapping[str, Start] = {
    DIRECT: _direct,
    POSTFIX: _postfix,
    POSTFIX_TUNED: _postfix_tuned,
    HARAKA: _haraka,
    FIXED: functools.partial(_mailshed, "fixed"),
    ADAPTIVE: functools.partial(_mailshed, "adaptive"),
}
