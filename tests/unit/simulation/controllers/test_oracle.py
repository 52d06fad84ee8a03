"""The oracle has what is there, at any time."""

from mailshed.control.limit import LimitChange, SlotEnding
from mailshed.simulation.controllers.oracle import OracleLimit
from tests.unit.simulation.controllers.samples import feed


def test_it_follows_the_capacity_and_draws_nothing_over_it() -> None:
    servers = [8]
    limit = OracleLimit(lambda: servers[0])
    assert (limit.limit(59.0), limit.ceiling) == (8, 8)
    servers[0] = 4
    change = limit.tick(60.0, is_backlogged=False)
    assert change == LimitChange(before=8, after=4, cause="oracle")
    assert (limit.limit(60.0), limit.ceiling) == (4, 4)


def test_there_is_always_one_slot() -> None:
    assert OracleLimit(lambda: 0).limit(1.0) == 1


def test_nothing_that_happens_changes_its_mind() -> None:
    limit = OracleLimit(lambda: 8)
    for ending in SlotEnding:
        feed(limit, 30.0, ending=ending)
    assert limit.tick(100.0, is_backlogged=True) is None
    assert limit.limit(100.0) == 8
    assert limit.expected(1000, 1) is None
