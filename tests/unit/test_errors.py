"""The exception tree, and that its drawing is true."""

import inspect
import re

import pytest

from mailshed import errors
from mailshed.errors import BackendError, MailshedError
from mailshed.terms import Stage

CLASSES = dict(inspect.getmembers(errors, lambda it: inspect.isclass(it) and it is not Stage))


def test_the_drawing_in_the_docstring_is_the_tree() -> None:
    """Every class stands there once, under its parent."""
    assert errors.__doc__ is not None
    drawn: list[tuple[str, str]] = []
    above: dict[int, str] = {-4: "Exception"}
    for line in errors.__doc__.splitlines():
        match = re.fullmatch(r"    ((?:[|+ ][- ]{3})*)([A-Z]\w+)(?: .*)?", line)
        if match:
            depth = len(match[1])
            above[depth] = match[2]
            drawn.append((match[2], above[depth - 4]))
    assert sorted(drawn) == sorted((name, each.__base__.__name__) for name, each in CLASSES.items())


def test_everything_that_mailshed_raises_can_be_caught_as_one() -> None:
    assert all(issubclass(each, MailshedError) for each in CLASSES.values())


@pytest.mark.parametrize(
    "kind", [each for each in CLASSES.values() if issubclass(each, BackendError)]
)
def test_a_backend_error_says_at_which_stage_it_happened(kind: type[BackendError]) -> None:
    error = kind("connection reset", Stage.DATA)
    assert error.stage is Stage.DATA
    assert str(error) == "connection reset"
