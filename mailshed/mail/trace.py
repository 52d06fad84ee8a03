"""The one line that mailshed adds to a message, and the loop test that reads such lines.

The `Received:` line of RFC 5321, 4.4 says who gave us the message, how, when, and under which queue
id; if it came over TLS, also the cipher suite, in the `tls` clause of RFC 8314, 4.3.
Our own id in two of them means that the message has come back to us; very many of them from
anyone mean a loop elsewhere (RFC 5321, 6.3 asks for a threshold of at least 100; Postfix and
chasquid stop at 50, which no honest path reaches).
"""

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from mailshed.mail.envelope import Envelope
from mailshed.mail.header import HeaderView

RECEIVED_MAX = 50

_HELO_UNSAFE = re.compile(r"[^A-Za-z0-9._:\[\]-]")


def received_line(envelope: Envelope, hostname: str) -> bytes:
    """Make the trace field for `envelope`, folded, in wire form, ending in CRLF.

    The forward-path is named only if it is the only one, so that no recipient learns of another;
    and if it is ASCII, as the line has to be where a message goes on without SMTPUTF8.
    """
    helo = _HELO_UNSAFE.sub("?", envelope.helo)[:255] or "unknown"
    client = envelope.client
    literal = client.address_text
    if client.address.version == 6:
        literal = f"IPv6:{literal}"
    target = ""
    if len(envelope.recipients) == 1 and envelope.recipients[0].mailbox.is_ascii:
        target = f"\r\n\tfor <{envelope.recipients[0].mailbox}>"
    if client.tls is not None:
        target += f"\r\n\ttls {client.tls.cipher}"
    date = date_time(int(envelope.received_wall))
    return (
        f"Received: from {helo} ([{literal}])\r\n"
        f"\tby {hostname} (mailshed) with {_protocol(envelope)} id {envelope.queue_id}{target};\r\n"
        f"\t{date}\r\n"
    ).encode("ascii")


def _protocol(envelope: Envelope) -> str:
    """How the message came: the names of IANA's registry of mail transmission types.

    ESMTP, then S for TLS and A for AUTH (RFC 3848); UTF8SMTP if it may have any script (RFC 6531,
    4.3). There is none for TLS without EHLO.
    """
    if not envelope.is_extended:
        return "SMTP"
    name = "UTF8SMTP" if envelope.is_utf8 else "ESMTP"
    client = envelope.client
    return name + ("S" if client.tls is not None else "") + ("A" if client.user else "")


@lru_cache(maxsize=8)
def date_time(second: int) -> str:
    """The date of RFC 5322, 3.3 in UTC, of a Unix time; the same for all of one second."""
    return format_datetime(datetime.fromtimestamp(second, UTC))


def is_loop(header: HeaderView, hostname: str) -> bool:
    """Whether the message has passed us before, or has passed too many servers."""
    values = header.values_of(b"received")
    if len(values) < 2:
        return False  # nearly always within a site
    mark = f"by {hostname} (mailshed)"
    return len(values) >= RECEIVED_MAX or sum(mark in value for value in values) >= 2
