"""A request survives its way, and nothing odd gets through."""

from typing import Any

import pytest

from mailshed.admin.request import DESTINATION_MAX, QueueRequest, parse_request
from mailshed.errors import RequestError
from mailshed.spool.filter import EVERYTHING, QueueFilter
from mailshed.terms import QueueId, SpoolState


@pytest.mark.parametrize(
    "request_",
    [
        QueueRequest(wanted=EVERYTHING, is_all=True, reason="x", messages_max=7),
        QueueRequest(wanted=QueueFilter(ids=(QueueId("A"),)), is_dry_run=True),
        QueueRequest(
            wanted=QueueFilter(
                classes=("bulk",),
                states=(SpoolState.HOLD,),
                senders=("<>", "@.x.example"),
                older_than=90.0,
            ),
            reason="sent by mistake, says Émile",
            destination="/srv/out",
        ),
    ],
)
def test_a_request_is_read_as_it_was_sent(request_: QueueRequest) -> None:
    assert parse_request(request_.document) == request_


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (None, "expected an object with some of all, dry_run, filter, max, reason, to"),
        ([], "expected an object"),
        ({"class": "bulk"}, "expected an object"),
        ({}, "all: no message is named; for the whole queue say so"),
        ({"all": "yes", "reason": "x"}, "all: no message is named"),
        ({"all": True, "filter": {"id": ["A"]}, "reason": "x"}, "all: the whole queue, or"),
        ({"all": True}, "reason: say why"),
        ({"all": True, "reason": "  "}, "reason: say why"),
        ({"all": True, "reason": "x" * 501}, "reason: expected at most 500 printable"),
        ({"all": True, "reason": "a\nb"}, "reason: expected at most 500 printable"),
        ({"all": True, "reason": "a\x1b[2J"}, "reason: expected at most"),
        ({"all": True, "reason": "x", "max": 0}, "max: expected a number from 1 to 100000"),
        ({"all": True, "reason": "x", "max": 100_001}, "max: expected a number"),
        ({"all": True, "reason": "x", "max": "5"}, "max: expected a number"),
        ({"all": True, "reason": "x", "max": True}, "max: expected a number"),
        ({"filter": [], "reason": "x"}, "filter: expected lists of text by name"),
        ({"filter": {"id": "A"}, "reason": "x"}, "filter: expected lists"),
        ({"filter": {"id": [1]}, "reason": "x"}, "filter: expected lists"),
        ({"filter": {"state": ["x"]}, "reason": "x"}, "state: 'x' is no state"),
    ],
)
def test_what_is_not_clear_is_refused(document: Any, told: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_request(document)
    assert str(caught.value).startswith(told)


def test_a_dry_run_needs_no_reason() -> None:
    assert parse_request({"all": True, "dry_run": True}).is_dry_run


def test_a_folder_is_no_longer_than_a_path() -> None:
    asked = parse_request({"all": True, "dry_run": True, "to": "x" * 5000})
    assert len(asked.destination) == DESTINATION_MAX
