"""TLS on the wire, on both loops: STARTTLS, implicit TLS, and what can go wrong before either."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mailshed.config.policy import ListenerPolicy, TlsMode
from mailshed.listener.handshakes import Handshake
from tests.support.certificates import Authority, make_authority
from tests.support.front import Front
from tests.support.tls import TlsPeer, client_context, new_handshakes, tls_peer


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> tuple[Path, Path]:
    return authority.issue()


@pytest.fixture
def notes() -> list[Handshake]:
    return []


@pytest.fixture
async def front(pair: tuple[Path, Path], notes: list[Handshake]) -> AsyncIterator[Front]:
    made = Front()
    made.policy = ListenerPolicy(name="submission", tls=TlsMode.STARTTLS)
    made.handshakes = new_handshakes(pair, notes)
    async with made:
        yield made


async def secured(front: Front, authority: Authority) -> TlsPeer:
    peer = await tls_peer(front)
    await peer.reply()
    await peer.greet()
    await peer.command("STARTTLS", 220)
    await peer.begin_tls(client_context(authority))
    return peer


async def test_mail_goes_through_starttls(front: Front, authority: Authority) -> None:
    peer = await secured(front, authority)
    await peer.greet()
    await peer.command("MAIL FROM:<alice@example.org>", 250)
    await peer.command("RCPT TO:<bob@example.net>", 250)
    await peer.command("DATA", 354)
    await peer.command("Subject: x\r\n\r\nx\r\n.", 250)
    await peer.command("QUIT", 221)
    assert await peer.rest() == b""
    assert len(front.handler.taken) == 1
