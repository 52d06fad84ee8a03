"""What is built from which configuration, and that the parts know each other."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailshed.config.schema import Config
from mailshed.control.adaptive import AdaptiveLimit
from mailshed.control.limit import FixedLimit
from mailshed.linewriter import LineWriter
from mailshed.parts import Parts
from mailshed.relay.maildir import MaildirBackend
from mailshed.relay.presets import EXCHANGE
from mailshed.relay.smtp import SmtpBackend
from mailshed.spool.store import ClassTotals, SpoolTotals
from mailshed.systemd import Notifier
from mailshed.terms import ClientKind, Reason, SpoolState
from tests.support.overrides import hold, in_force, level

EXCH = {"name": "exch", "host": "127.0.0.1", "port": 2526}


async def no_reload() -> str:
    return "nothing"


class Workshop:
    """Builds parts that log to a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self._descriptor = os.open(self.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self.sink = LineWriter(self._descriptor)

    def config(self, **changes: Any) -> Config:
        """A configuration on loopback with whole sections replaced."""
        base: dict[str, Any] = {
            "version": 1,
            "hostname": "mx.example.org",
            "domains": ["example.net"],
            "listeners": [{"name": "smtp", "bind": "127.0.0.1:0"}],
            "backends": [EXCH],
            "spool": {"path": str(self.folder / "spool"), "disk_reserve": "0B"},
            "metrics": {"bind": "127.0.0.1:0"},
        }
        return Config.model_validate(base | changes)

    def build(self, **changes: Any) -> Parts:
        """Build the parts of such a configuration."""
        config, notifier = self.config(**changes), Notifier({}, send=lambda _: None)
        return Parts(config, reload=no_reload, sink=self.sink, notifier=notifier)

    def backend(self, **settings: Any) -> Parts:
        """Build with these settings of the backend."""
        return self.build(backends=[EXCH | settings])

    @property
    def lines(self) -> list[str]:
        """What has been logged."""
        self.sink.flush()
        return self.log.read_text().splitlines()

    def close(self) -> None:
        """Give the file back."""
        os.close(self._descriptor)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path)
    yield made
    made.close()


def test_building_does_no_io_and_starts_nothing(shop: Workshop) -> None:
    threads = threading.enumerate()
    shop.build()
    assert [path.name for path in shop.folder.iterdir()] == ["log"]
    assert threading.enumerate() == threads
    assert shop.lines == []


class TestLimit:
    def test_adapts_between_its_bounds_and_is_remembered(self, shop: Workshop) -> None:
        parts = shop.backend(in_flight_max=40, in_flight_min=3)
        first = parts.destinations.default
        assert isinstance(first.gate.station._limit, AdaptiveLimit)
        picture = parts.backends.limit_picture("exch")
        assert picture is not None
        assert (picture.limit, first.gate.limit) == (3, 3), "it knows nothing yet"
        assert first.gate.station.ceiling == 40

    def test_is_fixed_and_has_nothing_to_remember(self, shop: Workshop) -> None:
        parts = shop.backend(limit="fixed", in_flight_max=12)
        first = parts.destinations.default
        assert isinstance(first.gate.station._limit, FixedLimit)
        assert first.gate.limit == 12
        assert parts.backends.limit_picture("exch") is None

    def test_hears_of_a_server_that_greets_no_more_connections(self, shop: Workshop) -> None:
        parts = shop.backend(in_flight_max=40)
        first = parts.destinations.default
        assert isinstance(first.backend, SmtpBackend)
        first.backend._pool._on_crowded(5)
        assert first.gate.station.ceiling == 5


class TestBackend:
    def test_a_server_is_probed_and_asked(self, shop: Workshop) -> None:
        parts = shop.backend(preset="exchange")
        first = parts.destinations.default
        assert isinstance(first.backend, SmtpBackend)
        assert first.prober is not None
        assert first.gate.station.breaker.can_ask
        assert first.gate._preset is EXCHANGE
        assert parts.verifier._first._call_ahead is not None
        assert (first.name, first.target) == ("exch", "127.0.0.1:2526")

    def test_a_maildir_is_not(self, shop: Workshop) -> None:
        path = shop.folder / "maildir"
        parts = shop.build(backends=[{"name": "trial", "maildir": str(path)}])
        first = parts.destinations.default
        assert isinstance(first.backend, MaildirBackend)
        assert first.prober is None
        assert not first.gate.station.breaker.can_ask
        assert parts.verifier._first._call_ahead is None
        assert (first.name, first.target) == ("trial", f"Maildir {path}")


