"""How numbers, times and texts are written on the screen.

Nothing from outside reaches a terminal raw: control characters are shown as `?`. Numbers are as
short as they can be and still say what is worth reading; a column that is right-aligned holds them.
"""

import textwrap
from typing import Any

# The document as it comes out of JSON. Not imported from `status`, which needs the whole metrics
# package: a command line that only prints must start fast.
Document = dict[str, Any]

ETA_MAX = 99 * 86400
"""Seconds beyond which no estimate is worth saying."""
_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))
# A cause takes at most so many lines of a terminal: it must not push the table off the screen.
_CAUSE_LINES = 2


def wrapped(text: str, width: int | None, indent: str = "") -> list[str]:
    """Lines of at most `width` columns, the further ones indented; one if there is no width."""
    shown = printable(text)
    if width is None:
        return [indent + shown]
    return textwrap.wrap(
        shown,
        width,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_on_hyphens=False,
    )


def cause(text: str, width: int | None) -> list[str]:
    """Why something is as it is: indented, and short enough for a screen if it is for one."""
    return _shortened(wrapped(text, width, "  "), width, _CAUSE_LINES)


def cut(text: str, width: int | None) -> list[str]:
    """One line, the end of which can be missed."""
    return _shortened(wrapped(text, width), width, 1)


def _shortened(lines: list[str], width: int | None, most: int) -> list[str]:
    if width is not None and len(lines) > most:
        lines = lines[:most]
        lines[-1] = lines[-1][: width - 3] + "..."
    return lines


def printable(line: str) -> str:
    """The line without anything that could move a cursor."""
    return "".join(char if char.isprintable() else "?" for char in line)


def count(number: int) -> str:
    """With a gap between thousands; millions are rounded, so that columns hold."""
    if number >= 1_000_000:
        return f"{number / 1e6:.2f}M"
    return f"{number:,}".replace(",", " ")


def rate(per_second: float) -> str:
    """With as many digits as are worth reading: 0, 0.05, 3.1, 420."""
    if per_second == 0:
        return "0"
    return f"{per_second:.{2 if per_second < 1 else 1 if per_second < 100 else 0}f}"


def age(seconds: float) -> str:
    """The two largest units: 4m10s, 3h16m, 12d3h."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    size, unit, next_size, next_unit = next(units for units in _UNITS if whole >= units[0])
    rest = whole % size // next_size
    return f"{whole // size}{unit}" + (f"{rest}{next_unit}" if rest else "")


def size(octets: float) -> str:
    """In the largest binary unit that leaves a number above one."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if octets < 1024:
            return f"{octets:.0f} {unit}" if octets >= 10 or unit == "B" else f"{octets:.1f} {unit}"
        octets /= 1024
    return f"{octets:.1f} TiB"
