"""From the octets of chunks (RFC 3030) to mail data in wire form: bytes in, bytes out, no I/O.

A chunk is counted and not delimited, so its octets are the message itself: nothing is stuffed, and
nothing in them ends it. Everything behind the front has mail data in the form of DATA, and so does
`ChunkStuffer` make it: a dot at the beginning of a line is doubled. Chunks are cut anywhere, within
a CRLF too, and the outcome does not depend on where. What a client sends in chunks is stored with
the very octets as if it had sent the same message after DATA.

Bare CR, bare LF and NUL are told as in `data`, for the same reason: the backend may be given the
message after DATA. Normalised they become line ends and spaces, and a dot behind such a line end is
doubled like any other. A message that does not end in CRLF gets one, since DATA cannot express it.
"""

from mailshed.listener.data import is_clean


class ChunkStuffer:
    """Turns the octets of one message's chunks into wire form."""

    __slots__ = ("_carry", "_is_at_line_start", "_is_normalising", "is_clean")

    def __init__(self, *, is_normalising: bool = False) -> None:
        self._is_normalising = is_normalising
        self._carry = b""  # a CR at the end of a block; the next one may begin with its LF
        self._is_at_line_start = True
        self.is_clean = True
        """False once a bare CR, bare LF or NUL was seen."""

    def feed(self, block: bytes) -> bytes:
        """Take the next octets; return the mail data that is certain now, perhaps none."""
        data = self._carry + block
        self._carry = b"\r" if data.endswith(b"\r") else b""
        return self._stuffed(data.removesuffix(b"\r"))

    def finish(self) -> bytes:
        """No more octets come: return the rest of the mail data."""
        rest, self._carry = self._carry, b""
        data = self._stuffed(rest)
        return data if self._is_at_line_start else data + b"\r\n"

    def _stuffed(self, data: bytes) -> bytes:
        if not data:
            return data
        self.is_clean = self.is_clean and is_clean(data)
        if self._is_normalising and not self.is_clean:
            data = data.replace(b"\0", b" ").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            data = data.replace(b"\n", b"\r\n")
        stuffed = data.replace(b"\r\n.", b"\r\n..")
        if self._is_at_line_start and data.startswith(b"."):
            stuffed = b"." + stuffed
        self._is_at_line_start = data.endswith(b"\r\n")
        return stuffed
