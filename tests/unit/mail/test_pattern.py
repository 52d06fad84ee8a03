"""Patterns with wildcards, and that no text makes them slow."""

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailshed.mail.pattern import (
    PATTERN_MAX,
    TEXT_MAX,
    compile_patterns,
    is_pattern,
)


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("*", "", True),
        ("*", "anything", True),
        ("a*", "abc", True),
        ("a*", "ba", False),
        ("*c", "abc", True),
        ("*c", "abcd", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*a*b*", "xxaxxbxx", True),
        ("*a*b*", "xxbxxaxx", False),
        ("*ab", "aab", True),
        ("*ab*ab", "ab", False),
        ("*ab*ab", "abab", True),
        ("?", "a", True),
        ("?", "", False),
        ("??", "a", False),
        ("a?c", "abc", True),
        ("*?", "", False),
        ("*?*", "x", True),
        ("a.c", "abc", False),
        ("[a]*", "[a]x", True),
        ("[a]*", "ax", False),
        ("a**b", "ab", True),
        ("ABC*", "abcd", True),
        ("abc*", "ABCD", True),
        ("a*", "a\nb", True),
        ("abc", "abc", True),
        ("abc", "abc\n", False),
        ("*c", "c\n", False),
    ],
)
def test_a_star_is_any_run_and_a_question_mark_one_character(
    pattern: str, text: str, matches: bool
) -> None:
    assert compile_patterns([pattern])(text) is matches


def test_any_of_several_will_do_and_none_matches_nothing() -> None:
    matches = compile_patterns(["a*b", "a*c"])
    assert (matches("axb"), matches("axc"), matches("axd")) == (True, True, False)
    assert not compile_patterns([])("")


def test_knows_what_is_a_pattern() -> None:
    assert [is_pattern(text) for text in ("a", "a*", "?", "[a]", "")] == [
        False,
        True,
        True,
        False,
        False,
    ]


def naive(pattern: str, text: str) -> bool:
    """The definition, with a regular expression that may backtrack."""
    wild = {"*": ".*", "?": "."}
    expression = "".join(wild.get(each) or re.escape(each) for each in pattern)
    return re.fullmatch(expression, text, re.DOTALL | re.IGNORECASE) is not None


@settings(deadline=None, max_examples=500)
@given(st.text("ab*?", max_size=8), st.text("abA", max_size=10))
@example("*a*?b", "aab")
def test_agrees_with_the_definition(pattern: str, text: str) -> None:
    assert compile_patterns([pattern])(text) is naive(pattern, text)


@settings(deadline=None)
@given(st.lists(st.text("ab*", max_size=5), max_size=4), st.text("ab", max_size=8))
def test_several_patterns_match_what_any_of_them_does(patterns: list[str], text: str) -> None:
    assert compile_patterns(patterns)(text) is any(naive(each, text) for each in patterns)


def test_no_more_of_a_text_is_looked_at_than_a_line_can_have() -> None:
    assert compile_patterns(["*x"])("a" * (TEXT_MAX - 1) + "x" + "more")
    assert not compile_patterns(["*x"])("a" * TEXT_MAX + "x")


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("*a" * (PATTERN_MAX // 2 - 1) + "b", "a" * TEXT_MAX),
        ("a*" * (PATTERN_MAX // 2 - 1) + "b", "a" * TEXT_MAX),
        ("*" + "a" * (PATTERN_MAX - 2) + "b", "a" * TEXT_MAX),
        ("*" + "?" * (PATTERN_MAX - 2) + "b", "a" * TEXT_MAX),
        ("*?a" * (PATTERN_MAX // 3) + "*b", "a" * TEXT_MAX),
        ("*" + "a?" * 60 + "*" + "a?" * 60 + "b", "a" * TEXT_MAX),
    ],
    ids=range(6),
)
def test_a_hostile_text_costs_milliseconds(pattern: str, text: str) -> None:
    """A matcher that backtracks would take longer than the universe has been there."""
    assert len(pattern) <= PATTERN_MAX
    matches = compile_patterns([pattern])

    def take() -> float:
        started = time.perf_counter()
        assert not matches(text)
        return time.perf_counter() - started

    assert min(take() for _ in range(3)) < 0.05
