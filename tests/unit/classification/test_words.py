"""How explanations write what they speak of."""

import pytest

from mailshed.classification.words import at_least, listed, shown


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ([], "an empty list"),
        (["a"], "a"),
        (["a", "b", "c", "d"], "a, b, c, d"),
        (["a", "b", "c", "d", "e", "f"], "a, b, c, d and 2 more"),
        (["189027512345678@patient.mssante.fr"], "***@patient.mssante.fr"),
    ],
)
def test_lists_a_few_entries_and_masks_patients(entries: list[str], text: str) -> None:
    assert listed(entries) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("\x1b[31m\n", "?[31m?"),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 57 + "..."),
        ("<189027512345678@patient.mssante.fr>", "<***@patient.mssante.fr>"),
    ],
)
def test_shows_a_value_cut_and_safe(value: str, text: str) -> None:
    assert shown(value) == text


def test_names_the_bounds_that_there_are() -> None:
    assert at_least("n is", 3, 4, None) == "n is 3, asked for at least 4"
    assert at_least("n is", 3, None, 4) == "n is 3, asked for at most 4"
    assert at_least("n is", 3, 1, 4) == "n is 3, asked for at least 1 and at most 4"
