"""The PROXY header: every form that there is, cut anywhere, and everything that is none."""

import string
import struct
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mailshed.errors import ProxyHeaderError
from mailshed.mail.proxy_protocol import (
    LENGTH_MAX,
    LINE_MAX,
    SIGNATURE,
    Endpoint,
    ProxyHeader,
    ProxyHeaderParser,
    build_v1,
    build_v2,
    build_v2_local,
)

NOBODY = ProxyHeader()
PROXY_ITSELF = ProxyHeader(is_own=True)
REST = b"EHLO client.example.org\r\n"

CLIENT = Endpoint(address=ip_address("192.0.2.7"), port=40000)
HERE = Endpoint(address=ip_address("198.51.100.25"), port=25)
CLIENT_6 = Endpoint(address=ip_address("2001:db8::7"), port=65535)
HERE_6 = Endpoint(address=ip_address("2001:db8::25"), port=0)


def parsed(octets: bytes, *cuts: int) -> tuple[ProxyHeader | None, bytes]:
    """The header at the beginning of `octets`, fed as the cuts say, and what was left over."""
    parser = ProxyHeaderParser()
    starts = [0, *cuts]
    for start, end in zip(starts, [*cuts, len(octets)], strict=True):
        header = parser.feed(octets[start:end])
        if header is not None:
            return header, parser.rest + octets[end:]
    return None, parser.rest


def v2(command: int, kind: int, body: bytes = b"", length: int | None = None) -> bytes:
    """A header of version 2 from its parts."""
    told = len(body) if length is None else length
    return SIGNATURE + bytes([command, kind]) + struct.pack("!H", told) + body


INET = CLIENT.address.packed + HERE.address.packed + struct.pack("!HH", 40000, 25)
INET6 = CLIENT_6.address.packed + HERE_6.address.packed + struct.pack("!HH", 65535, 0)
UNIX = b"/run/proxy.sock".ljust(108, b"\0") + b"/run/mail.sock".ljust(108, b"\0")

TOLD = ProxyHeader(source=CLIENT, destination=HERE)
TOLD_6 = ProxyHeader(source=CLIENT_6, destination=HERE_6)

HEADERS = {
    "version 1, IPv4": (b"PROXY TCP4 192.0.2.7 198.51.100.25 40000 25\r\n", TOLD),
    "version 1, IPv6": (b"PROXY TCP6 2001:db8::7 2001:DB8::25 65535 0\r\n", TOLD_6),
    "version 1, mapped": (
        b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.25 40000 25\r\n",
        TOLD,
    ),
    "version 1, unknown": (b"PROXY UNKNOWN\r\n", NOBODY),
    "version 1, unknown with more": (
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
        NOBODY,
    ),
    "version 2, IPv4": (v2(0x21, 0x11, INET), TOLD),
    "version 2, IPv4, datagrams": (v2(0x21, 0x12, INET), TOLD),
    "version 2, IPv6": (v2(0x21, 0x21, INET6), TOLD_6),
    "version 2, Unix": (v2(0x21, 0x31, UNIX), NOBODY),
    "version 2, unspecified": (v2(0x21, 0x00), NOBODY),
    "version 2, unspecified with more": (v2(0x21, 0x00, b"\xff" * 50), NOBODY),
    "version 2, local": (v2(0x20, 0x00), PROXY_ITSELF),
    "version 2, local with addresses": (v2(0x20, 0x11, INET), PROXY_ITSELF),
    "version 2, local of no family": (v2(0x20, 0xFF, b"junk"), PROXY_ITSELF),
    "version 2, records": (v2(0x21, 0x11, INET + b"\x04\x00\x02no\x20\x00\x00"), TOLD),
    "version 2, longest": (
        v2(
            0x21, 0x11, INET + b"\x04" + struct.pack("!H", LENGTH_MAX - 15) + bytes(LENGTH_MAX - 15)
        ),
        TOLD,
    ),
}

