"""Who may begin a TLS handshake: a cap on those under way, for all and for one network.

A handshake is the most expensive thing that a stranger can ask for: a private key operation of a
millisecond on the event loop, and some 35 KiB that stay for as long as it is not finished. So how
many are under way at the same time is bounded before one begins.

- *Total*: `handshakes_max`. The last quarter is for clients of clinical networks, whom a storm of
  handshakes from elsewhere must not keep out.
- *Network* (/24, or /64 of IPv6): `handshakes_per_network`, but for clinical networks. A storm
  mostly comes from few of them.

A handshake ends in two round trips or at its deadline, so the cap says nothing of how many TLS
sessions there may be: that is `sessions_max`. Pure.
"""

from collections import Counter
from ipaddress import IPv4Address, IPv6Address

from mailshed.admission.quota import IPV4_HOST_BITS, IPV6_HOST_BITS
from mailshed.config.policy import TlsPolicy

CLINICAL_SHARE = 0.25
"""Of `handshakes_max`, for clinical networks alone."""


def handshake_reserve(handshakes_max: int) -> int:
    """How many of so many are held in reserve: one at least, unless there is only one."""
    return min(max(1, int(handshakes_max * CLINICAL_SHARE)), handshakes_max - 1)


class OpenHandshakes:
    """How many handshakes are under way, for all and for each network."""

    def __init__(self) -> None:
        self.total = 0
        self._of_network: Counter[tuple[int, int]] = Counter()

    def enter(
        self, address: IPv4Address | IPv6Address, policy: TlsPolicy, *, is_clinical: bool
    ) -> bool:
        """Count one more of this client, unless that is one too many."""
        reserve = 0 if is_clinical else handshake_reserve(policy.handshakes_max)
        if self.total >= policy.handshakes_max - reserve:
            return False
        network = _network(address)
        if not is_clinical and self._of_network[network] >= policy.handshakes_per_network:
            return False
        self.total += 1
        self._of_network[network] += 1
        return True

    def leave(self, address: IPv4Address | IPv6Address) -> None:
        """Forget one that was let in."""
        self.total -= 1
        network = _network(address)
        self._of_network[network] -= 1
        if not self._of_network[network]:
            del self._of_network[network]


def _network(address: IPv4Address | IPv6Address) -> tuple[int, int]:
    bits = IPV4_HOST_BITS if address.version == 4 else IPV6_HOST_BITS
    return address.version, int(address) >> bits
