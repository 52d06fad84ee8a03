"""The periodic tasks: they outlive every fault, and say each change once."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from mailshed.control.loop import RECOVERY_PAUSE, ROOM_PROOF, ControlLoop, summary
from mailshed.control.signals.event_loop import EventLoopLag
from mailshed.errors import SpoolSick
from mailshed.maillog import MailLog
from mailshed.metrics import SNAPSHOT_SECONDS, Metrics, Snapshot, SnapshotHolder, SpoolSnapshot
from tests.support.middle import LogLines
from tests.support.snapshots import busy_snapshot
from tests.support.virtual_time import LoopClock, in_virtual_time


class PatientSpool:
    """A spool that recovers when the test says so."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.recoveries: list[float] = []
        """When recovery was tried."""
        self.seconds = 0.0
        """How long one try takes."""
        self.is_curable = False
        self.error: Exception = SpoolSick("still sick")

    def unhealthy_reason(self) -> str | None:
        return self.reason

    async def recover(self) -> None:
        self.recoveries.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.seconds)
        if not self.is_curable:
            raise self.error
        self.reason = None


class Rig:
    """A control loop and everything around it."""

    def __init__(self) -> None:
        self.spool = PatientSpool()
        self.log = LogLines()
        self.holder = SnapshotHolder()
        self.registry = CollectorRegistry()
        self.fed: list[float] = []
        self.statuses: list[str] = []
        self.faults: list[tuple[str, BaseException]] = []
        self.clock = LoopClock()
        self.snapshot = busy_snapshot()
        self.before_snapshot: Callable[[], Any] = lambda: None
        self.steered: list[float] = []
        self.steering_fault: Exception | None = None
        self.control = ControlLoop(
            take_snapshot=self._take,
            steer=self._steer,
            holder=self.holder,
            spool=self.spool,
            metrics=Metrics(self.registry),
            maillog=MailLog(self.log, "json", "debug", wall=lambda: 0.0),
            clock=self.clock,
            feed_watchdog=lambda: self.fed.append(self.clock.monotonic()),
            show_status=self.statuses.append,
            on_failure=lambda name, error: self.faults.append((name, error)),
        )

    async def _take(self, lag: EventLoopLag) -> Snapshot:
        waits = self.before_snapshot()
        if waits is not None:
            await waits
        return replace(
            self.snapshot, made_at=self.clock.monotonic(), loop_lag_seconds=lag.recent_max
        )

    def _steer(self) -> None:
        self.steered.append(self.clock.monotonic())
        if self.steering_fault is not None:
            raise self.steering_fault

    async def run_for(self, seconds: float) -> None:
        """Run the loop for so long."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.control.run()

    def set_up(self, *states: bool) -> None:
        """Say which backends are up."""
        words = {True: "closed", False: "open"}
        self.set_breakers(*(words[is_up] for is_up in states))

    def set_breakers(self, *states: str) -> None:
        """Say how the breakers of the backends are."""
        changed = tuple(
            replace(backend, is_up=state != "open", breaker=state)
            for backend, state in zip(self.snapshot.backends, states, strict=True)
        )
        self.snapshot = replace(self.snapshot, backends=changed)

    def set_full(self, reason: str, *, is_healthy: bool = True) -> None:
        """Say why the spool is full, or that it is not."""
        spool = replace(self.snapshot.spool, full_reason=reason, is_healthy=is_healthy)
        self.snapshot = replace(self.snapshot, spool=spool)


@pytest.fixture
def rig() -> Rig:
    made = Rig()
    made.set_up(True, True)
    return made


class TestTicks:
    @in_virtual_time
    async def test_swap_in_a_new_snapshot_each_period(self, rig: Rig) -> None:
        await rig.control.tick()
        first = rig.holder.current
        assert first is not None
        await rig.run_for(10 * SNAPSHOT_SECONDS + 0.01)
        assert rig.holder.current is not first
        assert rig.holder.current is not None
        assert rig.holder.current.made_at == pytest.approx(10 * SNAPSHOT_SECONDS)

    @in_virtual_time
    async def test_steer_as_often_and_apart(self, rig: Rig) -> None:
        """What fails in one of the two does not stop the other, and is said once."""
        rig.steering_fault = ValueError("no such slot")
        await rig.run_for(0.9)
        assert rig.steered == pytest.approx([0, 0.25, 0.5, 0.75])
        assert rig.fed == pytest.approx(rig.steered)
        assert [(name, str(error)) for name, error in rig.faults] == [("limit", "no such slot")]
        rig.steering_fault = None
        rig.before_snapshot = lambda: 1 / 0
        await rig.run_for(0.9)
        assert len(rig.steered) == 8

    @in_virtual_time
    async def test_and_nothing_else_feed_the_watchdog(self, rig: Rig) -> None:
        assert rig.fed == []
        await rig.run_for(1.0)
        assert rig.fed == pytest.approx([0, 0.25, 0.5, 0.75])

    @in_virtual_time
    async def test_that_fail_are_reported_once_and_the_watchdog_is_fed(self, rig: Rig) -> None:
        error = RuntimeError("bug")

        def broken() -> None:
            raise error

        rig.before_snapshot = broken
        await rig.run_for(4.9)
        assert rig.faults == [("control loop", error)]
        assert len(rig.fed) == 20
        rig.before_snapshot = lambda: None
        await rig.run_for(1.0)
        rig.before_snapshot = broken
        await rig.run_for(1.0)
        assert len(rig.faults) == 2, "it had been well in between"

    @in_virtual_time
    async def test_that_are_slow_are_not_late(self, rig: Rig) -> None:
        rig.before_snapshot = lambda: asyncio.sleep(3.0)
        await rig.run_for(30.0)
        assert rig.log.of("watch") == []
        assert rig.registry.get_sample_value("mailshed_event_loop_lag_seconds_sum") == (
            pytest.approx(0.0, abs=1e-6)
        )

    @in_virtual_time
    async def test_that_come_late_are_logged_and_counted(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The clock jumps while the task sleeps, as it does when something blocks the loop."""
        jump = 0.0
        monkeypatch.setattr(
            rig.clock, "monotonic", lambda: asyncio.get_running_loop().time() + jump
        )
        await rig.control.tick()
        await asyncio.sleep(SNAPSHOT_SECONDS)
        jump = 4.0
        await rig.control.tick()
        await asyncio.sleep(SNAPSHOT_SECONDS)
        await rig.control.tick()
        assert rig.log.one("watch")["lag"] == 4.0
        assert rig.registry.get_sample_value("mailshed_event_loop_lag_seconds_sum") == 4.0
        assert rig.holder.current is not None
        assert rig.holder.current.loop_lag_seconds == pytest.approx(4.0)

    @in_virtual_time
    async def test_tell_the_service_manager_a_line_now_and_then(self, rig: Rig) -> None:
        await rig.run_for(19.9)
        assert rig.statuses == [summary(rig.snapshot)] * 4


