"""Which backend takes mail for which recipient: by the domain, and by nothing else.

A backend lists the domains that it serves, exact names or, with a leading dot, all names below one.
The most exact entry wins: `radiology.hospital.example` before `.hospital.example` before
`.example`. Whatever no entry names goes to the default, and so do recipients without a domain to
look up: the bare `Postmaster` (RFC 5321, 4.1.1.3) and address literals. With one backend there is
nothing to look up.

A message whose recipients have several routes is split into one share for each.

Pure. Names of domains are lower case, as `Mailbox.domain` has them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Share(NamedTuple):
    """The recipients of one message that one backend takes."""

    backend: str
    indexes: tuple[int, ...]
    """Their places in the envelope, in its order."""


_ONLY = (0,)


class Routes:
    """The routes of one configuration: `domains` by the name of the backend that serves them."""

    __slots__ = ("_by_domain", "default")

    def __init__(self, default: str, domains: Mapping[str, Iterable[str]] | None = None) -> None:
        self.default = default
        """The backend for all other domains."""
        self._by_domain = {
            domain: name for name, served in (domains or {}).items() for domain in served
        }

    @property
    def is_single(self) -> bool:
        """Whether all mail has the same route."""
        return not self._by_domain

    def of(self, domain: str) -> str:
        """The backend that serves `domain`: one look-up for each of its labels at most."""
        by_domain = self._by_domain
        if not by_domain:
            return self.default
        found = by_domain.get(domain)
        dot = domain.find(".")
        while found is None and dot >= 0:
            found = by_domain.get(domain[dot:])
            dot = domain.find(".", dot + 1)
        return self.default if found is None else found

    def split(self, domains: Sequence[str]) -> list[Share]:
        """Shares of a message to recipients in these domains, in order of their first recipient."""
        if len(domains) == 1:
            return [Share(self.of(domains[0]), _ONLY)]  # nearly always
        if not self._by_domain:
            return [Share(self.default, tuple(range(len(domains))))]
        shares: dict[str, list[int]] = {}
        for index, domain in enumerate(domains):
            shares.setdefault(self.of(domain), []).append(index)
        return [Share(name, tuple(indexes)) for name, indexes in shares.items()]
