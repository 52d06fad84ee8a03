"""What is fuzzed: a function for each parser of the daemon, and what must hold for any octets.

Those that read a whole dialog are in `dialogs` and `encrypted`.

Each raises nothing but AssertionError, for a property that does not hold. The parsers' own errors
are answers; any other exception is a finding, and so is a call that takes too long (libFuzzer's
`-timeout`) or much memory (`-rss_limit_mb`).
"""

import json
import re
from collections.abc import Callable

from mailshed.authentication import sasl
from mailshed.errors import AddressSyntaxError, CredentialsError, ProxyHeaderError
from mailshed.listener import bdat
from mailshed.listener.chunk_data import ChunkStuffer
from mailshed.listener.data import END_OF_DATA, DataScanner
from mailshed.logline import VALUE_MAX, json_line, text_line
from mailshed.mail import address, xtext
from mailshed.mail.address import PathArgument
from mailshed.mail.header import EXCERPT_OCTETS_MAX, HeaderView, priority_in
from mailshed.mail.parameters import decode_xtext, parse_mail_parameters, parse_rcpt_parameters
from mailshed.mail.proxy_protocol import ProxyHeader, ProxyHeaderParser
from mailshed.mail.reply import LINES_MAX, Reply, from_backend, one_line
from mailshed.mail.trace import is_loop
from mailshed.mail.xclient import parse_xclient
from mailshed.relay.bdat import last_chunk
from mailshed.relay.offers import Offers
from tests.fuzz import dialogs, encrypted
from tests.fuzz.properties import (
    CONTROL,
    ENDS_LINE,
    FALSE_END,
    check_reply,
    check_words,
    pieces,
)

Target = Callable[[bytes], None]


def commands(data: bytes) -> None:
    """The arguments of MAIL and RCPT: what is accepted is what was written, and harmless."""
    for is_utf8 in (False, True):
        for verb, parse in (
            (b"FROM:", address.parse_mail_argument),
            (b"TO:", address.parse_rcpt_argument),
        ):
            argument = data if data[:5].upper().startswith(verb) else verb + data
            try:
                path = parse(argument, is_utf8=is_utf8)
            except AddressSyntaxError as error:
                check_words(str(error))
                continue
            _check_path(path, argument, is_utf8=is_utf8)


def _check_path(path: PathArgument, argument: bytes, *, is_utf8: bool) -> None:
    if path.mailbox is not None:
        raw = path.mailbox.raw
        assert raw in argument, "rewritten"
        assert not CONTROL.search(raw)
        assert is_utf8 or raw.isascii()
        assert not ENDS_LINE.search(str(path.mailbox))
        again = address.parse_rcpt_argument(b"TO:<%b>" % raw, is_utf8=is_utf8)
        assert again.mailbox == path.mailbox
    for parameter in path.parameters:
        assert parameter in argument
        assert not re.search(rb"[\x00-\x20\x7f]", parameter)
    for values in (
        parse_mail_parameters(path.parameters),
        parse_rcpt_parameters(path.parameters, is_utf8=is_utf8),
    ):
        if isinstance(values, Reply):
            assert values.is_permanent
            check_reply(values)


def mail_data(data: bytes) -> None:
    """Mail data after DATA: one end, wherever it is cut, and nothing that looks like another."""
    for is_normalising in (False, True):
        whole = _scan(data, is_cut=False, is_normalising=is_normalising)
        assert _scan(data, is_cut=True, is_normalising=is_normalising) == whole
        taken, rest, is_clean = whole
        # RFC 5321, 4.1.1.4: the one end that there is, and everything behind it.
        _, end, behind = (b"\r\n" + data).partition(b"\r\n.\r\n")
        assert rest == (behind if end else None)
        if is_clean or is_normalising:
            assert not FALSE_END.search(b"\r\n" + taken)
        if is_clean:
            assert (b"\r\n" + data).startswith(b"\r\n" + taken), "altered"


def _scan(data: bytes, *, is_cut: bool, is_normalising: bool) -> tuple[bytes, bytes | None, bool]:
    scanner, taken, behind = DataScanner(is_normalising=is_normalising), b"", b""
    for piece in pieces(data, is_cut=is_cut):
        if scanner.rest is None:
            taken += scanner.feed(piece)
        else:
            behind += piece
    rest = None if scanner.rest is None else scanner.rest + behind
    return taken, rest, scanner.is_clean


def chunks(data: bytes) -> None:
    """Mail data in chunks: cut anywhere it is the same, and one message in the form of DATA."""
    for is_normalising in (False, True):
        whole, is_clean = _stuff(data, is_cut=False, is_normalising=is_normalising)
        assert _stuff(data, is_cut=True, is_normalising=is_normalising) == (whole, is_clean)
        if not (is_clean or is_normalising):
            continue
        assert not FALSE_END.search(b"\r\n" + whole)
        sent = whole + b".\r\n"
        assert (b"\r\n" + sent).find(END_OF_DATA) == len(sent) - 3
        if is_clean:
            ended = data if not data or data.endswith(b"\r\n") else data + b"\r\n"
            assert last_chunk(whole) == b"BDAT %d LAST\r\n%b" % (len(ended), ended)