class TestSpool:
    @in_virtual_time
    async def test_that_is_sick_is_asked_to_recover_about_once_a_second(self, rig: Rig) -> None:
        rig.spool.reason = "disk I/O error"
        await rig.run_for(10.0)
        assert rig.spool.recoveries == pytest.approx(list(range(10)))
        assert rig.log.one("spool_sick")["detail"] == "disk I/O error"
        assert rig.faults == []

    @in_virtual_time
    async def test_that_recovers_is_told_once(self, rig: Rig) -> None:
        rig.spool.reason = "disk I/O error"
        await rig.run_for(3.5)
        rig.spool.is_curable = True
        await rig.run_for(10.0)
        assert rig.log.events == ["spool_sick", "spool_recovered"]
        assert rig.log.one("spool_recovered")["sick"] == pytest.approx(3.5, abs=0.5)
        rig.spool.reason = "again"
        await rig.run_for(3.0)
        assert rig.log.events == ["spool_sick", "spool_recovered"] * 2

    @in_virtual_time
    async def test_that_recovers_before_a_tick_has_seen_it_is_told_all_the_same(
        self, rig: Rig
    ) -> None:
        rig.spool.is_curable = True
        rig.spool.reason = "a moment's weakness"
        await rig.control.recover()
        assert rig.log.events == ["spool_sick", "spool_recovered"]

    @in_virtual_time
    async def test_that_takes_minutes_to_recover_stops_neither_ticks_nor_watchdog(
        self, rig: Rig
    ) -> None:
        """Recovery reads the whole database; the watchdog would kill us half-way."""
        rig.spool.reason = "disk I/O error"
        rig.spool.seconds = 300.0
        await rig.run_for(200.0)
        assert len(rig.fed) == pytest.approx(200.0 / SNAPSHOT_SECONDS, abs=2)
        assert len(rig.spool.recoveries) == 1

    @in_virtual_time
    async def test_whose_recovery_breaks_us_is_asked_again(self, rig: Rig) -> None:
        rig.spool.reason = "disk I/O error"
        rig.spool.error = RuntimeError("bug")
        await rig.run_for(5 * RECOVERY_PAUSE)
        assert rig.faults == [("spool recovery", rig.spool.error)]
        assert len(rig.spool.recoveries) == 5


