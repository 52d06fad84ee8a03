"""A list of mailboxes as an administrator writes it: one address a line, `@domain` for all of it.

::

    # exported from the directory every night
    alice@hospital.example
    bob@hospital.example      # left in June
    @clinic.example

Empty lines and comments (from a `#` that begins a line or follows white space) do not count. Case
does not matter, of domains and of local parts: such lists come out of directories, which spell an
address in another way than its owner does. Other scripts are written as they are, or domains in
their xn-- form.

Pure: text in, a list or all of its faults out; who reads the file is `config.load`.
"""

from dataclasses import dataclass

from mailshed.errors import AddressSyntaxError
from mailshed.mail.address import mailbox_of, parse_mailbox

FAULTS_MAX = 20
"""Faults that are told one by one; the others are a number."""


@dataclass(frozen=True, slots=True)
class RecipientList:
    """The mailboxes that exist."""

    addresses: frozenset[bytes]
    """In lower case."""
    domains: frozenset[bytes]
    """Those of which every address exists, in lower case."""

    def __len__(self) -> int:
        return len(self.addresses) + len(self.domains)

    def __contains__(self, path: bytes) -> bool:
        lower = path.lower() if path.isascii() else mailbox_of(path).folded
        return lower in self.addresses or lower.rpartition(b"@")[2] in self.domains


def parse_recipients(text: str) -> tuple[RecipientList, list[tuple[int, str]]]:
    """Read a list; each fault has the number of its line, from 1."""
    addresses: set[bytes] = set()
    domains: set[bytes] = set()
    faults: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = _words(line)
        if not words:
            continue
        fault = _take(words, addresses, domains)
        if fault is not None:
            faults.append((number, fault))
    if not (addresses or domains or faults):
        faults.append((1, "lists nobody, so all mail for our domains would be refused"))
    if len(faults) > FAULTS_MAX:
        first, more = faults[FAULTS_MAX][0], len(faults) - FAULTS_MAX
        faults[FAULTS_MAX:] = [(first, f"here and below, {more} more lines are no addresses")]
    return RecipientList(frozenset(addresses), frozenset(domains)), faults


def _words(line: str) -> list[str]:
    """The words of a line before its comment."""
    words = []
    for word in line.split():
        if word.startswith("#"):
            break
        words.append(word)
    return words


def _take(words: list[str], addresses: set[bytes], domains: set[bytes]) -> str | None:
    """Add what a line says, or return what is wrong with it."""
    entry = words[0]
    if len(words) > 1:
        return f"expected one address on a line, not also {words[1][:80]!a}"
    try:
        whole = f"everyone{entry}" if entry.startswith("@") else entry
        mailbox = parse_mailbox(whole, is_utf8=True)
    except AddressSyntaxError as error:
        return f"{entry[:80]!a} is neither an address nor an @domain: {error}"
    if entry.startswith("@"):
        domains.add(mailbox.domain.encode())
    else:
        addresses.add(mailbox.folded)
    return None
