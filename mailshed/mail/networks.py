"""Sets of networks of any size, in which an address is found by bisection.

A rule may name a file with thousands of networks. The standard library compares an address with
one network at a time; here networks become sorted intervals of numbers that do not overlap, one
list for IPv4 and one for IPv6, so that a lookup costs the logarithm of their number.
"""

from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


NO_ADDRESS = IPv4Address(0)
"""Stands for the address of a client that its proxy does not know; no network holds it."""


@lru_cache(maxsize=4096)  # clients come again, and to read an address takes 3 us
def normal_address(text: str) -> Address:
    """Read the address of a peer; an IPv4 client on an IPv6 socket counts as IPv4."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def as_told(address: Address | None, proxy: Address) -> Address:
    """Whose connection a proxy passes on, as far as its word goes.

    A loopback address is of the host that says it. Ours is in `trusted_networks` for our own
    programs; a client that came to another host over its loopback, perhaps from anywhere through a
    tunnel, is none of them.
    """
    if address is None or (address.is_loopback and not proxy.is_loopback):
        return NO_ADDRESS
    return address


class NetworkSet:
    """The addresses of some networks."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        by_version: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for network in networks:
            interval = (int(network.network_address), int(network.broadcast_address))
            by_version[network.version].append(interval)
        self._starts: dict[int, list[int]] = {}
        self._ends: dict[int, list[int]] = {}
        for version, intervals in by_version.items():
            merged = _merge(intervals)
            self._starts[version] = [start for start, _ in merged]
            self._ends[version] = [end for _, end in merged]

    def __bool__(self) -> bool:
        return any(self._starts.values())

    def __eq__(self, other: object) -> bool:
        """Whether the same addresses are in both, however they are cut into networks."""
        if not isinstance(other, NetworkSet):
            return NotImplemented
        return (self._starts, self._ends) == (other._starts, other._ends)

    def __hash__(self) -> int:
        return hash(tuple((version, *starts) for version, starts in self._starts.items()))

    def __contains__(self, address: Address) -> bool:
        return self.holds(address.version, int(address))

    def holds(self, version: int, number: int) -> bool:
        """Whether the address with this IP version and number is in one of the networks."""
        place = bisect_right(self._starts[version], number)
        return place > 0 and number <= self._ends[version][place - 1]


def _merge(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sort intervals and join those that overlap or touch."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
