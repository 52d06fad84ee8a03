"""Durations and sizes as people write them: `30s`, `5m`, `4h`, `4d`; `64KiB`, `10MiB`, `1GiB`.

Reading and writing are inverse: `parse_duration(format_duration(x)) == x`, likewise for sizes, so
that a configuration which is printed and read again is the same one.

A bare number is refused for both, zero excepted: `timeout: 300` could be anything. Both have a
largest value, so that no sum with the current time leaves the range of a date.
"""

import re
from decimal import Decimal

_DURATION = re.compile(r"(?P<number>[0-9]{1,12}(?:\.[0-9]+)?)(?P<unit>ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SECONDS_MAX = 36_525 * 86400.0
_SIZE = re.compile(r"(?P<number>[0-9]{1,19})(?P<unit>B|KiB|MiB|GiB|TiB)")
_OCTETS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_OCTETS_MAX = 2**62  # fits a signed 64-bit column with room for sums


def parse_duration(value: object) -> float:
    """Seconds of a duration such as `30s`; raises ValueError with a hint."""
    if _is_zero(value):
        return 0.0
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a duration with its unit, for example 500ms, 30s, 5m, 4h or 4d")
    seconds = float(match["number"]) * _SECONDS[match["unit"]]
    if seconds > _SECONDS_MAX:
        raise ValueError("longer than a century")
    return seconds


def parse_size(value: object) -> int:
    """Octets of a size such as `10MiB`; raises ValueError with a hint."""
    if _is_zero(value):
        return 0
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a size with its unit, for example 512B, 64KiB, 10MiB or 1GiB")
    octets = int(match["number"]) * _OCTETS[match["unit"]]
    if octets > _OCTETS_MAX:
        raise ValueError("larger than any disk")
    return octets


def format_duration(seconds: float) -> str:
    """Write `seconds` in the largest unit that gives a whole number, else as decimal seconds."""
    for unit in ("d", "h", "m", "s", "ms"):
        count = round(seconds / _SECONDS[unit])
        if 0 < count < 10**12 and count * _SECONDS[unit] == seconds:
            return f"{count}{unit}"
    return format(Decimal(repr(float(seconds))).normalize(), "f") + "s"


def format_size(octets: int) -> str:
    """Write `octets` in the largest unit that gives a whole number."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if octets and octets % _OCTETS[unit] == 0:
            return f"{octets // _OCTETS[unit]}{unit}"
    return f"{octets}B"


def _is_zero(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value == 0
