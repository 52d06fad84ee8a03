"""Events in their order, on a clock that only they move."""

from mailshed.simulation.agenda import MONOTONIC_START, Agenda

WALL = 1_000_000.0


def test_events_happen_by_time_and_those_of_one_instant_in_the_order_of_entry() -> None:
    agenda, seen = Agenda(WALL), list[str]()
    agenda.after(2.0, seen.append, "late")
    agenda.after(1.0, seen.append, "first")
    agenda.after(1.0, seen.append, "second")
    while agenda.step(agenda.now + 10.0):
        pass
    assert seen == ["first", "second", "late"]


def test_both_clocks_follow_the_events() -> None:
    agenda = Agenda(WALL)
    seen = list[tuple[float, float, float]]()
    agenda.after(5.0, lambda _: seen.append((agenda.now, agenda.wall, agenda.elapsed)), None)
    agenda.step(agenda.now + 10.0)
    assert seen == [(MONOTONIC_START + 5.0, WALL + 5.0, 5.0)]


def test_what_is_later_than_asked_for_stays_and_the_time_is_what_was_asked_for() -> None:
    agenda, seen = Agenda(WALL), list[str]()
    agenda.after(5.0, seen.append, "later")
    assert not agenda.step(agenda.now + 4.0)
    assert (agenda.elapsed, seen) == (4.0, [])
    assert agenda.step(agenda.now + 1.0)
    assert seen == ["later"]


def test_an_event_may_enter_another_at_its_own_instant() -> None:
    agenda, seen = Agenda(WALL), list[str]()
    agenda.after(1.0, lambda _: agenda.after(0.0, seen.append, "then"), None)
    assert agenda.step(agenda.now + 1.0)
    assert agenda.step(agenda.now)
    assert seen == ["then"]
