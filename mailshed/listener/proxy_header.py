"""Between accept and the session: reads the PROXY header that a trusted proxy has to send.

Only peers in `trusted_proxies` come here; who else connects is turned away before anything of it is
read. The header is read to its last octet and not beyond, so that what follows, a TLS handshake or
a command that came early, is still the socket's and is read by whom it is for.

What is no header ends the connection without a word: the proxy speaks another protocol here, and
would pass our reply on to a client that did nothing wrong. So it is with a proxy that takes longer
than `limits.proxy_timeout`; HAProxy sends the header with its first segment. A proxy that connects
and closes without an octet only looks whether we are there.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from mailshed.errors import ProxyHeaderError
from mailshed.mail.proxy_protocol import ProxyHeader, ProxyHeaderParser


class ProxyHeaderReceiver(asyncio.BufferedProtocol):
    """The protocol of a connection until its header is complete.

    Either `on_header` is called, and the transport, which has paused reading, is the caller's; or
    `on_end`, with the transport closed, and with what was wrong in words for an operator: empty if
    nothing was. Until then the receiver is in `awaited`.
    """

    def __init__(
        self,
        on_header: Callable[[ProxyHeader], None],
        on_end: Callable[[str], None],
        awaited: "set[ProxyHeaderReceiver]",
        timeout: float,
    ) -> None:
        self._on_header = on_header
        self._on_end = on_end
        self._awaited = awaited
        self._timeout = timeout
        self._parser = ProxyHeaderParser()
        self._buffer = bytearray()
        self._has_begun = False
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the header."""
        # uvloop's transports have the methods, but are no subclasses.
        self._transport = cast("asyncio.Transport", transport)
        self._awaited.add(self)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._timeout, self._be_late)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - asyncio's signature
        """Offer room for what belongs to the header for certain, and no more."""
        self._buffer = bytearray(self._parser.wanted)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Look at what has come."""
        if self not in self._awaited:
            return
        self._has_begun = True
        try:
            header = self._parser.feed(bytes(self._buffer[:nbytes]))
        except ProxyHeaderError as error:
            self._end(str(error))
            return
        if header is not None:
            self._finish()
            assert self._transport is not None
            # A transport learns what kind of protocol it has when it begins to read.
            self._transport.pause_reading()
            self._on_header(header)

    def eof_received(self) -> bool:
        """Nothing more comes, so no header does."""
        self._leave()
        return False

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        """The proxy has left."""
        self._leave()

    def abort(self) -> None:
        """End the connection: the service is stopping."""
        self._end("")

    def _be_late(self) -> None:
        if self._has_begun:
            self._end("no complete header in time")
        else:
            self._end("no header came: does the proxy send one (in HAProxy send-proxy-v2)?")

    def _leave(self) -> None:
        self._end("closed in the middle of the header" if self._has_begun else "")

    def _end(self, why: str) -> None:
        if self not in self._awaited:
            return
        self._finish()
        assert self._transport is not None
        self._transport.abort()
        self._on_end(why)

    def _finish(self) -> None:
        self._awaited.discard(self)
        if self._timer is not None:
            self._timer.cancel()
