import asyncio
import io
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from mailshed.config.policy import Quota, SurgePolicy
from mailshed.control.surges import KEYS_MAX, OTHER
from mailshed.control.usual import HOURS, SURE, WEEKS
from mailshed.errors import RequestError, StateError
from mailshed.maillog import MailLog
from mailshed.metrics import SurgeSnapshot
from mailshed.statefile import Document, StateFile
from mailshed.surgewatch import (
    FILE_NAME,
    LOOK_SECONDS,
    SAVE_SECONDS,
    SurgeWatch,
    minute_of_week,
)
from tests.support.builders import CLASSES, TELEWORK, client
from tests.support.clock import ManualClock
from tests.support.virtual_time import LoopClock, in_virtual_time, until

PARIS = ZoneInfo("Europe/Paris")
VPN, ELSEWHERE = client("10.65.0.1"), client("192.0.2.1")
POLICY = SurgePolicy(
    time_zone="Europe/Paris",
    quota=1.2,
    classes=CLASSES,
    networks={"vpn": (ip_network("10.64.0.0/14"),)},
)
MEAN = 10


class MemoryFile(StateFile):
    """A file without a disk, so that a test may live in virtual time."""

    def __init__(self, document: Document | None = None) -> None:
        super().__init__(Path("nowhere"), FILE_NAME)
        self.document = document
        self.saved = 0
        self.is_broken = False

    def load(self) -> Document | None:
        return self.document

    def save(self, document: Document) -> None:
        if self.is_broken:
            raise StateError("the disk is full")
        self.saved += 1
        self.document = json.loads(json.dumps(document))


class Rig:
    """A watch, with all that it speaks to in the hands of a test."""

    def __init__(
        self,
        policy: SurgePolicy = POLICY,
        *,
        file: StateFile | None = None,
        clock: ManualClock | LoopClock | None = None,
    ) -> None:
        self.clock = clock or ManualClock()
        self.file = file or MemoryFile()
        self.text = io.StringIO()
        self.quotas: Mapping[str, Quota] = {}
        self.failures: list[str] = []
        self.watch = SurgeWatch(
            policy,
            file=self.file,
            on_quotas=self._take,
            seconds_of=lambda _size, _recipients: 0.1,
            maillog=MailLog(self.text),
            clock=self.clock,
            on_failure=lambda name, error: self.failures.append(f"{name}: {error}"),
        )

    def _take(self, quotas: Mapping[str, Quota]) -> None:
        self.quotas = quotas

    def pass_minutes(self, minutes: int, per_minute: int) -> None:
        assert isinstance(self.clock, ManualClock)
        for _ in range(minutes):
            self.clock.advance(60.0)
            for _ in range(per_minute):
                self.watch.note(VPN, "telework", 5000, 1)
            self.watch.look()

    def ratio(self, network: str = "") -> float | None:
        return self.shown(network).ratio

    def shown(self, network: str = "") -> SurgeSnapshot:
        return next(
            each
            for each in self.watch.snapshots()
            if (each.traffic_class, each.network) == ("telework", network)
        )

    @property
    def events(self) -> list[str]:
        return [line.split("event=")[1].strip() for line in self.text.getvalue().splitlines()]


def known(mean: float = MEAN) -> Document:
    """What a watch has learned to which `mean` of telework a minute is usual, from the VPN."""
    rig = Rig()
    document: Any = json.loads(json.dumps(rig.watch._surges.document()))
    hours = ([round(mean * 60)] * SURE + [-1] * (WEEKS - SURE)) * HOURS
    for each in document["surges"]:
        if each["class"] == "telework" and each["network"] in ("", "vpn"):
            each["usual"]["hours"] = hours
    return dict(document)


async def started(**options: Any) -> Rig:
    rig = Rig(file=MemoryFile(known()), **options)
    await rig.watch.load()
    rig.watch.look()
    return rig


# The week.


