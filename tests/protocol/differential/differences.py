"""Where the two engines are not alike, each with what the library does that makes it so.

Two rules are general. A reply that comes through a hook, or from the mail server, is the same to
the octet. Where the library speaks by itself (`LIBRARY_WORDS`), the code is the same, and the words
are its own.

Everything else is listed: `REPLIES` (what the client hears), `REWRITTEN` (addresses) and `KEPT`
(why the spool has a message). Each has a session in which it is seen. A difference that is not
listed is a fault of ours; one that is listed and not seen any more has to go from the list.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tests.protocol.differential.engines import Exchange, Step, Text
from tests.protocol.differential.sessions import DATA, EHLO, HELO, MAIL, QUIT, RCPT, TEXT

LIBRARY_WORDS = re.compile(
    rb"""(?x)
    500\ Error:\ (bad\ syntax | command\ "[^"]*"\ not\ recognized)
    | 50[01]\ (Syntax|Error):\ .*
    | 502\ EXPN\ not\ implemented
    | 503\ Error:\ .*
    | 552\ Error:\ .*
    | 555\ (MAIL\ FROM|RCPT\ TO)\ parameters\ not\ recognized\ or\ not\ implemented
    """
)
"""What aiosmtpd 1.4.6 says without asking a hook."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A command and the two replies, as patterns of their beginnings; `said` None is mail data.

    `steps` is a session in which it is seen. What comes behind it there is not compared.
    """

    why: str
    said: bytes | None
    ours: bytes
    stock: bytes
    steps: Sequence[Step]

    def fits(self, ours: Exchange, stock: Exchange) -> bool:
        """Whether this pair is such a one."""
        if (self.said is None) != (ours.said is None) or ours.said != stock.said:
            return False
        return (
            (self.said is None or re.match(self.said, ours.said or b"", re.IGNORECASE) is not None)
            and re.match(self.ours, ours.reply) is not None
            and re.match(self.stock, stock.reply) is not None
        )


_SHORT = b"MAIL FROM:<a@example.org>"

REPLIES: dict[str, Difference] = {
    "what EHLO offers": Difference(
        "the library offers what it has: no PIPELINING, CHUNKING, DSN, enhanced codes",
        rb"EHLO ",
        rb"250-mail\.example\.com\r\n250-PIPELINING\r\n",
        rb"250-mail\.example\.com\r\n250-SIZE 1048576\r\n250-8BITMIME\r\n250 HELP\r\n",
        [EHLO],
    ),
    "DATA without recipients": Difference(
        "the library knows only the sequence; RFC 5321, 3.3 names 554 for it",
        rb"DATA",
        rb"554 5\.5\.1 No valid recipients",
        rb"503 Error: need RCPT",
        [EHLO, MAIL, DATA],
    ),
    "a malformed address": Difference(
        "553 in the library; RFC 5321, 4.2.4: syntax is 501",
        rb"(MAIL FROM|RCPT TO):",
        rb"501 5\.1\.7",
        rb"553 5\.1\.3 Error: malformed address",
        [EHLO, b"MAIL FROM:<a@@example.org>\r\n"],
    ),
    "an empty argument": Difference(
        "the library asks for an address before it looks at it",
        rb"RCPT TO:$",
        rb"501 5\.1\.7",
        rb"501 Syntax: RCPT TO:",
        [EHLO, MAIL, b"RCPT TO:\r\n"],
    ),
    "no angle brackets": Difference(
        "RFC 5321, 4.1.1.2 wants them; the library does without",
        rb"MAIL FROM:a",
        rb"501 ",
        rb"250 ",
        [EHLO, b"MAIL FROM:alice@example.org\r\n"],
    ),
    "no closing bracket": Difference(
        "the library does without it, too",
        rb"MAIL FROM:<a",
        rb"501 ",
        rb"250 ",
        [EHLO, b"MAIL FROM:<alice@example.org\r\n"],
    ),
    "a comment in an address": Difference(
        "the library's parser is that of header fields, and takes comments out",
        rb"MAIL FROM:<a\(c\)",
        rb"501 ",
        rb"250 ",
        [EHLO, b"MAIL FROM:<a(c)@example.org>\r\n"],
    ),
    "a space in an address": Difference(
        "it puts words together, and quotes them",
        rb"RCPT TO:<a b@",
        rb"501 ",
        rb"250 ",
        [EHLO, MAIL, b"RCPT TO:<a b@example.net>\r\n"],
    ),
    "an address beyond ASCII": Difference(
        "500 in the library for any such line; RFC 6531, 3.5 has a code for addresses",
        rb"MAIL FROM:<\xc3",
        rb"553 5\.6\.7",
        rb"500 Error: strict ASCII mode",
        [EHLO, b"MAIL FROM:<\xc3\xa9@example.org>\r\n"],
    ),
    "parameters of MAIL for DSN": Difference(
        "the library knows BODY, SIZE and SMTPUTF8 and refuses all others; clients send these "
        "unasked, and refusing them loses mail",
        rb"MAIL FROM:.* RET=",
        rb"250 ",
        rb"555 ",
        [EHLO, _SHORT + b" RET=HDRS ENVID=x\r\n"],
    ),
    "parameters of RCPT for DSN": Difference(
        "the library knows none",
        rb"RCPT TO:.* NOTIFY=",
        rb"250 ",
        rb"555 ",
        [EHLO, MAIL, b"RCPT TO:<b@example.net> NOTIFY=NEVER\r\n"],
    ),
    "a parameter with a hyphen": Difference(
        "MT-PRIORITY is no keyword for the library",
        rb"MAIL FROM:.* MT-PRIORITY=",
        rb"250 ",
        rb"501 Syntax: MAIL FROM:",
        [EHLO, _SHORT + b" MT-PRIORITY=3\r\n"],
    ),
    "parameters after HELO": Difference(
        "the library is strict, where it is harmless",
        rb"MAIL FROM:.* SIZE=",
        rb"250 ",
        rb"501 Syntax: MAIL FROM:",
        [HELO, _SHORT + b" SIZE=1000\r\n"],
    ),
    "a line that ends in LF": Difference(
        "the library reads lines up to LF; smuggled commands end so",
        rb"NOOP",
        rb"500 5\.5\.2 Command lines end in",
        rb"250 ",
        [EHLO, b"NOOP\n"],
    ),
    "a command line of 600 octets": Difference(
        "512 in the library, for all commands and all sessions together; DSN alone adds 500",
        rb"NOOP x",
        rb"250 ",
        rb"500 Command line too long",
        [EHLO, b"NOOP " + 600 * b"x" + b"\r\n"],
    ),
    "a long line of mail data": Difference(
        "1001 octets in the library; hospital applications send longer ones",
        None,
        rb"250 ",
        rb"500 Line too long",
        [EHLO, MAIL, RCPT, DATA, Text(5000 * b"x" + b"\r\n.\r\n")],
    ),
    "the fifth unknown command": Difference(
        "the library closes then, with a 502; we do at limits.errors_max, with a 421",
        rb"FOO",
        rb"500 ",
        rb"502 5\.5\.1 Too many unrecognized commands",
        [EHLO, 5 * b"FOO\r\n"],
    ),
    "HELP": Difference("not offered by us", rb"HELP", rb"502 ", rb"250 ", [b"HELP\r\n"]),
    "ETRN": Difference(
        "a command that the library does not know", rb"ETRN", rb"502 ", rb"500 ", [b"ETRN a\r\n"]
    ),
    "AUTH": Difference(
        "the library has it, for TLS, whatever it is told",
        rb"AUTH",
        rb"502 ",
        rb"538 ",
        [EHLO, b"AUTH PLAIN\r\n"],
    ),
    "STARTTLS": Difference(
        "another code where there is none",
        rb"STARTTLS",
        rb"502 ",
        rb"454 ",
        [EHLO, b"STARTTLS\r\n"],
    ),
    "BDAT": Difference(
        "the library has no CHUNKING",
        rb"BDAT",
        rb"503 ",
        rb"500 ",
        [EHLO, b"BDAT 0 LAST\r\n"],
    ),
    "EHLO with two words": Difference(
        "RFC 5321, 4.1.1.1 has one; the library takes any",
        rb"EHLO two words",
        rb"501 ",
        rb"250-",
        [b"EHLO two words\r\n"],
    ),
    "a verb of HTTP": Difference(
        "to the library it is one more unknown command; to us a web page that posts",
        rb"POST",
        rb"554 5\.5\.0 This is SMTP",
        rb"500 ",
        [b"POST / HTTP/1.1\r\n"],
    ),
    "spaces at the ends of the mail server's words": Difference(
        "aiosmtplib strips each line of a reply",
        None,
        rb"550 5\.7\.1  two here, one there \r\n",
        rb"550 5\.7\.1  two here, one there\r\n",
        [EHLO, b"MAIL FROM:<dot-spaces@example.org>\r\n", RCPT, DATA, TEXT, QUIT],
    ),
    "a 2xx to the dot that is not 250": Difference(
        "aiosmtplib raises for it, as for a 2xx in place of 354: nobody knows, so we keep it",
        None,
        rb"252 2\.0\.0 perhaps",
        rb"250 2\.0\.0 Ok: queued as",
        [EHLO, b"MAIL FROM:<dot-252@example.org>\r\n", RCPT, DATA, TEXT, QUIT],
    ),
}

REWRITTEN: dict[bytes, bytes] = {
    b'"quoted"@example.net': b"quoted@example.net",
    b"=?utf-8?q?a?=@example.net": b"a@example.net",
    b'"a\\b"@example.net': b"ab@example.net",
}
"""Forward-paths that aiosmtpd changes on their way to the mail server, and what becomes of them."""

KEPT: dict[tuple[str, str], str] = {
    ("backend_away", "in_doubt"): "aiosmtplib's data() does not tell a lost DATA from a lost dot",
}
"""Reasons for which a message is in the spool, ours and the stock engine's, and why they differ."""


def is_explained(ours: Exchange, stock: Exchange) -> bool:
    """Whether a pair of replies is as it should be."""
    if ours == stock:
        return True
    is_same_code = ours.said == stock.said and ours.reply[:3] == stock.reply[:3]
    if is_same_code and LIBRARY_WORDS.match(stock.reply) is not None:
        return True
    return any(each.fits(ours, stock) for each in REPLIES.values())
