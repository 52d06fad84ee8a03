"""The PROXY protocol, versions 1 and 2: the header that tells whose connection a proxy passes on.

A proxy such as HAProxy writes one header before everything else, a TLS handshake included. Version
1 is a line of at most 107 octets, version 2 is binary and may carry TLV records. What is read here
comes from a socket, so it is bounded while it is read, and whatever breaks the rules ends the
connection: there is no way to find the beginning of the mail dialog behind a header that cannot be
understood.

- `LOCAL` is the proxy's own connection, such as a health check. `UNKNOWN` and what is no IP address
  (Unix sockets) are connections of a client that nobody can name: not the same, since a proxy may
  be trusted.
- The TLV records of version 2 must be well formed, and are not looked at. All of a header after its
  first 16 octets is bounded by `LENGTH_MAX`.
- An IPv4 address that is mapped into IPv6 is an IPv4 address, as everywhere in mailshed.

Whether a peer may send a header at all is not judged here: ask before any octet is given to the
parser. Sources: haproxy's `doc/proxy-protocol.txt`, sections 2.1 and 2.2.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from mailshed.errors import ProxyHeaderError

Address = IPv4Address | IPv6Address

LINE_MAX = 107
"""Octets of a header of version 1, CRLF included (2.1)."""
LENGTH_MAX = 4096
"""Octets that may follow the first 16 of a header of version 2. The addresses take 216 at most; a
client's certificate that a proxy passes on takes 2,000 to 3,000. Up to 65,535 could be told."""
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
"""The first twelve octets of version 2, which no version 1 and no mail dialog begins with."""

