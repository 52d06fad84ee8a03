"""The keeper: what was confirmed survives, what ends is ended and said, no disk is waited for."""

import asyncio
import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailshed.admin.audit import AuditError
from mailshed.admin.keeper import FILE_NAME, OverrideKeeper
from mailshed.control.overrides import OverrideKind, Overrides, Wish
from mailshed.errors import RequestError, StateError
from mailshed.maillog import MailLog
from mailshed.statefile import StateFile
from mailshed.supervisor import Supervisor
from mailshed.terms import TrafficClass
from tests.support.builders import CLASSES
from tests.support.clock import ManualClock
from tests.support.middle import LogLines
from tests.support.outbound import eventually
from tests.support.processes import DEADLINE

HOLD = Wish(kind=OverrideKind.HOLD, traffic_class="bulk", seconds=3600, reason="newsletter RH")
LEVEL = Wish(kind=OverrideKind.LEVEL, value=2, seconds=7200, reason="patch night")


class World:
    """A keeper, and all that it tells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.classes: tuple[TrafficClass, ...] = CLASSES
        self.audited: list[Mapping[str, object]] = []
        self.audit_fault: AuditError | None = None
        self.changes: list[Overrides] = []
        self.is_free = asyncio.Event()
        """No class is held."""
        self.failures: list[BaseException] = []
        self.start()

    def start(self) -> None:
        """A new process."""
        self.log = LogLines()
        self.supervisor = Supervisor(lambda _, error: self.failures.append(error))
        self.keeper = OverrideKeeper(
            file=StateFile(self.folder, FILE_NAME),
            classes=lambda: self.classes,
            note=self._note,
            on_change=self._note_change,
            maillog=MailLog(self.log, "json", "debug"),
            clock=self.clock,
            supervisor=self.supervisor,
            on_failure=lambda _, error: self.failures.append(error),
        )

    def _note_change(self, overrides: Overrides) -> None:
        self.changes.append(overrides)
        if not overrides.held:
            self.is_free.set()

    def _note(self, entry: Mapping[str, object]) -> None:
        if self.audit_fault is not None:
            raise self.audit_fault
        self.audited.append(entry)

    async def add(self, wish: Wish = HOLD) -> int:
        added = await self.keeper.add(wish, user="dupont", request="77aa")
        return added.override.number

    async def cancel(self, number: int) -> None:
        await self.keeper.cancel(number, user="martin", reason="sent")

    @property
    def saved(self) -> list[str]:
        """What a new process would find."""
        document = StateFile(self.folder, FILE_NAME).load() or {"in_force": []}
        return [f"{each['kind']} {each['class']}".strip() for each in document["in_force"]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A service without overrides."""
    return World(tmp_path)


class Disk:
    """Stands between the keeper and its file."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fault: StateError | None = None
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.asked = threading.Event()
        save = StateFile.save

        def slow_save(file: StateFile, document: dict[str, Any]) -> None:
            self.asked.set()
            assert self.may_go_on.wait(DEADLINE)
            if self.fault is not None:
                raise self.fault
            save(file, document)

        monkeypatch.setattr(StateFile, "save", slow_save)


@pytest.fixture
def disk(world: World, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk that can be slow, and fail."""
    return Disk(world, monkeypatch)


async def asked(disk: Disk) -> None:
    assert await asyncio.to_thread(disk.asked.wait, DEADLINE)


