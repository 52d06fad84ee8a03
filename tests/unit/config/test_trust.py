"""Nobody who may be anybody is trusted."""

import pytest

from mailshed.config.draft import draft
from mailshed.config.semantics import findings
from tests.support.drafts import LISTENER, paths


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
