"""From the file's words to the terms of admission."""

from ipaddress import ip_address, ip_network
from math import inf
from typing import Any

import pytest

from mailshed.config.admission import EVERYWHERE, admission_policy
from mailshed.config.policy import Quota
from mailshed.config.schema import Config
from mailshed.mail.networks import NetworkSet

BASE: dict[str, Any] = {
    "version": 1,
    "hostname": "mx.example.org",
    "listeners": [{"name": "smtp", "bind": "127.0.0.1:2525"}],
    "backends": [{"name": "exch", "host": "127.0.0.1", "port": 2526}],
    "spool": {"path": "/var/spool/mailshed"},
    "metrics": {"bind": "127.0.0.1:9825"},
}


def config(**changes: Any) -> Config:
    return Config.model_validate(BASE | changes)


def test_as_shipped_only_senders_have_quotas_and_the_spool_decides_from_half_on() -> None:
    made = admission_policy(config())
    assert not made.is_observing
    assert made.lowest_defer_fill == 0.5
    assert made.quotas.per_sender == Quota(soft=1.0, hard=10.0)
    assert (made.quotas.per_network, made.quotas.per_class) == (None, {})
    assert (made.quotas.burst, made.quotas.entries_max) == (600.0, 200_000)


def test_quotas_are_written_by_the_minute_and_kept_by_the_second() -> None:
    quotas = {
        "burst": "1m",
        "per_sender": {"hard": 30},
        "per_network": {"soft": 600},
        "per_class": [{"class": "bulk", "soft": 6, "hard": 12}, {"class": "telework"}],
    }
    made = admission_policy(config(quotas=quotas)).quotas
    assert made.burst == 60.0
    assert made.per_sender == Quota(hard=0.5)
    assert made.per_network == Quota(soft=10.0)
    assert made.per_class == {"bulk": Quota(soft=0.1, hard=0.2)}, "nothing set is no quota"


def test_a_soft_quota_above_the_hard_one_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="must not be greater than hard"):
        config(quotas={"per_sender": {"soft": 30, "hard": 20}})


def test_without_marks_no_fill_matters() -> None:
    classes = [{"name": "all", "rank": 0, "threshold": 1.0, "wait_max": "1s", "objective": "1m"}]
    made = admission_policy(config(classes=classes, classification={"default": "all"}))
    assert made.lowest_defer_fill == inf


def test_the_mode_and_who_is_normalised_in_any_case() -> None:
    made = admission_policy(config(mode="observe", normalize_networks=["10.0.0.0/8"]))
    assert made.is_observing
    assert made.normalize_networks == NetworkSet([ip_network("10.0.0.0/8")])


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_everywhere_is_everywhere(address: str) -> None:
    assert ip_address(address) in EVERYWHERE
