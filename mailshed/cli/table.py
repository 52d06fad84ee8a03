"""Aligned text for people: columns, ages such as `4m10s`, sizes such as `12KiB`.

Lines fit 80 columns. What is too long for its column is cut, with `...` at its end; the JSON form
has it whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH = 80
_AGE_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_SIZE_UNITS = ("KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its title, its greatest width, and whether it holds numbers."""

    title: str
    width_max: int
    is_number: bool = False


def format_age(seconds: float) -> str:
    """Write a span of time in its two largest units: `42s`, `4m10s`, `3h16m`, `12d`."""
    whole = max(0, int(seconds))
    for (unit, size), (minor, minor_size) in pairwise(_AGE_UNITS):
        if whole >= size:
            rest = whole % size // minor_size
            return f"{whole // size}{unit}{rest}{minor}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"


def format_octets(octets: int) -> str:
    """Write a size in at most six characters, rounded: `312B`, `9.8KiB`, `50MiB`."""
    if octets < 1000:
        return f"{octets}B"
    value, unit = octets / 1024, 0
    while value >= 999.5 and unit < len(_SIZE_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.{1 if value < 9.95 else 0}f}{_SIZE_UNITS[unit]}"


def cut(text: str, width: int) -> str:
    """Return `text` in at most `width` columns, without anything a terminal would obey."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= width else shown[: width - 3] + "..."


def count(number: int, noun: str) -> str:
    """Write `1 message`, `2 messages`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


class Table:
    """Rows under titles; each column is as wide as its widest cell, up to its maximum."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._rows: list[list[str]] = []

    def add(self, *cells: object) -> None:
        """Add a row of one cell per column."""
        assert len(cells) == len(self._columns)
        self._rows.append(
            [
                cut(str(cell), column.width_max)
                for cell, column in zip(cells, self._columns, strict=True)
            ]
        )

    def lines(self) -> list[str]:
        """Return the title line and one line per row."""
        rows = [[column.title for column in self._columns], *self._rows]
        widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
        return [
            "  ".join(
                cell.rjust(width) if column.is_number else cell.ljust(width)
                for cell, width, column in zip(row, widths, self._columns, strict=True)
            ).rstrip()
            for row in rows
        ]
