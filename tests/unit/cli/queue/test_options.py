"""What is typed becomes a filter or a request, or a sentence that says what is missing."""

import argparse
from typing import Any

import pytest

from mailshed.admin.request import QueueRequest
from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.cli.queue.options import (
    add_action_options,
    add_filter_options,
    add_ids,
    request,
    wanted,
)
from mailshed.spool.filter import EVERYTHING, QueueFilter
from mailshed.terms import QueueId, SpoolState


def parsed(*arguments: str, action: bool = True) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    if action:
        add_action_options(parser)
    else:
        add_filter_options(parser)
    return parser.parse_args(arguments)


def test_conditions_become_a_filter() -> None:
    typed = parsed("--class", "bulk,telework", "--class", "clinical", "--state", "hold", "a1", "b2")

    assert wanted(typed) == QueueFilter(
        classes=("bulk", "telework", "clinical"),
        states=(SpoolState.HOLD,),
        ids=(QueueId("A1"), QueueId("B2")),
    )
    assert wanted(parsed(action=False)) == EVERYTHING


def test_ids_may_be_words_options_or_both() -> None:
    assert wanted(parsed("a", "--id", "b,c", "--id", "a")).ids == ("B", "C", "A")
    parser = argparse.ArgumentParser()
    add_ids(parser, is_required=True)
    assert wanted(parser.parse_args(["a", "b"])).ids == ("A", "B")


def test_an_action_becomes_a_request() -> None:
    assert request(parsed("a", "--reason", " because ")) == QueueRequest(
        wanted=QueueFilter(ids=(QueueId("A"),)), reason="because", messages_max=10_000
    )
    typed = parsed("--all", "--dry-run", "--max", "7")
    assert request(typed, destination="/srv/out") == QueueRequest(
        wanted=EVERYTHING,
        is_all=True,
        is_dry_run=True,
        messages_max=7,
        destination="/srv/out",
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--all: no message is named; for the whole queue say so"),
        (["--reason", "x"], "--all: no message is named; for the whole queue say so"),
        (["--all", "a", "--reason", "x"], "--all: the whole queue, or what a filter names"),
        (["a"], "--reason: say why, for the audit log"),
        (["a", "--reason", "x" * 501], "--reason: expected at most 500"),
        (["a", "--reason", "a\nb"], "--reason: expected at most 500 printable"),
        (["a", "--reason", "x", "--max", "0"], "--max: expected a number from 1 to 100000"),
        (["--state", "held", "--reason", "x"], "--state: 'held' is no state of a message"),
        (["a/b", "--reason", "x"], "--id: 'a/b' is no queue id"),
    ],
)
def test_what_is_missing_or_not_fit_is_said(arguments: list[str], told: str) -> None:
    with pytest.raises(VerbFailed) as caught:
        request(parsed(*arguments))

    assert caught.value.code == ExitCode.USAGE
    assert str(caught.value).startswith(told)


def test_a_text_that_is_no_utf_8_is_not_sent() -> None:
    """As a shell in another encoding would hand it over."""
    typed: Any = parsed("a", "--reason", "d\udce9j\udce0")
    with pytest.raises(VerbFailed, match="printable"):
        request(typed)
