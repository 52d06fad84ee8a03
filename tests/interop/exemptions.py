"""What is not delivered as everything else is, with who refuses and why that is right.

A cell that is not green has to be here, with the words that are heard; and what is here has to
happen, or the run fails: the page says no more and no less than what was seen.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tests.interop.cells import Cell, Delivered, InClear, Outcome, Refused, Table, Waits
from tests.interop.contents import Content
from tests.interop.ways import Way


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """Cells of a table that end otherwise; `ways` and `contents` are all where none are named."""

    table: Table
    row: str
    ways: frozenset[Way] = frozenset(Way)
    contents: frozenset[Content] = frozenset(Content)
    ends: type[Refused | Waits | InClear]
    said: str
    """A pattern of what is heard."""
    who: str
    why: str

    def covers(self, cell: Cell) -> bool:
        """Whether it is about this cell."""
        return (
            (self.table, self.row) == (cell.table, cell.row)
            and cell.way in self.ways
            and cell.content in self.contents
        )


_UTF8 = frozenset({Content.UTF8})
_NO_PARAMETER = "553 5.6.7 Non-ASCII addresses need the parameter SMTPUTF8"

EXEMPTIONS: Sequence[Exemption] = (
    Exemption(
        table="clients",
        row="swaks",
        contents=_UTF8,
        ends=Refused,
        said=_NO_PARAMETER,
        who="mailshed, with 553 5.6.7 to MAIL",
        why=(
            "swaks sends an address of another script without the parameter SMTPUTF8. RFC 6531, "
            "3.5 forbids to take it: nobody after us could know what the octets mean."
        ),
    ),
    Exemption(
        table="clients",
        row="msmtp",
        contents=_UTF8,
        ends=Refused,
        said=_NO_PARAMETER,
        who="mailshed, with 553 5.6.7 to MAIL",
        why="msmtp sends such an address without the parameter, too.",
    ),
    Exemption(
        table="clients",
        row="s-nail",
        contents=_UTF8,
        ends=Refused,
        said="Invalid address argument with -r",
        who="s-nail, before it connects",
        why="It knows no addresses of other scripts; nothing reaches mailshed.",
    ),
    Exemption(
        table="clients",
        row="PHPMailer",
        contents=_UTF8,
        ends=Refused,
        said=r"Invalid address: +\(From\)",
        who="PHPMailer, before it connects",
        why="PHPMailer 6.6 knows no SMTPUTF8; nothing reaches mailshed.",
    ),
    Exemption(
        table="backends",
        row="OpenSMTPD",
        contents=_UTF8,
        ends=Refused,
        said="SMTPUTF8 not supported by server(?s:.*)553 5.6.7 Non-ASCII addresses are not taken",
        who="mailshed, with 553 5.6.7 to MAIL, unless the client gives up before",
        why=(
            "OpenSMTPD does not offer SMTPUTF8, so mailshed does not offer it on its behalf: "
            "there is no way down from SMTPUTF8 (RFC 6531, 3.2), and the message would have to "
            "be returned. smtplib sees that and gives up by itself."
        ),
    ),
    Exemption(
        table="backends",
        row="Dovecot LMTP",
        contents=_UTF8,
        ends=Refused,
        said="SMTPUTF8 not supported by server(?s:.*)553 5.6.7 Non-ASCII addresses are not taken",
        who="mailshed, with 553 5.6.7 to MAIL, unless the client gives up before",
        why="Dovecot's LMTP does not offer SMTPUTF8, and the same follows.",
    ),
    Exemption(
        table="backends",
        row="Dovecot LMTP",
        ways=frozenset({Way.AUTH}),
        contents=frozenset(Content) - _UTF8,
        ends=Waits,
        said="refuses our login: it offers no AUTH at all",
        who="Dovecot, which offers no AUTH by LMTP",
        why=(
            "LMTP is for servers that trust each other, and Dovecot's has no logins. mailshed was "
            "given one, so it keeps what it has acknowledged and says what is wrong, rather than "
            "go without. Take `credentials_file` out."
        ),
    ),
    Exemption(
        table="backends",
        row="OpenSMTPD",
        ways=frozenset({Way.STARTTLS, Way.AUTH}),
        contents=frozenset(Content) - _UTF8,
        ends=Waits,
        said="alert_internal_error",
        who="OpenSMTPD, in the handshake",
        why=(
            "The OpenSMTPD of Debian 12 (6.8) cannot serve TLS with OpenSSL 3 at all: each "
            "handshake ends in an alert, and it logs a missing private key. mailshed was told to "
            "speak TLS only, so it keeps what it has acknowledged, says `backend_away` with the "
            "alert, and sends no octet of mail or password in clear. Put a newer OpenSMTPD there, "
            "or a TLS proxy before it."
        ),
    ),
    Exemption(
        table="backends",
        row="OpenSMTPD",
        ways=frozenset({Way.OPPORTUNISTIC}),
        contents=frozenset(Content) - _UTF8,
        ends=InClear,
        said="alert_internal_error",
        who="OpenSMTPD, in the handshake",
        why=(
            "The same fault of OpenSMTPD. By default TLS is tried and not demanded: the "
            "mail arrives in clear, and the log says so (`backend_in_clear`)."
        ),
    ),
)


def exemption_of(cell: Cell) -> Exemption | None:
    """What is known of this cell; None if it has to be delivered."""
    found = [each for each in EXEMPTIONS if each.covers(cell)]
    assert len(found) <= 1, f"{cell} is exempted twice"
    return found[0] if found else None


def complaint(cell: Cell, outcome: Outcome) -> str | None:
    """Why this outcome is not what it has to be; None if it is."""
    exemption = exemption_of(cell)
    match outcome, exemption:
        case Delivered(), None:
            return None
        case Delivered(), Exemption():
            return f"arrived, which is not what is documented: {exemption.why}"
        case InClear(said) | Refused(said) | Waits(said), Exemption() if isinstance(
            outcome, exemption.ends
        ) and re.search(exemption.said, said):
            return None
    return f"{type(outcome).__name__}: {outcome.said}" if not isinstance(outcome, Delivered) else ""
