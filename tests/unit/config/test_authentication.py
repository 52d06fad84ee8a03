from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from mailshed.authentication.sasl import Mechanism
from mailshed.config.authentication import Authentication, policy_of
from mailshed.config.load import authentication_policy, listener_policy, load, session_limits
from mailshed.config.policy import AuthenticationPolicy, AuthMode, SenderRule
from mailshed.config.sources import Sources
from mailshed.errors import ConfigError
from mailshed.policies import needs_restart
from tests.support.certificates import make_authority


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_authority(tmp_path_factory.mktemp("authority")).issue()


@pytest.fixture
def tree(tmp_path: Path, pair: tuple[Path, Path]) -> dict[str, Any]:
    """A configuration with a listener for users."""
    return {
        "version": 1,
        "domains": ["hospital.example"],
        "listeners": [
            {"name": "users", "bind": "127.0.0.1:0", "tls": "starttls", "auth": "required"}
        ],
        "tls": {"certificate": str(pair[0]), "key": str(pair[1])},
        "backends": [{"name": "mail", "maildir": "maildir"}],
        "spool": {"path": str(tmp_path / "spool")},
        "metrics": {"bind": "127.0.0.1:0"},
        "authentication": {"host": "mail.hospital.example"},
    }


def _written(tree: dict[str, Any], folder: Path) -> Path:
    file = folder / "mailshed.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    return file


def test_what_is_not_said_is_strict() -> None:
    section = Authentication()

    assert section.tls == "starttls"
    assert section.sasl_mechanisms == (Mechanism.PLAIN, Mechanism.LOGIN)
    assert section.cache_ttl == 0.0
    assert not section.can_verify
    assert policy_of(section, (), Sources()) == AuthenticationPolicy()


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        ({"tls": "none", "host": "mail.hospital.example"}, "tls", "loopback"),
        ({"tls": "none", "host": "10.20.0.5"}, "tls", "loopback"),
        ({"tls": "none", "host": "localhost.hospital.example"}, "tls", "loopback"),
        ({"senders": "file"}, "senders_file", "need each other"),
        ({"senders_file": "x"}, "senders", "need each other"),
        ({"mechanisms": ["plain", "plain"]}, "mechanisms", "twice"),
    ],
)
def test_settings_that_contradict_each_other_are_faults(
    section: dict[str, Any], key: str, message: str, tree: dict[str, Any], tmp_path: Path
) -> None:
    tree["authentication"] = section
    with pytest.raises(ConfigError, match=message) as refused:
        load(_written(tree, tmp_path))

    assert f"authentication.{key}" in str(refused.value)


@pytest.mark.parametrize(
    "section",
    [
        {"mechanisms": []},
        {"mechanisms": ["cram-md5"]},
        {"failures_max": 0},
        {"timeout": "0s"},
        {"cache_ttl": "30d"},
        {"port": 0},
        {"password": "hunter2"},
    ],
)
def test_settings_beyond_their_bounds_are_faults(section: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Authentication.model_validate(section)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_nobody_listens_in_on_loopback(host: str) -> None:
    assert Authentication.model_validate({"tls": "none", "host": host}).can_verify


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({}, "authentication.host"),
        ({"verifier": "dovecot", "host": "mail.hospital.example"}, "authentication.dovecot_socket"),
        ({"dovecot_socket": "/run/auth"}, "authentication.host"),
    ],
)
def test_a_listener_for_users_needs_somebody_who_knows_the_passwords(
    section: dict[str, Any], key: str, tree: dict[str, Any], tmp_path: Path
) -> None:
    tree["authentication"] = section
    with pytest.raises(ConfigError, match=key) as refused:
        load(_written(tree, tmp_path))
    assert "listeners[0].auth" in str(refused.value)

    tree["listeners"][0]["auth"] = "none"
    load(_written(tree, tmp_path))


def test_it_needs_tls(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["listeners"][0]["tls"] = "none"

    with pytest.raises(ConfigError, match=r"listeners\[0\].auth"):
        load(_written(tree, tmp_path))


def test_sessions_get_what_they_need(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["authentication"] |= {"mechanisms": ["xoauth2"], "failures_max": 7}
    config = load(_written(tree, tmp_path))
    policy = listener_policy(config.listeners[0], config.authentication)

    assert (policy.auth, policy.mechanisms) == (AuthMode.REQUIRED, (Mechanism.XOAUTH2,))
    assert session_limits(config).auth_failures_max == 7


# The file of senders.


def test_the_file_of_senders_is_read_with_the_configuration(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "senders"
    file.write_text(
        "# who may be whom\n"
        "Alice: alice@hospital.example, @lab.hospital.example  # the laboratory\n"
        "\n"
        "bob@hospital.example: *-alerts@hospital.example\n"
    )
    tree["authentication"] |= {"senders": "file", "senders_file": str(file)}
    config = load(_written(tree, tmp_path))
    policy = authentication_policy(config)

    assert policy.senders is SenderRule.FILE
    assert policy.sender_entries == (
        ("alice", ("alice@hospital.example", "@lab.hospital.example")),
        ("bob@hospital.example", ("*-alerts@hospital.example",)),
    )
    assert file in config.sources.signatures


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("alice", "expected a login and its addresses"),
        ("alice:", "expected a login and its addresses"),
        ("alice: a@example.org,", "expected a login and its addresses"),
        (": a@example.org", "name of a user"),
        ("al ice: a@example.org", "name of a user"),
        ("*: a@example.org", "name of a user"),
        ("alice: not-an-address", "not a mail address"),
    ],
)
def test_a_fault_in_it_is_shown_at_its_place(
    line: str, message: str, tree: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "senders"
    file.write_text(f"bob: bob@example.org\n{line}\n")
    tree["authentication"] |= {"senders": "file", "senders_file": str(file)}

    with pytest.raises(ConfigError, match=message) as refused:
        load(_written(tree, tmp_path))
    assert f"{file}:2:" in str(refused.value)


def test_a_file_that_is_not_there_is_a_fault_of_its_key(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    tree["authentication"] |= {"senders": "file", "senders_file": str(tmp_path / "none")}

    with pytest.raises(ConfigError, match="cannot be read") as refused:
        load(_written(tree, tmp_path))
    assert "authentication.senders_file" in str(refused.value)


def test_a_file_of_authorities_that_is_of_no_use_is_found_by_the_check(
    tree: dict[str, Any], tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    tree["authentication"]["ca_file"] = str(tmp_path / "ca.pem")
    with pytest.raises(ConfigError, match="no certificate") as refused:
        load(_written(tree, tmp_path))
    assert "authentication.ca_file" in str(refused.value)

    tree["authentication"]["ca_file"] = str(pair[0])
    assert pair[0] in load(_written(tree, tmp_path)).sources.signatures


# Reload.


@pytest.mark.parametrize(
    ("change", "needs"),
    [
        ({"port": 2587}, True),
        ({"tls_name": "other.example"}, True),
        ({"mechanisms": ["plain"]}, True),
        ({"connections_max": 20}, True),
        ({"failures_max": 9, "failures_per_address": 9, "failures_per_login": 9}, False),
        ({"failures_window": "1h", "cache_ttl": "1h", "entries_max": 500}, False),
        ({"senders": "own"}, False),
    ],
)
def test_what_is_connected_to_needs_a_restart_and_policy_does_not(
    change: dict[str, Any], needs: bool, tree: dict[str, Any], tmp_path: Path
) -> None:
    old = load(_written(tree, tmp_path))
    tree["authentication"] |= change
    new = load(_written(tree, tmp_path))

    assert any("authentication" in key for key in needs_restart(old, new)) is needs
