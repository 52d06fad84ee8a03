"""Where mail data ends, and what is wrong with it: bytes in, wire form out, no I/O.

`DataScanner` is fed blocks as they arrive, cut anywhere. It finds the one end of data that RFC
5321, 4.1.1.4 knows, `CRLF . CRLF`, and hands out everything before it unchanged: CRLF line endings
and dot-stuffing stay as they came. Searching a block is one `find`; a line is never assembled, so
no length of line can make us slow or big.

Bare CR, bare LF and NUL (RFC 5321, 2.3.8 and 4.1.2) are where two servers can disagree about the
end of a message, which is how one message becomes two (SMTP smuggling). They are found by the
decoder for universal newlines, which notes the kinds of line end that it sees. Then either the
message is refused by the caller, or, for old devices in networks that the site names, the data is
normalised: bare CR and LF become CRLF, NUL becomes a space, and a dot that so comes to stand at
the beginning of a line, or alone on one, is stuffed.
"""

from io import IncrementalNewlineDecoder

END_OF_DATA = b"\r\n.\r\n"

# Longest first: how much of the window's end may belong to an end of data not yet complete. A lone
# trailing CR is among them, so no piece ever cuts a CRLF in two.
_PREFIXES = tuple(END_OF_DATA[:length] for length in range(len(END_OF_DATA) - 1, 0, -1))


def is_clean(data: bytes) -> bool:
    """Whether `data`, which begins and ends outside a CRLF, has no bare CR, bare LF or NUL.

    The decoder costs the same for any data. To replace each CRLF and look for what is left costs
    three times as much with an interpreter built without optimisation, and otherwise up to four
    times with short lines; a regular expression costs ten times as much.
    """
    ends = IncrementalNewlineDecoder(None, translate=False)
    ends.decode(data.decode("latin-1"), final=True)
    return ends.newlines in (None, "\r\n") and b"\0" not in data


class DataScanner:
    """Finds the end of one message's mail data.

    `rest` is None until the end was seen; then it holds the bytes that follow it, which belong to
    the next command.
    """

    __slots__ = ("_before", "_carry", "_is_normalising", "_skip", "is_clean", "rest")

    def __init__(self, *, is_normalising: bool = False) -> None:
        # The line that ended before the data counts as CRLF, so a first line `.` ends the data.
        # It is not data itself and is skipped when it is handed out.
        self._carry = b"\r\n"
        self._skip = 2
        self._is_normalising = is_normalising
        # The line ending that stands before the next piece, as far as normalising depends on it.
        self._before = b"\r\n"
        self.is_clean = True
        """False once a bare CR, bare LF or NUL was seen."""
        self.rest: bytes | None = None

    def feed(self, block: bytes) -> bytes:
        """Take the next block; return the mail data that is certain now, perhaps none."""
        assert self.rest is None, "fed after the end of data"
        window = self._carry + block
        # From behind: that is quicker, and until the last block there is none.
        if window.rfind(END_OF_DATA) >= 0:
            end = window.find(END_OF_DATA)
            data = window[self._skip : end + 2]
            self.rest = window[end + len(END_OF_DATA) :]
            return self._checked(data)
        kept = next((len(prefix) for prefix in _PREFIXES if window.endswith(prefix)), 0)
        cut = len(window) - kept
        data = window[self._skip : cut]
        self._carry = window[cut:]
        self._skip = max(0, self._skip - cut)
        return self._checked(data)

    def _checked(self, data: bytes) -> bytes:
        if not data:
            return data
        self.is_clean = self.is_clean and is_clean(data)
        checked = data
        if self._is_normalising and not self.is_clean:
            checked = _normalised(data, self._before)
        # No piece but the last ends in CR or CRLF, so what ends in LF ends in a bare one.
        self._before = b"\n" if data.endswith(b"\n") else b""
        return checked


def _normalised(data: bytes, before: bytes) -> bytes:
    """Rewrite `data`, which follows upon the line ending `before` or stands within a line.

    A dot right after a bare line ending was not stuffed by the client, which saw no new line there.
    A dot alone between a true line ending and a bare one would become an end of data.
    """
    # Once NUL is gone it can stand for true line endings, and LF for bare ones.
    text = (before + data.replace(b"\0", b" ")).replace(b"\r\n", b"\0").replace(b"\r", b"\n")
    text = text.replace(b"\n.", b"\n..").replace(b"\0.\n", b"\0..\n")
    text = text.replace(b"\n", b"\r\n").replace(b"\0", b"\r\n")
    return text[2:] if before else text


class LineMeter:
    """Whether a line of mail data is longer than so many octets, its CRLF aside; 0: any may be.

    Lines longer than the 998 octets of RFC 5321, 4.5.3.1.6 are common, and are relayed. Some mail
    servers take them apart or stumble over them, so the site may say how long is too long. Lines
    are not assembled here either: of each piece a few places are looked at, one for each
    `octets_max` octets.
    """

    __slots__ = ("_line", "_octets_max", "is_exceeded")

    def __init__(self, octets_max: int) -> None:
        self._octets_max = octets_max
        self._line = 0  # octets since the last LF
        self.is_exceeded = False

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the data; none begins with the LF of a CRLF."""
        if not self._octets_max:
            return
        size, reach = len(piece), self._octets_max + 2
        start = -self._line  # where the line begins that goes on here
        while size - start > reach:
            end = piece.rfind(b"\n", max(start, 0), start + reach)
            if end < 0:
                self.is_exceeded = True
                return
            start = end + 1
        end = piece.rfind(b"\n", max(start, 0))
        self._line = size - (end + 1 if end >= 0 else start)
        self.is_exceeded = self.is_exceeded or self._line > self._octets_max