@pytest.mark.parametrize(
    ("utc", "expected"),
    [
        ("2026-03-02 00:00", 60),  # a Monday: one o'clock in Paris
        ("2026-03-01 23:00", 0),
        ("2026-03-01 22:59", 7 * 1440 - 1),
        ("2026-07-06 22:00", 1440),  # in summer, two hours
        ("2026-03-29 00:59", 6 * 1440 + 119),  # the last minute before summer time,
        ("2026-03-29 01:00", 6 * 1440 + 180),  # and the first
        ("2026-10-25 00:30", 6 * 1440 + 150),  # half past two, twice
        ("2026-10-25 01:30", 6 * 1440 + 150),
        ("2026-12-25 09:00", 6 * 1440 + 600),  # a Friday, and a holiday
        ("2027-12-25 09:00", 6 * 1440 + 600),
        ("2026-04-06 08:00", 6 * 1440 + 600),  # Easter Monday
        ("2027-04-06 08:00", 1440 + 600),  # an ordinary Tuesday
        ("2026-12-24 23:30", 6 * 1440 + 30),  # it is the 25th in Paris
    ],
)
def test_the_minute_of_the_week_is_local_and_holidays_are_sundays(utc: str, expected: int) -> None:
    wall = datetime.fromisoformat(utc).replace(tzinfo=UTC).timestamp()

    assert minute_of_week(wall, PARIS, frozenset({"12-25", "2026-04-06"})) == expected


def test_without_a_time_zone_it_is_the_systems() -> None:
    wall = 1_760_000_000.0
    local = datetime.fromtimestamp(wall)  # noqa: DTZ006 - that is the question

    expected = (local.weekday() * 24 + local.hour) * 60 + local.minute
    assert minute_of_week(wall, None, frozenset()) == expected


# Telling.


async def test_the_usual_is_shown_and_not_told() -> None:
    rig = await started()

    rig.pass_minutes(60, MEAN)

    assert rig.ratio() == pytest.approx(1.0, abs=0.02)
    assert rig.ratio("vpn") == rig.ratio()
    assert rig.ratio(OTHER) is None
    assert (rig.events, rig.quotas) == ([], {})


async def test_a_surge_is_told_and_has_a_quota_until_it_is_over() -> None:
    rig = await started()

    rig.pass_minutes(40, 2 * MEAN)
    assert rig.shown().is_alarm
    assert rig.quotas["telework"].hard == pytest.approx(1.2 * MEAN / 60, rel=0.15)
    assert rig.quotas["telework"].soft is None
    assert rig.shown().unexpected_work_seconds_total > 0
    rig.pass_minutes(40, MEAN)

    began, _, ended, _ = rig.events
    assert began.startswith("surge_began class=telework ratio=")
    assert ended.startswith("surge_ended class=telework ratio=")
    assert any("network=vpn" in each for each in rig.events)
    assert rig.quotas == {}


async def test_a_surge_can_be_told_without_a_quota() -> None:
    rig = await started(policy=replace(POLICY, quota=None))

    rig.pass_minutes(40, 2 * MEAN)

    assert rig.shown().is_alarm
    assert rig.quotas == {}


async def test_clients_are_told_apart_by_the_name_of_their_network_only() -> None:
    rig = await started()
    for _ in range(3):
        rig.watch.note(VPN, "telework", 1, 1)
    rig.watch.note(ELSEWHERE, "telework", 1, 1)
    for number in range(KEYS_MAX):
        rig.watch.note(client(f"203.0.113.{number % 250}"), f"no-class-{number}", 1, 1)
    rig.pass_minutes(1, 0)

    assert (rig.shown().messages, rig.shown("vpn").messages) == (4, 3)
    assert len(rig.watch.snapshots()) == 3 * len(CLASSES)


async def test_the_pictures_are_those_of_the_last_minute() -> None:
    rig = await started()
    rig.pass_minutes(1, 3)
    before = rig.watch.snapshots()

    rig.watch.look()
    assert rig.watch.snapshots() is before
    rig.pass_minutes(1, 3)
    assert rig.shown().messages == 6


