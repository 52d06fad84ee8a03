"""What the figures of spool and station say together: how full, how much offered, until when."""

import pytest

from mailshed.control.limit import Reading
from mailshed.outlook import backlog, drain, load_ratios, offered_ratio
from mailshed.shedding import Shedding
from mailshed.spool.store import ClassTotals, SpoolTotals
from mailshed.terms import SpoolState
from tests.support.builders import WALL, traffic_class
from tests.support.overrides import hold, in_force, limit

PERSONAL = traffic_class("personal", 1, wait_target=0.5, objective=120.0)
BULK = traffic_class("bulk", 5, objective=600.0)
CLASSES = (PERSONAL, BULK)
NOW = 100.0
KNOWN = Reading(capacity=8.0, queue=3.0, queue_low=3.0, queue_high=6.0, windows=1)


def totals(*parts: ClassTotals) -> SpoolTotals:
    return SpoolTotals(by_class=parts)


def part(
    name: str = "bulk",
    state: SpoolState = SpoolState.QUEUED,
    *,
    messages: int = 10,
    age: float = 0.0,
) -> ClassTotals:
    return ClassTotals(
        traffic_class=name,
        state=state,
        messages=messages,
        recipients=2 * messages,
        octets=1000 * messages,
        oldest_wall=WALL - age,
    )


@pytest.fixture
def shedding() -> Shedding:
    made = Shedding()
    made.classes = CLASSES
    return made


def ratios(
    shedding: Shedding,
    held: SpoolTotals | None = None,
    reading: Reading = KNOWN,
    *,
    is_away: bool = False,
) -> dict[str, float]:
    found = held if held is not None else totals()
    return load_ratios(shedding, reading, found, CLASSES, is_away=is_away, now=NOW, wall=WALL)


def test_idle_is_nothing(shedding: Shedding) -> None:
    assert ratios(shedding) == {"backend": 0.0, "waits": 0.0, "spool_age": 0.0}


def test_a_backend_that_is_away_is_full(shedding: Shedding) -> None:
    assert ratios(shedding, is_away=True)["backend"] == 1.0


def test_the_queue_inside_the_backend_counts_at_full_use(shedding: Shedding) -> None:
    shedding.use = 1.0
    assert ratios(shedding)["backend"] == 0.5


def test_what_is_offered_counts_over_the_capacity(shedding: Shedding) -> None:
    shedding.use = 1.0
    shedding.divert.offered.note("bulk", 30 * 16.0, NOW)
    assert offered_ratio(shedding, KNOWN, NOW) == pytest.approx(2.0)
    assert ratios(shedding)["backend"] == 1.0
    assert offered_ratio(shedding, Reading(), NOW) is None


def test_waits_are_those_of_the_class_that_waits_longest_for_its_target(
    shedding: Shedding,
) -> None:
    for _ in range(3):
        shedding.waits.on_served(PERSONAL, 0.4, NOW)
    shedding.waits.tick(NOW + 6, CLASSES, lambda _: (0, 0.0))
    assert ratios(shedding)["waits"] == pytest.approx(0.4)


def test_the_oldest_mail_that_has_not_been_tried_counts(shedding: Shedding) -> None:
    held = totals(part(age=1200.0), part("personal", age=48.0))
    assert ratios(shedding, held)["spool_age"] == pytest.approx(0.5)
    assert ratios(shedding, totals(part(age=1e6)))["spool_age"] == 1.0


@pytest.mark.parametrize("state", [SpoolState.DEFERRED, SpoolState.HOLD, SpoolState.CORRUPT])
def test_mail_that_waits_for_something_else_is_not_too_old(
    shedding: Shedding, state: SpoolState
) -> None:
    """One message to a full mailbox would be pressure for days."""
    assert ratios(shedding, totals(part(state=state, age=1e6)))["spool_age"] == 0.0


def test_the_backlog_is_the_work_of_due_mail() -> None:
    asked: list[tuple[int, int]] = []

    def expected(size: int, recipients: int) -> float:
        asked.append((size, recipients))
        return 0.5

    held = [part(), part(state=SpoolState.DEFERRED, messages=4), part(state=SpoolState.HOLD)]
    assert backlog(held, expected) == {"bulk": 7.0}
    assert asked == [(1000, 2), (1000, 2)]
    assert backlog([part(messages=0)], expected) == {}


def test_until_when_is_known_with_the_capacity(shedding: Shedding) -> None:
    held = totals(part(messages=100))
    shedding.divert.offered.note("personal", 30 * 4.0, NOW)

    def expected(_size: int, _recipients: int) -> float:
        return 0.4

    found = drain(shedding, KNOWN, held, expected, is_away=False, now=NOW)
    assert found == {"personal": 0.0, "bulk": pytest.approx(40 / (8 - 4))}
    unknown = drain(
        shedding, Reading(), held, lambda _size, _recipients: None, is_away=False, now=NOW
    )
    assert unknown == {"personal": 0.0, "bulk": None}


def test_nothing_drains_while_the_backend_is_away(shedding: Shedding) -> None:
    held = totals(part(messages=100))
    found = drain(shedding, KNOWN, held, lambda *_: 0.4, is_away=True, now=NOW)
    assert found == {"personal": 0.0, "bulk": None}


def test_a_held_class_does_not_drain_and_is_in_nobodys_way(shedding: Shedding) -> None:
    shedding.divert.offered.note("personal", 30 * 4.0, NOW)
    waiting = totals(part(messages=100), part("personal", messages=100))

    def found() -> dict[str, float | None]:
        return drain(shedding, KNOWN, waiting, lambda *_: 0.4, is_away=False, now=NOW)

    assert found()["bulk"] == pytest.approx(2 * 40 / (8 - 4))
    shedding.overrides = in_force(hold("personal"), classes=CLASSES)
    assert found() == {"personal": None, "bulk": pytest.approx(40 / 8)}


def test_a_limited_class_drains_with_its_slots_at_best(shedding: Shedding) -> None:
    shedding.divert.offered.note("personal", 30 * 1.0, NOW)
    shedding.overrides = in_force(limit("personal", 2), classes=CLASSES)
    waiting = totals(part("personal", messages=100))

    def found() -> dict[str, float | None]:
        return drain(shedding, KNOWN, waiting, lambda *_: 0.4, is_away=False, now=NOW)

    assert found() == {"personal": pytest.approx(40 / (2 - 1)), "bulk": 0.0}
    shedding.divert.offered.note("personal", 30 * 1.5, NOW)
    assert found() == {"personal": None, "bulk": 0.0}
