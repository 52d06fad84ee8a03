"""What a reload replaces, what it may not touch, and what it would strand."""

from typing import Any

import pytest

from mailshed.config.back import Backend
from mailshed.config.schema import Config
from mailshed.control.adaptive import AdaptiveLimit
from mailshed.control.breaker import BreakerState
from mailshed.control.limit import FixedLimit
from mailshed.drain.retry import RetryPolicy
from mailshed.policies import (
    drain_policy,
    fallbacks_for,
    fingerprint,
    helpers_of,
    limit_for,
    live_policies,
    needs_restart,
    removed_classes,
    routes_for,
    stranded,
)
from mailshed.spool.store import ClassTotals, SpoolTotals
from mailshed.terms import SpoolState
from tests.support.builders import WALL, client, subject

BASE: dict[str, Any] = {
    "version": 1,
    "hostname": "mx.example.org",
    "domains": ["example.net"],
    "listeners": [{"name": "smtp", "bind": "127.0.0.1:2525"}],
    "backends": [{"name": "exch", "host": "127.0.0.1", "port": 2526}],
    "spool": {"path": "/var/spool/mailshed"},
    "metrics": {"bind": "127.0.0.1:9825"},
}


def config(**changes: Any) -> Config:
    """The base with whole sections replaced."""
    return Config.model_validate(BASE | changes)


def spool(**changes: Any) -> dict[str, Any]:
    return {"spool": BASE["spool"] | changes}


def test_live_mail_gets_name_rules_relay_and_lifetime() -> None:
    rules = [{"name": "lab", "class": "clinical", "sender_domains": ["lab.example.org"]}]
    made = live_policies(config(classification={"rules": rules}, **spool(lifetime="2d")))
    assert (made.hostname, made.lifetime) == ("mx.example.org", 2 * 86400.0)
    verdict = made.classifier.classify(subject(sender="x@lab.example.org"))
    assert (verdict.traffic_class.name, verdict.rule) == ("clinical", "lab")
    assert "example.net" in made.relay.domains


def test_the_drain_gets_classes_pauses_and_who_reports() -> None:
    made = drain_policy(config(**spool(retry_min="10s", retry_max="1m")))
    assert made.retry == RetryPolicy(delay_min=10.0, delay_max=60.0)
    assert made.classification.by_name("bulk").rank == 5
    assert made.reports.postmaster == "postmaster@mx.example.org"
    assert made.reports.lifetime == 4 * 86400.0
    named = drain_policy(config(postmaster="help@example.org"))
    assert named.reports.postmaster == "help@example.org"


def backend(**changes: Any) -> Backend:
    return Backend.model_validate({"name": "exch", "host": "127.0.0.1"} | changes)


def test_a_fixed_limit_is_what_the_file_says() -> None:
    limit = limit_for(backend(in_flight_max=7, limit="fixed"))
    assert isinstance(limit, FixedLimit)
    assert limit.limit(0.0) == 7


def test_an_adaptive_limit_has_the_bounds_of_the_file() -> None:
    limit = limit_for(backend(in_flight_max=30, limit="adaptive", in_flight_min=3))
    assert isinstance(limit, AdaptiveLimit)
    assert (limit.limit(0.0), limit.ceiling) == (3, 30)
    narrow = limit_for(backend(in_flight_max=1, limit="adaptive"))
    assert (narrow.limit(0.0), narrow.ceiling) == (1, 1)


