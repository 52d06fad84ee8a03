"""Which backend serves which domain, and how a message is split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.admission.routing import Routes, Share

ROUTES = Routes(
    "main",
    {
        "main": (),
        "north": ("north.example", ".north.example"),
        "lab": ("lab.north.example", ".deep.lab.north.example"),
        "top": (".example",),
    },
)


@pytest.mark.parametrize(
    ("domain", "backend"),
    [
        ("north.example", "north"),
        ("ward.north.example", "north"),
        ("lab.north.example", "lab"),
        ("x.lab.north.example", "north"),
        ("x.deep.lab.north.example", "lab"),
        ("deep.lab.north.example", "north"),
        ("south.example", "top"),
        ("example", "main"),
        ("anorth.example", "top"),
        ("north.example.net", "main"),
        ("[192.0.2.1]", "main"),
        ("", "main"),
    ],
)
def test_the_most_exact_entry_wins(domain: str, backend: str) -> None:
    assert ROUTES.of(domain) == backend


def test_one_backend_is_not_looked_up() -> None:
    routes = Routes("main", {"main": ()})
    assert routes.is_single
    assert routes.of("anything.example") == "main"
    assert routes.split(["a.example", "b.example"]) == [Share("main", (0, 1))]
    assert not ROUTES.is_single


def test_shares_come_in_order_of_their_first_recipient() -> None:
    domains = ["a.north.example", "b.example.net", "north.example", "", "c.example"]
    assert ROUTES.split(domains) == [
        Share("north", (0, 2)),
        Share("main", (1, 3)),
        Share("top", (4,)),
    ]


_labels = st.sampled_from(["a", "b", "north", "lab", "example"])
_domains = st.lists(_labels, min_size=1, max_size=4).map(".".join)
_entries = st.lists(_domains | _domains.map(".{}".format), max_size=6, unique=True)


@given(_entries, st.lists(_domains | st.just(""), min_size=1, max_size=12))
def test_a_split_has_each_recipient_once_with_the_backend_that_serves_it(
    entries: list[str], domains: list[str]
) -> None:
    routes = Routes("default", _dealt(entries))
    shares = routes.split(domains)
    indexes = [index for share in shares for index in share.indexes]
    assert sorted(indexes) == list(range(len(domains)))
    assert len({share.backend for share in shares}) == len(shares)
    for share in shares:
        assert all(routes.of(domains[index]) == share.backend for index in share.indexes)
        assert list(share.indexes) == sorted(share.indexes)


@given(_entries, _domains)
def test_a_route_is_that_of_the_longest_entry_that_fits(entries: list[str], domain: str) -> None:
    served = _dealt(entries)
    fitting = [
        (len(entry), not entry.startswith("."), name)
        for name, mine in served.items()
        for entry in mine
        if entry == domain or (entry.startswith(".") and domain.endswith(entry))
    ]
    expected = max(fitting)[2] if fitting else "default"
    assert Routes("default", served).of(domain) == expected


def _dealt(entries: list[str]) -> dict[str, list[str]]:
    """Entries dealt to three backends."""
    return {f"b{turn}": entries[turn::3] for turn in range(3)}