MALFORMED = {
    "mail": b"EHLO client.example.org\r\n",
    "no version": b"PROXY HTTP\r\n",
    "lower case": b"proxy TCP4 192.0.2.7 198.51.100.25 40000 25\r\n",
    "lower case family": b"PROXY tcp4 192.0.2.7 198.51.100.25 40000 25\r\n",
    "two spaces": b"PROXY TCP4  192.0.2.7 198.51.100.25 40000 25\r\n",
    "trailing space": b"PROXY TCP4 192.0.2.7 198.51.100.25 40000 25 \r\n",
    "tab": b"PROXY TCP4\t192.0.2.7 198.51.100.25 40000 25\r\n",
    "one address": b"PROXY TCP4 192.0.2.7 40000 25\r\n",
    "negative port": b"PROXY TCP4 192.0.2.7 198.51.100.25 -1 25\r\n",
    "port too large": b"PROXY TCP4 192.0.2.7 198.51.100.25 65536 25\r\n",
    "port with zero": b"PROXY TCP4 192.0.2.7 198.51.100.25 040 25\r\n",
    "octet too large": b"PROXY TCP4 192.0.2.256 198.51.100.25 40000 25\r\n",
    "octet with zero": b"PROXY TCP4 192.0.02.7 198.51.100.25 40000 25\r\n",
    "short address": b"PROXY TCP4 192.0.2 198.51.100.25 40000 25\r\n",
    "other family": b"PROXY TCP4 2001:db8::7 2001:db8::25 40000 25\r\n",
    "other family, IPv6": b"PROXY TCP6 192.0.2.7 198.51.100.25 40000 25\r\n",
    "scope": b"PROXY TCP6 fe80::1%eth0 2001:db8::25 40000 25\r\n",
    "name": b"PROXY TCP4 localhost 198.51.100.25 40000 25\r\n",
    "bare LF": b"PROXY TCP4 192.0.2.7 198.51.100.25 40000 25\nEHLO x\r\n",
    "LF in unknown": b"PROXY UNKNOWN a\nb\r\n",
    "NUL in the port": b"PROXY TCP4 192.0.2.7 198.51.100.25 40000 2\x005\r\n",
    "unknown without a space": b"PROXY UNKNOWNS\r\n",
    "line without an end": b"PROXY UNKNOWN " + b"x" * (LINE_MAX - 14),
    "version 3": v2(0x31, 0x11, INET),
    "version 1 in binary": v2(0x11, 0x11, INET),
    "unknown command": v2(0x22, 0x11, INET),
    "unknown family": v2(0x21, 0x41, INET),
    "unknown transport": v2(0x21, 0x13, INET),
    "no addresses": v2(0x21, 0x11),
    "short of one octet": v2(0x21, 0x11, INET[:-1]),
    "short of one octet, IPv6": v2(0x21, 0x21, INET6[:-1]),
    "short of one octet, Unix": v2(0x21, 0x31, UNIX[:-1]),
    "record is cut": v2(0x21, 0x11, INET + b"\x04\x00"),
    "record is too long": v2(0x21, 0x11, INET + b"\x04\xff\xffxx"),
    "second record is too long": v2(0x21, 0x11, INET + b"\x04\x00\x01x\x04\x00\x01"),
    "record behind Unix is too long": v2(0x21, 0x31, UNIX + b"\x04\x00\x01"),
    "longest that can be told": v2(0x21, 0x11, INET, length=65535),
    "over-long by one": v2(0x21, 0x11, INET, length=LENGTH_MAX + 1),
}


@pytest.mark.parametrize("name", HEADERS)
def test_each_form_is_read_and_what_follows_is_left(name: str) -> None:
    octets, expected = HEADERS[name]

    assert parsed(octets) == (expected, b"")
    assert parsed(octets + REST) == (expected, REST)


@pytest.mark.parametrize("name", [name for name in HEADERS if name != "version 2, longest"])
def test_a_header_may_be_cut_anywhere(name: str) -> None:
    octets, expected = HEADERS[name]

    for cut in range(1, len(octets)):
        assert parsed(octets[:cut]) == (None, b""), f"done after {cut} octets"
        assert parsed(octets + REST, cut) == (expected, REST)
    assert parsed(octets + REST, *range(1, len(octets))) == (expected, REST)


