"""How long the backlog lasts: by class, with what still comes in taken off the capacity."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.control.forecast import drain_seconds
from tests.support.builders import traffic_class

PERSONAL = traffic_class("personal", 1, guarantee=0.2)
TELEWORK = traffic_class("telework", 4, guarantee=0.1)
BULK = traffic_class("bulk", 5)
CLASSES = (PERSONAL, TELEWORK, BULK)


def test_the_backlog_of_a_class_and_better_ones_over_what_live_mail_leaves() -> None:
    found = drain_seconds(
        CLASSES, {"personal": 80.0, "bulk": 400.0}, {"personal": 2.0, "telework": 4.0}, 8.0
    )
    assert found["personal"] == pytest.approx(80 / (8 - 2))
    assert found["telework"] == 0.0
    assert found["bulk"] == pytest.approx(480 / (8 - 6))


def test_worse_classes_with_mail_waiting_have_their_guarantees() -> None:
    found = drain_seconds(CLASSES, {"personal": 80.0, "telework": 8.0}, {"personal": 2.0}, 10.0)
    assert found["personal"] == pytest.approx(80 / (10 * 0.9 - 2))
    assert found["telework"] == pytest.approx(88 / (10 - 2))


def test_an_hour_at_twice_the_capacity_then_six_tenths_takes_two_and_a_half() -> None:
    found = drain_seconds((BULK,), {"bulk": 3600 * 8.0}, {"bulk": 0.6 * 8}, 8.0)
    assert found["bulk"] == pytest.approx(2.5 * 3600)


def test_a_backlog_that_does_not_shrink_has_no_end() -> None:
    found = drain_seconds(CLASSES, {"bulk": 1.0}, {"personal": 8.0}, 8.0)
    assert found == {"personal": 0.0, "telework": 0.0, "bulk": None}


def test_without_a_capacity_nothing_is_known_but_that_there_is_no_backlog() -> None:
    assert drain_seconds(CLASSES, {"bulk": 1.0}, {}, None) == {
        "personal": 0.0,
        "telework": 0.0,
        "bulk": None,
    }


WORK = st.dictionaries(st.sampled_from(["personal", "telework", "bulk"]), st.floats(0, 1e6))


@given(WORK, WORK, st.floats(0.1, 1e4), st.floats(0, 1e6))
def test_more_backlog_never_ends_sooner(
    backlog: dict[str, float], live: dict[str, float], capacity: float, more: float
) -> None:
    before = drain_seconds(CLASSES, backlog, live, capacity)
    worse = {**backlog, "bulk": backlog.get("bulk", 0.0) + more}
    after = drain_seconds(CLASSES, worse, live, capacity)
    for name in before:
        first, then = before[name], after[name]
        assert first is None or first >= 0.0
        if first is None:
            assert then is None
        elif then is not None:
            assert then >= first
