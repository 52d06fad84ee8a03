"""No regular expression of the program can be made to backtrack (ReDoS, CWE-1333).

Whoever sends a line chooses its text, and one careless `(a+)+` would stop all mail. The patterns of
all modules are looked at with regexploit. What it cannot read are possessive repeats and atomic
groups, which never try the same text in another way; those are timed on text of one kind of
character after the other. Patterns that are made while the service runs come from the
configuration: `tests/unit/mail/test_pattern.py`.
"""

import importlib
import pkgutil
import re
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mailshed
from tests.support.intensity import TIMES
from tests.tidy.project import name, sources

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports sre_parse
    from regexploit.ast.sre import SreOpParser  # type: ignore[import-untyped]
    from regexploit.redos import find  # type: ignore[import-untyped]

SUBJECT_OCTETS = 10_000 * min(TIMES, 10)
SECONDS_MAX = SUBJECT_OCTETS * 5e-6
"""For one subject; many times what it takes, and a small part of what squared time would be."""
BEGINNINGS = [b"", b"<", b'<"', b"<a@"]
PIECES = [
    *(b"a", b"1", b".", b"-", b"_", b" ", b'"', b"<", b"\t", b"\n", b"a.", b"a-", b"a@", b"<a@"),
    *(b"@a,", b"\\a", b" a=b", b"\n ", b"\r\n", b'<"', b"5.1.1 ", b"xn--", b"+41"),
]
ONLY_FUNCTIONS = re.compile(r"\bre\.(?:sub|match|search|split|fullmatch|findall|finditer)\(")
_NEVER_BACKTRACKS = re.compile(r"[*+?}]\+|\(\?>")


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Every compiled pattern that a module has, by name, also where only its method is kept."""
    for found in pkgutil.walk_packages(mailshed.__path__, "mailshed."):
        if found.name.endswith("__main__"):
            continue
        for attribute, value in vars(importlib.import_module(found.name)).items():
            for candidate in (value, getattr(value, "__self__", None)):
                if isinstance(candidate, re.Pattern):
                    yield f"{found.name}.{attribute}", candidate


def text_of(pattern: re.Pattern[Any]) -> str:
    raw = pattern.pattern
    return raw.decode("latin-1") if isinstance(raw, bytes) else str(raw)


def starry(pattern: str, flags: int = 0) -> list[str]:
    """What regexploit finds."""
    return [str(each) for each in find(SreOpParser().parse_sre(pattern, flags))]


def test_regexploit_finds_no_pattern_that_backtracks() -> None:
    seen = 0
    for place, pattern in patterns():
        text = text_of(pattern)
        if _NEVER_BACKTRACKS.search(text):
            continue
        seen += 1
        assert starry(text, pattern.flags & ~re.UNICODE) == [], f"{place}: {text}"
    assert seen > 40


def test_it_would_find_one() -> None:
    assert starry(r"<([a-z]+)+>")
    assert starry(r"(?:a|a)*b|\s*\s*\s*x")


def test_patterns_are_compiled_where_this_test_sees_them() -> None:
    """A pattern that stands in the middle of a function is seen by nobody."""
    hidden = [
        f"{name(path)}:{number}"
        for path in sources("mailshed")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if ONLY_FUNCTIONS.search(line)
    ]
    assert hidden == []


@pytest.mark.parametrize(
    ("place", "pattern"),
    [pytest.param(place, each, id=place) for place, each in patterns()],
)
def test_no_text_of_one_kind_takes_long(place: str, pattern: re.Pattern[Any]) -> None:
    """A pattern that is searched for could begin anywhere, which squares the time."""
    looks: list[Callable[[Any], Any]] = [pattern.match, pattern.fullmatch]
    if is_searched_for(place):
        looks.append(pattern.findall)
    for start in BEGINNINGS:
        for piece in PIECES:
            raw = (start + piece * SUBJECT_OCTETS)[:SUBJECT_OCTETS] + b"\x01"
            subject: Any = raw if isinstance(pattern.pattern, bytes) else raw.decode()
            for look in looks:
                # Twice: perhaps it was another process that took the time.
                took = seconds(look, subject)
                if took > SECONDS_MAX:
                    took = seconds(look, subject)
                assert took < SECONDS_MAX, (start, piece)


def is_searched_for(place: str) -> bool:
    """Whether its module looks for this pattern everywhere in a text."""
    module, _, attribute = place.rpartition(".")
    text = Path(importlib.import_module(module).__file__ or "").read_text()
    uses = rf"\b{attribute}(?:\.search|\.find|\.sub|\.split)|^{attribute} = re\..*\.search$"
    return re.search(uses, text, re.MULTILINE) is not None


def seconds(look: Callable[[Any], Any], subject: Any) -> float:
    started = time.perf_counter()
    look(subject)
    return time.perf_counter() - started
