"""Addresses that collide, and backends that are ourselves."""

import pytest

from mailshed.config.draft import draft
from mailshed.config.semantics import findings
from tests.support.drafts import paths


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