# Switched off, and changed.


async def test_switched_off_it_counts_and_tells_nothing() -> None:
    rig = await started(policy=replace(POLICY, is_enabled=False))

    rig.pass_minutes(60, 5 * MEAN)

    assert rig.watch.snapshots() == ()
    assert (rig.events, rig.quotas) == ([], {})


async def test_switched_off_during_a_surge_the_quota_is_gone_and_what_was_learned_is_not() -> None:
    rig = await started()
    rig.pass_minutes(40, 2 * MEAN)
    assert rig.quotas

    rig.watch.policy = replace(POLICY, is_enabled=False)
    assert rig.quotas == {}

    rig.watch.policy = POLICY
    rig.pass_minutes(5, 2 * MEAN)
    assert rig.ratio() == pytest.approx(2.0, rel=0.1)


async def test_other_classes_and_networks_are_watched_after_a_reload() -> None:
    rig = await started()

    rig.watch.policy = replace(
        POLICY, classes=(TELEWORK,), networks={"ward": (ip_network("10.65.0.0/24"),)}
    )
    rig.pass_minutes(5, MEAN)

    assert [(each.traffic_class, each.network) for each in rig.watch.snapshots()] == [
        ("telework", ""),
        ("telework", "ward"),
        ("telework", OTHER),
    ]
    assert rig.ratio() == pytest.approx(1.0, rel=0.05)
    assert rig.shown("ward").messages == 5 * MEAN


# Keeping.


async def test_what_was_learned_is_there_after_a_restart(tmp_path: Path) -> None:
    first = Rig(file=StateFile(tmp_path, FILE_NAME))
    await first.watch.load()
    first.watch.look()
    first.pass_minutes(7 * 1440, MEAN)
    await first.watch.close()

    second = Rig(file=StateFile(tmp_path, FILE_NAME), clock=first.clock)
    await second.watch.load()
    second.watch.look()
    second.pass_minutes(20, 3 * MEAN)

    assert second.shown().is_alarm
    assert (tmp_path / "surge.json").stat().st_mode & 0o777 == 0o600
    assert first.failures == second.failures == []


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 1, "surges": [{}]}', "\0" * 100])
async def test_a_damaged_file_is_a_line_in_the_log_and_a_new_beginning(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / "surge.json").write_text(content)
    rig = Rig(file=StateFile(tmp_path, FILE_NAME))

    await rig.watch.load()
    rig.watch.look()
    rig.pass_minutes(1, MEAN)
    await rig.watch.close()

    (line,) = rig.events
    assert line.startswith("surges_lost detail=")
    assert json.loads((tmp_path / "surge.json").read_text())["version"] == 1


async def test_a_start_that_failed_does_not_replace_what_was_learned() -> None:
    file = MemoryFile(known())

    await Rig(file=file).watch.close()

    assert file.saved == 0


