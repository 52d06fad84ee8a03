"""SMTP replies: ours, written here and nowhere else, and the backend's, passed on as they came.

A `Reply` is the exact bytes of one complete reply, all lines, ending in CRLF, with its code
parsed. Ours are made by `make()`, whose text is a constant of this module or built from values
that cannot hold CR or LF. The backend's are made by `from_backend()`, which accepts only what RFC
5321, 4.2.1 allows and otherwise says that it does not (`None`), so nothing a backend sends can
become two replies in front.

An unknown failure is 451 4.3.0. A 5xx is only ever the backend's own word or a documented policy.
"""

import re
from functools import lru_cache

from mailshed.values import value

# RFC 5321, 4.5.3.1.5 allows 512 octets a line; real servers send longer texts, so the bound that
# protects a client's buffer is more generous. Postfix reads up to 2048.
LINE_OCTETS_MAX = 2048
LINES_MAX = 100

# One reply line without its CRLF: code, separator, text without control characters (RFC 5321,
# 4.2, with the 8-bit text that servers send in practice).
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])([\t\x20-\x7e\x80-\xff]*))?")
# The same for a reply of one line, length included, with or without its CR.
_ONLY_LINE = re.compile(
    rb"([2-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]{0,%d})?(\r?)" % (LINE_OCTETS_MAX - 4)
)
_ENHANCED = re.compile(rb"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?=[ \r])")
_UNSAFE = re.compile(r"[^\x20-\x7e]")


