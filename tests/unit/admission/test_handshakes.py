"""Caps on TLS handshakes: for all, for one network, and a share for clinical networks alone."""

from collections import Counter
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.admission.handshakes import OpenHandshakes, handshake_reserve
from mailshed.config.policy import TlsPolicy

ONE, NEIGHBOUR, OTHER = map(ip_address, ("192.0.2.1", "192.0.2.254", "192.0.3.1"))


def policy(most: int, per_network: int) -> TlsPolicy:
    return TlsPolicy(
        certificate=Path("c"),
        key=Path("k"),
        handshakes_max=most,
        handshakes_per_network=per_network,
    )


@pytest.mark.parametrize(
    ("most", "reserve"), [(1, 0), (2, 1), (3, 1), (4, 1), (8, 2), (64, 16), (1000, 250)]
)
def test_a_quarter_is_for_clinical_networks(most: int, reserve: int) -> None:
    assert handshake_reserve(most) == reserve


def test_the_last_quarter_is_refused_to_others() -> None:
    table, bounds = OpenHandshakes(), policy(8, 8)
    others = [table.enter(ONE, bounds, is_clinical=False) for _ in range(8)]
    assert others == [True] * 6 + [False] * 2
    clinical = [table.enter(OTHER, bounds, is_clinical=True) for _ in range(3)]
    assert clinical == [True, True, False]
    assert table.total == 8


def test_clinical_networks_have_the_whole_of_it() -> None:
    table, bounds = OpenHandshakes(), policy(8, 2)
    assert [table.enter(ONE, bounds, is_clinical=True) for _ in range(9)] == [True] * 8 + [False]


def test_a_network_has_its_own_cap() -> None:
    table, bounds = OpenHandshakes(), policy(100, 2)
    assert table.enter(ONE, bounds, is_clinical=False)
    assert table.enter(NEIGHBOUR, bounds, is_clinical=False)
    assert not table.enter(ONE, bounds, is_clinical=False)
    assert table.enter(OTHER, bounds, is_clinical=False)
    table.leave(NEIGHBOUR)
    assert table.enter(ONE, bounds, is_clinical=False)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8:0:0::1", "2001:db8:0:1::1", False),
        ("0.0.0.1", "::1", False),
    ],
)
def test_what_a_network_is(one: str, other: str, is_same: bool) -> None:
    table, bounds = OpenHandshakes(), policy(100, 1)
    assert table.enter(ip_address(one), bounds, is_clinical=False)
    assert table.enter(ip_address(other), bounds, is_clinical=False) is not is_same


def test_a_refusal_counts_nothing() -> None:
    table, bounds = OpenHandshakes(), policy(100, 1)
    table.enter(ONE, bounds, is_clinical=False)
    for _ in range(5):
        assert not table.enter(ONE, bounds, is_clinical=False)
    table.leave(ONE)
    assert table.total == 0
    assert table.enter(ONE, bounds, is_clinical=False)


def test_lower_bounds_hold_at_once() -> None:
    """A reload may set them below what is under way."""
    table = OpenHandshakes()
    for _ in range(10):
        assert table.enter(ONE, policy(100, 100), is_clinical=False)
    assert not table.enter(ONE, policy(4, 100), is_clinical=True)
    for _ in range(8):
        table.leave(ONE)
    assert table.enter(ONE, policy(4, 100), is_clinical=False)


@given(
    st.lists(st.tuples(st.sampled_from([ONE, NEIGHBOUR, OTHER]), st.booleans(), st.booleans())),
    st.integers(1, 6),
    st.integers(1, 6),
)
def test_no_bound_is_ever_passed_and_nothing_is_left(
    steps: list[tuple[object, bool, bool]], most: int, per_network: int
) -> None:
    table, bounds = OpenHandshakes(), policy(most, per_network)
    inside: list[tuple[object, bool]] = []
    for address, is_clinical, is_leaving in steps:
        if is_leaving and inside:
            table.leave(inside.pop()[0])  # type: ignore[arg-type]
        elif table.enter(address, bounds, is_clinical=is_clinical):  # type: ignore[arg-type]
            inside.append((address, is_clinical))
        assert table.total == len(inside) <= most
        if not any(clinical for _, clinical in inside):
            networks = Counter(int(each) >> 8 for each, _ in inside)  # type: ignore[call-overload]
            assert all(number <= per_network for number in networks.values())
            assert len(inside) <= most - handshake_reserve(most)
    for address, _ in inside:
        table.leave(address)  # type: ignore[arg-type]
    assert table.total == 0
    assert not table._of_network
