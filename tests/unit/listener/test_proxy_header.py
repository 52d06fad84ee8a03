"""Waiting for a PROXY header: either it comes, or the connection ends, and nobody stays behind."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from mailshed.listener.proxy_header import ProxyHeaderReceiver
from mailshed.mail.proxy_protocol import ProxyHeader, build_v2_local
from tests.support.virtual_time import in_virtual_time


@dataclass
class Wire:
    """A transport as far as the receiver uses one."""

    is_aborted: bool = False
    is_paused: bool = False

    def abort(self) -> None:
        self.is_aborted = True

    def pause_reading(self) -> None:
        self.is_paused = True


@dataclass
class Rig:
    """A receiver on its wire, and what it said."""

    headers: list[ProxyHeader] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    awaited: set[ProxyHeaderReceiver] = field(default_factory=set)
    wire: Wire = field(default_factory=Wire)

    def __post_init__(self) -> None:
        self.receiver = ProxyHeaderReceiver(
            self.headers.append, self.ends.append, self.awaited, timeout=5.0
        )
        self.receiver.connection_made(cast("Any", self.wire))

    def feed(self, octets: bytes) -> bytes:
        """Let the loop read; what it would have left in the socket."""
        while octets and self.awaited:
            buffer = self.receiver.get_buffer(65536)
            taken = min(len(buffer), len(octets))
            buffer[:taken], octets = octets[:taken], octets[taken:]
            self.receiver.buffer_updated(taken)
        return octets


async def test_the_header_is_taken_and_what_follows_is_left_to_others() -> None:
    rig = Rig()
    assert rig.feed(build_v2_local() + b"\x16\x03\x01") == b"\x16\x03\x01"
    assert rig.headers == [ProxyHeader(is_own=True)]
    assert (rig.ends, rig.awaited) == ([], set())
    assert rig.wire.is_paused
    assert not rig.wire.is_aborted


async def test_octets_that_are_none_of_a_header_end_it_once() -> None:
    rig = Rig()
    rig.feed(b"EHLO client.example.org\r\n")
    rig.receiver.buffer_updated(1)
    rig.receiver.connection_lost(None)
    assert rig.ends == ["the connection does not begin with a PROXY header"]
    assert rig.wire.is_aborted
    assert rig.awaited == set()


@pytest.mark.parametrize(("sent", "why"), [(b"", ""), (b"PROX", "closed in the middle")])
@pytest.mark.parametrize("how", ["end", "loss"])
async def test_a_proxy_that_leaves_without_an_octet_only_looked(
    sent: bytes, why: str, how: str
) -> None:
    rig = Rig()
    rig.feed(sent)
    if how == "end":
        assert rig.receiver.eof_received() is False
    rig.receiver.connection_lost(None)
    (said,) = rig.ends
    assert said.startswith(why)
    assert bool(said) is bool(why)


@in_virtual_time
async def test_a_proxy_that_says_nothing_has_perhaps_not_been_told_to() -> None:
    rig = Rig()
    await asyncio.sleep(5.1)
    assert rig.ends == ["no header came: does the proxy send one (in HAProxy send-proxy-v2)?"]
    assert rig.wire.is_aborted


@in_virtual_time
async def test_it_is_not_awaited_for_ever_however_it_drips() -> None:
    rig = Rig()
    loop = asyncio.get_running_loop()
    began = loop.time()
    for octet in b"PROXY TCP4 192.0.2.7 198.51.100.25":
        rig.feed(bytes([octet]))
        await asyncio.sleep(0.3)
        if rig.ends:
            break
    assert rig.ends == ["no complete header in time"]
    assert 5.0 <= loop.time() - began < 5.5
    assert rig.wire.is_aborted


async def test_a_stop_ends_it_without_a_complaint() -> None:
    rig = Rig()
    rig.feed(b"PROXY ")
    rig.receiver.abort()
    rig.receiver.abort()
    assert rig.ends == [""]
    assert rig.wire.is_aborted


async def test_after_the_header_nothing_of_it_stays_armed() -> None:
    rig = Rig()
    rig.feed(build_v2_local())
    timer = rig.receiver._timer
    assert timer is not None
    assert timer.cancelled()
    rig.receiver.connection_lost(None)
    rig.receiver.abort()
    assert rig.ends == []
