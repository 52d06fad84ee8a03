from typing import Any

import pytest

from mailshed.config.semantics import draft, findings

LISTENER = {"name": "internal", "bind": "127.0.0.1:25"}


def paths(raw: dict[str, Any]) -> list[str]:
    return [".".join(map(str, path)) for path, _ in findings(draft(raw))]


def rule(**conditions: object) -> dict[str, Any]:
    return {"classification": {"rules": [{"name": "r", "class": "bulk", **conditions}]}}


def classes(**changes: dict[str, Any]) -> dict[str, Any]:
    """A file with the classes `first` and `second`, of ranks 0 and 1, and `third` of rank 2."""
    made = [
        {
            "name": name,
            "rank": rank,
            "threshold": 1.0,
            "wait_max": "1s",
            "objective": "1m",
            **changes.get(name, {}),
        }
        for rank, name in enumerate(("first", "second", "third"))
    ]
    return {"classes": made, "classification": {"default": "second"}}


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({}, []),
        ({"second": {"guarantee": 0.4}, "third": {"guarantee": 0.6}}, []),
        ({"second": {"guarantee": 0.5}, "third": {"guarantee": 0.6}}, ["classes"]),
        ({"second": {"defer_fill": 0.9}, "third": {"defer_fill": 0.9}}, []),
        ({"third": {"defer_fill": 0.5}}, []),
        ({"second": {"defer_fill": 0.5}, "third": {"defer_fill": 0.9}}, ["classes.1.defer_fill"]),
        ({"second": {"defer_fill": 0.5}}, ["classes.1.defer_fill"]),
        ({"first": {"defer_fill": 0.99}, "third": {}}, ["classes.0.defer_fill"]),
    ],
)
def test_shares_fit_together_and_go_with_the_ranks(
    changes: dict[str, dict[str, Any]], faults: list[str]
) -> None:
    assert paths(classes(**changes)) == faults


def test_quotas_are_of_classes_that_exist_and_have_one_each() -> None:
    quotas = [{"class": "bulk"}, {"class": "bulks"}, {"class": "bulk"}, {"soft": 1}, 7]
    assert paths({"quotas": {"per_class": quotas}}) == [
        "quotas.per_class.1.class",
        "quotas.per_class.2.class",
    ]
    assert paths({"quotas": {"per_class": "bulk"}}) == []


def test_says_nothing_about_an_empty_file() -> None:
    """Missing sections are faults of the schema; what is not there cannot contradict."""
    assert paths({}) == []


@pytest.mark.parametrize(
    ("bind", "is_fault"),
    [
        ("127.0.0.1:25", False),
        ("127.9.9.9:25", False),
        ("[::1]:25", False),
        ("10.0.0.1:25", True),
        ("[::]:25", True),
    ],
)
def test_needs_domains_as_soon_as_strangers_can_connect(bind: str, is_fault: bool) -> None:
    raw = {"listeners": [{"name": "a", "bind": bind}]}

    assert paths(raw) == (["listeners.0.bind"] if is_fault else [])
    assert paths({**raw, "domains": ["example.org"]}) == []


