"""What a limit has learned survives a restart, and nothing depends on it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailshed.control.adaptive import AdaptiveLimit
from mailshed.control.limit import FixedLimit, Flight, Limit, SlotEnding
from mailshed.errors import StateError
from mailshed.limitmemory import OLD_FILE_NAME, SAVE_SECONDS, LimitMemory, file_name
from mailshed.mail.delivery import StageTimes
from mailshed.maillog import MailLog
from mailshed.statefile import StateFile
from tests.support.middle import LogLines
from tests.support.virtual_time import LoopClock, in_virtual_time

SERVICE = 0.2


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual time does not wait for threads."""

    async def at_once(work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)

    monkeypatch.setattr("mailshed.limitmemory.asyncio.to_thread", at_once)


class Rig:
    """A memory with its file, a log and a list of faults."""

    def __init__(self, folder: Path, limit: Limit, backend: str = "exch01") -> None:
        self.file = StateFile(folder, "limit")
        self.log = LogLines()
        self.faults: list[tuple[str, BaseException]] = []
        self.memory = LimitMemory(
            limit,
            backend,
            file=self.file,
            maillog=MailLog(self.log, "json", "debug", wall=lambda: 0.0),
            clock=LoopClock(),
            on_failure=lambda name, error: self.faults.append((name, error)),
        )


def no_failure(name: str, error: BaseException) -> None:
    raise AssertionError(name) from error


def adaptive() -> AdaptiveLimit:
    return AdaptiveLimit(highest=20)


def teach(limit: AdaptiveLimit) -> None:
    """Let it see enough messages, one at a time, to know what an unloaded backend needs."""
    now = 0.0
    for _ in range(60):
        flight = Flight(size=1000, recipients=1, is_first=False, started_at=now, in_flight=1)
        limit.on_start(now, flight)
        now += SERVICE
        times = StageTimes(envelope=0.05, content=0.0, service=SERVICE)
        limit.on_end(now, flight, SlotEnding.COMPLETED, times)
        limit.tick(now, is_backlogged=False)
    assert limit.picture().is_baseline_known


@in_virtual_time
async def test_what_was_learned_is_known_again(tmp_path: Path) -> None:
    before = adaptive()
    first = Rig(tmp_path, before)
    await first.memory.load()
    teach(before)
    await first.memory.close()
    after = adaptive()
    second = Rig(tmp_path, after)
    await second.memory.load()
    assert (first.faults, second.faults, second.log.of("baseline_lost")) == ([], [], [])
    assert after.expected(1000, 1) == pytest.approx(SERVICE, rel=0.05)
    assert after.limit(0.0) == 4, "not the lowest one"


@in_virtual_time
async def test_it_is_saved_every_few_minutes(tmp_path: Path) -> None:
    limit = adaptive()
    rig = Rig(tmp_path, limit)
    await rig.memory.load()
    teach(limit)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SAVE_SECONDS + 1):
            await rig.memory.run()
    document = rig.file.load()
    assert document is not None
    assert document["backend"] == "exch01"


@in_virtual_time
async def test_what_is_not_known_replaces_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, adaptive())
    rig.file.save({"backend": "exch01", "precious": 1})
    await rig.memory.save()
    await rig.memory.load()
    await rig.memory.save()
    assert rig.file.load() == {"backend": "exch01", "precious": 1}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"backend": "other", "saved_wall": 0.0, "learned": {}}, "'other'"),
        ({"backend": "exch01", "learned": {}}, "saved_wall"),
        ({"backend": "exch01", "saved_wall": 0.0, "learned": {"version": 99}}, "version 99"),
    ],
)
@in_virtual_time
async def test_what_is_of_no_use_is_told_and_learned_anew(
    tmp_path: Path, document: dict[str, object], said: str
) -> None:
    limit = adaptive()
    rig = Rig(tmp_path, limit)
    rig.file.save(document)
    await rig.memory.load()
    assert said in rig.log.one("baseline_lost")["detail"]
    assert limit.expected(1000, 1) is None


@in_virtual_time
async def test_a_damaged_file_is_no_reason_not_to_start(tmp_path: Path) -> None:
    rig = Rig(tmp_path, adaptive())
    rig.file.path.write_bytes(b"\0\0")
    await rig.memory.load()
    assert "is damaged" in rig.log.one("baseline_lost")["detail"]


@in_virtual_time
async def test_a_save_that_fails_at_the_end_is_told(tmp_path: Path) -> None:
    limit = adaptive()
    rig = Rig(tmp_path / "gone", limit)
    await rig.memory.load()
    teach(limit)
    await rig.memory.close()
    (name, error), *more = rig.faults
    assert (name, more) == ("limit memory", [])
    assert isinstance(error, StateError)


@in_virtual_time
async def test_a_fixed_limit_has_nothing_to_remember(tmp_path: Path) -> None:
    rig = Rig(tmp_path, FixedLimit(5))
    rig.file.path.write_bytes(b"\0\0")
    await rig.memory.load()
    await rig.memory.close()
    assert (rig.memory.picture(), rig.faults, rig.file.path.read_bytes()) == (None, [], b"\0\0")


@in_virtual_time
async def test_a_fault_of_ours_at_the_end_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = adaptive()
    rig = Rig(tmp_path, limit)
    await rig.memory.load()
    teach(limit)
    monkeypatch.setattr(limit, "to_document", lambda: {"tail": float("nan")})
    await rig.memory.close()
    assert [(name, type(error)) for name, error in rig.faults] == [("limit memory", ValueError)]


@in_virtual_time
async def test_what_an_older_version_kept_is_read_by_whom_it_is_about(tmp_path: Path) -> None:
    old = adaptive()
    first = Rig(tmp_path, old)
    await first.memory.load()
    teach(old)
    await first.memory.close()

    async def begin(backend: str) -> tuple[AdaptiveLimit, LogLines]:
        limit, log = adaptive(), LogLines()
        memory = LimitMemory(
            limit,
            backend,
            file=StateFile(tmp_path, file_name(backend)),
            old_file=StateFile(tmp_path, OLD_FILE_NAME),
            maillog=MailLog(log, "json", "debug", wall=lambda: 0.0),
            clock=LoopClock(),
            on_failure=no_failure,
        )
        await memory.load()
        await memory.close()
        return limit, log

    found, log = await begin("exch01")
    assert found.expected(1000, 1) == pytest.approx(SERVICE, rel=0.05)
    other, quiet = await begin("north")
    assert other.expected(1000, 1) is None
    assert (log.lines, quiet.lines) == ([], []), "that it is about another one is no loss"
    StateFile(tmp_path, OLD_FILE_NAME).path.unlink()
    again, _ = await begin("exch01")
    assert again.expected(1000, 1) == pytest.approx(SERVICE, rel=0.05), "it has its own file now"
