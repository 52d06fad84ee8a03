"""Citations of RFCs: one spelling (RFC 5321, 4.5.3.2.6), and the section is there and means that.

Whoever cites a section that is not in the table looks it up, and adds it with its title.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tidy.files import written_files
from tests.tidy.project import name

SECTIONS: dict[str, dict[str, str]] = {
    "1047": {},  # Duplicate messages and SMTP
    "1870": {},  # SMTP Service Extension for Message Size Declaration
    "2033": {  # LMTP: Local Mail Transfer Protocol
        "4.2": "The DATA command",
        "5": "Implementation requirements",
    },
    "2034": {
        "3": "Framework for the Enhanced Error Statuses Extension",
        "4": "The Enhanced-Status-Codes service extension",
    },
    "2045": {"6.4": "Interpretation and Use"},  # MIME: Format of Internet Message Bodies
    "2046": {"5.2.1": "RFC822 Subtype"},  # MIME: Media Types
    "2369": {},  # List-Help, List-Unsubscribe and the others
    "2606": {},  # Reserved Top Level DNS Names
    "2852": {"4.1": "Deliver-By: the by-time and by-mode"},  # Deliver By SMTP
    "2919": {},  # List-Id
    "2920": {"3.1": "Client use of pipelining", "3.2": "Server support of pipelining"},
    "3030": {"2": "Framework for the large message extensions"},  # CHUNKING, BINARYMIME
    "3207": {
        "4": "The STARTTLS command",
        "4.2": "Result of the STARTTLS Command",
        "6": "Security Considerations",
    },
    "3339": {},  # Date and Time on the Internet: Timestamps
    "3461": {  # Delivery Status Notifications (SMTP)
        "4": "Additional parameters for RCPT and MAIL commands",
        "4.1": "The NOTIFY parameter of the ESMTP RCPT command",
        "4.2": "The ORCPT parameter to the ESMTP RCPT command",
        "4.3": "The RET parameter of the ESMTP MAIL command",
        "4.4": "The ENVID parameter to the ESMTP MAIL command",
        "5.2.1": "Relay of messages to other conforming SMTP servers",
        "5.2.2": "Relay of messages to non-conforming SMTP servers",
        "5.2.3": "Local delivery of messages",
        "5.2.5": "Delays in delivery",
        "5.2.6": "Failure of a conforming MTA to deliver a message",
        "6.1": "SMTP Envelope to be used with delivery status notifications",
        "6.3": "Message/delivery-status fields",
    },
    "3463": {"3.2": "Address Status", "3.3": "Mailbox Status", "3.5": "Network and Routing Status"},
    "3464": {  # Delivery Status Notifications (format)
        "2": "Format of a Delivery Status Notification",
        "2.2": "Per-Message DSN Fields",
        "2.3": "Per-Recipient DSN fields",
        "2.3.3": "Action field",
        "2.3.4": "Status field",
        "2.3.6": "Diagnostic-Code field",
    },
    "3490": {"3.1": "Requirements", "4.1": "ToASCII"},  # IDNA2003
    "3696": {"2": "Restrictions on domain (DNS) names"},
    "3834": {  # Recommendations for Automatic Responses to Electronic Mail
        "2": "When (not) to send automatic responses",
        "5": "The Auto-Submitted header field",
    },
    "3848": {},  # ESMTP and LMTP Transmission Types Registration
    "4013": {},  # SASLprep: Stringprep Profile for User Names and Passwords
    "4291": {"2.5.5.2": "IPv4-Mapped IPv6 Address"},  # IP Version 6 Addressing Architecture
    "4616": {"2": "PLAIN SASL Mechanism"},  # The PLAIN SASL mechanism
    "4648": {},  # The Base16, Base32, and Base64 Data Encodings
    "4954": {"4": "The AUTH command", "5": "The AUTH parameter to MAIL", "6": "Status Codes"},
    "5280": {  # X.509 certificates
        "4.1": "Basic Certificate Fields",
        "4.1.2.5": "Validity",
    },
    "5321": {  # SMTP
        "2.3.5": "Domain Names",
        "2.3.8": "Lines",
        "2.4": "General Syntax Principles and Transaction Model",
        "3.3": "Mail Transactions",
        "3.5.3": "Meaning of VRFY or EXPN Success Response",
        "3.6.2": "Mail eXchange Records and Relaying",
        "3.8": "Terminating Sessions and Connections",
        "4.1.1": "Command Semantics and Syntax",
        "4.1.1.1": "Extended HELLO (EHLO) or HELLO (HELO)",
        "4.1.1.2": "MAIL (MAIL)",
        "4.1.1.3": "RECIPIENT (RCPT)",
        "4.1.1.4": "DATA (DATA)",
        "4.1.1.5": "RESET (RSET)",
        "4.1.1.9": "NOOP (NOOP)",
        "4.1.1.10": "QUIT (QUIT)",
        "4.1.1.11": "Mail-Parameter and Rcpt-Parameter Error Responses",
        "4.1.2": "Command Argument Syntax",
        "4.1.3": "Address Literals",
        "4.1.4": "Order of Commands",
        "4.2": "SMTP Replies",
        "4.2.1": "Reply Code Severities and Theory",
        "4.2.2": "Reply Codes by Function Groups",
        "4.2.4": "Reply Code 502",
        "4.2.5": "Reply Codes after DATA and the Subsequent <CRLF>.<CRLF>",
        "4.4": "Trace Information",
        "4.5.1": "Minimum Implementation",
        "4.5.2": "Transparency",
        "4.5.3.1": "Size Limits and Minimums",
        "4.5.3.1.1": "Local-part",
        "4.5.3.1.2": "Domain",
        "4.5.3.1.3": "Path",
        "4.5.3.1.4": "Command Line",
        "4.5.3.1.5": "Reply Line",
        "4.5.3.1.6": "Text Line",
        "4.5.3.1.8": "Recipients Buffer",
        "4.5.3.1.10": "Too Many Recipients Code",
        "4.5.3.2": "Timeouts",
        "4.5.3.1.7": "Message Content",
        "4.5.3.2.6": "DATA Termination: 10 Minutes",
        "4.5.3.2.7": "Server Timeout: 5 Minutes",
        "4.5.4": "Retry Strategies",
        "4.5.4.1": "Sending Strategy",
        "4.5.5": "Messages with a Null Reverse-Path",
        "6.1": "Reliable Delivery and Replies by Email",
        "6.3": "Loop Detection",
        "F.2": "Source Routing",
    },
    "5322": {  # Internet Message Format
        "2.1.1": "Line Length Limits",
        "2.2": "Header Fields",
        "2.2.3": "Long Header Fields",
        "3.3": "Date and Time Specification",
        "3.6.4": "Identification Fields",
        "3.6.8": "Optional Fields",
        "4.5": "Obsolete Header Fields",
    },
    "5737": {},  # IPv4 Address Blocks Reserved for Documentation
    "6152": {},  # 8BITMIME
    "6522": {},  # multipart/report
    "6531": {  # SMTP Extension for Internationalized Email
        "3.2": "The SMTPUTF8 Extension",
        "3.3": "Extended Mailbox Address Syntax",
        "3.5": "Non-ASCII Addresses and Reply-Codes",
        "4.3": "WITH Protocol Types Sub-Registry of the Mail Transmission Types Registry",
    },
    "6532": {},  # Internationalized Email Headers
    "6533": {"3": "UTF-8 Address Type"},  # Internationalized delivery reports
    "6710": {  # MT-PRIORITY: message transfer priorities
        "4.1": "Handling of the MT-PRIORITY Parameter by the Receiving SMTP Server",
    },
    "6758": {},  # Tunneling of SMTP Message Transfer Priorities
    "7435": {},  # Opportunistic Security
    "7628": {},  # A Set of SASL Mechanisms for OAuth
    "7693": {},  # The BLAKE2 Cryptographic Hash and Message Authentication Code
    "8289": {},  # Controlled Delay Active Queue Management
    "8314": {  # Use of TLS for email submission and access
        "3.3": "Implicit TLS for SMTP Submission",
        "4.3": 'Recording TLS Ciphersuite in "Received" Header Field',
    },
    "8446": {"5.1": "Record Layer", "6.1": "Closure Alerts"},  # TLS 1.3
    "8689": {},  # SMTP Require TLS Option
    "8996": {},  # Deprecating TLS 1.0 and TLS 1.1
    "9325": {},  # Recommendations for Secure Use of TLS and DTLS
    "9422": {},  # SMTP LIMITS Extension
    "9525": {},  # Service Identity in TLS
}

# A citation may be broken over lines, of a comment too.
_LINE_BREAK = re.compile(r"[ \t]*\n[ \t]*(?:#|//|\*|>)?[ \t]*")
_MENTION = re.compile(r"\brfc[\W_]{0,2}[0-9]+", re.IGNORECASE)
_SPELLED = re.compile(r"RFC [0-9]{3,4}")
# Names that are words of the protocols themselves.
_NAMES = frozenset({"rfc822"})
_SECTION = r"(?:appendix )?([A-Z]\.[0-9]+|[0-9]+(?:\.[0-9]+)*)"
_CITATION = re.compile(rf"\bRFC ([0-9]+)(?:, {_SECTION}(?! or )(?: and {_SECTION})?)?")
_OTHER_FORM = re.compile(r"\bRFC [0-9]+,? ?(?:section|sec\.|§|chapter)", re.IGNORECASE)


def text_of(path: Path) -> str:
    return _LINE_BREAK.sub(" ", path.read_text(encoding="utf-8", errors="replace"))


def citations(text: str) -> Iterator[tuple[str, str | None]]:
    """The RFCs that `text` cites, each with a section or None."""
    for match in _CITATION.finditer(text):
        number, *sections = match.groups()
        for section in sections:
            if section is not None:
                yield number, section
        if sections[0] is None:
            yield number, None


FILES = [path for path in written_files() if path != Path(__file__)]


def test_there_are_citations_to_look_at() -> None:
    """Or the checks below would check nothing."""
    cited = {citation for path in FILES for citation in citations(text_of(path))}
    assert {("5321", "4.5.2"), ("5321", "4.1.1.4"), ("5322", "2.2"), ("1047", None)} <= cited


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("RFC 5321, 4.5.3.2.6 asks", [("5321", "4.5.3.2.6")]),
        ("(RFC 5321, 4.5.2).", [("5321", "4.5.2")]),
        ("RFC 5321, 3.6.2 and appendix F.2", [("5321", "3.6.2"), ("5321", "F.2")]),
        ("RFC 5321, Postfix", [("5321", None)]),
        ("RFC 1047 and RFC 2920, 3.1", [("1047", None), ("2920", "3.1")]),
    ],
)
def test_a_citation_is_read(text: str, found: list[tuple[str, str | None]]) -> None:
    assert list(citations(text)) == found


def test_rfcs_are_cited_in_one_spelling() -> None:
    misspelled = {}
    for path in FILES:
        text = text_of(path)
        mentions = [match[0] for match in _MENTION.finditer(text)]
        wrong = [each for each in mentions if not _SPELLED.fullmatch(each)]
        wrong = [each for each in wrong if each.lower() not in _NAMES]
        if wrong := wrong + _OTHER_FORM.findall(text):
            misspelled[name(path)] = wrong
    assert misspelled == {}


def test_every_section_that_is_cited_is_in_the_table() -> None:
    unknown = [
        f"{name(path)}: RFC {number}, {section}"
        for path in FILES
        for number, section in citations(text_of(path))
        if number not in SECTIONS or (section is not None and section not in SECTIONS[number])
    ]
    assert unknown == []
