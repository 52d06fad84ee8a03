"""What is fuzzed of TLS: not OpenSSL, but what carries octets between it and a session.

There are three clients. One sends the octets of the search where a handshake should be. One speaks
TLS, and says those octets in it, cut anywhere. And with one, somebody in between changes an octet.
The ciphers are anonymous ones, which no listener has: so no certificate is needed here.
"""

import asyncio
import ssl
import zlib
from collections.abc import Iterator
from contextlib import suppress

from mailshed.listener.tls_connection import TlsConnection
from tests.fuzz.dialogs import BENCH, NotedTransport
from tests.fuzz.properties import pieces
from tests.support.front import settle

HANDSHAKE_SECONDS = 15.0
_CIPHERS = "AECDH-AES128-SHA:@SECLEVEL=0"


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # the last one with anonymous ciphers
    context.set_ciphers(_CIPHERS)
    return context


_SERVER, _CLIENT = _context(ssl.PROTOCOL_TLS_SERVER), _context(ssl.PROTOCOL_TLS_CLIENT)


def tls_connection(data: bytes) -> None:
    """What is no handshake ends; what is said is heard, wherever it is cut; a change is noticed."""
    for is_cut in (False, True):
        BENCH.run(_garbage(data, is_cut=is_cut))
        assert BENCH.run(_said(data, is_cut=is_cut, is_changed=False)) == data
        heard = BENCH.run(_said(data, is_cut=is_cut, is_changed=True))
        assert data.startswith(heard)


class _Session(asyncio.Protocol):
    """Notes what it hears, and answers nothing."""

    def __init__(self) -> None:
        self.heard = b""
        self.has_ended = False
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        """Note it."""
        assert not self.has_ended
        self.heard += data

    def eof_received(self) -> bool:
        """Stay open: there may be an answer."""
        assert not self.has_ended, "told twice"
        self.has_ended = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Note it."""
        assert not self.is_lost, "told twice"
        self.is_lost = True


async def _garbage(data: bytes, *, is_cut: bool) -> None:
    above, below = _Session(), NotedTransport()
    secured = TlsConnection(below, above, _SERVER)
    async with asyncio.TaskGroup() as tasks:
        shaking = tasks.create_task(_fails(secured))
        await settle(3)
        for piece in pieces(data, is_cut=is_cut, octets_max=251):
            if not below.is_closing():
                secured.data_received(piece)
                await settle(1)
        if data[-1:] == b"\n" and not below.is_closing():
            secured.eof_received()
    assert shaking.result()
    await settle(3)
    assert below.is_closing()
    assert not any((above.heard, above.has_ended, above.is_lost))


async def _fails(secured: TlsConnection) -> bool:
    try:
        await secured.shake_hands(HANDSHAKE_SECONDS)
    except OSError:
        return True
    return False


class _Client:
    """A client of OpenSSL's, on buffers."""

    def __init__(self) -> None:
        self._heard, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = _CLIENT.wrap_bio(self._heard, self._out)
        self._read = 0

    def hear(self, below: NotedTransport) -> None:
        """Take what the server has written since."""
        self._heard.write(bytes(below.written[self._read :]))
        self._read = len(below.written)

    def shake(self) -> bytes:
        """Go on with the handshake; what is to be sent for it."""
        with suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._out.read()

    def said(self, data: bytes) -> bytes:
        """The records of `data`, and of a goodbye."""
        for start in range(0, len(data), 100):
            self.tls.write(data[start : start + 100])
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._out.read()


async def _said(data: bytes, *, is_cut: bool, is_changed: bool) -> bytes:
    """What a session hears of `data`."""
    above, below, client = _Session(), NotedTransport(), _Client()
    secured = TlsConnection(below, above, _SERVER)

    def sent(octets: bytes) -> Iterator[bytes]:
        return pieces(octets, is_cut=is_cut, octets_max=251)

    secured.begin()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(secured.shake_hands(HANDSHAKE_SECONDS))
        await settle(2)
        while flight := client.shake():
            for piece in sent(flight):
                secured.data_received(piece)
            client.hear(below)
    wire = client.said(data)
    if is_changed:
        place = zlib.crc32(data) % len(wire)
        wire = wire[:place] + bytes([wire[place] ^ 1]) + wire[place + 1 :]
    for piece in sent(wire):
        if not below.is_closing():
            secured.data_received(piece)
    if not is_changed:
        assert above.has_ended
        assert not secured.is_closing()
        secured.write(b"221 Bye\r\n")
        client.hear(below)
        assert client.tls.read(100) == b"221 Bye\r\n"
    secured.close()
    await settle(3)
    assert below.is_closing()
    assert above.is_lost
    return above.heard
