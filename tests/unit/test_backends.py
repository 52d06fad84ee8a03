"""What there is once for each backend, and what is common to all."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailshed.backends import Backends, Common
from mailshed.clock import SystemClock
from mailshed.config.schema import Config
from mailshed.control.adaptive import AdaptiveLimit
from mailshed.control.limit import FixedLimit
from mailshed.linewriter import LineWriter
from mailshed.maillog import MailLog
from mailshed.metrics import Metrics, new_registry
from mailshed.relay.capabilities import Capabilities
from mailshed.relay.maildir import MaildirBackend
from mailshed.relay.smtp import SmtpBackend
from mailshed.statefile import StateFile

BACKENDS: list[dict[str, Any]] = [
    {
        "name": "north",
        "host": "mx.north.example",
        "domains": ["north.example"],
        "fallback": "main",
        "limit": "fixed",
        "in_flight_max": 7,
    },
    {"name": "main", "host": "127.0.0.1", "port": 2526, "in_flight_max": 40},
    {"name": "trial", "maildir": "trial", "domains": [".trial.example"]},
]


def no_failure(name: str, error: BaseException) -> None:
    raise AssertionError(name) from error


@pytest.fixture
def built(tmp_path: Path) -> Iterator[Backends]:
    config = Config.model_validate(
        {
            "version": 1,
            "hostname": "mx.example.org",
            "domains": ["example.net", "north.example"],
            "listeners": [{"name": "smtp", "bind": "127.0.0.1:0"}],
            "backends": BACKENDS,
            "spool": {"path": str(tmp_path / "spool"), "disk_reserve": "0B"},
            "metrics": {"bind": "127.0.0.1:0"},
        }
    )
    descriptor = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)
    maillog = MailLog(LineWriter(descriptor))
    common = Common(
        clock=SystemClock(),
        rng=random.Random(1),
        metrics=Metrics(new_registry()),
        maillog=maillog,
        capabilities=Capabilities(
            ["north", "main"],
            file=StateFile(tmp_path, "capabilities"),
            maillog=maillog,
            on_failure=no_failure,
        ),
        on_failure=no_failure,
    )
    yield Backends(config, common)
    os.close(descriptor)


def test_each_section_becomes_a_destination_of_its_own(built: Backends) -> None:
    north, main, trial = built.destinations.all
    assert (north.name, north.target, north.host) == (
        "north",
        "mx.north.example:25",
        "mx.north.example",
    )
    assert isinstance(north.backend, SmtpBackend)
    assert isinstance(trial.backend, MaildirBackend)
    assert (trial.prober, trial.host) == (None, "")
    assert isinstance(north.gate.station._limit, FixedLimit)
    assert isinstance(main.gate.station._limit, AdaptiveLimit)
    assert (north.gate.limit, main.gate.station.ceiling) == (7, 40)
    assert len({id(each.gate) for each in built.destinations}) == 3


def test_the_first_without_domains_is_the_default(built: Backends) -> None:
    destinations = built.destinations
    assert destinations.default.name == "main"
    assert destinations.taker_of("north.example").name == "north"
    assert destinations.taker_of("a.trial.example").name == "trial"
    assert destinations.taker_of("example.net").name == "main"


def test_a_server_has_security_and_a_memory_and_a_maildir_has_not(built: Backends) -> None:
    assert set(built.securities) == {"north", "main"}
    assert built.limit_picture("north") is None
    assert built.limit_picture("main") is not None
    paths = [each._file.path.name for each in built.memories]
    assert paths == ["limit-north.json", "limit-main.json", "limit-trial.json"]


def test_deliveries_teach_only_what_a_backend_can_know(built: Backends) -> None:
    north, main = built.verifiers._by_name["north"], built.verifiers._by_name["main"]
    assert north._cache is main._cache
    assert (north._serves("north.example"), north._serves("example.net")) == (True, False)
    assert main._serves("example.net")
    assert (north._name, main._name) == ("north", "main")


def test_a_server_that_greets_no_more_connections_says_so_to_its_own_limit(built: Backends) -> None:
    main = built.destinations.own("main")
    assert isinstance(main.backend, SmtpBackend)
    main.backend._pool._on_crowded(5)
    assert main.gate.station.ceiling == 5
    assert built.destinations.own("trial").gate.station.ceiling > 5
