"""Sets of addresses or user names as configuration writes them.

Four forms of entry, told apart by how they look: `alice@example.org` is one address, `@example.org`
all of a domain, `@.example.org` all of its subdomains, and whatever has a `*` or a `?` is a pattern
over the whole address. Case does not matter, not even in the local part: no mail server of this
century has two mailboxes that differ by it.
"""

from collections.abc import Iterable

from mailshed.mail.address import Mailbox
from mailshed.mail.domains import DomainSet
from mailshed.mail.pattern import compile_patterns, is_pattern


class NameSet:
    """Entries in lower case, ready to be asked."""

    __slots__ = ("_domains", "_exact", "_has_patterns", "_matches")

    def __init__(self, entries: Iterable[str]) -> None:
        texts = [entry.lower() for entry in entries]
        patterns = [text for text in texts if is_pattern(text)]
        plain = [text for text in texts if not is_pattern(text)]
        self._domains = DomainSet(text[1:] for text in plain if text.startswith("@"))
        exact = (text for text in plain if not text.startswith("@"))
        self._exact = frozenset(text.encode("utf-8", "surrogateescape") for text in exact)
        self._has_patterns = bool(patterns)
        self._matches = compile_patterns(patterns)

    def has_mailbox(self, mailbox: Mailbox) -> bool:
        """Whether an entry is for this mailbox."""
        folded = mailbox.folded
        if mailbox.domain in self._domains or folded in self._exact:
            return True
        return self._has_patterns and self._matches(folded.decode())

    def has_name(self, name: str) -> bool:
        """Whether an entry is this user name, which may look like an address and need not."""
        text = name.lower()
        if text.encode("utf-8", "surrogateescape") in self._exact or self._matches(text):
            return True
        _, at, domain = text.rpartition("@")
        return bool(at) and domain in self._domains
