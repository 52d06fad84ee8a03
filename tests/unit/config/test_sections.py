"""Sections about places and bounds: what fits together within one of them."""

import pytest
from pydantic import ValidationError

from mailshed.config.sections import Backend, Listener, Quota, Spool, Verification


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


@pytest.mark.parametrize(
    "section",
    [
        {"name": "a"},
        {"name": "a", "host": "mail.example.org", "maildir": "trial"},
    ],
)
def test_a_backend_is_a_server_or_a_maildir(section: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="either host"):
        Backend.model_validate(section)


@pytest.mark.parametrize("key", ["in_flight_min", "in_flight_start"])
def test_the_bounds_of_the_limit_are_ordered(key: str) -> None:
    small = {"name": "a", "host": "mail.example.org", "in_flight_max": 1}
    assert Backend.model_validate(small).in_flight_max == 1, (
        "defaults are bounded where they are used"
    )
    with pytest.raises(ValidationError, match="not be greater than in_flight_max"):
        Backend.model_validate(small | {key: 3})


def test_delays_of_retries_are_ordered_and_shorter_than_mail_lives() -> None:
    assert Spool.model_validate({"path": "spool", "retry_min": "5m"}).retry_min == 300.0
    for wrong in ({"retry_min": "20m"}, {"lifetime": "10m"}):
        with pytest.raises(ValidationError):
            Spool.model_validate({"path": "spool", **wrong})


def test_a_soft_quota_is_not_above_the_hard_one() -> None:
    assert Quota.model_validate({"soft": 60, "hard": 60}).soft == 60
    with pytest.raises(ValidationError, match="must not be greater than hard"):
        Quota.model_validate({"soft": 61, "hard": 60})


def test_a_key_that_is_not_there_is_a_fault() -> None:
    with pytest.raises(ValidationError, match="clint"):
        Listener.model_validate({"name": "a", "bind": "127.0.0.1:25", "clint": "mta"})
