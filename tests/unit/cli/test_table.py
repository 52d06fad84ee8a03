import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.cli.table import Column, Table, count, cut, format_age, format_octets


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (0.9, "0s"),
        (42, "42s"),
        (60, "1m"),
        (250, "4m10s"),
        (11_760, "3h16m"),
        (7200, "2h"),
        (86_400 * 12 + 3600 * 5, "12d5h"),
    ],
)
def test_writes_ages_in_their_two_largest_units(seconds: float, text: str) -> None:
    assert format_age(seconds) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1.0KiB"),
        (9999, "9.8KiB"),
        (10_240, "10KiB"),
        (999 * 1024, "999KiB"),
        (1000 * 1024, "1.0MiB"),
        (50 * 2**20, "50MiB"),
        (2**49, "512TiB"),
    ],
)
def test_writes_sizes_in_at_most_six_characters(octets: int, text: str) -> None:
    assert format_octets(octets) == text


def test_aligns_text_left_and_numbers_right() -> None:
    table = Table((Column("CLASS", 8), Column("AGE", 6, is_number=True)))
    table.add("bulk", "4m10s")
    table.add("extraordinary", "9s")

    assert table.lines() == ["CLASS       AGE", "bulk      4m10s", "extra...     9s"]


@settings(deadline=None)
@given(st.text(), st.integers(4, 40))
def test_what_is_cut_fits_and_obeys_nobody(text: str, width: int) -> None:
    shown = cut(text, width)

    assert len(shown) <= width
    assert shown.isprintable()
    if len(text) <= width and text.isprintable():
        assert shown == text


def test_counts_in_singular_and_plural() -> None:
    assert [count(number, "message") for number in (0, 1, 2)] == [
        "0 messages",
        "1 message",
        "2 messages",
    ]
