"""How often a wrong password was said, and who therefore has to wait before the next is looked at.

Guessing is made slow in two ways: an address that has said so many wrong passwords within the
window is not believed for a while, whatever it says, and neither is a login for which so many were
said from anywhere. Who waits hears 454, and his passwords are not looked at.

A site's own users must not be locked out by that, which is what makes it differ from counting:

- The same wrong password counts once in a window. The telephone that goes on with last month's
  password is no guesser, however often it tries; a guesser never says the same twice.
- A login that has succeeded from an address within the last month is *at home* there. It is judged
  by what was said for it from that address alone: so nobody elsewhere can lock a user out, nor can
  the colleague behind the same address translation.

An address is a whole /64 of IPv6, since that is what one subscriber has.

All tables forget what is old, and have at most `entries_max` keys, the latest ones. Nothing in them
is a password: `digest` is a keyed one (`Credentials.digest`). Pure: `now` is monotonic seconds.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from ipaddress import IPv4Address, IPv6Address

from mailshed.config.policy import AuthenticationPolicy

HOME_SECONDS = 30 * 86400.0
"""How long a login is at home where it has succeeded."""
_IPV6_HOST_BITS = 64


class Failures:
    """What was said wrong lately, by address and by login. `terms` may be replaced at any time."""

    def __init__(self, terms: AuthenticationPolicy) -> None:
        self.terms = terms
        self._wrong: OrderedDict[Hashable, dict[bytes, float]] = OrderedDict()
        self._homes: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        """How many addresses, logins and homes are remembered."""
        return max(len(self._wrong), len(self._homes))

    def wait(self, address: IPv4Address | IPv6Address, login: str, now: float) -> float:
        """Seconds before a password of `login` from `address` is looked at; 0 for none."""
        return max(self._wait(key, limit, now) for key, limit in self._keys(address, login, now))

    def failed(
        self, address: IPv4Address | IPv6Address, login: str, digest: bytes, now: float
    ) -> None:
        """Note a wrong password."""
        for key, _ in self._keys(address, login, now):
            times = self._recent(key, now)
            times.setdefault(digest, now)
            self._wrong[key] = times
            self._wrong.move_to_end(key)
        self._trim()

    def succeeded(self, address: IPv4Address | IPv6Address, login: str, now: float) -> None:
        """Note a right one: the login is at home there."""
        home = (place_of(address), login)
        self._homes[home] = now
        self._homes.move_to_end(home)
        self._wrong.pop(home, None)
        self._trim()

    def _keys(
        self, address: IPv4Address | IPv6Address, login: str, now: float
    ) -> Iterable[tuple[Hashable, int]]:
        """What a wrong password counts for, each with its limit."""
        place = place_of(address)
        home = (place, login)
        since = self._homes.get(home)
        if since is not None and now - since < HOME_SECONDS:
            return ((home, self.terms.failures_per_login),)
        return ((place, self.terms.failures_per_address), (login, self.terms.failures_per_login))

    def _wait(self, key: Hashable, limit: int, now: float) -> float:
        times = self._recent(key, now)
        if len(times) < limit:
            return 0.0
        # The window has to move on until fewer than `limit` are in it.
        return sorted(times.values())[-limit] + self.terms.failures_window - now

    def _recent(self, key: Hashable, now: float) -> dict[bytes, float]:
        oldest = now - self.terms.failures_window
        times = self._wrong.get(key, {})
        return {digest: at for digest, at in times.items() if at > oldest}

    def _trim(self) -> None:
        for table in (self._wrong, self._homes):
            while len(table) > self.terms.entries_max:
                table.popitem(last=False)


def place_of(address: IPv4Address | IPv6Address) -> Hashable:
    """Where a client is, as far as one subscriber is."""
    host_bits = _IPV6_HOST_BITS if address.version == 6 else 0
    return address.version, int(address) >> host_bits
