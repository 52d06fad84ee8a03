"""Caps on sessions against a count of them all, and what is told of refusals."""

from collections import Counter
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.admission.sessions import (
    NOTE_SECONDS,
    NOTES_MAX,
    RATES_MAX,
    Cap,
    OpenSessions,
    Refusals,
    Refused,
    Standing,
    Visitor,
    session_reserve,
)
from tests.support.builders import session_limits

STRANGER, TRUSTED = Standing.STRANGER, Standing.TRUSTED
CLINICAL, PROXY = Standing.CLINICAL, Standing.PROXY


def visitor(address: str = "192.0.2.1", standing: Standing = STRANGER) -> Visitor:
    return Visitor(ip_address(address), standing)


# The caps, one by one.


@pytest.mark.parametrize(
    ("sessions_max", "reserve"), [(1, 0), (2, 1), (19, 1), (40, 2), (5000, 250)]
)
def test_a_twentieth_of_the_sessions_is_held_in_reserve(sessions_max: int, reserve: int) -> None:
    """One at least, but never the only one: a limit of 1 still serves everybody."""
    assert session_reserve(sessions_max) == reserve


@pytest.mark.parametrize(
    ("standing", "most"), [(STRANGER, 19), (TRUSTED, 19), (CLINICAL, 20), (PROXY, 20)]
)
def test_the_last_sessions_are_for_clinical_networks_and_who_may_bring_them(
    standing: Standing, most: int
) -> None:
    sessions, limits = OpenSessions(), session_limits(sessions_max=20)
    caps = [sessions.enter(visitor(standing=standing), limits, 0.0) for _ in range(25)]
    assert caps == [None] * most + [Cap.TOTAL] * (25 - most)
    assert sessions.total == most


def test_a_stranger_has_fewer_sessions_than_a_trusted_client() -> None:
    limits = session_limits(sessions_per_address=3, sessions_per_trusted_address=5)
    for standing, most in ((STRANGER, 3), (TRUSTED, 5), (CLINICAL, 5), (PROXY, 10)):
        sessions = OpenSessions()
        caps = [sessions.enter(visitor(standing=standing), limits, 0.0) for _ in range(10)]
        assert caps == [None] * most + [Cap.ADDRESS] * (10 - most), standing


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        (["192.0.2.1", "192.0.2.255", "192.0.2.7"], "192.0.3.1"),
        (["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:0:9::"], "2001:db8:0:1::1"),
    ],
)
def test_a_network_of_strangers_has_a_cap_of_its_own(inside: list[str], outside: str) -> None:
    sessions, limits = OpenSessions(), session_limits(sessions_per_network=2)
    caps = [sessions.enter(visitor(address), limits, 0.0) for address in inside]
    assert caps == [None, None, Cap.NETWORK]
    assert sessions.enter(visitor(outside), limits, 0.0) is None
    assert sessions.enter(visitor(inside[2], TRUSTED), limits, 0.0) is None


def test_a_session_that_ends_makes_room_for_another() -> None:
    sessions, limits = OpenSessions(), session_limits(sessions_per_address=1)
    assert sessions.enter(visitor(), limits, 0.0) is None
    assert sessions.enter(visitor(), limits, 0.0) is Cap.ADDRESS
    sessions.leave(visitor())
    assert sessions.enter(visitor(), limits, 0.0) is None


def test_who_is_turned_away_counts_for_nothing() -> None:
    sessions, limits = OpenSessions(), session_limits(sessions_per_address=1)
    sessions.enter(visitor(), limits, 0.0)
    for _ in range(5):
        sessions.enter(visitor(), limits, 0.0)
    sessions.leave(visitor())
    assert sessions.total == 0
    assert not sessions._of_address
    assert not sessions._of_network


# The rate.


def test_a_minutes_worth_of_connections_may_come_at_once_and_then_one_by_one() -> None:
    sessions, limits = OpenSessions(), session_limits(connection_rate_max=60)
    now = 100.0
    caps = [_connect(sessions, limits, now) for _ in range(70)]
    assert caps == [None] * 60 + [Cap.RATE] * 10
    assert [_connect(sessions, limits, now + 1.0) for _ in range(2)] == [None, Cap.RATE]
    assert [_connect(sessions, limits, now + 11.0) for _ in range(11)] == [None] * 10 + [Cap.RATE]


def test_only_strangers_have_a_rate_and_each_address_its_own() -> None:
    sessions, limits = OpenSessions(), session_limits(connection_rate_max=1)
    assert _connect(sessions, limits, 0.0) is None
    assert _connect(sessions, limits, 0.0) is Cap.RATE
    assert _connect(sessions, limits, 0.0, visitor("192.0.2.2")) is None
    for standing in (TRUSTED, CLINICAL, PROXY):
        caps = {_connect(sessions, limits, 0.0, visitor(standing=standing)) for _ in range(5)}
        assert caps == {None}


