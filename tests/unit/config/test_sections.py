"""Sections about places and bounds: what fits together within one of them."""

import pytest
from pydantic import ValidationError

from mailshed.config.sections import Spool, Verification


@pytest.mark.parametrize(
    "section",
    [
        {"mode": "file"},
        {"mode": "call_ahead", "recipients_file": "recipients"},
        {"recipients_file": "recipients"},
        {"mode": "off"},
        {"sender": "not an address"},
        {"wait_stranger": "2m"},
        {"entries_max": 10},
        {"unknown_max": 0},
    ],
)
def test_recipients_are_verified_in_one_way(section: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Verification.model_validate(section)


def test_delays_of_retries_are_ordered_and_shorter_than_mail_lives() -> None:
    assert Spool.model_validate({"path": "spool", "retry_min": "5m"}).retry_min == 300.0
    for wrong in ({"retry_min": "20m"}, {"lifetime": "10m"}):
        with pytest.raises(ValidationError):
            Spool.model_validate({"path": "spool", **wrong})