def test_the_fingerprint_is_of_what_is_said_and_not_of_how() -> None:
    same = config(limits={"sessions_max": 5000})
    assert fingerprint(config()) == fingerprint(same)
    assert len(fingerprint(same)) == 12
    assert fingerprint(config(limits={"sessions_max": 4999})) != fingerprint(same)


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"hostname": "other.example.org"}, ["hostname"]),
        ({"listeners": [{"name": "smtp", "bind": "127.0.0.1:2527"}]}, ["listeners"]),
        ({"backends": [{"name": "exch", "host": "127.0.0.2"}]}, ["backends"]),
        (spool(path="/elsewhere"), ["spool"]),
        (spool(octets_max="1GiB"), ["spool"]),
        ({"metrics": {"bind": "127.0.0.1:9826"}}, ["metrics"]),
        ({"admin": {"socket": "/run/admin.sock"}}, ["admin"]),
        ({"log": {"level": "debug"}}, ["log"]),
        ({"limits": {"content_disk_max": "3GiB"}}, ["limits.content_disk_max"]),
        (
            {"hostname": "x.example.org", "limits": {"content_memory_max": "1GiB"}},
            ["hostname", "limits.content_memory_max"],
        ),
    ],
)
def test_what_is_bound_opened_or_sized_at_the_start_needs_a_restart(
    changes: dict[str, Any], keys: list[str]
) -> None:
    assert needs_restart(config(), config(**changes)) == keys


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"domains": ["example.net", "example.com"]},
        {"trusted_networks": ["10.0.0.0/8"]},
        {"postmaster": "help@example.org"},
        {"normalize_networks": ["10.0.0.0/8"]},
        {"classification": {"default": "bulk"}},
        {"surge": {"enabled": False}},
        {"limits": {"sessions_max": 7, "message_size_max": "1MiB", "shutdown_timeout": "5s"}},
        spool(lifetime="3d", retry_min="1s", retry_max="2s"),
    ],
    ids=lambda changes: next(iter(changes), "nothing"),
)
def test_policy_is_replaced_while_the_service_runs(changes: dict[str, Any]) -> None:
    assert needs_restart(config(), config(**changes)) == []


def test_every_setting_is_either_policy_or_needs_a_restart() -> None:
    """A new section has to find its place in one of the two lists."""
    policy = {
        *("version", "postmaster", "domains", "trusted_networks", "limits", "classes"),
        *("classification", "normalize_networks", "verification", "mode", "quotas", "surge"),
        *("trusted_proxies", "tls", "authentication"),
    }
    fixed = {"hostname", "listeners", "backends", "spool", "metrics", "admin", "log"}
    assert policy | fixed == set(Config.model_fields)


class TestRemovedClasses:
    def with_classes(self, *names: str) -> Config:
        made = config()
        kept = tuple(each for each in made.classes if each.name in names)
        return made.model_copy(update={"classes": kept})

    def held(self, **messages: int) -> SpoolTotals:
        rows = (
            ClassTotals(
                traffic_class=name,
                state=state,
                messages=number,
                recipients=number,
                octets=100,
                oldest_wall=WALL,
            )
            for name, number in messages.items()
            for state in (SpoolState.QUEUED, SpoolState.HOLD)
        )
        return SpoolTotals(by_class=tuple(rows))

    def test_are_those_that_the_new_file_does_not_have(self) -> None:
        old, new = self.with_classes("personal", "bulk"), self.with_classes("personal", "clinical")
        assert removed_classes(old, new) == ["bulk"]
        assert removed_classes(new, new) == []

    def test_strand_the_mail_that_the_spool_holds_of_them_in_whatever_state(self) -> None:
        totals = self.held(bulk=2, personal=5)
        assert stranded(["bulk", "telework"], totals) == ["bulk (4 messages)"]
        assert stranded(["telework"], totals) == []
        assert stranded(["bulk"], self.held(bulk=0)) == []


def test_clinical_networks_follow_the_rules() -> None:
    rules = [{"name": "ward", "class": "clinical", "client_networks": ["192.0.2.0/24"]}]
    made = live_policies(config(classification={"rules": rules}))
    assert client("192.0.2.9").address in made.clinical_networks


def test_who_has_no_domains_and_is_not_the_default_only_helps_out() -> None:
    made = config(
        backends=[
            {"name": "exch", "host": "e", "fallback": "neighbour"},
            {"name": "north", "host": "n", "domains": ["north.example"]},
            {"name": "neighbour", "host": "o"},
        ]
    )
    assert helpers_of(made) == {"neighbour"}
    assert helpers_of(config()) == set()


def test_routes_and_fallbacks_are_those_of_the_sections() -> None:
    made = config(
        backends=[
            {"name": "north", "host": "n", "domains": ["north.example"], "fallback": "exch"},
            {"name": "exch", "host": "e"},
        ]
    )
    routes, fallbacks = routes_for(made), fallbacks_for(made)
    assert (routes.default, routes.of("north.example")) == ("exch", "north")
    fallbacks.tick(0.0, {"north": BreakerState.OPEN, "exch": BreakerState.CLOSED})
    (began,) = fallbacks.tick(600.0, {"north": BreakerState.OPEN, "exch": BreakerState.CLOSED})
    assert (began.backend, began.fallback) == ("north", "exch")
    assert routes_for(config()).is_single