class TestRoom:
    @in_virtual_time
    async def test_that_ends_and_comes_back_is_told_once_each(self, rig: Rig) -> None:
        rig.set_full("it holds 9 of 9 messages")
        await rig.run_for(5.0)
        rig.set_full("it holds 10 of 9 messages")
        await rig.run_for(5.0)
        assert rig.log.events == ["spool_full"]
        assert rig.log.one("spool_full")["detail"] == "it holds 9 of 9 messages"
        rig.set_full("")
        await rig.run_for(2 * ROOM_PROOF)
        assert rig.log.events == ["spool_full", "spool_has_room"]
        assert rig.log.one("spool_has_room")["full"] == pytest.approx(10.0, abs=0.5)
        assert {line["level"] for line in rig.log.lines} == {"warning"}

    @in_virtual_time
    async def test_for_a_moment_is_not_the_end(self, rig: Rig) -> None:
        """At its limit the spool has room after each delivery, until the next arrival."""
        for _ in range(10):
            rig.set_full("full")
            await rig.run_for(1.0)
            rig.set_full("")
            await rig.run_for(ROOM_PROOF / 2)
        assert rig.log.events == ["spool_full"]

    @in_virtual_time
    async def test_of_a_sick_spool_is_not_known(self, rig: Rig) -> None:
        rig.set_full("full", is_healthy=False)
        await rig.run_for(5.0)
        assert rig.log.events == []


class TestBackend:
    @in_virtual_time
    async def test_that_goes_and_comes_is_told_once_each(self, rig: Rig) -> None:
        await rig.run_for(1.0)
        assert rig.log.events == []
        rig.set_up(True, False)
        await rig.run_for(5.0)
        rig.set_breakers("closed", "half_open")
        await rig.run_for(30.0)
        assert rig.log.events == ["backend_away", "backend_back"]
        away = rig.log.one("backend_away")
        assert (away["backend"], away["next_probe"]) == ("exch02", 12.4)
        assert rig.log.one("backend_back")["away"] == pytest.approx(5.0, abs=0.5)
        rig.set_up(True, True)
        await rig.run_for(5.0)
        assert rig.log.events == ["backend_away", "backend_back", "backend_restored"]
        restored = rig.log.one("backend_restored")
        assert restored["backend"] == "exch02"
        assert restored["seconds"] == pytest.approx(35.0, abs=0.5)

    @in_virtual_time
    async def test_that_goes_away_again_on_its_way_back_is_not_restored(self, rig: Rig) -> None:
        await rig.run_for(1.0)
        for state in ("open", "half_open", "open", "half_open", "closed"):
            rig.set_breakers("closed", state)
            await rig.run_for(5.0)
        assert rig.log.events == [*("backend_away", "backend_back") * 2, "backend_restored"]
        assert rig.log.one("backend_restored")["seconds"] == pytest.approx(10.0, abs=0.5)


def test_the_line_for_the_service_manager_names_what_is_wrong(rig: Rig) -> None:
    assert summary(rig.snapshot) == "9412 queued, exch01 20/20, exch02 0/20"
    rig.set_up(True, False)
    sick = SpoolSnapshot(is_healthy=False, sick_reason="disk I/O error", messages=3)
    line = summary(replace(rig.snapshot, spool=sick))
    assert line == "3 queued, exch01 20/20, exch02 AWAY, SPOOL SICK, relaying only"
    rig.set_full("it holds 9 of 9 messages")
    assert summary(rig.snapshot).endswith(", SPOOL FULL: it holds 9 of 9 messages")
