"""Sets of mail domains as configuration writes them: exact names, and `.name` for all below it."""

from collections.abc import Iterable


class DomainSet:
    """Domains that match exactly, and those written `.example.org` that match all subdomains.

    Membership is tested with lower-case names and costs one lookup and one comparison per suffix.
    """

    __slots__ = ("_exact", "_suffixes")

    def __init__(self, domains: Iterable[str]) -> None:
        names = frozenset(domains)
        self._exact = frozenset(name for name in names if not name.startswith("."))
        self._suffixes = tuple(sorted(names - self._exact))

    def __bool__(self) -> bool:
        return bool(self._exact or self._suffixes)

    def __contains__(self, domain: str) -> bool:
        return domain in self._exact or domain.endswith(self._suffixes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DomainSet):
            return NotImplemented
        return (self._exact, self._suffixes) == (other._exact, other._suffixes)

    def __hash__(self) -> int:
        return hash((self._exact, self._suffixes))
