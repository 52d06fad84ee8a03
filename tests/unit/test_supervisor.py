"""Tasks that outlive the one who asked for them."""

import asyncio

import pytest

from mailshed.supervisor import Supervisor

DEADLINE = 10.0


class _Reports:
    """What a supervisor told about failures."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, BaseException]] = []

    def __call__(self, name: str, error: BaseException) -> None:
        self.seen.append((name, error))


@pytest.fixture
def reports() -> _Reports:
    return _Reports()


@pytest.fixture
def supervisor(reports: _Reports) -> Supervisor:
    return Supervisor(reports)


async def _value(value: int) -> int:
    return value


async def _fail(error: BaseException) -> None:
    raise error


async def test_a_task_gives_its_result_and_is_forgotten(
    supervisor: Supervisor, reports: _Reports
) -> None:
    task = supervisor.spawn(_value(7), "seven")
    assert (len(supervisor), task.get_name()) == (1, "seven")
    assert await task == 7
    assert len(supervisor) == 0
    assert reports.seen == []


async def test_a_failure_is_reported_once_under_the_tasks_name(
    supervisor: Supervisor, reports: _Reports
) -> None:
    error = ValueError("broken")
    supervisor.spawn(_fail(error), "fails")
    assert await supervisor.join(DEADLINE) == 0
    assert reports.seen == [("fails", error)]


async def test_a_failure_is_reported_once_even_if_somebody_awaits_it(
    supervisor: Supervisor, reports: _Reports
) -> None:
    error = ValueError("broken")
    task = supervisor.spawn(_fail(error), "fails")
    with pytest.raises(ValueError, match="broken"):
        await asyncio.shield(task)
    assert reports.seen == [("fails", error)]


async def test_one_failure_leaves_the_others_alone(
    supervisor: Supervisor, reports: _Reports
) -> None:
    gate = asyncio.Event()
    other = supervisor.spawn(gate.wait(), "other")
    supervisor.spawn(_fail(ValueError()), "fails")
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # the task ends, then its callback runs
    assert len(reports.seen) == 1
    assert not other.done()
    gate.set()
    assert await other is True


async def test_the_work_goes_on_when_the_one_who_awaits_it_is_cancelled(
    supervisor: Supervisor,
) -> None:
    gate = asyncio.Event()
    work = supervisor.spawn(gate.wait(), "work")

    async def ask() -> bool:
        return await asyncio.shield(work)

    async with asyncio.TaskGroup() as group:
        client = group.create_task(ask())
        await asyncio.sleep(0)
        client.cancel()
    assert client.cancelled()
    assert not work.done()
    gate.set()
    assert await supervisor.join(DEADLINE) == 0
    assert work.result() is True


async def test_a_cancelled_task_is_no_failure(supervisor: Supervisor, reports: _Reports) -> None:
    task = supervisor.spawn(asyncio.Event().wait(), "waits")
    await asyncio.sleep(0)
    task.cancel()
    assert await supervisor.join(DEADLINE) == 0
    assert reports.seen == []


async def test_join_says_how_many_are_left_at_the_deadline(supervisor: Supervisor) -> None:
    gate = asyncio.Event()
    supervisor.spawn(gate.wait(), "slow")
    supervisor.spawn(_value(1), "quick")
    assert await supervisor.join(0.01) == 1
    gate.set()
    assert await supervisor.join(DEADLINE) == 0


async def test_join_with_nothing_to_do_returns_at_once(supervisor: Supervisor) -> None:
    assert await supervisor.join(DEADLINE) == 0


async def test_join_waits_for_tasks_that_are_spawned_meanwhile(supervisor: Supervisor) -> None:
    """The last step of a message may spawn the first of another: a report, a next attempt."""
    ended: list[int] = []

    async def chain(left: int) -> None:
        await asyncio.sleep(0)
        ended.append(left)
        if left:
            supervisor.spawn(chain(left - 1), "next")

    supervisor.spawn(chain(3), "first")
    assert await supervisor.join(DEADLINE) == 0
    assert ended == [3, 2, 1, 0]


async def test_cancel_all_returns_when_everything_has_ended(
    supervisor: Supervisor, reports: _Reports
) -> None:
    cleaned: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # what has to be settled still is
            cleaned.append(name)

    for name in ("one", "two"):
        supervisor.spawn(work(name), name)
    await asyncio.sleep(0)
    await supervisor.cancel_all()
    assert sorted(cleaned) == ["one", "two"]
    assert len(supervisor) == 0
    assert reports.seen == []


async def test_a_failure_while_being_cancelled_is_reported(
    supervisor: Supervisor, reports: _Reports
) -> None:
    error = OSError("disk")

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise error from None

    supervisor.spawn(work(), "stubborn")
    await asyncio.sleep(0)
    await supervisor.cancel_all()
    assert reports.seen == [("stubborn", error)]
