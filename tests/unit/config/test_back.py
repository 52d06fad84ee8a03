"""Sections about mail servers: what fits together within one of them."""

import pytest
from pydantic import ValidationError

from mailshed.config.back import Backend


@pytest.mark.parametrize(
    "section",
    [
        {"name": "a"},
        {"name": "a", "host": "mail.example.org", "maildir": "trial"},
        {"name": "a", "host": "mail.example.org", "socket": "/run/lmtp"},
        {"name": "a", "maildir": "trial", "socket": "/run/lmtp"},
    ],
)
def test_a_backend_is_a_server_or_a_maildir(section: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="needs one of host"):
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
    assert Backend.model_validate(section).tls_verify is None, "it is"
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


def test_lmtp_has_a_port_of_its_own() -> None:
    assert Backend.model_validate(server()).port == 25
    assert Backend.model_validate(server(protocol="lmtp")).port == 24
    assert Backend.model_validate(server(protocol="lmtp", port=2003)).port == 2003
    with pytest.raises(ValidationError, match="must not be 25"):
        Backend.model_validate(server(protocol="lmtp", port=25))


def test_a_socket_is_spoken_to_by_either_protocol() -> None:
    for protocol in ("smtp", "lmtp"):
        made = Backend.model_validate({"name": "a", "socket": "/run/x", "protocol": protocol})
        assert (made.host, str(made.socket)) == (None, "/run/x")


@pytest.mark.parametrize(
    "setting",
    [
        {"tls": "starttls"},
        {"tls_name": "mx.example.org"},
        {"credentials_file": "/etc/mailshed/login"},
        {"proxy_protocol": True},
    ],
)
@pytest.mark.parametrize("kind", ["socket", "maildir"])
def test_what_is_for_the_network_is_refused_elsewhere(
    kind: str, setting: dict[str, object]
) -> None:
    with pytest.raises(ValidationError, match=f"is of no use with {kind}"):
        Backend.model_validate({"name": "a", kind: "/run/x"} | setting)


@pytest.mark.parametrize(
    "setting", [{"protocol": "lmtp"}, {"identity": "xclient"}, {"chunking": "auto"}]
)
def test_what_is_for_servers_is_refused_for_a_maildir(setting: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="is of no use with maildir"):
        Backend.model_validate({"name": "a", "maildir": "trial"} | setting)
    Backend.model_validate({"name": "a", "socket": "/run/x"} | setting)


def test_by_default_nobody_is_told_and_mail_goes_by_data() -> None:
    made = Backend.model_validate(server())
    assert (made.protocol, made.identity, made.chunking) == ("smtp", "none", "never")
