import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.config.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("4h", 14400.0),
        ("4d", 345600.0),
        ("1.5h", 5400),
    ],
)
def test_reads_durations_with_their_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "octets"), [("512B", 512), ("64KiB", 65536), ("10MiB", 10485760), ("2TiB", 2**41)]
)
def test_reads_sizes_with_their_unit(text: str, octets: int) -> None:
    assert parse_size(text) == octets


def test_takes_zero_without_a_unit() -> None:
    assert parse_duration(0) == 0.0
    assert parse_size(0) == 0


@pytest.mark.parametrize(
    "value",
    [30, 1.0, 0.0, True, False, None, "30", "30 s", "-5s", "1e3s", "5M", "s", "٣s"],
)
def test_refuses_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="for example 500ms, 30s, 5m, 4h or 4d"):
        parse_duration(value)


@pytest.mark.parametrize(
    "value", [10, False, None, "10", "10MB", "1.5GiB", "10mib", "-1B", "9" * 20 + "B"]
)
def test_refuses_what_is_no_size(value: object) -> None:
    with pytest.raises(ValueError, match="for example 512B, 64KiB, 10MiB or 1GiB"):
        parse_size(value)


def test_refuses_durations_beyond_any_date() -> None:
    with pytest.raises(ValueError, match="longer than a century"):
        parse_duration("36526d")


def test_refuses_sizes_that_no_column_holds() -> None:
    with pytest.raises(ValueError, match="larger than any disk"):
        parse_size("99999999TiB")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.25, "250ms"),
        (90.0, "90s"),
        (120.0, "2m"),
        (86400.0, "1d"),
        (0.00001, "0.00001s"),
    ],
)
def test_writes_durations_in_the_largest_whole_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [(0, "0B"), (1000, "1000B"), (65536, "64KiB"), (2**30, "1GiB"), (3 * 2**40, "3TiB")],
)
def test_writes_sizes_in_the_largest_whole_unit(octets: int, text: str) -> None:
    assert format_size(octets) == text


@settings(deadline=None)
@given(
    st.decimals(min_value=0, max_value=36_525, places=3, allow_nan=False),
    st.sampled_from(["ms", "s", "m", "h", "d"]),
)
def test_a_duration_that_was_read_is_written_so_that_it_reads_the_same(
    number: object, unit: str
) -> None:
    seconds = parse_duration(f"{number}{unit}")

    assert parse_duration(format_duration(seconds)) == seconds


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=2**62))
def test_a_size_reads_as_it_was_written(octets: int) -> None:
    assert parse_size(format_size(octets)) == octets