class TestAdding:
    async def test_it_is_saved_and_in_force_and_said(self, world: World) -> None:
        assert await world.add() == 1

        assert world.keeper.current.held == {"bulk"}
        assert world.changes == [world.keeper.current]
        assert world.saved == ["hold bulk"]
        line = world.log.one("override_set")
        assert (line["override"], line["kind"], line["class"]) == (1, "hold", "bulk")
        assert (line["user"], line["reason"], line["left"]) == ("dupont", "newsletter RH", 3600)
        assert line["request"] == "77aa"

    async def test_it_is_saved_before_it_is_in_force(self, world: World, disk: Disk) -> None:
        disk.may_go_on.clear()
        adding = world.supervisor.spawn(world.add(), "test")
        await asked(disk)
        assert not world.keeper.current.held
        assert not adding.done()

        disk.may_go_on.set()
        await adding
        assert world.saved == ["hold bulk"]

    async def test_what_cannot_be_saved_is_not_in_force(self, world: World, disk: Disk) -> None:
        disk.fault = StateError("the disk is full")
        with pytest.raises(StateError, match="the disk is full"):
            await world.add()

        assert not world.keeper.current.held
        assert world.changes == []
        assert world.log.events == []

    async def test_what_may_have_been_saved_all_the_same_is_taken_back(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save = StateFile.save

        def save_and_fail(file: StateFile, document: dict[str, Any]) -> None:
            save(file, document)
            raise StateError("the folder could not be synced")

        with monkeypatch.context() as patch:
            patch.setattr(StateFile, "save", save_and_fail)
            with pytest.raises(StateError):
                await world.add()
        assert world.saved == ["hold bulk"]

        await world.keeper.look()
        assert world.saved == []

    async def test_nonsense_is_refused_and_not_saved(self, world: World) -> None:
        with pytest.raises(RequestError, match="rank 0"):
            await world.add(replace(HOLD, traffic_class="clinical"))
        assert world.saved == []
        assert world.failures == []

    async def test_whoever_gives_up_waiting_does_not_break_it_off(
        self, world: World, disk: Disk
    ) -> None:
        disk.may_go_on.clear()
        adding = world.supervisor.spawn(world.add(), "test")
        await asked(disk)
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding

        disk.may_go_on.set()
        assert await world.supervisor.join(DEADLINE) == 0
        assert world.keeper.current.held == {"bulk"}

    async def test_a_replaced_one_is_said_and_noted(self, world: World) -> None:
        await world.add()
        await world.add(replace(HOLD, seconds=60))

        ended = world.log.one("override_ended")
        assert (ended["override"], ended["cause"], ended["by"]) == (1, "replaced", "override 2")
        (entry,) = world.audited
        assert (entry["event"], entry["verb"]) == ("ended", "override replaced")

    async def test_two_at_once_both_count(self, world: World) -> None:
        await asyncio.gather(world.add(HOLD), world.add(LEVEL))

        assert len(world.keeper.current) == 2
        assert world.saved == ["hold bulk", "level"]


class TestCancelling:
    async def test_it_is_over_and_said(self, world: World) -> None:
        number = await world.add()
        await world.cancel(number)

        assert not world.keeper.current.held
        assert world.saved == []
        line = world.log.one("override_ended")
        assert (line["cause"], line["by"], line["because"]) == ("cancelled", "martin", "sent")
        assert world.audited == [], "the route writes its own lines"

    async def test_one_that_is_not_there(self, world: World) -> None:
        with pytest.raises(RequestError, match="no override 7 is in force"):
            await world.cancel(7)

    async def test_one_whose_end_cannot_be_saved_goes_on(self, world: World, disk: Disk) -> None:
        number = await world.add()
        disk.fault = StateError("the disk is full")
        with pytest.raises(StateError):
            await world.cancel(number)

        assert world.keeper.current.held == {"bulk"}

    async def test_it_ends_though_the_clock_was_set_back_meanwhile(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While it is being saved, the others are moved along with the clock, and so is this."""
        number = await world.add()
        disk = Disk(world, monkeypatch)
        disk.may_go_on.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(world.cancel(number))
            await asyncio.to_thread(disk.asked.wait, DEADLINE)
            world.clock.set_wall(world.clock.wall() - 600.0)
            looking = group.create_task(world.keeper.look())
            await eventually(
                lambda: world.keeper.current.in_force[0].since_wall <= world.clock.wall()
            )
            disk.may_go_on.set()
            await looking
        assert not world.keeper.current.held
        assert world.saved == []


class TestTheEnd:
    async def test_it_comes_by_itself(self, world: World) -> None:
        await world.add(HOLD)
        await world.add(LEVEL)
        world.clock.advance(3599)
        await world.keeper.look()
        assert world.keeper.current.held

        world.clock.advance(1)
        await world.keeper.look()
        assert not world.keeper.current.held
        assert world.keeper.current.forced_level == 2
        assert world.changes[-1] is world.keeper.current
        assert world.saved == ["level"]
        assert world.log.one("override_ended")["cause"] == "expired"
        (entry,) = world.audited
        assert (entry["event"], entry["verb"]) == ("ended", "override expired")
        assert (entry["request"], entry["override"], entry["class"]) == ("77aa", 1, "bulk")

    async def test_it_needs_no_disk(self, world: World, disk: Disk) -> None:
        """A change that hangs on the disk does not keep an override alive."""
        await world.add(HOLD)
        disk.asked.clear()
        disk.may_go_on.clear()
        adding = world.supervisor.spawn(world.add(LEVEL), "test")
        await asked(disk)
        world.clock.advance(3600)
        looking = world.supervisor.spawn(world.keeper.look(), "test")
        async with asyncio.timeout(DEADLINE):
            await world.is_free.wait()

        disk.may_go_on.set()
        await adding
        await looking
        assert not world.keeper.current.held, "what was added last does not bring it back"
        assert world.saved == ["level"]

    async def test_one_that_cannot_be_written_down_has_ended(
        self, world: World, disk: Disk
    ) -> None:
        await world.add()
        disk.fault = StateError("the disk is full")
        world.audit_fault = AuditError("audit.log cannot be written")
        world.clock.advance(3600)
        for _ in range(3):
            await world.keeper.look()

        assert not world.keeper.current.held
        assert world.saved == ["hold bulk"]
        assert list(map(str, world.failures)) == ["audit.log cannot be written", "the disk is full"]

        disk.fault = None
        await world.keeper.look()
        assert world.saved == []

    async def test_a_clock_that_was_set_back_is_written_into_the_file(self, world: World) -> None:
        await world.add()
        world.clock.set_wall(world.clock.wall() - 86400)
        await world.keeper.look()

        world.start()
        await world.keeper.load()
        world.clock.advance(3600)
        await world.keeper.look()
        assert not world.keeper.current.held

    async def test_run_looks_again_and_again(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mailshed.admin.keeper.INTERVAL", 0.001)
        await world.add()
        running = world.supervisor.spawn(world.keeper.run(), "test")
        world.clock.advance(3600)
        async with asyncio.timeout(DEADLINE):
            await world.is_free.wait()
        running.cancel()

    async def test_run_survives_a_fault_of_its_own(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mailshed.admin.keeper.INTERVAL", 0.001)
        looks, is_enough = 0, asyncio.Event()

        async def look() -> None:
            nonlocal looks
            looks += 1
            if looks == 3:
                is_enough.set()
            raise ZeroDivisionError

        monkeypatch.setattr(world.keeper, "look", look)
        running = world.supervisor.spawn(world.keeper.run(), "test")
        async with asyncio.timeout(DEADLINE):
            await is_enough.wait()
        running.cancel()
        assert [type(each) for each in world.failures] == [ZeroDivisionError], "said once"


class TestRestart:
    async def test_what_was_in_force_is_again(self, world: World) -> None:
        await world.add(HOLD)
        await world.add(LEVEL)
        world.start()
        world.changes.clear()
        await world.keeper.load()

        assert world.keeper.current.held == {"bulk"}
        assert world.keeper.current.forced_level == 2
        assert world.changes[-1] is world.keeper.current
        restored = world.log.of("override_restored")
        assert [each["override"] for each in restored] == [1, 2]

    async def test_what_has_ended_meanwhile_is_dropped_and_said(self, world: World) -> None:
        await world.add(HOLD)
        await world.add(LEVEL)
        world.clock.advance(3601)
        world.start()
        await world.keeper.load()

        assert not world.keeper.current.held
        assert world.keeper.current.forced_level == 2
        assert world.log.one("override_ended")["cause"] == "expired"
        assert [each["verb"] for each in world.audited] == ["override expired"]
        await world.keeper.look()
        assert world.saved == ["level"]

    async def test_what_the_configuration_has_lost_is_dropped_and_said(self, world: World) -> None:
        await world.add()
        world.classes = CLASSES[:2]
        world.start()
        await world.keeper.load()

        assert not world.keeper.current.held
        assert world.log.one("override_ended")["cause"] == "not_configured"

    @pytest.mark.parametrize("damage", [b"", b"{}", b'{"version": 1, "last_number": 1}', b"\xff"])
    async def test_a_damaged_file_is_said_and_none_is_in_force(
        self, world: World, damage: bytes
    ) -> None:
        (world.folder / "overrides.json").write_bytes(damage)
        await world.keeper.load()

        assert len(world.keeper.current) == 0
        assert world.log.one("overrides_lost")["level"] == "error"
        assert await world.add() == 1
        assert world.saved == ["hold bulk"]

    async def test_without_a_file_there_is_nothing_to_say(self, world: World) -> None:
        await world.keeper.load()

        assert world.log.events == []


class TestReload:
    async def test_an_override_goes_with_its_class(self, world: World) -> None:
        await world.add(HOLD)
        await world.add(LEVEL)
        world.classes = CLASSES[:3]
        await world.keeper.fit()
        await world.keeper.look()

        assert world.saved == ["level"]
        assert world.log.one("override_ended")["cause"] == "not_configured"
        (entry,) = world.audited
        assert entry["verb"] == "override not_configured"

    async def test_everybody_can_be_told_again(self, world: World) -> None:
        await world.add()
        world.keeper.renew()

        assert world.changes == [world.keeper.current] * 2


async def test_its_picture_has_who_and_why_and_how_long(world: World) -> None:
    await world.add()
    world.clock.advance(600)

    (picture,) = world.keeper.snapshots()
    assert (picture.id, picture.kind, picture.traffic_class) == (1, "hold", "bulk")
    assert (picture.user, picture.reason) == ("dupont", "newsletter RH")
    assert picture.left_seconds == 3000
    assert picture.until_wall == picture.since_wall + 3600
    assert json.dumps(picture.id) == "1"