@pytest.mark.parametrize(
    ("one", "other", "is_fault"),
    [
        ("127.0.0.1:25", "127.0.0.1:25", True),
        ("0.0.0.0:25", "127.0.0.1:25", True),
        ("127.0.0.1:25", "0.0.0.0:25", True),
        ("[::]:25", "[::1]:25", True),
        ("0.0.0.0:25", "[::1]:25", False),
        ("127.0.0.1:25", "127.0.0.2:25", False),
        ("127.0.0.1:25", "127.0.0.1:26", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_knows_which_addresses_collide(one: str, other: str, is_fault: bool) -> None:
    listeners = [{"name": "a", "bind": one}, {"name": "b", "bind": other}]
    expected = ["listeners.1.bind"] if is_fault else []

    assert paths({"listeners": listeners, "domains": ["example.org"]}) == expected
    metrics = {"listeners": listeners[:1], "metrics": {"bind": other}, "domains": ["example.org"]}
    assert paths(metrics) == (["metrics.bind"] if is_fault else [])


def test_checks_the_valid_sections_of_a_file_that_has_other_faults() -> None:
    raw = {
        "listeners": [{"name": "a"}, LISTENER, {**LISTENER, "typo": 1}, {**LISTENER, "name": "b"}],
        "spool": "nonsense",
        **rule(typo=1, client_networks=[7, "vpm"]),
    }

    assert paths(raw) == [
        "listeners.2.name",
        "listeners.3.bind",
        "classification.rules.0.client_networks.1",
    ]


def test_does_not_call_a_class_unknown_that_is_only_faulty() -> None:
    classes = [{"name": "bulk", "rank": "low"}, {"name": "personal", "rank": 0}]

    assert paths({"classes": classes, **rule()}) == []
    assert paths({"classes": [{"nam": "bulk"}], **rule()}) == []


def test_equal_ranks_and_equal_thresholds_are_in_order() -> None:
    promises = {"wait_max": "1s", "objective": "1s"}

    def ordered(*pairs: tuple[int, float]) -> list[str]:
        classes = [
            {"name": f"c{index}", "rank": rank, "threshold": threshold, **promises}
            for index, (rank, threshold) in enumerate(pairs)
        ]
        return paths({"classes": classes, "classification": {"default": "c0"}})

    assert ordered((0, 1.0), (1, 1.0), (1, 0.5)) == []
    assert ordered((1, 0.5), (0, 0.6)) == []
    assert ordered((0, 0.5), (1, 0.6), (2, 0.6)) == ["classes.0.threshold"]
    assert ordered((1, 0.5), (2, 0.5)) == ["classes"]


def test_limits_must_leave_room_for_the_largest_message() -> None:
    limits = {"message_size_max": "3GiB"}

    assert paths({"limits": limits}) == ["limits.message_size_max"]
    assert paths({"limits": {**limits, "content_disk_max": "4GiB"}}) == []


@pytest.mark.parametrize(
    ("network", "is_fault"),
    [
        ("0.0.0.0/0", True),
        ("::/0", True),
        ("0.0.0.0/1", True),
        ("128.0.0.0/1", True),
        ("10.0.0.0/7", True),
        ("10.0.0.0/8", False),
        ("127.0.0.0/8", False),
        ("2000::/3", True),
        ("2001:db8::/31", True),
        ("2001:db8::/32", False),
        ("fc00::/7", False),
        ("fe80::/10", False),
        ("::1/128", False),
        ("::ffff:0:0/96", True),
        ("::ffff:10.0.0.0/104", False),
    ],
)
def test_trusted_networks_are_not_wide_enough_for_strangers(network: str, is_fault: bool) -> None:
    found = list(findings(draft({"trusted_networks": ["192.0.2.0/24", network]})))

    assert [path for path, _ in found] == ([("trusted_networks", 1)] if is_fault else [])
    assert all("open relay" in message for _, message in found)


@pytest.mark.parametrize(
    ("bind", "host", "port", "is_fault"),
    [
        ("127.0.0.1:25", "127.0.0.1", 25, True),
        ("127.0.0.1:25", "localhost", 25, True),
        ("[::1]:25", "LOCALHOST", 25, True),
        ("[::1]:25", "::1", 25, True),
        ("0.0.0.0:25", "127.0.0.1", 25, True),
        ("[::]:25", "127.0.0.1", 25, True),
        ("[::]:25", "::1", 25, True),
        ("127.0.0.1:25", "0.0.0.0", 25, True),
        ("10.0.0.5:25", "10.0.0.5", 25, True),
        ("127.0.0.1:2525", "127.0.0.1", 25, False),
        ("127.0.0.1:25", "127.0.0.2", 25, False),
        ("127.0.0.1:25", "::1", 25, False),
        ("0.0.0.0:25", "::1", 25, False),
        ("0.0.0.0:25", "10.0.0.6", 25, False),
        ("10.0.0.5:25", "mail.example.org", 25, False),
        ("10.0.0.5:25", "localhost", 25, False),
    ],
)
def test_a_backend_is_not_one_of_our_listeners(
    bind: str, host: str, port: int, is_fault: bool
) -> None:
    raw = {
        "domains": ["example.org"],
        "listeners": [{"name": "other", "bind": "127.0.0.1:1"}, {"name": "smtp", "bind": bind}],
        "backends": [{"name": "exch", "host": host, "port": port}],
    }
    found = list(findings(draft(raw)))

    assert [path for path, _ in found] == ([("backends", 0, "host")] if is_fault else [])
    assert all("our own listener smtp" in message for _, message in found)


@pytest.mark.parametrize(
    ("objective", "report_after", "lifetime", "is_fault"),
    [
        ("10s", "15m", "4d", False),
        ("15m", "15m", "4d", True),
        ("1h", "15m", "4d", True),
        ("10s", "1h", "1h", True),
        ("10s", "59m", "1h", False),
    ],
)
def test_a_delay_is_reported_after_the_promise_and_before_the_end(
    objective: str, report_after: str, lifetime: str, is_fault: bool
) -> None:
    promises = {"rank": 0, "threshold": 1.0, "wait_max": "1s", "objective": objective}
    raw: dict[str, Any] = {
        "classes": [{"name": "all", "report_after": report_after, **promises}],
        "classification": {"default": "all"},
        "spool": {"path": "spool", "lifetime": lifetime, "retry_max": "1m"},
    }

    assert paths(raw) == (["classes.0.report_after"] if is_fault else [])


def test_the_shipped_classes_do_not_forbid_a_short_lifetime() -> None:
    assert paths({"spool": {"path": "spool", "lifetime": "30m", "retry_max": "1m"}}) == []


@pytest.mark.parametrize("proxy", ["proxy_protocol", "xclient"])
def test_a_listener_behind_proxies_needs_to_know_them(proxy: str) -> None:
    """Else it would believe nobody, or anybody."""
    listener = {**LISTENER, "proxy": proxy}
    raw = {"listeners": [LISTENER, {**listener, "name": "proxied", "bind": "127.0.0.1:26"}]}
    assert paths(raw) == ["listeners.1.proxy"]
    assert paths({**raw, "trusted_proxies": []}) == ["listeners.1.proxy"]
    assert paths({**raw, "trusted_proxies": ["10.20.0.1"]}) == []


@pytest.mark.parametrize(
    ("network", "is_fault"),
    [("0.0.0.0/0", True), ("::/0", True), ("10.0.0.0/7", True), ("10.0.0.0/8", False)],
)
def test_strangers_are_no_proxies(network: str, is_fault: bool) -> None:
    found = paths({"trusted_proxies": ["10.20.0.1", network, "nonsense"]})
    assert found == (["trusted_proxies.1"] if is_fault else [])
