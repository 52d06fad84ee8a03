"""The bounded view of a header section."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.mail.header import (
    EXCERPT_OCTETS_MAX,
    FIELDS_MAX,
    OCTETS_MAX,
    HeaderView,
    priority_in,
)


def test_finds_fields_by_name_in_any_case_and_in_order() -> None:
    view = HeaderView(b"Received: one\r\nSubject: Hi\r\nRECEIVED: two\r\n\r\nReceived: body\r\n")
    assert view.values("received") == ["one", "two"]
    assert view.values("Received") == ["one", "two"]
    assert view.count("rEceived") == 2
    assert "subject" in view
    assert "Subject" in view
    assert "to" not in view
    assert view.values("to") == []
    assert view.count("to") == 0
    assert not view.is_truncated


@pytest.mark.parametrize(
    ("head", "value"),
    [
        (b"X: a\r\n b\r\n\r\n", "a b"),
        (b"X: a\r\n\tb\r\n\r\n", "a b"),
        (b"X:\r\n a\r\n\r\n", "a"),
        (b"X: a\r\n    b\r\n\t\tc  d\r\n\r\n", "a b c d"),
        (b"X: a\r\n \r\n b\r\n\r\n", "a b"),
        (b"X:a\r\n\r\n", "a"),
        (b"X :a\r\n\r\n", "a"),
        (b"X\t:a\r\n\r\n", "a"),
        (b"X: a: b:c\r\n\r\n", "a: b:c"),
        (b"X:\r\n\r\n", ""),
        (b"X: \xe9t\xe9\r\n\r\n", "été"),
    ],
)
def test_shows_the_value_unfolded_with_single_spaces(head: bytes, value: str) -> None:
    """RFC 5322, 2.2.3; white space before the colon is the obsolete form of 4.5."""
    assert HeaderView(head).values("x") == [value]


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\r\n",
        b"\r\nX: body\r\n",
        b"\r\n\r\nX: body\r\n",
        b"no colon here\r\n\r\nX: body\r\n",
        b" X: begins with a fold\r\n\r\n",
        b"garbage\r\n X: a fold of garbage\r\n\r\n",
        b"..X: dot-stuffed\r\n\r\n",
    ],
)
def test_sees_no_field_where_there_is_none(head: bytes) -> None:
    view = HeaderView(head)
    assert "x" not in view
    assert not view.is_truncated


@pytest.mark.parametrize("head", [b"X: a", b"X: a\r\n", b"X: a\r\n\r\n", b"X: a\r\n\r\nbody"])
def test_a_message_may_end_anywhere_after_its_header(head: bytes) -> None:
    assert HeaderView(head).values("x") == ["a"]


def test_a_dot_stuffed_first_line_does_not_hide_what_follows() -> None:
    assert HeaderView(b"..\r\n..Y: 1\r\nX: a\r\n\r\n").values("x") == ["a"]


def test_a_value_of_any_octets_is_shown() -> None:
    """Latin-1 gives each octet a character, so nothing can fail to decode."""
    octets = bytes(each for each in range(256) if each not in b"\r\n")
    shown = HeaderView(b"X: " + octets + b"\r\n\r\n").values("x")
    assert shown == [b" ".join(octets.split()).decode("latin-1")]


def test_looks_at_so_many_fields_and_says_so() -> None:
    whole = HeaderView(b"X: 1\r\n" * FIELDS_MAX + b"\r\n")
    assert (whole.count("x"), whole.is_truncated) == (FIELDS_MAX, False)
    cut = HeaderView(b"X: 1\r\n" * FIELDS_MAX + b"Y: 2\r\n\r\n")
    assert (cut.count("x"), cut.count("y"), cut.is_truncated) == (FIELDS_MAX, 0, True)


def test_the_lines_of_one_field_do_not_count_as_fields() -> None:
    """A list of a thousand recipients does not hide the List-Id behind it."""
    head = b"To: a@b.example" + b",\r\n c@d.example" * 2000 + b"\r\nList-Id: <x>\r\n\r\n"
    view = HeaderView(head)
    assert view.values("list-id") == ["<x>"]
    assert not view.is_truncated


def test_looks_at_so_many_octets_and_says_so() -> None:
    filler = b"F: " + b"f" * (OCTETS_MAX - 3 - 2 - 6 - 4) + b"\r\n"
    fits = HeaderView(filler + b"X: abc\r\n\r\n")
    assert (fits.values("x"), fits.is_truncated) == (["abc"], False)
    beyond = HeaderView(filler + b"X: abcdef\r\n\r\n")
    assert (beyond.values("x"), beyond.is_truncated) == ([], True)
    assert beyond.count("f") == 1


def test_an_empty_header_before_a_large_body_is_not_truncated() -> None:
    assert not HeaderView(b"\r\n" + b"x" * (2 * OCTETS_MAX)).is_truncated


def test_a_head_of_full_length_without_an_end_counts_as_truncated() -> None:
    """What was kept of the message may end in the middle of its header."""
    assert HeaderView(b"X: " + b"x" * (OCTETS_MAX - 3)).is_truncated


names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,10}", fullmatch=True)
words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=10)
values = st.lists(words, max_size=6)
folds = st.sampled_from([" ", "\r\n ", "\r\n\t", "  ", "\t", "\r\n   "])


@settings(deadline=None)
@given(st.lists(st.tuples(names, values, folds), max_size=10), st.binary(max_size=40))
def test_every_field_of_a_well_formed_header_is_found(
    fields: list[tuple[str, list[str], str]], body: bytes
) -> None:
    head = "".join(f"{name}: {fold.join(words)}\r\n" for name, words, fold in fields)
    view = HeaderView(head.encode("ascii") + b"\r\n" + body)
    for name, _, _ in fields:
        expected = [" ".join(words) for each, words, _ in fields if each.lower() == name.lower()]
        assert view.values(name) == expected


@settings(deadline=None, max_examples=300)
@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from([b"\r\n", b":", b"X", b" ", b"\r"])).map(b"".join)
)
def test_any_octets_can_be_looked_at(head: bytes) -> None:
    view = HeaderView(head)
    assert all("\r\n" not in value for value in view.values("x"))
    assert len(view.values("x")) == view.count("x")
    assert ("x" in view) == (view.count("x") > 0)


@pytest.mark.parametrize(
    "bomb",
    [
        b"A: b\r\n" * 1_000_000,
        b"Subject: " + b"x" * 10_000_000,
        b"Subject: " + b"x " * 5_000_000,
        b"Subject: a" + b"\r\n b" * 1_000_000,
        b"Subject: a" + b"\r\n " * 1_000_000,
        b"Subject: a" + b"\r\n\t \r\n " * 500_000,
        b"a\r\n" * 1_000_000,
        b":" * 1_000_000,
        b":\r\n" * 1_000_000,
        b"".join(b"X%d: y\r\n" % number for number in range(100_000)),
        b"\r" * 1_000_000,
        b"\n" * 1_000_000,
        b" " * 1_000_000,
    ],
    ids=range(13),
)
def test_a_header_bomb_costs_a_millisecond(bomb: bytes) -> None:
    """Asserted with a wide margin; a quadratic reader would take minutes."""

    def look() -> float:
        started = time.perf_counter()
        HeaderView(bomb).values("subject")
        return time.perf_counter() - started

    assert min(look() for _ in range(3)) < 0.01


def test_all_fields_with_alike_names_together() -> None:
    view = HeaderView(b"B: 1\r\nA: 2\r\nb : 3\r\n\xc0: 4\r\nno field\r\n\r\nC: 5\r\n")
    assert view.items() == [("b", "1"), ("b", "3"), ("a", "2"), ("\xc0", "4")]


# What rules ask.


def test_finds_names_by_their_beginning() -> None:
    view = HeaderView(b"List-Id: a\r\nX-List-Id: b\r\nLIST-Post: c\r\nList: d\r\n\r\nList-Y: e\r\n")
    assert view.has_prefix(b"list-")
    assert view.keys_with(b"list-") == [b"list-id", b"list-post"]
    assert view.values_of(b"list-post") == ["c"]
    assert view.has(b"x-list-id")
    assert not view.has(b"list-y")
    assert not HeaderView(b"X: list-id\r\n\r\n").has_prefix(b"list-")
    assert not HeaderView(b"").has_prefix(b"list-")


@settings(deadline=None)
@given(st.lists(names, max_size=8), names)
def test_a_beginning_is_there_if_a_name_has_it(given_names: list[str], name: str) -> None:
    view = HeaderView("".join(f"{each}: x\r\n" for each in given_names).encode() + b"\r\n")
    prefix = name.lower().encode()
    expected = [
        each.lower().encode() for each in given_names if each.lower().startswith(name.lower())
    ]
    assert view.keys_with(prefix) == list(dict.fromkeys(expected))
    assert view.has_prefix(prefix) is bool(expected)


def test_an_excerpt_has_the_fields_that_are_wanted_and_no_others() -> None:
    view = HeaderView(b"List-Id: a\r\nSubject: b\r\nX: 1\r\nX: 2\r\n y\r\nList-Post: c\r\n\r\n")
    excerpt = view.excerpt({b"x", b"y"}, [b"list-"])
    assert excerpt.values("x") == ["1", "2 y"]
    assert excerpt.keys_with(b"list-") == [b"list-id", b"list-post"]
    assert "subject" not in excerpt


@pytest.mark.parametrize(
    "head",
    [
        b"X: " + b"y" * 60_000 + b"\r\n\r\n",
        b"X: y\r\n" * 900 + b"\r\n",
        b"".join(b"L-%d: %s\r\n" % (number, b"z" * 90) for number in range(500)) + b"\r\n",
        b"L-" + b"n" * 60_000 + b": z\r\n\r\n",
    ],
    ids=range(4),
)
def test_an_excerpt_is_small_whatever_the_header(head: bytes) -> None:
    excerpt = HeaderView(head).excerpt({b"x"}, [b"l-"])
    kept = {key: excerpt.values_of(key) for key in [b"x", *excerpt.keys_with(b"l-")]}
    assert sum(len(key) + sum(map(len, found)) for key, found in kept.items()) <= EXCERPT_OCTETS_MAX


@pytest.mark.parametrize(
    ("lines", "priority"),
    [
        (b"MT-Priority: 3\r\n", 3),
        (b"mt-priority:\r\n -9\r\n", -9),
        (b"MT-Priority: 0\r\n", 0),
        (b"", None),
        (b"MT-Priority:\r\n", None),
        (b"MT-Priority: 10\r\n", None),
        (b"MT-Priority: +3\r\n", None),
        (b"MT-Priority: high\r\n", None),
        (b"MT-Priority: 3 (urgent)\r\n", None),
        (b"MT-Priority: 3\r\nMT-Priority: 3\r\n", None),
        ("MT-Priority: \u0663\r\n".encode(), None),
    ],
)
def test_a_priority_is_read_where_it_is_clear(lines: bytes, priority: int | None) -> None:
    """RFC 6758; two fields are one too many, whichever of them was there first."""
    assert priority_in(HeaderView(b"Subject: x\r\n" + lines + b"\r\nbody\r\n")) == priority
