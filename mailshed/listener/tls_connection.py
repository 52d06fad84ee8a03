"""TLS between a TCP connection and a session: an asyncio transport above, a protocol below.

Why not the loop's own `start_tls`? It is made for speed and not for thousands of idle sessions:
each keeps buffers as large as what it read at one time, so an idle session that has sent a large
message holds 525 KiB with uvloop, and with asyncio 290 KiB from the start. Besides, the alert that
tells a client why its handshake failed is never sent, and the two loops differ in what a session
is told, and when. `ssl.SSLObject` is meant for exactly this: OpenSSL does TLS on buffers in memory,
and what is left is to carry octets.

What is read is fed to OpenSSL in pieces of one record, so its buffers stay that small: a session
takes some 25 KiB, and not more than 50 whatever it has sent. The half-closing of TCP is that of TLS
1.3 too: a client that has said close_notify is still answered. Our own goodbye waits for nobody's
(RFC 8446, 6.1). A connection that ends without one is not told apart: a command ends with its line
and a message with its dot, so nothing that is cut off is ever taken for whole.

Until the client's first record is there, OpenSSL is not asked: it takes some 45 KiB at once, which
whoever drips a hello octet by octet would hold for nothing.

What OpenSSL has to say is bounded too: a client that asks for new keys all the time (KeyUpdate) and
reads nothing is not read any further.
"""

import asyncio
import ssl
from contextlib import suppress
from typing import Any

# Octets that OpenSSL is given, and gives back, at a time: a record of TLS, but for its frame.
PIECE = 16 * 1024

_HANDSHAKE = 22  # the type of a record
_FRAME = 5


