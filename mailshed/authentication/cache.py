"""Verdicts that are remembered, so that users can send while whoever knows the passwords is away.

Off unless a site asks for it (`authentication.cache_ttl`), since it has a price: somebody whose
password was changed or whose account was closed can go on for as long as an outage lasts, and for
the time that is configured at most. Only a yes is remembered, and it is used only where nobody
could be asked: as long as there are answers, they count, and a no takes the remembered yes away.

What is kept is no secret: a keyed digest (BLAKE2b, RFC 7693) of mechanism and responses under a key
that the process makes at its start and never writes down. Whoever reads our memory finds the key
too; a slow hash would help there, but would also hold the event loop up for each login of an
outage, which is when many come at once.

Pure: `now` is monotonic seconds. At most `entries_max` are kept, those that were used last.
"""

from collections import OrderedDict

from mailshed.authentication.verdict import Accepted


class VerdictCache:
    """Remembers who was right. `ttl` is in seconds, 0 for none at all."""

    def __init__(self, *, ttl: float, entries_max: int) -> None:
        self.ttl = ttl
        self.entries_max = entries_max
        self._known: OrderedDict[bytes, tuple[Accepted, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._known)

    def put(self, digest: bytes, verdict: Accepted, now: float) -> None:
        """Remember that the credentials with this digest were right."""
        if self.ttl <= 0.0:
            return
        self._known[digest] = verdict, now
        self._known.move_to_end(digest)
        while len(self._known) > self.entries_max:
            self._known.popitem(last=False)

    def get(self, digest: bytes, now: float) -> Accepted | None:
        """What is remembered of these credentials, if it is not too old."""
        known = self._known.get(digest)
        if known is None:
            return None
        verdict, since = known
        if now - since >= self.ttl:
            del self._known[digest]
            return None
        self._known.move_to_end(digest)
        return verdict

    def forget(self, digest: bytes) -> None:
        """They are not right any more."""
        self._known.pop(digest, None)