@pytest.mark.parametrize("mode", ["observe", "enforce"])
def test_the_mode_is_that_of_gate_and_entrance(shop: Workshop, mode: str) -> None:
    parts = shop.build(mode=mode)
    first = parts.destinations.default
    is_observing = mode == "observe"
    assert first.gate.is_observing is is_observing
    assert parts.pipeline.policies.admission.is_observing is is_observing


def test_live_and_spooled_mail_share_gate_backend_and_spool(shop: Workshop) -> None:
    parts = shop.build()
    drainer, pipeline = parts.drainer, parts.pipeline
    assert drainer._destinations is pipeline._destinations is parts.destinations
    assert drainer._spool is pipeline._adopter.spool is parts.spool


def test_a_message_is_screened_and_let_in_by_the_same_rules(shop: Workshop) -> None:
    parts = shop.build()
    screening, pipeline = parts.screening, parts.pipeline
    assert screening.policies is pipeline.policies
    assert screening._entrance is pipeline._entrance is parts.entrance
    assert screening._destinations is pipeline._destinations


def test_the_classes_that_wait_at_a_level_are_those_of_the_configuration(shop: Workshop) -> None:
    parts = shop.build()
    first = parts.destinations.default
    classes = first.gate.station.shedding.classes
    assert [each.name for each in classes] == [each.name for each in shop.config().classes]


def test_each_listener_has_its_kind_of_clients(shop: Workshop) -> None:
    listeners = [
        {"name": "smtp", "bind": "127.0.0.1:0"},
        {"name": "people", "bind": "127.0.0.1:0", "clients": "user_agent"},
    ]
    parts = shop.build(listeners=listeners)
    assert parts.handler._client_kinds == {
        "smtp": ClientKind.MTA,
        "people": ClientKind.USER_AGENT,
    }


def test_every_class_has_its_series_before_there_is_mail(shop: Workshop) -> None:
    parts = shop.build()
    registry = parts.metrics.registry
    for each in shop.config().classes:
        labels = {"class": each.name, "disposition": "relayed"}
        assert registry.get_sample_value("mailshed_messages_accepted_total", labels) == 0


def test_the_admin_verb_reloads_what_the_service_reloads(shop: Workshop) -> None:
    assert shop.build().operations._commands.reload is no_reload


def test_a_failed_task_is_counted_and_logged(shop: Workshop) -> None:
    parts = shop.build()
    parts.task_failed("drain Q1", ValueError("bad luck"))
    assert parts.status.tasks_failed == 1
    (line,) = shop.lines
    assert 'event=task_failed task="drain Q1" error="ValueError(\'bad luck\')"' in line


def test_lines_that_were_lost_are_told(shop: Workshop) -> None:
    shop.build()
    assert shop.sink.on_recovered is not None
    shop.sink.on_recovered(7)
    assert shop.lines[0].endswith(" warning - event=lines_dropped lines=7")


async def test_overrides_reach_the_gate_and_the_drain(shop: Workshop) -> None:
    parts = shop.build()
    first = parts.destinations.default
    overrides = in_force(hold("bulk"), level(2))
    parts.drainer._next_look = 1e9
    parts.overrides._on_change(overrides)
    assert first.gate.station.shedding.overrides is overrides
    assert parts.drainer._next_look < 1e9, "the drain looks again, as classes may be free"


@pytest.mark.parametrize(("mode", "is_due"), [("enforce", False), ("observe", True)])
async def test_mail_that_is_held_is_not_due_unless_only_observing(
    shop: Workshop, mode: str, *, is_due: bool
) -> None:
    parts = shop.build(mode=mode)
    assert not parts._has_due_mail(parts.destinations.default)
    bulk = ClassTotals(
        traffic_class="bulk",
        state=SpoolState.QUEUED,
        messages=1,
        recipients=1,
        octets=100,
        oldest_wall=0.0,
    )
    parts.status.totals = SpoolTotals(by_class=(bulk,))
    assert parts._has_due_mail(parts.destinations.default)
    parts.overrides.current = in_force(hold("bulk"))
    assert parts._has_due_mail(parts.destinations.default) is is_due


def test_mail_is_shed_if_it_is_spooled_for_load_and_not_for_a_backend_away(shop: Workshop) -> None:
    parts = shop.build()
    for reason in (Reason.SATURATED, Reason.DIVERTED, Reason.OVERRIDE, Reason.BACKEND_AWAY):
        parts.metrics.decision("bulk", "spool", reason)
    parts.metrics.decision("bulk", "defer", Reason.SPOOL_FULL)
    totals = parts._message_totals("bulk")
    assert (totals.shed, totals.deferred) == (3, 1)
    assert parts._message_totals("clinical").shed == 0
