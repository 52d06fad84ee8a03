"""Patterns with `*` and `?` that no text can make slow.

`*` stands for any run of characters, an empty one too, and `?` for exactly one; nothing else is
special, and case does not matter. There are no regular expressions in the configuration, since one
careless `(a+)+` in a rule would let a stranger's header stop all mail.

A pattern becomes a regular expression all the same, for speed, but one that cannot backtrack: each
piece between two stars is looked for at its first place behind the one before, inside an atomic
group, and what follows never asks for another place. The first place is always as good as a later
one, because a star takes whatever is between. So the time is at most the length of the text times
the length of the longest piece, and both are bounded. The last piece can stand in one place only,
at the end.
"""

import re
from collections.abc import Callable, Iterable

PATTERN_MAX = 254
"""Characters that a pattern may have: as many as an address. The configuration sees to it."""
TEXT_MAX = 998
"""Characters of a text that are looked at: as many as a line of mail can have."""
_WILDCARD = re.compile(r"[*?]")


def is_pattern(text: str) -> bool:
    """Whether `text` has a wildcard."""
    return _WILDCARD.search(text) is not None


def compile_patterns(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Make a function that says whether a text matches any of `patterns` as a whole.

    Text beyond `TEXT_MAX` characters is not looked at.
    """
    joined = "|".join(f"(?>{_translate(pattern)})" for pattern in patterns)
    if not joined:
        return lambda _text: False
    search = re.compile(f"(?s:{joined})", re.IGNORECASE).match

    def matches(text: str) -> bool:
        return search(text[:TEXT_MAX]) is not None

    return matches


def _translate(pattern: str) -> str:
    first, *rest = pattern.split("*")
    if not rest:
        return rf"{_piece(first)}\Z"
    *middle, last = rest
    found = "".join(f"(?>.*?{_piece(each)})" for each in middle if each)
    end = rf".*{_piece(last)}\Z" if last else ""
    return _piece(first) + found + end


def _piece(text: str) -> str:
    return "".join("." if each == "?" else re.escape(each) for each in text)
