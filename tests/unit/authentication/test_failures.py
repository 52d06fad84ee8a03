from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.authentication.failures import HOME_SECONDS, Failures
from mailshed.config.policy import AuthenticationPolicy

TERMS = AuthenticationPolicy(
    failures_per_address=5, failures_per_login=3, failures_window=600.0, entries_max=100
)
CLINIC, CAFE = ip_address("192.0.2.1"), ip_address("198.51.100.7")


def _fail(failures: Failures, count: int, *, login: str = "", now: float = 0.0) -> None:
    """So many different wrong passwords from the café, for other logins unless one is named."""
    for number in range(count):
        name = login or f"user{number}"
        failures.failed(CAFE, name, f"{name} {number} {now}".encode(), now)


def test_nobody_waits_at_first() -> None:
    assert Failures(TERMS).wait(CAFE, "alice", 0.0) == 0.0


def test_an_address_waits_after_too_many_until_the_window_has_moved_on() -> None:
    failures = Failures(TERMS)
    _fail(failures, 4)
    assert failures.wait(CAFE, "alice", 10.0) == 0.0

    failures.failed(CAFE, "mallory", b"x", 100.0)

    assert failures.wait(CAFE, "alice", 100.0) == 500.0
    assert failures.wait(CAFE, "alice", 599.0) == 1.0
    assert failures.wait(CAFE, "alice", 600.0) == 0.0


def test_others_do_not_wait() -> None:
    failures = Failures(TERMS)
    _fail(failures, 5)

    assert failures.wait(CLINIC, "alice", 0.0) == 0.0


def test_a_login_waits_wherever_it_comes_from() -> None:
    failures = Failures(TERMS)
    _fail(failures, 3, login="alice")

    assert failures.wait(CLINIC, "alice", 0.0) == 600.0
    assert failures.wait(CLINIC, "bob", 0.0) == 0.0


def test_the_same_wrong_password_counts_once() -> None:
    """A telephone with last month's password tries every minute, and guesses nothing."""
    failures = Failures(TERMS)
    for minute in range(60):
        failures.failed(CAFE, "alice", b"last month's", 60.0 * minute)

        assert failures.wait(CAFE, "alice", 60.0 * minute) == 0.0


def test_nobody_elsewhere_locks_a_user_out() -> None:
    failures = Failures(TERMS)
    failures.succeeded(CLINIC, "alice", 0.0)
    for number in range(50):
        failures.failed(ip_address(f"203.0.113.{number}"), "alice", b"%d" % number, 1.0)

    assert failures.wait(CLINIC, "alice", 2.0) == 0.0
    assert failures.wait(CAFE, "alice", 2.0) > 0.0


def test_a_neighbour_behind_the_same_address_does_not_either() -> None:
    failures = Failures(TERMS)
    failures.succeeded(CAFE, "alice", 0.0)
    _fail(failures, 5)

    assert failures.wait(CAFE, "alice", 0.0) == 0.0
    assert failures.wait(CAFE, "bob", 0.0) > 0.0


def test_where_a_login_is_at_home_its_own_failures_count() -> None:
    failures = Failures(TERMS)
    failures.succeeded(CAFE, "alice", 0.0)
    _fail(failures, 3, login="alice")

    assert failures.wait(CAFE, "alice", 1.0) == 599.0
    assert failures.wait(CLINIC, "alice", 1.0) == 0.0
    assert failures.wait(CAFE, "bob", 1.0) == 0.0


def test_being_right_makes_good_for_them() -> None:
    failures = Failures(TERMS)
    failures.succeeded(CAFE, "alice", 0.0)
    _fail(failures, 2, login="alice")
    failures.succeeded(CAFE, "alice", 1.0)
    _fail(failures, 2, login="alice", now=2.0)

    assert failures.wait(CAFE, "alice", 2.0) == 0.0


def test_a_guesser_with_an_account_of_his_own_is_no_better_off() -> None:
    """To be right about one's own password says nothing of the others."""
    failures = Failures(TERMS)
    _fail(failures, 4)
    failures.succeeded(CAFE, "mallory", 1.0)
    failures.failed(CAFE, "bob", b"x", 2.0)

    assert failures.wait(CAFE, "carol", 2.0) > 0.0


def test_a_home_is_forgotten_when_nobody_has_come_home_for_long() -> None:
    failures = Failures(TERMS)
    failures.succeeded(CAFE, "alice", 0.0)
    _fail(failures, 5, now=HOME_SECONDS)

    assert failures.wait(CAFE, "alice", HOME_SECONDS - 1.0) == 0.0
    assert failures.wait(CAFE, "alice", HOME_SECONDS) > 0.0


def test_an_address_of_ipv6_is_a_whole_network() -> None:
    failures = Failures(TERMS)
    for number in range(5):
        address = ip_address(f"2001:db8:1:2::{number:x}")
        failures.failed(address, f"user{number}", b"%d" % number, 0.0)

    assert failures.wait(ip_address("2001:db8:1:2:ffff::"), "alice", 0.0) > 0.0
    assert failures.wait(ip_address("2001:db8:1:3::"), "alice", 0.0) == 0.0
    assert failures.wait(ip_address("0.0.0.0"), "alice", 0.0) == 0.0


def test_tables_are_bounded_and_keep_the_latest() -> None:
    failures = Failures(TERMS)
    _fail(failures, 3, login="alice")
    for number in range(1000):
        address = ip_address(number + 1)
        failures.failed(address, f"user{number}", b"x", 1.0)
        failures.succeeded(address, f"user{number}", 1.0)
        if number % 40 == 0:  # somebody goes on with alice, so she is among the latest
            failures.failed(CAFE, "alice", b"%d" % number, 1.0)

    assert len(failures) == TERMS.entries_max
    assert failures.wait(CLINIC, "alice", 2.0) > 0.0


def test_other_terms_hold_at_once() -> None:
    failures = Failures(TERMS)
    _fail(failures, 2, login="alice")
    failures.terms = AuthenticationPolicy(failures_per_login=2, entries_max=100)

    assert failures.wait(CLINIC, "alice", 0.0) > 0.0


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.floats(0.0, 300.0)), max_size=60
    )
)
def test_who_waits_is_let_go_when_it_was_said_and_not_before(
    said: list[tuple[str, int, float]],
) -> None:
    failures = Failures(TERMS)
    now = 0.0
    for login, number, pause in said:
        now += pause
        wait = failures.wait(CAFE, login, now)
        if wait > 0.0:
            assert wait <= TERMS.failures_window
            assert failures.wait(CAFE, login, now + wait - 0.01) == pytest.approx(0.01)
            assert failures.wait(CAFE, login, now + wait) == 0.0
        else:
            failures.failed(CAFE, login, f"{login}{number}".encode(), now)