@pytest.mark.parametrize("name", HEADERS)
def test_who_reads_what_is_wanted_reads_nothing_of_what_follows(name: str) -> None:
    octets, expected = HEADERS[name]
    parser, place, reads = ProxyHeaderParser(), 0, 0
    header = None
    while header is None:
        assert parser.wanted > 0
        block = (octets + REST)[place : place + parser.wanted]
        place, reads = place + len(block), reads + 1
        header = parser.feed(block)

    assert (header, parser.rest, place) == (expected, b"", len(octets))
    assert reads <= LINE_MAX // 2


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_header_is_refused(name: str) -> None:
    octets = MALFORMED[name]

    with pytest.raises(ProxyHeaderError):
        parsed(octets)
    with pytest.raises(ProxyHeaderError):
        parsed(octets, *range(1, len(octets)))


def test_the_first_octet_that_cannot_begin_a_header_is_enough() -> None:
    for octet in set(range(256)) - {ord("P"), ord("\r")}:
        with pytest.raises(ProxyHeaderError):
            parsed(bytes([octet]))


def test_an_over_long_header_is_refused_by_its_length_before_it_comes() -> None:
    with pytest.raises(ProxyHeaderError, match="65535 octets, more than 4096"):
        parsed(MALFORMED["longest that can be told"][:16])


def test_the_longest_line_of_the_specification_is_read() -> None:
    line = b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".ljust(LINE_MAX, b"x")
    line = line.replace(b"\r\n", b"xx")[: LINE_MAX - 2] + b"\r\n"

    assert parsed(line + REST) == (NOBODY, REST)


def test_a_second_header_is_left_to_the_dialog() -> None:
    octets, expected = HEADERS["version 2, IPv4"]

    assert parsed(octets + octets) == (expected, octets)


def test_a_header_of_our_own_carries_nobody() -> None:
    assert parsed(build_v2_local()) == (PROXY_ITSELF, b"")


def test_two_families_are_written_as_ipv6() -> None:
    octets = build_v2(CLIENT, HERE_6)

    assert octets[13] == 0x21
    assert parsed(octets)[0] == ProxyHeader(source=CLIENT, destination=HERE_6)
    assert b" ::ffff:" in build_v1(CLIENT, HERE_6)
    assert parsed(build_v1(CLIENT, HERE_6))[0] == ProxyHeader(source=CLIENT, destination=HERE_6)


def is_plain(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address is not an IPv4 address in IPv6 form, which is read as what it is."""
    return not (isinstance(address, IPv6Address) and address.ipv4_mapped)


ENDPOINTS = st.builds(Endpoint, address=st.ip_addresses(), port=st.integers(0, 65535))
BLOCKS = st.lists(st.binary(max_size=64), max_size=20)


@given(source=ENDPOINTS, destination=ENDPOINTS, cut=st.integers(0, 120), rest=st.binary())
def test_what_is_written_is_read(
    source: Endpoint, destination: Endpoint, cut: int, rest: bytes
) -> None:
    assume(is_plain(source.address) and is_plain(destination.address))

    for octets in (build_v1(source, destination), build_v2(source, destination)):
        assert len(octets) <= LINE_MAX
        header, left = parsed(octets + rest, min(cut, len(octets)))
        assert header == ProxyHeader(source=source, destination=destination)
        assert left == rest


@given(
    beginning=st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"]),
    blocks=BLOCKS,
)
def test_random_octets_end_in_an_answer_or_stay_bounded(
    beginning: bytes, blocks: list[bytes]
) -> None:
    parser = ProxyHeaderParser()
    with suppress(ProxyHeaderError):
        for block in [beginning, *blocks]:
            if (header := parser.feed(block)) is not None:
                assert isinstance(header, ProxyHeader)
                break
            assert len(parser._buffer) < 16 + LENGTH_MAX


@given(text=st.text(alphabet=string.hexdigits + ":. /%", max_size=45))
def test_no_text_but_an_address_is_one(text: str) -> None:
    line = f"PROXY TCP6 {text} 2001:db8::25 1 2\r\n".encode()
    try:
        header, _ = parsed(line)
    except ProxyHeaderError:
        return

    assert header is not None
    assert header.source is not None
    expected = IPv6Address(text)
    assert header.source.address == (expected.ipv4_mapped or expected)


@given(octets=st.binary(max_size=300), family=st.sampled_from([0x11, 0x21, 0x31, 0x12]))
def test_a_record_never_reaches_beyond_the_header(octets: bytes, family: int) -> None:
    try:
        header, left = parsed(v2(0x21, family, octets) + REST)
    except ProxyHeaderError:
        return

    assert header is not None
    assert left == REST
