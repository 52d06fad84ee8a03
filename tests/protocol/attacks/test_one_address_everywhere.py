"""An address that is accepted is the same for everybody: backend, log, report; octet for octet.

Two programs that disagree about an address are how mail reaches somebody else, and how an address
becomes a command (CVE-2026-53533 and its many relatives). Addresses are made by the grammar of
RFC 5321 and RFC 6531 and then spoilt; each goes through a session to the backend's wire, into the
log and into a report, and is read back there by parsers that are not ours.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from mailshed.drain.matter import ReportedRecipient
from mailshed.drain.report import write_report
from mailshed.relay.envelope import mail_command, rcpt_command
from tests.protocol.test_outbound_wire import ALL_OFFERS
from tests.support.intensity import tried
from tests.support.live_dialog import LiveDialog
from tests.support.report_matter import REPORT_ID, matter
from tests.support.reports import parsed, unstuffed
from tests.unit.test_logline import parse

LETTERS = "abcXYZ019"
SPECIAL = "!#$%&'*+/=?^_`{|}~-"
OTHER = "\u00e9\u00df\u4f8b\u0416"
CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


def atoms(letters: str) -> st.SearchStrategy[str]:
    return st.text(letters, min_size=1, max_size=8)


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


LOCALS = st.one_of(
    atoms(LETTERS + SPECIAL),
    st.lists(atoms(LETTERS), min_size=2, max_size=3).map(".".join),
    st.text(LETTERS + SPECIAL + ' @<>()[],;:"\\.', max_size=10).map(_quoted),
    atoms(LETTERS + OTHER),
)
DOMAINS = st.one_of(
    st.lists(atoms(LETTERS), min_size=1, max_size=3).map(".".join),
    st.sampled_from(["example.net", "[192.0.2.7]", "[IPv6:2001:db8::1]", "xn--bcher-kva.example"]),
    atoms(LETTERS + OTHER).map(lambda label: f"{label}.example"),
)
ROUTES = st.sampled_from(["", "", "", "@a.example:", "@a.example,@b.example:"])
WELL_FORMED = st.builds("{}@{}".format, LOCALS, DOMAINS)
# What has fooled some parser somewhere.
TOKENS = st.sampled_from(
    [
        *("\r", "\n", "\r\n", "\0", "\x7f", "\t", " ", "<", ">", "@", '"', "\\", ",", ";", "(x)"),
        *("%0d%0a", "=?utf-8?q?=0A?=", "\u2028", "\x85", "\u202e", "\uff20", "\u3002", "\ufeff"),
        *(" SIZE=1", "> NOTIFY=NEVER", ">\r\nRCPT TO:<mallory@example.org", "..", ".@", "@["),
    ]
)


@st.composite
def spoilt(draw: st.DrawFn) -> str:
    """A well-formed address with a token put in somewhere."""
    text = draw(WELL_FORMED)
    place = draw(st.integers(0, len(text)))
    return text[:place] + draw(TOKENS) + text[place:]


ADDRESSES = st.tuples(ROUTES, st.one_of(WELL_FORMED, WELL_FORMED, spoilt())).map("".join)


@dataclass(frozen=True, slots=True)
class Written:
    """A path as the client wrote it, and what of it is the mailbox."""

    octets: bytes

    @property
    def mailbox(self) -> bytes:
        """Without the route, which RFC 5321, 4.1.1.3 wants dropped: it ends at the first colon."""
        return self.octets.partition(b":")[2] if self.octets.startswith(b"@") else self.octets


@tried(250)
@given(sender=ADDRESSES, recipient=ADDRESSES)
@example(sender='"a\\"b  c\\\\"@example.org', recipient='"  "@example.net')
@example(sender="a@example.org", recipient='"a>\\ NOTIFY=NEVER"@example.net')
def _everybody_has_the_same(
    live: LiveDialog, accepted: list[bytes], sender: str, recipient: str
) -> None:
    mail, rcpt = (Written(text.encode()) for text in (sender, recipient))
    live.say(b"RSET")
    # A line feed in an address ends a line, so some lines are more commands than one.
    lines = [b"MAIL FROM:<%b> SMTPUTF8" % mail.octets, b"RCPT TO:<%b>" % rcpt.octets]
    for line in lines:
        said = line + b"\r\n"
        answers = live.say_all(said, said.count(b"\n"))
        if not all(answer.startswith(b"250 2.1.") for answer in answers) or b"\r\n" in line:
            return  # what has a line end in it was more commands than one, each of them a client's
    assert not CONTROL.search(mail.octets + rcpt.octets)
    live.take_log()
    assert live.say(b"DATA").startswith(b"354 ")
    assert live.say(b"Subject: x\r\n\r\nx\r\n.").startswith(b"250 ")

    message = live.path.backend.asked.pop()
    live.path.backend.taken.clear()
    ((path, parameters),) = message.recipients
    assert (message.reverse_path, path) == (mail.mailbox, rcpt.mailbox)
    assert mail_command(message, ALL_OFFERS).startswith(b"MAIL FROM:<%b> " % mail.mailbox)
    assert rcpt_command(path, parameters, ALL_OFFERS) == b"RCPT TO:<%b>" % rcpt.mailbox
    (line_of_log,) = live.take_log()
    shown = parse(line_of_log + "\n")
    assert shown["from"] == f"<{mail.mailbox.decode()}>"
    assert shown["to"] == f"<{rcpt.mailbox.decode()}>"
    _is_in_the_report(mail.mailbox, rcpt.mailbox)
    accepted.append(mail.mailbox)


def _is_in_the_report(sender: bytes, recipient: bytes) -> None:
    about = ReportedRecipient(address=recipient, status="5.1.1", reply="550 5.1.1 no")
    report = write_report(matter(about, reverse_path=sender, parameters=(b"SMTPUTF8",)), REPORT_ID)
    assert parsed(report)["Bcc"] is None
    shown = [
        line.partition(b"; ")[2]
        for line in unstuffed(report).split(b"\r\n")
        if line.startswith(b"Final-Recipient: ")
    ]
    if recipient.isascii() or not sender.isascii():
        # What changes the direction of a text, say, is not shown.
        seen = "".join(each if each.isprintable() else "?" for each in recipient.decode())
        assert shown == [seen.encode()]
    else:  # escaped, in a report for somebody who may not read UTF-8
        assert len(shown) == 1
        assert b"\\x{" in shown[0]


def test_an_accepted_address_is_the_same_for_backend_log_and_report(tmp_path: Path) -> None:
    with LiveDialog(tmp_path) as live:
        assert live.say(b"EHLO client.example.org").startswith(b"250-")
        accepted: list[bytes] = []
        _everybody_has_the_same(live, accepted)
    assert len(accepted) > 20, "hardly anything was accepted"
