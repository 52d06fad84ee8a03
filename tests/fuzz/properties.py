"""What holds of whatever the daemon says or makes of octets, and where the octets are cut."""

import re
from collections.abc import Iterator

from mailshed.mail.reply import LINE_OCTETS_MAX, LINES_MAX, Reply, from_backend

# Any sequence that some server takes for the end of mail data (SMTP smuggling).
FALSE_END = re.compile(rb"[\r\n]\x00?\.[\r\n]")
CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
# Controls of Unicode, and what it takes for the end of a line.
ENDS_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def check_reply(reply: Reply) -> None:
    """One reply, whole, and nothing else on the wire."""
    assert 200 <= reply.code <= 599
    assert reply.wire.endswith(b"\r\n")
    lines = reply.wire[:-2].split(b"\r\n")
    assert len(lines) <= LINES_MAX
    for index, line in enumerate(lines):
        assert len(line) <= LINE_OCTETS_MAX
        assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", line)
        assert line[:3] == b"%d" % reply.code
        assert (line[3:4] == b"-") == (index < len(lines) - 1)
    assert reply.text.isprintable()
    status = reply.enhanced_status
    assert re.fullmatch(r"[2-5]\.\d{1,3}\.\d{1,3}", status)
    assert status[0] == str(reply.code)[0], "contradicts the code"


def replies_in(wire: bytes) -> list[Reply]:
    """The replies that a server has sent, all of them whole and in plain ASCII."""
    assert wire.isascii()
    assert not wire or wire.endswith(b"\r\n")
    found, lines = [], []
    for line in wire.split(b"\r\n")[:-1]:
        lines.append(line)
        if line[3:4] != b"-":
            reply = from_backend(lines)
            assert reply is not None, lines
            check_reply(reply)
            found.append(reply)
            lines = []
    assert not lines
    return found


def check_words(text: str) -> None:
    """What may go into a reply, or onto a screen."""
    assert text
    assert text.isprintable()


def pieces(data: bytes, *, is_cut: bool, octets_max: int = 7) -> Iterator[bytes]:
    """The octets in one piece, or cut where they themselves say, into pieces of so many at most.

    So the search can learn where it matters.
    """
    start = position = 0
    while is_cut and position < len(data):
        position = min(position + 1 + data[position] % octets_max, len(data))
        yield data[start:position]
        start = position
    if start < len(data):
        yield data[start:]
