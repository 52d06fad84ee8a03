"""The name of the network that an address is in, for networks that may lie within each other.

An address in several named networks belongs to the narrowest, so that `vpn: [10.64.0.0/14]` and a
ward of its own in `10.65.3.0/24` tell what they should. As in `networks`, all of them become sorted
intervals that do not overlap, so that a lookup is one bisection, whatever their number.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping

from mailshed.mail.networks import Network


class NetworkNames:
    """Networks by name; of two equal ones the first counts."""

    __slots__ = ("_names", "_starts")

    def __init__(self, networks: Mapping[str, Iterable[Network]]) -> None:
        self._starts: dict[int, list[int]] = {}
        self._names: dict[int, list[str | None]] = {}
        for version in (4, 6):
            found = [
                (network, name)
                for name, members in networks.items()
                for network in members
                if network.version == version
            ]
            self._starts[version], self._names[version] = _flat(found)

    def name_of(self, version: int, number: int) -> str | None:
        """The name for the address with this IP version and number; None if it has none."""
        place = bisect_right(self._starts[version], number)
        return self._names[version][place - 1]


def _flat(networks: Iterable[tuple[Network, str]]) -> tuple[list[int], list[str | None]]:
    """The places where the name changes, from 0 on, and the name from there on."""
    starts, names = [0], list[str | None]([None])
    within: list[
        tuple[int, str]
    ] = []  # the networks that hold the current place: last address, name

    def change(at: int, name: str | None) -> None:
        if starts[-1] == at:
            names[-1] = name
        elif names[-1] != name:
            starts.append(at)
            names.append(name)

    def leave(before: int | None) -> None:
        while within and (before is None or within[-1][0] < before):
            last, _ = within.pop()
            change(last + 1, within[-1][1] if within else None)

    # Outer networks before inner ones; of equal ones the last to come counts, so the first of all.
    numbered = [
        (int(net.network_address), net.prefixlen, -place, net, name)
        for place, (net, name) in enumerate(networks)
    ]
    for first, _, _, network, name in sorted(numbered, key=lambda each: each[:3]):
        leave(first)
        within.append((int(network.broadcast_address), name))
        change(first, name)
    leave(None)
    return starts, names
