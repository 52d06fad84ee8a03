"""What a plain YAML scalar means, and whether everyone agrees about it.

Editors and language servers read YAML 1.2, PyYAML and many tools YAML 1.1. The two disagree about
`22:30` (1350), `0750` (488), `no` and `on` (booleans) and `1e3` (text), each of which has broken
somebody's mail. mailshed reads the core schema of YAML 1.2 (10.3.2) and refuses a plain scalar
that YAML 1.1 would read as another value, so that no tool can misunderstand an accepted file.

The reading of YAML 1.1 is asked of PyYAML itself, plus the single letters `y` and `n`, which the
specification has as booleans and PyYAML has not.
"""

import math
import re
from collections.abc import Callable
from decimal import Decimal

import yaml

Scalar = str | int | float | bool | None

_NULL = frozenset(["", "~", "null", "Null", "NULL"])
_BOOL = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBERS: tuple[tuple[re.Pattern[str], Callable[[str], int | float]], ...] = (
    (re.compile(r"[-+]?[0-9]{1,18}"), int),
    (re.compile(r"0o[0-7]{1,21}|0x[0-9a-fA-F]{1,15}"), lambda text: int(text, 0)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (
        re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
        lambda text: float(text.replace(".", "")),
    ),
)
_DIGITS_MAX = 18
_LETTERS = frozenset("yYnN")
# YAML 1.1 gives a meaning only to what begins like this; anything else needs no second look.
_SUSPICIOUS = re.compile(r"[-+.0-9=<yYnNtTfFoO~]")


def read_scalar(text: str) -> Scalar:
    """Read a plain scalar as the core schema of YAML 1.2 does; very long integers are floats."""
    if text in _NULL:
        return None
    if (boolean := _BOOL.get(text)) is not None:
        return boolean
    for pattern, convert in _NUMBERS:
        if pattern.fullmatch(text):
            return convert(text)
    return text


def explain_ambiguity(text: str) -> str | None:
    """Say how YAML 1.1 and 1.2 read plain `text` and what to do, or None if they agree."""
    if not _SUSPICIOUS.match(text):
        return None
    ours = read_scalar(text)
    theirs = _describe_1_1(text)
    if theirs == _describe(ours):
        return None
    advice = "put it in quotes if it is text"
    if theirs.startswith("the boolean"):
        advice = f"write {theirs.removeprefix('the boolean ')}, or put it in quotes if it is text"
    elif (digits := _plain_digits(ours)) is not None:
        advice = f"write {digits} if it is a number, or {advice}"
    return f"YAML 1.1 reads this as {theirs}, YAML 1.2 as {_describe(ours)}; {advice}"


def _plain_digits(value: Scalar) -> str | None:
    """Write a number so that nobody misreads it; None for what is no number or has no such form."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    digits = format(Decimal(repr(value)), "f").removesuffix(".0")
    return digits if len(digits) <= _DIGITS_MAX else None


def _describe(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return f"the boolean {str(value).lower()}"
        case int():
            return f"the number {value}"
        case float():
            return f"the number {value:.17g}"
        case str():
            return "text"
        case _:
            return "a date"


def _describe_1_1(text: str) -> str:
    if text in _LETTERS:
        return _describe(text in "yY")
    loader = yaml.SafeLoader("")
    try:
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        if tag.endswith((":merge", ":value")):
            return "an operator"
        value = loader.construct_object(yaml.ScalarNode(tag, text))
    except (ValueError, OverflowError):
        return "something malformed"
    finally:
        loader.dispose()
    return _describe(value)
