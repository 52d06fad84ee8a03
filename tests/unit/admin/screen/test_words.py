"""Numbers, times and texts on the screen."""

import pytest

from mailshed.admin.screen.words import age, count, rate, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-3, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (250, "4m10s"),
        (3600, "1h"),
        (11_760, "3h16m"),
        (86_400, "1d"),
        (12.3 * 86400, "12d7h"),
    ],
)
def test_ages_have_their_two_largest_units(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(0, "0"), (0.054, "0.05"), (3.14, "3.1"), (42.0, "42.0"), (412.4, "412"), (12_345.0, "12345")],
)
def test_rates_have_the_digits_that_are_worth_reading(per_second: float, text: str) -> None:
    assert rate(per_second) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (40 * 1024**3, "40 GiB")],
)
def test_sizes_are_binary(octets: int, text: str) -> None:
    assert size(octets) == text


def test_large_counts_keep_their_column() -> None:
    assert [count(n) for n in (0, 999, 46057, 999_999, 12_345_678)] == [
        *("0", "999", "46 057", "999 999", "12.35M")
    ]
