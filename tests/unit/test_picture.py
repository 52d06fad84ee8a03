"""One picture of the service: every part is in it, also when the spool cannot say what it holds."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from mailshed import __version__
from mailshed.control.breaker import FAILURES_TO_OPEN
from mailshed.control.divert import Situation
from mailshed.control.signals.event_loop import EventLoopLag
from mailshed.control.signals.process import ProcessUsage
from mailshed.mail.reply import make
from mailshed.metrics import Snapshot, Totals, Usage
from mailshed.metrics.labels import RESOURCES
from mailshed.picture import (
    TOTALS_PATIENCE,
    Painter,
    Status,
)
from mailshed.spool.store import SpoolTotals
from tests.support.builders import BULK, CLASSES, CLINICAL, WALL, spool_record
from tests.support.fake_backend import be_away, defer
from tests.support.middle import Middle, hold_slots
from tests.support.virtual_time import in_virtual_time, settle_down, until


class Studio:
    """A painter in front of the middle of a service."""

    def __init__(self, folder: Path) -> None:
        self.middle = Middle(folder)
        self.sessions = 3
        self.process = ProcessUsage()
        self.totals: dict[str, Totals] = {}
        self.status = Status(
            hostname="mx.example.org",
            config_hash="abc",
            config_loaded_wall=WALL - 10,
            started_wall=WALL - 20,
            sessions_max=10,
        )
        middle = self.middle
        self.painter = Painter(
            status=self.status,
            destinations=middle.destinations,
            entrance=middle.entrance,
            spool=middle.spool,
            contents=middle.contents,
            classification=lambda: middle.policies.classifier.policy,
            sessions=lambda: self.sessions,
            lines_dropped=lambda: 5,
            message_totals=lambda name: self.totals.get(
                name, Totals(relayed=len(name), spooled=1, drained=2)
            ),
            process=lambda _now: self.process,
            is_stressed=lambda: False,
            clock=middle.clock,
            held_mailboxes=lambda: middle.drainer.held_mailboxes,
            retry_tokens=lambda: middle.drainer.retry_tokens,
        )
        self.lag = EventLoopLag(0.25)

    async def take(self) -> Snapshot:
        return await self.painter.take(self.lag)


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


@in_virtual_time
async def test_idle_is_0_everywhere_and_every_resource_is_there(studio: Studio) -> None:
    studio.sessions = 0
    snapshot = await studio.take()
    assert set(snapshot.saturation) == set(RESOURCES)
    assert set(snapshot.saturation.values()) == {0.0}
    assert snapshot.spool.is_healthy
    assert snapshot.backends[0].is_up
    assert (snapshot.version, snapshot.made_at, snapshot.wall) == (__version__, 0.0, WALL)


@in_virtual_time
async def test_shows_what_the_composition_root_knows(studio: Studio) -> None:
    studio.status.listeners = ("smtp 127.0.0.1:25",)
    studio.status.reload_ok = False
    studio.status.is_stopping = True
    studio.status.tasks_failed = 4
    snapshot = await studio.take()
    assert snapshot.hostname == "mx.example.org"
    assert (snapshot.config_hash, snapshot.config_loaded_wall) == ("abc", WALL - 10)
    assert snapshot.started_wall == WALL - 20
    assert (snapshot.reload_ok, snapshot.is_stopping) == (False, True)
    assert (snapshot.tasks_failed_total, snapshot.log_lines_dropped_total) == (4, 5)
    assert snapshot.sessions == Usage(used=3, limit=10)
    assert snapshot.listeners == ("smtp 127.0.0.1:25",)


@in_virtual_time
async def test_shows_what_holds_the_drain_back(studio: Studio) -> None:
    calm = await studio.take()
    assert calm.held_mailboxes == Usage(used=0, limit=10_000)
    assert calm.retry_tokens == Usage(used=200, limit=200)
    middle = studio.middle
    middle.backend.always(defer(make(452, "4.2.2 Mailbox full")))
    await middle.keep(spool_record(attempts=1))
    async with middle.draining():
        await until(lambda: middle.backend.asked)
        await settle_down()
        assert (await studio.take()).held_mailboxes.used == 1


@in_virtual_time
async def test_shows_who_is_with_the_backend_and_who_waits(studio: Studio) -> None:
    middle = studio.middle
    holders = await hold_slots(middle, 4)
    waits = middle.supervisor.spawn(middle.submit(names="telework"), "waits")
    await settle_down()
    snapshot = await studio.take()
    (backend,) = snapshot.backends
    assert (backend.name, backend.target) == ("fake", "fake:25")
    assert (backend.in_flight, backend.limit, backend.waiting) == (4, 4, 1)
    assert (backend.connections_busy, backend.connections_idle) == (4, 1)
    assert (backend.connections_opened_total, backend.connections_failed_total) == (7, 2)
    assert snapshot.saturation["backend_slots"] == 1.0
    classes = {each.name: each for each in snapshot.classes}
    assert [each.rank for each in snapshot.classes] == sorted(
        each.rank for each in snapshot.classes
    )
    assert (classes["clinical"].in_flight, classes["telework"].waiting) == (4, 1)
    assert (classes["bulk"].relayed_total, classes["bulk"].delivered_total) == (4, 2)
    assert classes["clinical"].objective_seconds == 10
    assert snapshot.content_memory.used > 0
    middle.backend.before_dot.set()
    await asyncio.gather(*holders, waits)
    assert (await studio.take()).content_memory.used == 0


@in_virtual_time
async def test_a_backend_that_is_away_counts_as_full(studio: Studio) -> None:
    middle = studio.middle
    middle.backend.always(be_away)
    for _ in range(FAILURES_TO_OPEN):
        await middle.submit()
    snapshot = await studio.take()
    (backend,) = snapshot.backends
    assert not backend.is_up
    assert (backend.breaker, backend.stuck_senders) == ("open", 0)
    assert backend.endings == {"refused": FAILURES_TO_OPEN}
    assert backend.in_flight == 0
    assert backend.next_probe_seconds > 0
    assert backend.last_error == "connect: connection refused"
    assert snapshot.saturation["backend_slots"] == 1.0
    assert snapshot.saturation["backend"] == 1.0
    assert snapshot.binding == "backend"
    assert snapshot.service_saturation == 1.0


@in_virtual_time
async def test_slots_that_are_all_in_use_bind_nothing_by_themselves(studio: Studio) -> None:
    holders = await hold_slots(studio.middle, 4)
    snapshot = await studio.take()
    assert snapshot.saturation["backend_slots"] == 1.0
    assert snapshot.binding not in ("backend_slots", "live_waiting")
    studio.middle.backend.before_dot.set()
    await asyncio.gather(*holders)


@in_virtual_time
async def test_shows_what_is_kept_back_and_how_hard_pressed_the_service_is(
    studio: Studio,
) -> None:
    shedding = studio.middle.gate.station.shedding
    for second in range(10):
        shedding.divert.tick(float(second), Situation(CLASSES, None, 0.0, (), (), {"bulk"}))
        shedding.note_saturation(1.0, float(second), is_away=False)
    await studio.middle.keep(spool_record(names=BULK))
    snapshot = await studio.take()
    kept = {each.name: each.kept_back for each in snapshot.classes}
    assert kept == {"clinical": "", "personal": "", "telework": "", "bulk": "diverted"}
    assert snapshot.pressure == shedding.pressure.value > 0.9
    assert (snapshot.shed_level, snapshot.derived_level) == (2, 2)
    bulk = snapshot.classes[-1]
    assert (bulk.load, bulk.headroom, bulk.drain_seconds) == (None, 1.0, None)
    assert snapshot.classes[0].drain_seconds == 0.0
    assert snapshot.backends[0].drain_slots == 1


@in_virtual_time
async def test_shows_the_slow_replies(studio: Studio) -> None:
    painter = replace(studio.painter, slow_replies=lambda: (Usage(used=2, limit=9), 17))
    snapshot = await painter.take(studio.lag)
    assert (snapshot.slow_replies, snapshot.slow_replies_total) == (Usage(used=2, limit=9), 17)


@in_virtual_time
async def test_shows_what_the_spool_holds_and_how_old_it_is(studio: Studio) -> None:
    middle = studio.middle
    await middle.keep(spool_record("a@example.net", "b@example.net", wall=WALL - 100), b"x" * 10)
    await middle.keep(spool_record(names=BULK, wall=WALL - 500), b"x" * 20)
    await middle.keep(spool_record(names=BULK, wall=WALL - 50), b"x" * 30)
    snapshot = await studio.take()
    classes = {each.name: each for each in snapshot.classes}
    bulk = classes["bulk"]
    assert (bulk.queued_messages, bulk.queued_octets, bulk.oldest_age_seconds) == (2, 50, 500)
    assert classes[CLINICAL.name].oldest_age_seconds == 0
    assert (snapshot.spool.messages, snapshot.spool.octets) == (3, 60)
    assert snapshot.spool.ledger["personal"] == {"accepted": 2}
    assert {(row.traffic_class, row.state, row.recipients) for row in snapshot.spool.queues} == {
        ("personal", "queued", 2),
        ("bulk", "queued", 2),
    }


@in_virtual_time
async def test_mail_that_waits_for_a_person_is_not_late(studio: Studio) -> None:
    """It is counted, and has alarms of its own."""
    held = spool_record(names=BULK, wall=WALL - 9000)
    await studio.middle.keep(held)
    await studio.middle.keep(spool_record(names=BULK, wall=WALL - 50))
    await studio.middle.spool.quarantine(held.queue_id)
    (bulk,) = (each for each in (await studio.take()).classes if each.name == "bulk")
    assert (bulk.queued_messages, bulk.oldest_age_seconds) == (2, 50)


@in_virtual_time
async def test_says_what_became_of_each_class_lately(studio: Studio) -> None:
    studio.totals["bulk"] = Totals()
    await studio.take()
    await asyncio.sleep(60)
    await studio.middle.keep(spool_record(names=BULK))
    studio.totals["bulk"] = Totals(relayed=60, spooled=120, shed=90, drained=30, late=5, deferred=2)
    bulk = next(each for each in (await studio.take()).classes if each.name == "bulk")
    recent = bulk.recent
    assert (recent.accepted_rate, recent.delivered_rate, recent.shed_rate) == (3.0, 1.5, 1.5)
    assert recent.queue_rate == pytest.approx(1 / 60)
    assert (recent.hour_delivered, recent.hour_spooled) == (90, 120)
    assert (recent.hour_late, recent.hour_deferred) == (5, 2)
    assert (bulk.relayed_total, bulk.spooled_total, bulk.delivered_total) == (60, 120, 30)


@in_virtual_time
async def test_shows_what_the_process_uses(studio: Studio) -> None:
    studio.process = ProcessUsage(files=30, files_max=40, memory=100, memory_max=1000)
    snapshot = await studio.take()
    assert (snapshot.files, snapshot.memory) == (
        Usage(used=30, limit=40),
        Usage(used=100, limit=1000),
    )
    assert snapshot.saturation["files"] == 0.75
    assert snapshot.saturation["memory"] == 0.1


@in_virtual_time
async def test_of_a_sick_spool_shows_what_it_held_and_why_it_is_sick(studio: Studio) -> None:
    middle = studio.middle
    await middle.keep(spool_record(wall=WALL - 100))
    await studio.take()
    middle.spool.unhealthy = "disk I/O error"
    await asyncio.sleep(10)
    snapshot = await studio.take()
    assert not snapshot.spool.is_healthy
    assert snapshot.spool.sick_reason == "disk I/O error"
    assert snapshot.spool.messages == 1
    assert {each.oldest_age_seconds for each in snapshot.classes} == {0, 110}


@in_virtual_time
async def test_a_spool_that_hangs_does_not_keep_us(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang() -> SpoolTotals:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(studio.middle.spool, "totals", hang)
    snapshot = await studio.take()
    assert studio.middle.clock.monotonic() == pytest.approx(TOTALS_PATIENCE)
    assert snapshot.spool.messages == 0


@in_virtual_time
async def test_lag_is_the_worst_of_late(studio: Studio) -> None:
    studio.lag.rest(0.0)
    studio.lag.tick(0.25 + 0.125)
    snapshot = await studio.take()
    assert snapshot.loop_lag_seconds == 0.125
    assert snapshot.saturation["event_loop"] == 0.5


@in_virtual_time
async def test_mail_of_a_class_that_is_not_configured_is_in_it_as_one_of_the_default_class(
    studio: Studio,
) -> None:
    record = replace(spool_record(wall=WALL - 700), traffic_class="lost")
    await studio.middle.keep(record, b"x" * 30)
    snapshot = await studio.take()
    default = studio.middle.policies.classifier.policy.default
    classes = {each.name: each for each in snapshot.classes}
    lost = classes["lost"]
    assert not lost.is_configured
    assert classes[default.name].is_configured
    assert (lost.rank, lost.objective_seconds) == (default.rank, default.objective)
    assert (lost.queued_messages, lost.queued_octets, lost.oldest_age_seconds) == (1, 30, 700)
    assert [each.rank for each in snapshot.classes] == sorted(
        each.rank for each in snapshot.classes
    )


@in_virtual_time
async def test_a_full_spool_is_in_it(studio: Studio) -> None:
    studio.middle.spool.messages_max = 1
    await studio.middle.keep(spool_record())
    snapshot = await studio.take()
    assert snapshot.spool.full_reason == "it holds 1 of 1 messages"
    assert not snapshot.spool.has_clinical_room


@in_virtual_time
async def test_a_disk_down_to_the_reserve_binds(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before the backend, which may be away at the same time."""

    async def totals() -> SpoolTotals:
        return SpoolTotals(disk_free=100, disk_reserve=2**28)

    monkeypatch.setattr(studio.middle.spool, "totals", totals)
    studio.middle.backend.always(be_away)
    for _ in range(FAILURES_TO_OPEN):
        await studio.middle.submit()
    snapshot = await studio.take()
    assert snapshot.saturation["spool_disk"] == snapshot.saturation["backend_slots"] == 1.0
    assert snapshot.binding == "spool_disk"
