"""XCLIENT through the real handler: whose connection it is decides what follows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailshed.config.policy import ListenerPolicy, ProxyMode
from tests.support.builders import relay_policy
from tests.support.front import Front, Peer
from tests.support.live_path import LivePath

TO_OTHERS = "RCPT TO:<bob@elsewhere.example>"


async def introduced(front: Front, argument: str) -> Peer:
    """Connect as the proxy, say it, and go as far as MAIL."""
    peer = await front.peer()
    await peer.command(f"XCLIENT {argument}", 220)
    await peer.greet()
    await peer.command("MAIL FROM:<alice@example.org>", 250)
    return peer


@pytest.fixture
def path(tmp_path: Path) -> LivePath:
    return LivePath(
        tmp_path, relay=relay_policy("example.net", trusted=("10.0.0.0/8",), proxies=("127.0.0.1",))
    )


def behind_proxy(path: LivePath, **limits: Any) -> Front:
    front = Front(path.handler, **limits)
    front.policy = ListenerPolicy(name="smtp", proxy=ProxyMode.XCLIENT)
    return front


@pytest.mark.parametrize(
    ("argument", "code", "address", "user"),
    [
        ("ADDR=192.0.2.7", 554, "192.0.2.7", ""),
        ("ADDR=10.2.3.4", 250, "10.2.3.4", ""),
        ("ADDR=192.0.2.7 LOGIN=alice", 250, "192.0.2.7", "alice"),
        ("ADDR=192.0.2.7 LOGIN=[UNAVAILABLE]", 554, "192.0.2.7", ""),
        ("ADDR=[UNAVAILABLE]", 554, "0.0.0.0", ""),
        ("LOGIN=alice", 250, "127.0.0.1", "alice"),
        ("NAME=client.example.org", 554, "127.0.0.1", ""),
    ],
)
async def test_the_client_may_do_what_it_may_do_without_a_proxy(
    path: LivePath, argument: str, code: int, address: str, user: str
) -> None:
    async with behind_proxy(path) as front:
        peer = await introduced(front, argument)
        await peer.command(TO_OTHERS, code)
        (session,) = path.handler.open_sessions
        assert (session.client.address_text, session.client.user) == (address, user)


async def test_what_is_not_said_again_stays_but_for_a_login_of_another_client(
    path: LivePath,
) -> None:
    async with behind_proxy(path) as front:
        peer = await front.peer()
        await peer.command("XCLIENT ADDR=192.0.2.7 PORT=7", 220)
        await peer.command("XCLIENT LOGIN=alice", 220)
        (session,) = path.handler.open_sessions
        client = session.client
        assert (client.address_text, client.port, client.user) == ("192.0.2.7", 7, "alice")
        await peer.command("XCLIENT ADDR=192.0.2.8", 220)
        assert (session.client.address_text, session.client.user) == ("192.0.2.8", "")
        assert not session.client.is_trusted


async def test_the_client_is_counted_in_the_place_of_its_proxy(path: LivePath) -> None:
    async with behind_proxy(path, sessions_per_address=1) as front:
        first, second = await front.peer(), await front.peer()
        await first.command("XCLIENT ADDR=192.0.2.7", 220)
        await second.command("XCLIENT ADDR=192.0.2.7", 421)
        assert await second.rest() == b""
        assert path.handler.caps.open == 1
        await first.command("XCLIENT ADDR=192.0.2.8", 220)
        third = await front.peer()
        await third.command("XCLIENT ADDR=192.0.2.7", 220)
        assert path.handler.caps.open == 2


async def test_a_reload_that_trusts_the_proxy_no_more_holds_at_once(path: LivePath) -> None:
    async with behind_proxy(path) as front:
        peer = await front.peer()
        await peer.command("XCLIENT ADDR=192.0.2.7", 220)
        relay = relay_policy("example.net", trusted=("10.0.0.0/8",))
        path.policies = replace(path.policies, relay=relay)
        await peer.command("XCLIENT ADDR=10.2.3.4", 550)
        (session,) = path.handler.open_sessions
        assert session.client.address_text == "192.0.2.7"
