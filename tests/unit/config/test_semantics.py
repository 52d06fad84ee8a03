"""Checks across keys."""

from tests.support.drafts import paths


def test_says_nothing_about_an_empty_file() -> None:
    """Missing sections are faults of the schema; what is not there cannot contradict."""
    assert paths({}) == []


def test_limits_must_leave_room_for_the_largest_message() -> None:
    limits = {"message_size_max": "3GiB"}

    assert paths({"limits": limits}) == ["limits.message_size_max"]
    assert paths({"limits": {**limits, "content_disk_max": "4GiB"}}) == []