def test_without_a_rate_any_number_may_come_and_nobody_is_remembered() -> None:
    sessions, limits = OpenSessions(), session_limits(connection_rate_max=0)
    assert {_connect(sessions, limits, 0.0) for _ in range(1000)} == {None}
    assert not sessions._used_until


def test_no_number_of_addresses_makes_the_rates_grow_without_bound() -> None:
    sessions, limits = OpenSessions(), session_limits(connection_rate_max=10)
    first = int(ip_address("10.0.0.0"))
    for number in range(RATES_MAX + 500):
        who = Visitor(ip_address(first + number), STRANGER)
        _connect(sessions, limits, 0.0, who)
    assert len(sessions._used_until) == RATES_MAX
    assert ip_address("10.0.0.0") not in sessions._used_until


def _connect(
    sessions: OpenSessions, limits: object, now: float, who: Visitor | None = None
) -> Cap | None:
    """Connect and leave at once."""
    who = who or visitor()
    cap = sessions.enter(who, limits, now)  # type: ignore[arg-type]
    if cap is None:
        sessions.leave(who)
    return cap


# All of them together.

ADDRESSES = [f"192.0.{network}.{host}" for network in (2, 3) for host in (1, 2, 3)]
VISITORS = st.builds(visitor, st.sampled_from(ADDRESSES), st.sampled_from(list(Standing)))
STEPS = st.lists(st.tuples(st.booleans(), VISITORS), max_size=60)


@given(steps=STEPS)
def test_what_is_counted_is_what_is_open(steps: list[tuple[bool, Visitor]]) -> None:
    limits = session_limits(
        sessions_max=20,
        sessions_per_address=3,
        sessions_per_trusted_address=4,
        sessions_per_network=5,
    )
    sessions = OpenSessions()
    inside: list[Visitor] = []
    for is_leaving, who in steps:
        if is_leaving:
            if who in inside:
                inside.remove(who)
                sessions.leave(who)
        elif sessions.enter(who, limits, 0.0) is None:
            inside.append(who)
        counted = Counter(each.address for each in inside if each.standing is not PROXY)
        strangers = Counter(int(each.address) >> 8 for each in inside if each.standing is STRANGER)
        assert sessions.total == len(inside) <= 20
        assert sessions._of_address == counted
        assert max(strangers.values(), default=0) <= 5
        assert max(counted.values(), default=0) <= 4
        assert {key[1]: value for key, value in sessions._of_network.items()} == strangers


# What is told.


def test_the_first_refusal_is_told_and_then_their_number_each_minute() -> None:
    refusals = Refusals()
    assert refusals.note("a", "rate", 0.0) == [Refused("a", "rate", 1, is_first=True)]
    for second in range(1, 50):
        assert refusals.note("a", "rate", float(second)) == []
    assert refusals.note("a", "rate", NOTE_SECONDS) == [
        Refused("a", "rate", 49, is_first=False),
        Refused("a", "rate", 1, is_first=True),
    ]


def test_a_refusal_without_a_sequel_is_told_once() -> None:
    refusals = Refusals()
    refusals.note("a", "rate", 0.0)
    assert refusals.due(NOTE_SECONDS) == []
    assert not refusals._noted


def test_each_address_and_each_cause_is_told_by_itself() -> None:
    refusals = Refusals()
    refusals.note("a", "rate", 0.0)
    assert refusals.note("b", "rate", 1.0) == [Refused("b", "rate", 1, is_first=True)]
    assert refusals.note("a", "total", 2.0) == [Refused("a", "total", 1, is_first=True)]
    refusals.note("a", "rate", 3.0)
    assert refusals.note("c", "rate", NOTE_SECONDS)[0] == Refused("a", "rate", 1, is_first=False)


def test_many_addresses_are_told_in_one_line() -> None:
    """A flood from everywhere must not become a flood of lines."""
    refusals = Refusals()
    lines = [line for each in range(5000) for line in refusals.note(str(each), "total", 0.0)]
    assert len(lines) == NOTES_MAX + 1
    assert lines[-1] == Refused(None, "total", 1, is_first=True)
    assert refusals.due(NOTE_SECONDS) == [
        Refused(None, "total", 5000 - NOTES_MAX - 1, is_first=False)
    ]


@given(
    notes=st.lists(st.tuples(st.floats(0, 30), st.sampled_from("abc")), max_size=100),
)
def test_no_refusal_is_lost_or_told_twice(notes: list[tuple[float, str]]) -> None:
    refusals, now, told = Refusals(), 0.0, 0
    for pause, address in notes:
        now += pause
        told += sum(each.times for each in refusals.note(address, "rate", now))
    told += sum(each.times for each in refusals.due(now + NOTE_SECONDS))
    assert told == len(notes)
