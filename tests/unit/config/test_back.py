"""Sections about mail servers: what fits together within one of them."""

import pytest
from pydantic import ValidationError

from mailshed.config.back import Backend


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