@value()
class Reply:
    """One complete reply; `wire` holds every line with its CRLF."""

    code: int
    wire: bytes

    @property
    def is_success(self) -> bool:
        """2xx: done."""
        return self.code < 300

    @property
    def is_transient(self) -> bool:
        """4xx: the client should try again."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        """5xx: the client must not try again."""
        return self.code >= 500

    @property
    def text(self) -> str:
        """The reply as one printable line, for logs and reports; 8-bit bytes become '?'."""
        line = self.wire[:-2].decode("latin-1")
        if line.isascii() and line.isprintable():
            return line  # nearly always: one line, and nothing odd in it
        lines = self.wire.decode("latin-1").split("\r\n")
        joined = " ".join([lines[0], *(line[4:] for line in lines[1:] if line)])
        return _UNSAFE.sub("?", joined)

    @property
    def enhanced_status(self) -> str:
        """The enhanced status code of RFC 3463, or one derived from the reply code's class.

        One that contradicts the reply code is not believed (RFC 2034, 4).
        """
        match = _ENHANCED.match(self.wire, 4)
        status = match[0].decode() if match else ""
        digit = str(self.code)[0]
        return status if status.startswith(digit) else f"{digit}.0.0"


def make(code: int, text: str, *more: str) -> Reply:
    """Build a reply of ours, one line for each text; characters outside ASCII become '?'."""
    lines = [_UNSAFE.sub("?", line)[: LINE_OCTETS_MAX - 6] for line in (text, *more)]
    parts = [f"{code}-{line}\r\n" for line in lines[:-1]]
    parts.append(f"{code} {lines[-1]}\r\n")
    return Reply(code, "".join(parts).encode("ascii"))


@lru_cache(maxsize=64)
def one_line(line: bytes) -> Reply | None:
    """Build the reply that a backend sent as this one line, or None if it is not one.

    The line is without its LF, and its CR may be there or not. A server says the same words to each
    MAIL, RCPT and DATA, so the last lines are remembered.
    """
    match = _ONLY_LINE.fullmatch(line)
    if match is None:
        return None
    return Reply(int(match[1]), line + (b"\n" if match[2] else b"\r\n"))


def from_backend(lines: list[bytes]) -> Reply | None:
    """Build the reply that a backend sent as `lines` (without CRLF), or None if it is not one."""
    if not 0 < len(lines) <= LINES_MAX:
        return None
    code = lines[0][:3]
    last = len(lines) - 1
    for index, line in enumerate(lines):
        match = _LINE.fullmatch(line)
        if match is None or match[1] != code or len(line) > LINE_OCTETS_MAX:
            return None
        if (match[2] == b"-") != (index < last):
            return None
    return Reply(int(code), b"\r\n".join(lines) + b"\r\n")


# The dialog.
OK = make(250, "2.0.0 Ok")
SENDER_OK = make(250, "2.1.0 Ok")
# RFC 6710, 4.1: the number is the priority that counts.
PRIORITY_IGNORED = make(250, "2.3.6 0 Ok, but priorities count from trusted clients only")
RECIPIENT_OK = make(250, "2.1.5 Ok")
START_INPUT = make(354, "End data with <CR><LF>.<CR><LF>")
BYE = make(221, "2.0.0 Bye")
CANNOT_VERIFY = make(252, "2.5.2 Cannot VRFY user, but will accept message and attempt delivery")

# Refusals of syntax and sequence.
LINE_TOO_LONG = make(500, "5.5.2 Command line too long")
BARE_LF_IN_COMMAND = make(500, "5.5.2 Command lines end in <CR><LF>")
UNKNOWN_COMMAND = make(500, "5.5.2 Command not recognized")
NOT_HTTP = make(554, "5.5.0 This is SMTP and not HTTP, closing connection")
NOT_IMPLEMENTED = make(502, "5.5.1 Command not implemented")
HELO_FIRST = make(503, "5.5.1 Send HELO or EHLO first")
MAIL_FIRST = make(503, "5.5.1 Need MAIL command")
NESTED_MAIL = make(503, "5.5.1 Nested MAIL command")
CHUNKS_BEFORE = make(503, "5.5.1 Mail data has come in chunks; go on with BDAT, or RSET")
NO_VALID_RECIPIENTS = make(554, "5.5.1 No valid recipients")
NO_PARAMETERS = make(501, "5.5.4 Command takes no parameters")
BAD_CHUNK = make(501, "5.5.4 Syntax: BDAT octets [LAST]; closing connection")
NON_ASCII_ADDRESS = make(553, "5.6.7 Non-ASCII addresses need the parameter SMTPUTF8")
NON_ASCII_NOT_TAKEN = make(553, "5.6.7 Non-ASCII addresses are not taken: no SMTPUTF8 here")

# TLS (RFC 3207).
TLS_READY = make(220, "2.0.0 Ready to start TLS")
TLS_TWICE = make(503, "5.5.1 TLS already active")
TLS_TOO_LATE = make(503, "5.5.1 TLS has to begin before XCLIENT")
TLS_NOT_NOW = make(454, "4.7.0 TLS not available now, try again later")
TLS_TOO_EAGER = make(554, "5.5.0 STARTTLS must be the last command of a group")
TLS_REQUIRED = make(530, "5.7.0 Must issue a STARTTLS command first")

# Authentication (RFC 4954).
AUTHENTICATED = make(235, "2.7.0 Authentication successful")
AUTH_NEEDS_EHLO = make(503, "5.5.1 Send EHLO first")
AUTH_TWICE = make(503, "5.5.1 Already authenticated")
AUTH_IN_TRANSACTION = make(503, "5.5.1 Mail transaction in progress")
XCLIENT_DENIED = make(550, "5.7.0 Insufficient authorization")
AUTH_SYNTAX = make(501, "5.5.4 Syntax: AUTH mechanism [initial-response]")
AUTH_UNKNOWN_MECHANISM = make(504, "5.5.4 Authentication mechanism not recognized")
AUTH_NEEDS_TLS = make(538, "5.7.11 Encryption required: begin TLS first")
AUTH_NOT_DECODED = make(501, "5.5.2 Response is not base64")
AUTH_TOO_LONG = make(500, "5.5.6 Authentication response is too long")
AUTH_CANCELLED = make(501, "5.7.0 Authentication cancelled")
AUTH_FAILED = make(535, "5.7.8 Authentication credentials invalid")
AUTH_UNAVAILABLE = make(454, "4.7.0 Temporary authentication failure, try again later")
AUTH_LIMITED = make(454, "4.7.0 Too many failed authentications, try again later")
TOO_MANY_AUTH_FAILURES = make(421, "4.7.0 Too many failed authentications, closing connection")
AUTH_REQUIRED = make(530, "5.7.0 Authentication required")
SENDER_NOT_OWNED = make(553, "5.7.1 Sender address rejected: not owned by user")

# Policy.
RELAY_DENIED = make(554, "5.7.1 Relay access denied")
ROUTED_ADDRESS = make(554, "5.7.1 Sender-specified routing denied")
UNKNOWN_RECIPIENT = make(550, "5.1.1 Recipient address rejected: no such mailbox here")
LOOP = make(554, "5.4.6 Mail loop detected")
BARE_LINE_ENDING = make(550, "5.5.2 Message contains a bare <CR>, <LF> or NUL (RFC 5321, 2.3.8)")
LINE_OF_DATA_TOO_LONG = make(550, "5.6.0 Message contains a line that is longer than the limit")
NOT_A_PROXY = make(554, "5.7.1 This port is for our proxies only")
TOO_LARGE = make(552, "5.3.4 Message size exceeds the limit")

# Limits and faults: the client should come back.
TOO_MANY_RECIPIENTS = make(452, "4.5.3 Too many recipients")
NO_ROOM_FOR_CONTENT = make(452, "4.3.1 Mail data buffers are full, try again later")
SPOOL_FULL = make(452, "4.3.1 Mail system storage is full, try again later")
SPOOL_FILLING = make(451, "4.3.2 Mail system is busy, try again later")
OVER_QUOTA = make(451, "4.3.2 Too much mail from here while the mail system is busy, try later")
PRIORITY_TOO_LOW = make(450, "4.7.15 Priority level is too low for now, try again later")
TOO_BIG_FOR_PRIORITY = make(450, "4.7.16 Message is too big for its priority for now, try later")
INTERNAL = make(451, "4.3.0 Local error in processing, try again later")
BACKEND_AWAY = make(451, "4.4.1 Mail server is not reachable, try again later")
MIXED_RECIPIENTS = make(451, "4.5.3 Recipients got different answers, try again later")
NO_ANSWER = make(451, "4.4.2 Mail server gave no answer, try again later")
SHUTTING_DOWN = make(421, "4.3.2 Service is shutting down, try again later")
TOO_MANY_SESSIONS = make(421, "4.3.2 Too many connections, try again later")
TOO_MANY_OF_ADDRESS = make(421, "4.7.0 Too many connections from your address, try again later")
TOO_MANY_OF_NETWORK = make(421, "4.7.0 Too many connections from your network, try again later")
TOO_OFTEN = make(421, "4.7.0 Your address connects too often, try again later")
UNVERIFIED_RECIPIENT = make(450, "4.3.2 Recipient cannot be verified now, try again later")
TOO_MANY_UNKNOWN = make(421, "4.7.0 Too many unknown recipients, closing connection")
TOO_MANY_ERRORS = make(421, "4.7.0 Too many errors, closing connection")
TIMED_OUT = make(421, "4.4.2 Timeout, closing connection")
TOO_SLOW = make(421, "4.4.2 Data arrives too slowly, closing connection")


def chunk_received(octets: int) -> Reply:
    """The reply to a chunk that is not the last."""
    return make(250, f"2.0.0 {octets} octets received")


def queued(queue_id: str) -> Reply:
    """The promise after a durable commit."""
    return make(250, f"2.0.0 Ok: queued as {queue_id}")
