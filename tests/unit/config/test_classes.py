"""From the configuration to the rules of classification."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from mailshed.config.classes import classification_policy
from mailshed.config.load import load
from mailshed.config.policy import ClassificationPolicy, SenderRate
from mailshed.config.schema import Config
from mailshed.config.shipped import shipped_policy

PLAIN: dict[str, Any] = {
    "version": 1,
    "hostname": "relay.example.org",
    "listeners": [{"name": "smtp", "bind": "127.0.0.1:0"}],
    "backends": [{"name": "mail", "host": "mail.example.org"}],
    "spool": {"path": "/var/lib/mailshed"},
    "metrics": {"bind": "127.0.0.1:0"},
}


def policy_of(**sections: Any) -> ClassificationPolicy:
    return classification_policy(Config.model_validate(PLAIN | sections))


def test_site_rules_come_first_and_the_shipped_policy_after_them() -> None:
    rules = [
        {
            "name": "remote",
            "class": "telework",
            "client_networks": ["vpn", "10.9.0.0/16", "2001:db8::1"],
        },
        {"name": "results", "class": "clinical", "headers": {"X-Result": ["FINAL"], "X-W": None}},
    ]
    networks = {"vpn": ["10.64.0.0/14", "10.80.0.0/16"]}
    section = {"networks": networks, "rules": rules, "default": "application"}
    policy = policy_of(classification=section)
    remote, results, *shipped = policy.rules

    assert policy.default.name == "application"
    assert remote.traffic_class.name == "telework"
    assert remote.client_networks == tuple(
        map(ip_network, ("10.64.0.0/14", "10.80.0.0/16", "10.9.0.0/16", "2001:db8::1"))
    )
    assert remote.client_network_names == ("vpn", "10.9.0.0/16", "2001:db8::1")
    assert results.headers == (("x-result", ("final",)), ("x-w", ()))
    assert [each.name for each in shipped] == [each.name for each in shipped_policy()[0]]
    assert all(each.origin.startswith("default.yaml:") for each in shipped)


def test_every_condition_reaches_the_rule() -> None:
    everything = {
        "name": "r",
        "class": "bulk",
        "client_networks": ["10.0.0.0/8"],
        "not_client_networks": ["10.1.0.0/16"],
        "listeners": ["smtp"],
        "trusted": True,
        "users": ["Alice"],
        "priority_min": 1,
        "priority_max": 2,
        "senders": ["A@B.example", "@Lab.example"],
        "sender_domains": ["B.example"],
        "null_sender": False,
        "recipients": ["*@C.example"],
        "recipient_domains": [".c.example"],
        "recipients_min": 3,
        "recipients_max": 4,
        "size_min": "1KiB",
        "size_max": "2KiB",
        "headers": {"List-*": ["X*"]},
        "sender_rate": {"recipients": 5, "messages": 6, "within": "1m"},
    }
    section = {"rules": [everything], "policy": "none"}
    (made,) = policy_of(classification=section).rules
    assert made.not_client_networks == (ip_network("10.1.0.0/16"),)
    assert (made.listeners, made.trusted, made.users) == (("smtp",), True, ("alice",))
    assert (made.priority_min, made.priority_max) == (1, 2)
    assert made.senders == ("a@b.example", "@lab.example")
    assert (made.sender_domains, made.null_sender) == (("b.example",), False)
    assert (made.recipients, made.recipient_domains) == (("*@c.example",), (".c.example",))
    assert (made.recipients_min, made.recipients_max) == (3, 4)
    assert (made.size_min, made.size_max) == (1024, 2048)
    assert made.headers == (("list-*", ("x*",)),)
    assert made.sender_rate == SenderRate(recipients=5, messages=6, within=60.0)


def test_what_is_not_asked_for_is_not_given() -> None:
    section = {"rules": [{"name": "r", "class": "bulk", "trusted": True}], "policy": "none"}
    (made,) = policy_of(classification=section).rules
    assert (made.users, made.senders, made.recipients, made.sender_rate) == (None,) * 4
    assert (made.client_network_names, made.headers) == ((), ())


def test_clinical_networks_are_those_of_all_clinical_rules() -> None:
    rules = [
        {"name": "lab", "class": "clinical", "client_networks": ["lab"], "headers": {"X": None}},
        {"name": "ward", "class": "clinical", "client_networks": ["10.2.0.0/16"]},
        {"name": "vpn", "class": "telework", "client_networks": ["10.3.0.0/16"]},
    ]
    section = {"networks": {"lab": ["10.1.0.0/16"]}, "rules": rules}
    by_rate = policy_of(classification=section).rules[-1]
    assert by_rate.name == "behaves-like-bulk"
    assert by_rate.not_client_networks == (ip_network("10.1.0.0/16"), ip_network("10.2.0.0/16"))
    assert by_rate.not_client_network_names == ("clinical-networks",)


def test_without_a_policy_there_are_the_rules_of_the_site() -> None:
    assert policy_of(classification={"policy": "none"}).rules == ()


CLASSES = [
    {"name": "soin", "rank": 0, "threshold": 1.0, "wait_max": "2s", "objective": "10s"},
    {
        "name": "rest",
        "rank": 1,
        "threshold": 0.9,
        "wait_max": "4s",
        "wait_max_user_agent": "1s",
        "objective": "1h",
    },
]


def test_a_shipped_rule_whose_class_is_gone_is_left_out_but_a_clinical_one_never() -> None:
    policy = policy_of(classes=CLASSES, classification={"default": "rest"})
    found = {each.name: each.traffic_class.name for each in policy.rules}
    assert found == {"secure-health-mail": "soin", "secure-health-document": "soin"}
    assert [item.wait_max_user_agent for item in policy.classes] == [2.0, 1.0]
    assert policy.default is policy.classes[1]


@pytest.mark.parametrize("key", ["senders", "recipients", "users"])
def test_a_rule_with_an_empty_file_matches_nothing_and_not_everything(
    key: str, tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").write_text("# nobody yet\n")
    rules = f"[{{name: r, class: bulk, {key}: ['file:{tmp_path}/empty.txt']}}]"
    file = tmp_path / "m.yaml"
    file.write_text(
        f"version: 1\nhostname: a.example.org\ndomains: [example.org]\n"
        f"listeners: [{{name: a, bind: '127.0.0.1:0'}}]\nbackends: [{{name: m, host: m}}]\n"
        f"spool: {{path: /x}}\nmetrics: {{bind: '127.0.0.1:0'}}\n"
        f"classification: {{rules: {rules}, policy: none}}\n"
    )
    (made,) = classification_policy(load(file)).rules
    assert getattr(made, key) == ()


def test_a_class_says_what_a_normal_wait_is_and_at_which_level_it_waits() -> None:
    classes = {each.name: each for each in policy_of().classes}
    assert (classes["telework"].wait_target, classes["telework"].waits_at_level) == (1.0, 3)
    assert (classes["clinical"].wait_target, classes["clinical"].waits_at_level) == (None, None)
