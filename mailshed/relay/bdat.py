"""Mail data as one chunk (CHUNKING, RFC 3030): `BDAT n LAST` and n octets, in place of DATA.

A chunk is counted, so it has no end to be looked for and its dots are not doubled; what we hold is
in wire form, and the doubled ones are taken away. The last chunk is what the final dot is in DATA:
before it left nothing was handed over, after it only a reply counts.

DATA costs a round trip for its 354, unless it leaves in one write with the envelope. That is so for
one recipient and a server that takes pipelining; everywhere else the chunk saves it. The chunk
never leaves together with the envelope, though RFC 3030 allows that: it would be out before it is
known who takes the message, with the client's last chance to leave, and every connection that had
died in the pool would put a message in doubt.

Pure.
"""

_DOT_AT_START = b"\r\n."


def last_chunk(data: bytes) -> bytes:
    """The command and its chunk, for complete mail data in wire form."""
    octets = _without_stuffing(data)
    return b"BDAT %d LAST\r\n%b" % (len(octets), octets)


def _without_stuffing(data: bytes) -> bytes:
    """Take the dot away that begins a line (RFC 5321, 4.5.2)."""
    if data.startswith(b"."):
        data = data[1:]
    return data.replace(_DOT_AT_START, b"\r\n") if _DOT_AT_START in data else data