@pytest.fixture
def _without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a thread does takes no virtual time, and is not waited for."""

    async def at_once(call: Callable[..., Any], *arguments: Any) -> Any:
        return call(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", at_once)


@pytest.mark.usefixtures("_without_threads")
@in_virtual_time
async def test_it_looks_and_saves_by_itself() -> None:
    file = MemoryFile(known())
    rig = Rig(file=file, clock=LoopClock())
    await rig.watch.load()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rig.watch.run())
        await until(lambda: file.saved == 2, within=3 * SAVE_SECONDS)
        now = asyncio.get_running_loop().time()
        task.cancel()

    assert 2 * SAVE_SECONDS <= now <= 2 * SAVE_SECONDS + 3 * LOOK_SECONDS
    assert rig.ratio() is not None


@pytest.mark.usefixtures("_without_threads")
@in_virtual_time
async def test_what_cannot_be_saved_is_told_once_and_tried_again() -> None:
    file = MemoryFile(known())
    file.is_broken = True
    rig = Rig(file=file, clock=LoopClock())
    await rig.watch.load()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rig.watch.run())
        await until(lambda: rig.events, within=2 * SAVE_SECONDS)
        await asyncio.sleep(3 * SAVE_SECONDS)
        assert rig.events == ['surges_unsaved detail="the disk is full"']
        file.is_broken = False
        await until(lambda: file.saved == 1, within=2 * SAVE_SECONDS)
        task.cancel()


async def test_what_cannot_be_saved_at_a_stop_is_told() -> None:
    rig = await started()
    assert isinstance(rig.file, MemoryFile)
    rig.file.is_broken = True

    await rig.watch.close()

    assert rig.events == ['surges_unsaved detail="the disk is full"']


@pytest.mark.usefixtures("_without_threads")
@in_virtual_time
async def test_a_fault_of_ours_is_told_once_and_does_not_end_the_watch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = MemoryFile(known())
    rig = Rig(file=file, clock=LoopClock())
    await rig.watch.load()

    def fail(*_: object) -> list[Any]:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(rig.watch._surges, "tick", fail)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rig.watch.run())
        await until(lambda: file.saved == 1, within=2 * SAVE_SECONDS)
        task.cancel()

    assert rig.failures == ["surge watch: ours"]


@pytest.mark.usefixtures("_without_threads")
@in_virtual_time
async def test_what_cannot_be_written_as_json_ends_neither_the_watch_nor_the_stop() -> None:
    class StrictFile(MemoryFile):
        def save(self, document: Document) -> None:
            raise ValueError("nan is no JSON")

    rig = Rig(file=StrictFile(known()), clock=LoopClock())
    await rig.watch.load()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rig.watch.run())
        await asyncio.sleep(3 * SAVE_SECONDS)
        assert not task.done()
        task.cancel()
    await rig.watch.close()
    assert rig.failures == ["surge watch: nan is no JSON"]


async def test_a_save_that_was_given_up_does_not_come_after_the_last_one() -> None:
    """A thread cannot be stopped: it goes on while the service saves for the last time."""

    class SlowFile(MemoryFile):
        def save(self, document: Document) -> None:
            began.set()
            assert may_go_on.wait(30)
            super().save(document)

    began, may_go_on = threading.Event(), threading.Event()
    file = SlowFile(known())
    rig = Rig(file=file)
    await rig.watch.load()
    async with asyncio.TaskGroup() as group:
        given_up = group.create_task(rig.watch.save())
        await asyncio.to_thread(began.wait, 30)
        given_up.cancel()
    rig.watch.look()
    rig.pass_minutes(150, MEAN)
    async with asyncio.TaskGroup() as group:
        group.create_task(rig.watch.close())
        may_go_on.set()

    assert file.saved == 2
    assert file.document != known()
    assert file.document == json.loads(json.dumps(rig.watch._surges.document()))


# What an operator says.


async def test_an_operator_can_take_a_surge_as_usual() -> None:
    rig = await started()
    rig.pass_minutes(60, 2 * MEAN)
    assert isinstance(rig.file, MemoryFile)

    adopted = await rig.watch.adopt("telework", "alice", "everybody works at home now")

    assert set(adopted) == {"", "vpn"}
    assert adopted[""] == pytest.approx(2.0, rel=0.1)
    assert rig.quotas == {}
    assert rig.file.saved == 1
    line = next(each for each in rig.events if each.startswith("surge_adopted class=telework"))
    assert 'user=alice reason="everybody works at home now"' in line
    rig.pass_minutes(40, 2 * MEAN)
    assert not rig.shown().is_alarm
    assert rig.ratio() == pytest.approx(1.0, rel=0.1)


async def test_there_must_be_something_to_adopt() -> None:
    rig = await started()
    rig.pass_minutes(40, MEAN)

    with pytest.raises(RequestError, match="nothing to adopt"):
        await rig.watch.adopt("telework", "alice", "why not")
    with pytest.raises(RequestError, match="is not configured"):
        await rig.watch.adopt("teleworking", "alice", "why not")
