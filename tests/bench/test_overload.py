"""The overload bench itself works: it measures, counts and prints."""

import pytest

from tests.bench import overload
from tests.support.debian import require, require_root
from tests.support.overload import MIX

SECONDS = 1.0


@pytest.mark.parametrize("peer", ["mailshed", "postfix"])
def test_a_short_overload_is_measured(peer: str) -> None:
    require_root()
    require("postfix")
    figures = overload.measure(peer, SECONDS)
    assert set(figures.classes) == set(MIX)
    assert sum(row.messages for row in figures.classes.values()) > 0
    for row in figures.classes.values():
        assert (row.refused, row.lost, row.waiting, row.duplicates) == (0, 0, 0, 0)
        assert row.messages == 0 or 0 < row.p50 <= row.p99 <= row.most
    assert 0 < figures.goodput < 2 * figures.capacity
    text = overload.table([figures], SECONDS)
    assert text.count(f"\n{peer:<10}") == len(MIX)
    assert overload.as_tree([figures], SECONDS)["results"][0]["peer"] == peer
