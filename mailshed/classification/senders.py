"""How much each sender has sent lately: what tells bulk mail that does not say it is bulk.

For each window that a rule asks for there is a table from senders to counts of messages and
recipients. A window slides: the counts of its present period are added to those of the period
before, in the share that the window still covers. That is exact if mail came evenly, and never
wrong by more than the one period, in 48 octets a sender.

Who is a sender? The reverse-path together with who spoke for it, the authenticated user or else the
client's address, so that nobody can make another's mail look like bulk by forging the address.
What follows a `+` in the local part does not count: mailing software puts the recipient there.
The null reverse-path is no sender.

The tables are bounded; the sender that was silent longest is forgotten first, which makes its mail
less like bulk, never more. `now` is monotonic.
"""

from collections import OrderedDict

from mailshed.mail.envelope import Envelope

SENDERS_MAX = 20_000
"""Senders in the table of one window: some 6 MB."""
# The sender rewriting scheme puts the original address behind SRS0=, SRS1= or SRS0+; all forwarded
# mail of a server would be one sender without it.
_SRS = (b"srs0", b"srs1")

Sent = tuple[tuple[float, int, int], ...]
"""What one sender has sent, the present message included: a window's seconds, messages, recipients.
"""
NOTHING_SENT: Sent = ()


def sent_within(sent: Sent, window: float) -> tuple[int, int]:
    """Messages and recipients in `window`."""
    for seconds, messages, recipients in sent:
        if seconds == window:
            return messages, recipients
    return 0, 0


class SenderHistory:
    """The tables of all windows; survives a reload of the rules."""

    def __init__(self, senders_max: int = SENDERS_MAX) -> None:
        self._senders_max = senders_max
        self._tables: dict[float, _Table] = {}
        self._windows: tuple[float, ...] = ()

    def note(self, windows: tuple[float, ...], envelope: Envelope, now: float) -> Sent:
        """Count a message of `envelope`; return what its sender has sent in each of `windows`."""
        if windows != self._windows:
            old, self._windows = self._tables, windows
            self._tables = {
                each: old.get(each, _Table(each, self._senders_max)) for each in windows
            }
        path = envelope.reverse_path
        if path is None or not windows:
            return NOTHING_SENT
        client = envelope.client
        key = (client.user or client.address_text, _without_tag(path.raw.lower()))
        count = len(envelope.recipients)
        tables = self._tables.items()
        return tuple([(window, *table.note(key, count, now)) for window, table in tables])

    def __len__(self) -> int:
        """How many senders are known, in the table that knows most."""
        return max((len(table.counts) for table in self._tables.values()), default=0)


class _Table:
    """Counts of one window."""

    def __init__(self, seconds: float, senders_max: int) -> None:
        self._seconds = seconds
        self._senders_max = senders_max
        # Number of the period; messages and recipients in it; the same of the period before.
        self.counts: OrderedDict[tuple[str, bytes], tuple[int, int, int, int, int]] = OrderedDict()

    def note(self, key: tuple[str, bytes], recipients: int, now: float) -> tuple[int, int]:
        """Count one message; return messages and recipients in the window that ends now."""
        period, passed = divmod(now, self._seconds)
        at, m, r, m_before, r_before = self.counts.pop(key, (-2, 0, 0, 0, 0))
        if at == period - 1:
            m, r, m_before, r_before = 0, 0, m, r
        elif at != period:
            m, r, m_before, r_before = 0, 0, 0, 0
        m, r = m + 1, r + recipients
        self.counts[key] = (int(period), m, r, m_before, r_before)
        if len(self.counts) > self._senders_max:
            self.counts.popitem(last=False)
        share = 1.0 - passed / self._seconds
        return m + int(m_before * share), r + int(r_before * share)


def _without_tag(address: bytes) -> bytes:
    local, _, domain = address.rpartition(b"@")
    name, plus, _ = local.partition(b"+")
    if not plus or not name or name in _SRS:
        return address
    return name + b"@" + domain
