"""TLS between a test and a listener: what a `Front` needs for it, and a client that says each byte.

`new_handshakes(pair)` makes what a front with TLS needs (`front.handshakes`). `TlsPeer` is a `Peer`
that does the handshake itself, over buffers in memory, so that a test decides what travels in which
segment: a command behind the handshake's last message, half a hello, garbage.
"""

import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mailshed.config.policy import TlsPolicy
from mailshed.listener.handshakes import Handshake, Handshakes
from mailshed.listener.tls import Certificates, load
from mailshed.mail.envelope import Client
from tests.support.certificates import Authority
from tests.support.front import Front, Peer

Pair = tuple[Path, Path]


def tls_policy(pair: Pair, **changes: Any) -> TlsPolicy:
    """A policy with this certificate and key; bounds that no ordinary test meets."""
    made = TlsPolicy(certificate=pair[0], key=pair[1], handshakes_per_network=64)
    return replace(made, **changes)


def new_handshakes(
    pair: Pair,
    notes: list[Handshake] | None = None,
    *,
    is_clinical: Callable[[Client], bool] = lambda _client: False,
    **changes: Any,
) -> Handshakes:
    """The door to TLS; how each handshake ended is added to `notes`."""
    policy = tls_policy(pair, **changes)
    certificates = Certificates()
    certificates.use(load(policy))
    return Handshakes(
        certificates,
        policy,
        is_clinical=is_clinical,
        note=([] if notes is None else notes).append,
    )


def client_context(authority: Authority) -> ssl.SSLContext:
    """A client that trusts this authority alone, and wants the right name."""
    return ssl.create_default_context(cafile=authority.ca_file)


class TlsPeer(Peer):
    """The client's end of a connection that becomes a TLS one."""

    def __init__(self, port: int, **options: Any) -> None:
        super().__init__(port, **options)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls: ssl.SSLObject | None = None
        """None as long as the connection is in clear."""

    async def begin_tls(
        self,
        context: ssl.SSLContext,
        *,
        first: bytes = b"",
        before: bytes = b"",
        cuts: tuple[int, ...] = (),
    ) -> None:
        """Do the handshake; `first` goes under TLS in the segment of its last message.

        `before` goes in clear, in the segment of its first one; that is cut at `cuts`.
        """
        assert not self._buffer, f"in clear, and not read: {self._buffer!r}"
        made = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        while True:
            try:
                made.do_handshake()
            except ssl.SSLWantReadError:
                await super().send(before + self._outgoing.read(), cuts=cuts)
                before, cuts = b"", ()
                if not await super()._read():
                    raise ConnectionResetError("closed in the middle of the handshake") from None
                self._incoming.write(self._buffer)
                self._buffer = b""
            else:
                break
        self.tls = made
        if first:
            made.write(first)
        await super().send(self._outgoing.read())

    async def send(self, data: bytes, *, cuts: tuple[int, ...] = ()) -> None:
        """Send octets; under TLS each piece is a record of its own."""
        if self.tls is None:
            await super().send(data, cuts=cuts)
            return
        for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
            self.tls.write(data[start:end])
            await super().send(self._outgoing.read())

    @property
    def local_port(self) -> int:
        """Where this client comes from."""
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def shown_serial(self) -> str:
        """The serial number of the certificate that we were shown."""
        assert self.tls is not None
        shown = self.tls.getpeercert()
        assert shown is not None
        return str(shown["serialNumber"])

    async def send_alert(self) -> None:
        """Send what a handshake that failed on our side has left to be said."""
        await super().send(self._outgoing.read())

    async def say_goodbye(self) -> None:
        """Send close_notify, and close."""
        assert self.tls is not None
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        await super().send(self._outgoing.read())
        self.close()

    async def send_in_clear(self, data: bytes) -> None:
        """Send octets as they are, whatever the connection is."""
        await super().send(data)

    async def _read(self) -> bool:
        if self.tls is None:
            return await super()._read()
        before = self._buffer
        while True:
            try:
                data = self.tls.read(1 << 20)
            except ssl.SSLWantReadError:
                self._buffer = b""
                is_there = await super()._read()
                self._incoming.write(self._buffer)
                self._buffer = before
                if not is_there:
                    return False
                continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return False
            self._buffer = before + data
            return bool(data)


async def tls_peer(front: Front, context: ssl.SSLContext | None = None) -> TlsPeer:
    """Connect to a front; with a context, do the handshake before the greeting (implicit TLS)."""
    peer = TlsPeer(front.port)
    front.on_exit(peer.close)
    await peer.connect()
    if context is not None:
        await peer.begin_tls(context)
    return peer