class TlsConnection(asyncio.Transport, asyncio.Protocol):
    """The server's side of one TLS connection, over `below`; `above` gets what the client says.

    `above` is not told of the connection itself before the handshake is done: neither that it is
    made, as it knows the bare one already, nor that it is lost.
    """

    __slots__ = (
        *("_above", "_agreed", "_below", "_context", "_has_ended", "_hello", "_incoming"),
        *("_is_closing", "_is_paused"),
        *("_is_stuffed", "_outgoing", "_tls"),
    )

    def __init__(
        self, below: asyncio.Transport, above: asyncio.Protocol, context: ssl.SSLContext
    ) -> None:
        super().__init__()
        self._below, self._above = below, above
        self._context = context
        self._hello: bytearray | None = bytearray()  # until there is something to begin with
        self._agreed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._has_ended = False  # the client, with a goodbye or without
        self._is_closing = False
        self._is_paused = False  # by `above`
        self._is_stuffed = False  # below, since the client does not read

    def begin(self) -> None:
        """Take over the connection: everything that is read from now on belongs to TLS."""
        self._below.set_protocol(self)
        if self._below.is_closing():
            self._agreed.cancel()  # nobody waits for it when the loss is told
        else:
            self._below.resume_reading()

    async def shake_hands(self, timeout: float) -> ssl.SSLObject:
        """Do the handshake, once it has begun; return what knows what was agreed on.

        Raises OSError: TimeoutError, SSLError, or ConnectionError if the client leaves; then the
        connection is closed.
        """
        if self._agreed.cancelled():
            raise ConnectionResetError
        try:
            async with asyncio.timeout(timeout):
                await self._agreed
        except BaseException:
            self._is_closing = True
            if not self._below.is_closing():  # else there may be an alert on its way
                self._below.abort()
            # The error knows us by its traceback. If we went on to know it, both would stay until
            # the garbage collector comes by, with the session and its buffers.
            self._agreed = asyncio.get_running_loop().create_future()
            self._agreed.cancel()
            raise
        return self._tls

    # The protocol of the connection below.

    def data_received(self, data: bytes | bytearray) -> None:
        """Decrypt, and answer what TLS itself has to answer."""
        if self._hello is not None:
            self._hello += data
            if not _has_record(self._hello):
                return
            data, self._hello = self._hello, None
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        view = memoryview(data)
        try:
            for start in range(0, len(view), PIECE):
                if self._is_closing:
                    break
                self._incoming.write(view[start : start + PIECE])
                self._advance()
        except ssl.SSLError as error:
            self._fail(error)
        else:
            self._flush()

    def _advance(self) -> None:
        """Go on with the handshake, and with what may follow it in the same segment."""
        try:
            if not self._agreed.done():
                self._tls.do_handshake()
                self._agreed.set_result(None)
            while not self._is_closing and (octets := self._tls.read(PIECE)):
                self._above.data_received(octets)
        except ssl.SSLWantReadError:
            return
        except ssl.SSLZeroReturnError:
            pass
        self._end()

    def _end(self) -> None:
        """The client says nothing more; it may still listen."""
        if not self._has_ended and not self._is_closing:
            self._has_ended = True
            if not self._above.eof_received():
                self.close()

    def _fail(self, error: ssl.SSLError) -> None:
        """Let the client know why, and close."""
        self._is_closing = True
        self._flush()
        self._below.close()
        if not self._agreed.done():
            self._agreed.set_exception(error)

    def _flush(self) -> None:
        if octets := self._outgoing.read():
            self._below.write(octets)

    def eof_received(self) -> bool:
        """The client has closed its side, with a goodbye before it or without."""
        if not self._agreed.done():
            self._agreed.set_exception(ConnectionResetError())
            return False
        self._end()
        return not self._is_closing

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._is_closing = True
        if not self._agreed.done():
            self._agreed.set_exception(exc or ConnectionResetError())
        elif not self._agreed.cancelled() and self._agreed.exception() is None:
            self._above.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read; what it says may ask for answers, so it is not read either."""
        self._is_stuffed = True
        self._read_or_not()
        self._above.pause_writing()

    def resume_writing(self) -> None:
        """It reads again."""
        self._is_stuffed = False
        self._read_or_not()
        self._above.resume_writing()

    # The transport of the session above.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection below, such as `peername`."""
        return self._below.get_extra_info(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """What is above."""
        return self._above

    def is_closing(self) -> bool:
        """Whether it is over, or about to be."""
        return self._is_closing or self._below.is_closing()

    def is_reading(self) -> bool:
        """Whether what the client says is taken."""
        return not (self._is_paused or self.is_closing())

    def pause_reading(self) -> None:
        """Take no more than what has been read."""
        self._is_paused = True
        self._read_or_not()

    def resume_reading(self) -> None:
        """Take what the client says."""
        self._is_paused = False
        self._read_or_not()

    def _read_or_not(self) -> None:
        if self._below.is_closing():
            return  # uvloop's would raise
        if self._is_paused or self._is_stuffed:
            self._below.pause_reading()
        else:
            self._below.resume_reading()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        if not data or self.is_closing():
            return
        view = memoryview(data)
        try:
            while view:
                view = view[self._tls.write(view) :]
        except ssl.SSLError as error:
            self._fail(error)
        else:
            self._flush()

    def can_write_eof(self) -> bool:
        """A session closes both sides, or none."""
        return False

    def get_write_buffer_size(self) -> int:
        """Octets that the client has not taken."""
        return self._below.get_write_buffer_size()

    def close(self) -> None:
        """Say goodbye, and close when what was written has been read."""
        if self._is_closing:
            return
        self._is_closing = True
        with suppress(ssl.SSLError):  # the client's own goodbye is not waited for
            self._tls.unwrap()
        self._flush()
        self._below.close()

    def abort(self) -> None:
        """Cut the connection off."""
        self._is_closing = True
        self._below.abort()


def _has_record(hello: bytearray) -> bool:
    """Whether the first record of a handshake is there, or what is there begins none.

    RFC 8446, 5.1: the type, two octets of version, two of length, and then so much.
    """
    if hello[0] != _HANDSHAKE:
        return True  # OpenSSL has the words for it
    if len(hello) < _FRAME:
        return False
    octets = int.from_bytes(hello[3:_FRAME])
    return octets > PIECE or len(hello) >= _FRAME + octets
