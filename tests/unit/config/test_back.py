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


def server(**settings: object) -> dict[str, object]:
    return {"name": "a", "host": "mail.example.org"} | settings


@pytest.mark.parametrize("tls", ["none", "opportunistic"])
def test_a_password_needs_tls_that_is_required(tls: str) -> None:
    section = server(tls=tls, credentials_file="/etc/mailshed/login")
    with pytest.raises(ValidationError, match="needs tls: starttls or implicit"):
        Backend.model_validate(section)
    for host in ("127.0.0.1", "::1", "localhost"):
        assert Backend.model_validate(section | {"host": host}).credentials_file is not None


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_password_goes_only_to_who_proves_its_name(tls: str) -> None:
    section = server(tls=tls, credentials_file="/etc/mailshed/login")
    assert Backend.model_validate(section).tls_verify
    with pytest.raises(ValidationError, match="own certificate into ca_file"):
        Backend.model_validate(section | {"tls_verify": False})


@pytest.mark.parametrize(
    "setting", [{"tls_verify": True}, {"tls_name": "mx.example.org"}, {"ca_file": "/etc/ca.pem"}]
)
def test_what_verifies_is_refused_where_nobody_is_verified(setting: dict[str, object]) -> None:
    """Whoever writes it believes that it protects."""
    for section in (server(), server(tls="none")):
        with pytest.raises(ValidationError, match="verifies nobody"):
            Backend.model_validate(section | setting)
    assert Backend.model_validate(server(tls="starttls") | setting).tls == "starttls"


def test_tls_is_used_where_it_is_offered_unless_told_otherwise() -> None:
    assert Backend.model_validate(server()).tls == "opportunistic"
    assert Backend.model_validate(server(tls_verify=False)).tls == "opportunistic"