_PREFIX = b"PROXY "
_FIXED = 16  # signature, version and command, family and transport, length
_SHORTEST = len(b"PROXY UNKNOWN\r\n")
_LINE = re.compile(
    rb"PROXY TCP([46]) ([0-9a-fA-F:.]{2,39}) ([0-9a-fA-F:.]{2,39}) ([0-9]{1,5}) ([0-9]{1,5})\r\n"
)
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")
_LOCAL, _PROXY = 0x20, 0x21
# Octets of the addresses and ports of each family: unspecified, IPv4, IPv6, Unix.
_ADDRESS_OCTETS = (0, 12, 36, 216)
_UNIX = 3
_TRANSPORT_MAX = 2  # unspecified, stream, datagram
_TLV_FIXED = 3  # type and length


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One end of a TCP connection."""

    address: Address
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyHeader:
    """What a proxy says of the connection: where it comes from, and where the client connected to.

    Both are None when the proxy speaks for itself or knows no addresses.
    """

    is_own: bool = False
    """Whether the proxy speaks for itself; then the addresses of its own connection count."""
    source: Endpoint | None = None
    destination: Endpoint | None = None


class ProxyHeaderParser:
    """Finds the header at the beginning of a connection; octets may come cut anywhere.

    It keeps `_FIXED + LENGTH_MAX` octets at most, whatever it is fed.
    """

    __slots__ = ("_buffer", "rest")

    def __init__(self) -> None:
        self._buffer = b""
        self.rest = b""
        """What followed the header in the block that completed it."""

    @property
    def wanted(self) -> int:
        """How many octets may be read next so that none of what follows the header is read.

        TLS may follow, and whoever does the handshake reads from the socket.
        """
        data = self._buffer
        if len(data) < _SHORTEST:
            return _SHORTEST - len(data)
        if data.startswith(_PREFIX):
            return 1 if data.endswith(b"\r") else 2
        if len(data) < _FIXED:
            return _FIXED - len(data)
        return _FIXED + _length(data) - len(data)

    def feed(self, block: bytes) -> ProxyHeader | None:
        """Take the next octets; the header once it is complete, and None while it is not.

        Raises ProxyHeaderError as soon as no header can come of it. Not to be called again then,
        nor after the header.
        """
        data = self._buffer + block
        parse: Callable[[bytes], ProxyHeader]
        if data.startswith(SIGNATURE[: len(data)]):
            end = _end_of_version_2(data)
            parse = _version_2
        elif data.startswith(_PREFIX[: len(data)]):
            end = _end_of_version_1(data)
            parse = _version_1
        else:
            raise ProxyHeaderError("the connection does not begin with a PROXY header")
        if end is None:
            self._buffer = data
            return None
        self._buffer = b""
        self.rest = data[end:]
        return parse(data[:end])


def _end_of_version_1(data: bytes) -> int | None:
    """Where the line ends; None if that is yet to come."""
    end = data.find(b"\r\n", 0, LINE_MAX)
    if end >= 0:
        return end + 2
    if len(data) >= LINE_MAX:
        raise ProxyHeaderError(f"version 1 is longer than {LINE_MAX} octets")
    return None


def _end_of_version_2(data: bytes) -> int | None:
    """Where the header ends; None if that is yet to come. Its length is judged when it is known."""
    if len(data) < _FIXED:
        return None
    length = _length(data)
    if length > LENGTH_MAX:
        raise ProxyHeaderError(f"version 2 announces {length} octets, more than {LENGTH_MAX}")
    return _FIXED + length if len(data) >= _FIXED + length else None


def _length(data: bytes) -> int:
    return int.from_bytes(data[_FIXED - 2 : _FIXED])


def _version_1(line: bytes) -> ProxyHeader:
    match = _LINE.fullmatch(line)
    if match is None:
        if _UNKNOWN.fullmatch(line):
            return ProxyHeader()
        raise ProxyHeaderError("version 1 is malformed")
    version = int(match[1])
    source = Endpoint(address=_written(match[2], version), port=_port(match[4]))
    destination = Endpoint(address=_written(match[3], version), port=_port(match[5]))
    return ProxyHeader(source=source, destination=destination)


def _written(text: bytes, version: int) -> Address:
    try:
        address = ip_address(text.decode("ascii"))
    except ValueError:
        raise ProxyHeaderError("version 1 has an address that is none") from None
    if address.version != version:
        raise ProxyHeaderError("version 1 has an address of another family than it says")
    return _unmapped(address)


def _port(digits: bytes) -> int:
    port = int(digits)
    if port > 0xFFFF or digits != str(port).encode():
        raise ProxyHeaderError("version 1 has a port that is none")
    return port


def _version_2(data: bytes) -> ProxyHeader:
    command, kind = data[12], data[13]
    if command == _LOCAL:
        return ProxyHeader(is_own=True)  # whatever else it says is to be ignored (2.2)
    if command != _PROXY:
        raise ProxyHeaderError("version 2 has an unknown version or command")
    family, transport = kind >> 4, kind & 0x0F
    if family >= len(_ADDRESS_OCTETS) or transport > _TRANSPORT_MAX:
        raise ProxyHeaderError("version 2 has an unknown family or transport")
    if not family or not transport:
        return ProxyHeader()  # unspecified, and so is the form of what follows
    body = data[_FIXED:]
    length = _ADDRESS_OCTETS[family]
    if len(body) < length:
        raise ProxyHeaderError("version 2 is shorter than its addresses")
    _check_tlvs(body[length:])
    if family == _UNIX:
        return ProxyHeader()
    size = 4 if family == 1 else 16
    ports = 2 * size
    return ProxyHeader(
        source=_packed(body[:size], body[ports : ports + 2]),
        destination=_packed(body[size:ports], body[ports + 2 : ports + 4]),
    )


def _check_tlvs(records: bytes) -> None:
    """Raise unless `records` is TLV records from end to end (2.2, "Type-Length-Value")."""
    place = 0
    while place < len(records):
        value = place + _TLV_FIXED
        place = value + int.from_bytes(records[place + 1 : value])
        if place > len(records) or value > len(records):
            raise ProxyHeaderError("version 2 has a TLV record that is longer than the header")


def _packed(address: bytes, port: bytes) -> Endpoint:
    return Endpoint(address=_unmapped(ip_address(address)), port=int.from_bytes(port))


def _unmapped(address: Address) -> Address:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


# What we write.


def build_v1(source: Endpoint, destination: Endpoint) -> bytes:
    """Make the header of version 1 for a TCP connection from `source` to `destination`."""
    first, second = _same_family(source.address, destination.address)
    line = f"PROXY TCP{first.version} {first} {second} {source.port} {destination.port}\r\n"
    return line.encode("ascii")


def build_v2(source: Endpoint, destination: Endpoint) -> bytes:
    """Make the header of version 2 for a TCP connection from `source` to `destination`."""
    first, second = _same_family(source.address, destination.address)
    ports = source.port.to_bytes(2) + destination.port.to_bytes(2)
    body = first.packed + second.packed + ports
    kind = 0x11 if first.version == 4 else 0x21
    return SIGNATURE + bytes([_PROXY, kind]) + len(body).to_bytes(2) + body


def build_v2_local() -> bytes:
    """Make the header of version 2 for a connection of our own, such as a probe."""
    return SIGNATURE + bytes([_LOCAL, 0]) + bytes(2)


def _same_family(first: Address, second: Address) -> tuple[Address, Address]:
    """Both as they are, or as IPv6 if only one of them is."""
    if first.version == second.version:
        return first, second
    return _as_ipv6(first), _as_ipv6(second)


def _as_ipv6(address: Address) -> Address:
    """The same host in IPv6 (RFC 4291, 2.5.5.2)."""
    if address.version == 6:
        return address
    return IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
