"""How long a client is kept waiting for the backend's answer to its message.

A client that gives up after its final dot sends the message again, and then there are two. So we
answer before it does: at the configured time, or later if this backend is known to need longer, but
never later than clients wait. RFC 5321 (4.5.3.2.6) gives 10 minutes; many a mail program waits 100
seconds, and the person in front of it less.

"Needs longer" is three times the 95th percentile of the latest service times. It is read off a
window of them, sorted anew now and then, because it moves slowly and is asked for each message.

Pure. All values are seconds.
"""

from collections import deque

from mailshed.terms import ClientKind

WINDOW = 128
"""Service times that are remembered."""
REFRESH = 32
"""After so many new ones the percentile is read again."""
PERCENTILE = 0.95
FACTOR = 3.0
MTA_MAX = 240.0
USER_AGENT_MAX = 45.0
"""However slow the backend is, nobody is kept longer, unless the configuration says more."""


class Patience:
    """The patience towards one backend."""

    def __init__(self) -> None:
        self._window: deque[float] = deque(maxlen=WINDOW)
        self._unread = 0
        self._slow = 0.0

    def note(self, service: float) -> None:
        """Learn from a transaction that the backend answered after `service` seconds."""
        self._window.append(service)
        self._unread += 1
        if self._unread >= REFRESH:
            self._unread = 0
            ordered = sorted(self._window)
            self._slow = ordered[int(PERCENTILE * (len(ordered) - 1))]

    def respond_by(self, kind: ClientKind, configured: float) -> float:
        """Seconds after the client's final dot at which it is to have its reply."""
        most = MTA_MAX if kind is ClientKind.MTA else USER_AGENT_MAX
        return max(configured, min(most, FACTOR * self._slow))
