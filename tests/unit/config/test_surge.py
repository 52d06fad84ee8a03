"""From the file's words to what is watched for surges."""

from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import ValidationError

from mailshed.config.policy import SurgePolicy
from mailshed.config.schema import Config
from mailshed.config.surge import surge_policy

BASE: dict[str, Any] = {
    "version": 1,
    "hostname": "mx.example.org",
    "listeners": [{"name": "smtp", "bind": "127.0.0.1:2525"}],
    "backends": [{"name": "exch", "host": "127.0.0.1", "port": 2526}],
    "spool": {"path": "/var/spool/mailshed"},
    "metrics": {"bind": "127.0.0.1:9825"},
}


def policy(surge: dict[str, Any], **changes: Any) -> SurgePolicy:
    return surge_policy(Config.model_validate(BASE | changes | {"surge": surge}))


def test_as_shipped_all_classes_are_watched_in_the_systems_time() -> None:
    made = policy({})

    assert made.is_enabled
    assert (made.time_zone, made.holidays, made.quota) == ("", frozenset(), 1.2)
    assert [each.rank for each in made.classes] == [0, 1, 1, 2, 3, 4, 5]
    assert made.networks == {}


def test_what_is_set_is_taken_over() -> None:
    made = policy(
        {
            "enabled": False,
            "time_zone": "Europe/Paris",
            "holidays": ["12-25", "2026-04-06", "02-29"],
            "quota": 2,
        }
    )

    assert not made.is_enabled
    assert made.time_zone == "Europe/Paris"
    assert made.holidays == {"12-25", "2026-04-06", "02-29"}
    assert made.quota == 2.0


def test_surges_may_be_told_only() -> None:
    assert policy({"quota": None}).quota is None


def test_the_named_networks_are_watched_in_their_order() -> None:
    networks = {"vpn": ["10.64.0.0/14"], "lab": ["10.20.8.0/24", "2001:db8::/48"]}

    made = policy({}, classification={"networks": networks})

    assert list(made.networks) == ["vpn", "lab"]
    assert made.networks["lab"] == (ip_network("10.20.8.0/24"), ip_network("2001:db8::/48"))


@pytest.mark.parametrize(
    ("surge", "words"),
    [
        ({"time_zone": "Paris"}, "for example Europe/Paris"),
        ({"time_zone": "../../etc/passwd"}, "for example Europe/Paris"),
        ({"holidays": ["25.12."]}, "expected a day such as"),
        ({"holidays": ["13-01"]}, "expected a day such as"),
        ({"holidays": ["2026-02-29"]}, "expected a day such as"),
        ({"holidays": [20261225]}, "expected a day such as"),
        ({"quota": 0.5}, "greater than or equal to 1"),
        ({"enabled": "yes"}, "boolean"),
    ],
)
def test_what_makes_no_sense_is_said(surge: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        policy(surge)
