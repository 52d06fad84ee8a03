"""Durations and sizes as people write them: `30s`, `5m`, `4h`, `4d`; `64KiB`, `10MiB`, `1GiB`.

A bare number is refused for both, zero excepted: `timeout: 300` could be anything.
"""

import re

_DURATION = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<unit>ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(?P<number>[0-9]+)(?P<unit>B|KiB|MiB|GiB|TiB)")
_OCTETS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}


def parse_duration(value: object) -> float:
    """Seconds of a duration such as `30s`; raises ValueError with a hint."""
    if value == 0 and not isinstance(value, bool):
        return 0.0
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a duration with its unit, for example 500ms, 30s, 5m, 4h or 4d")
    return float(match["number"]) * _SECONDS[match["unit"]]


def parse_size(value: object) -> int:
    """Octets of a size such as `10MiB`; raises ValueError with a hint."""
    if value == 0 and not isinstance(value, bool):
        return 0
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a size with its unit, for example 512B, 64KiB, 10MiB or 1GiB")
    return int(match["number"]) * _OCTETS[match["unit"]]