def _stuff(data: bytes, *, is_cut: bool, is_normalising: bool) -> tuple[bytes, bool]:
    stuffer, made = ChunkStuffer(is_normalising=is_normalising), b""
    for piece in pieces(data, is_cut=is_cut):
        made += stuffer.feed(piece)
    made += stuffer.finish()
    return made, stuffer.is_clean


def chunk_size(data: bytes) -> None:
    """The argument of BDAT: a number of decimal digits, and nothing else counts as one."""
    chunk = bdat.parse(data)
    if chunk is not None:
        assert chunk.octets >= 0
        assert int(data.split()[0]) == chunk.octets


def proxy_header(data: bytes) -> None:
    """A PROXY header: the same however it is cut, never more kept than a header may have."""
    whole, rest = _proxy(data, is_cut=False)
    assert _proxy(data, is_cut=True) == (whole, rest)
    if isinstance(whole, ProxyHeader):
        assert data.endswith(rest)
        assert (whole.source is None) == (whole.destination is None)


def _proxy(data: bytes, *, is_cut: bool) -> tuple[ProxyHeader | str | None, bytes]:
    parser, header, behind = ProxyHeaderParser(), None, b""
    for piece in pieces(data, is_cut=is_cut):
        if header is not None:
            behind += piece
            continue
        try:
            header = parser.feed(piece)
        except ProxyHeaderError:
            return "refused", b""
        assert header is not None or 0 < parser.wanted <= 16 * 1024
    return (None, b"") if header is None else (header, parser.rest + behind)


def credentials(data: bytes) -> None:
    """The responses of AUTH: names without controls, and secrets that nobody sees."""
    for mechanism in sasl.Mechanism:
        lines = data.split(b"\n", len(mechanism.challenges) - 1)
        if len(lines) != len(mechanism.challenges):
            continue
        for responses in (lines, [_decoded(line) for line in lines]):
            if any(response is None for response in responses):
                continue
            try:
                found = sasl.credentials(
                    mechanism, [each for each in responses if each is not None]
                )
            except CredentialsError as error:
                check_words(str(error))
                continue
            assert found.login.isprintable()
            assert found.login
            assert [sasl.decoded(each) for each in found.encoded] == responses
            assert "responses" not in repr(found)


def _decoded(line: bytes) -> bytes | None:
    try:
        return sasl.decoded(line)
    except CredentialsError:
        return None


def introduction(data: bytes) -> None:
    """What a proxy says with XCLIENT: names without controls, or a refusal."""
    try:
        found = parse_xclient(data)
    except AddressSyntaxError as error:
        check_words(str(error))
    else:
        assert repr(found).isprintable()


def backend_reply(data: bytes) -> None:
    """A reply of the backend: what is passed on is one reply, and nothing of the rest."""
    lines = [line.removesuffix(b"\r") for line in data.split(b"\n")][: LINES_MAX + 1]
    reply = from_backend(lines)
    if reply is not None:
        check_reply(reply)
    assert one_line(lines[0] + b"\r") == from_backend(lines[:1]), "two ways to read a line"
    offers = Offers.from_extensions([line[4:].decode("latin-1") for line in lines])
    for number in (offers.size_max, offers.mail_max, offers.rcpt_max):
        assert number is None or number > 0


def log_line(data: bytes) -> None:
    """A line of the log: one, in ASCII, and every value comes back out of it."""
    text = data.decode("utf-8", "backslashreplace")
    fields = {"from": text, "reply": data.decode("latin-1"), "detail": text[::-1]}
    line = ""
    for render in (text_line, json_line):
        line = render("2026-01-01T00:00:00Z", "info", text[:32], "rejected", fields)
        assert line.endswith("\n")
        assert re.fullmatch(r"[ -~]*", line[:-1])
    kept = json.loads(line)
    for key, value in fields.items():
        if len(value) <= VALUE_MAX:
            assert kept[key] == value
        else:
            assert len(kept[key]) <= VALUE_MAX


def header(data: bytes) -> None:
    """The header section of a message, as far as it is read: bounded, and never in the way."""
    view = HeaderView(data)
    for name, value in view.items():
        assert "\r\n" not in name
        assert not re.search(r"[\t\n\v\f\r]|  |^ | $", value)
    is_loop(view, "mail.example.com")
    priority = priority_in(view)
    assert priority is None or -9 <= priority <= 9
    excerpt = view.excerpt(set(view.keys_with(b"")))
    octets = sum(len(name) + len(value) for name, value in excerpt.items())
    assert octets <= 2 * EXCERPT_OCTETS_MAX


def xtexts(data: bytes) -> None:
    """xtext: what is written can be read, and is safe in a command."""
    written = xtext.encode(data)
    assert decode_xtext(written) == data
    assert not re.search(rb"[^!-~]|=", written)
    read = decode_xtext(data)
    assert read is None or decode_xtext(xtext.encode(read)) == read


TARGETS: dict[str, Target] = {
    each.__name__: each
    for each in (
        commands,
        mail_data,
        chunks,
        chunk_size,
        proxy_header,
        credentials,
        introduction,
        backend_reply,
        header,
        xtexts,
        log_line,
        dialogs.session,
        dialogs.backend_dialog,
        dialogs.dovecot_lines,
        encrypted.tls_connection,
    )
}
