"""Between accept and the session: reads the PROXY header that a trusted proxy has to send.

Only peers in `trusted_proxies` come here; who else connects is turned away before anything of it is
read. The header is read to its last octet and not beyond, so that what follows, a TLS handshake or
a command that came early, is still the socket's and is read by whom it is for.

What is no header ends the connection without a word: the proxy speaks another protocol here, and
would pass our reply on to a client that did nothing wrong. So does a proxy that sends nothing for
`HEADER_TIMEOUT`. A proxy that connects and closes without an octet looks whether we are there.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from mailshed.errors import ProxyHeaderError
from mailshed.mail.proxy_protocol import ProxyHeader, ProxyHeaderParser

HEADER_TIMEOUT = 5.0
"""Seconds for the header to be complete; Postfix allows as many
(`smtpd_upstream_proxy_timeout`). HAProxy sends it with its first segment."""

OnHeader = Callable[[asyncio.Transport, ProxyHeader], None]
"""Takes over the transport, which has paused reading; it sets the next protocol and resumes."""
OnFault = Callable[[str], None]
"""Is told why there was no header, in words for an operator; the connection is closed by then."""


class ProxyHeaderReceiver(asyncio.BufferedProtocol):
    """The protocol of a connection until its header is complete."""

    def __init__(
        self, on_header: OnHeader, on_fault: OnFault, timeout: float = HEADER_TIMEOUT
    ) -> None:
        self._on_header = on_header
        self._on_fault = on_fault
        self._timeout = timeout
        self._parser = ProxyHeaderParser()
        self._buffer = bytearray()
        self._is_done = False
        self._has_begun = False
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, but are no subclasses.
        self._transport = cast("asyncio.Transport", transport)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._timeout, self._fail, "no complete PROXY header in time")

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - asyncio's signature
        """Offer room for what belongs to the header for certain, and no more."""
        self._buffer = bytearray(self._parser.wanted)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Look at what has come."""
        if self._is_done:
            return
        self._has_begun = True
        try:
            header = self._parser.feed(bytes(self._buffer[:nbytes]))
        except ProxyHeaderError as error:
            self._fail(str(error))
            return
        if header is not None:
            self._finish()
            assert self._transport is not None
            # A transport looks at its protocol's kind when it begins to read.
            self._transport.pause_reading()
            self._on_header(self._transport, header)

    def eof_received(self) -> bool:
        """Nothing more comes, so no header does."""
        self._end("closed in the middle of its PROXY header")
        return False

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        """The proxy has left."""
        self._end("closed in the middle of its PROXY header")

    def _end(self, why: str) -> None:
        if self._has_begun:
            self._fail(why)
        else:
            self._finish()

    def _fail(self, why: str) -> None:
        if self._is_done:
            return
        self._finish()
        assert self._transport is not None
        self._transport.abort()
        self._on_fault(why)

    def _finish(self) -> None:
        self._is_done = True
        if self._timer is not None:
            self._timer.cancel()
