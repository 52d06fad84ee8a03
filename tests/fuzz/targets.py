"""What is fuzzed: a function for each parser of the daemon, and what must hold for any octets.

Each raises nothing but AssertionError, for a property that does not hold. The parsers' own errors
are answers; any other exception is a finding, and so is a call that takes too long (libFuzzer's
`-timeout`) or much memory (`-rss_limit_mb`).
"""

import re
from collections.abc import Callable, Iterator

from mailshed.authentication import sasl
from mailshed.errors import AddressSyntaxError, CredentialsError, ProxyHeaderError
from mailshed.listener import bdat
from mailshed.listener.chunk_data import ChunkStuffer
from mailshed.listener.data import END_OF_DATA, DataScanner
from mailshed.mail import address, xtext
from mailshed.mail.address import PathArgument
from mailshed.mail.header import EXCERPT_OCTETS_MAX, HeaderView, priority_in
from mailshed.mail.parameters import decode_xtext, parse_mail_parameters, parse_rcpt_parameters
from mailshed.mail.proxy_protocol import ProxyHeader, ProxyHeaderParser
from mailshed.mail.reply import LINE_OCTETS_MAX, LINES_MAX, Reply, from_backend
from mailshed.mail.trace import is_loop
from mailshed.mail.xclient import parse_xclient
from mailshed.relay.bdat import last_chunk

Target = Callable[[bytes], None]

# Any sequence that some server takes for the end of mail data (SMTP smuggling).
_FALSE_END = re.compile(rb"[\r\n]\x00?\.[\r\n]")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


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
                _check_words(error)
                continue
            _check_path(path, argument, is_utf8=is_utf8)


def _check_path(path: PathArgument, argument: bytes, *, is_utf8: bool) -> None:
    if path.mailbox is not None:
        raw = path.mailbox.raw
        assert raw in argument, "rewritten"
        assert not _CONTROL.search(raw)
        assert is_utf8 or raw.isascii()
        assert str(path.mailbox).isprintable()
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
            _check_reply(values)


def mail_data(data: bytes) -> None:
    """Mail data after DATA: one end, wherever it is cut, and nothing that looks like another."""
    for is_normalising in (False, True):
        whole = _scan(data, (), is_normalising=is_normalising)
        assert _scan(data, _cuts(data), is_normalising=is_normalising) == whole
        taken, rest, is_clean = whole
        if rest is not None:
            assert data.endswith(rest)
        if is_clean or is_normalising:
            assert not _FALSE_END.search(b"\r\n" + taken)
        if is_clean:
            assert (b"\r\n" + data).startswith(b"\r\n" + taken), "altered"


def _scan(
    data: bytes, cuts: tuple[int, ...], *, is_normalising: bool
) -> tuple[bytes, bytes | None, bool]:
    scanner, taken, start = DataScanner(is_normalising=is_normalising), b"", 0
    for cut in (*cuts, len(data)):
        if cut > start and scanner.rest is None:
            taken += scanner.feed(data[start:cut])
            start = cut
    rest = None if scanner.rest is None else scanner.rest + data[start:]
    return taken, rest, scanner.is_clean


def chunks(data: bytes) -> None:
    """Mail data in chunks: cut anywhere it is the same, and one message in the form of DATA."""
    for is_normalising in (False, True):
        whole, is_clean = _stuff(data, (), is_normalising=is_normalising)
        assert _stuff(data, _cuts(data), is_normalising=is_normalising) == (whole, is_clean)
        if not (is_clean or is_normalising):
            continue
        assert not _FALSE_END.search(b"\r\n" + whole)
        sent = whole + b".\r\n"
        assert (b"\r\n" + sent).find(END_OF_DATA) == len(sent) - 3
        if is_clean:
            ended = data if not data or data.endswith(b"\r\n") else data + b"\r\n"
            assert last_chunk(whole) == b"BDAT %d LAST\r\n%b" % (len(ended), ended)


def _stuff(data: bytes, cuts: tuple[int, ...], *, is_normalising: bool) -> tuple[bytes, bool]:
    stuffer, made, start = ChunkStuffer(is_normalising=is_normalising), b"", 0
    for cut in (*cuts, len(data)):
        made += stuffer.feed(data[start:cut])
        start = cut
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
    whole, rest = _proxy(data, ())
    assert _proxy(data, _cuts(data)) == (whole, rest)
    if isinstance(whole, ProxyHeader):
        assert data.endswith(rest)
        assert (whole.source is None) == (whole.destination is None)


def _proxy(data: bytes, cuts: tuple[int, ...]) -> tuple[ProxyHeader | str | None, bytes]:
    parser, start = ProxyHeaderParser(), 0
    for cut in (*cuts, len(data)):
        if cut == start:
            continue
        try:
            header = parser.feed(data[start:cut])
        except ProxyHeaderError:
            return "refused", b""
        start = cut
        if header is not None:
            return header, parser.rest + data[start:]
        assert 0 < parser.wanted <= 16 * 1024
    return None, b""


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
                _check_words(error)
                continue
            assert found.login.isprintable()
            assert found.login
            assert [sasl.decoded(each) for each in found.encoded] == said
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
        _check_words(error)
    else:
        assert repr(found).isprintable()


def backend_reply(data: bytes) -> None:
    """A reply of the backend: what is passed on is one reply, and nothing of the rest."""
    lines = [line.removesuffix(b"\r") for line in data.split(b"\n")][: LINES_MAX + 1]
    reply = from_backend(lines)
    if reply is not None:
        _check_reply(reply)


def _check_reply(reply: Reply) -> None:
    assert 200 <= reply.code <= 599
    assert reply.wire.endswith(b"\r\n")
    lines = reply.wire[:-2].split(b"\r\n")
    assert len(lines) <= LINES_MAX
    for index, line in enumerate(lines):
        assert len(line) <= LINE_OCTETS_MAX
        assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", line)
        assert line[:3] == b"%d" % reply.code
        assert (line[3:4] == b"-") == (index < len(lines) - 1)
    assert reply.text.isprintable()
    assert re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", reply.enhanced_status)


def header(data: bytes) -> None:
    """The header section of a message, as far as it is read: bounded, and never in the way."""
    view = HeaderView(data)
    for name, value in view.items():
        assert "\n" not in name
        assert value == " ".join(value.split(" "))
    is_loop(view, "mail.example.com")
    priority = priority_in(view)
    assert priority is None or -9 <= priority <= 9
    excerpt = view.excerpt(view.keys_with(b""))
    octets = sum(len(name) + len(value) for name, value in excerpt.items())
    assert octets <= 2 * EXCERPT_OCTETS_MAX


def xtexts(data: bytes) -> None:
    """xtext: what is written can be read, and is safe in a command."""
    written = xtext.encode(data)
    assert decode_xtext(written) == data
    assert not re.search(rb"[^!-~]|=", written)
    read = decode_xtext(data)
    assert read is None or decode_xtext(xtext.encode(read)) == read


def _check_words(error: Exception) -> None:
    """What a refusal says may go into a reply."""
    assert str(error).isprintable()
    assert str(error)


def _cuts(data: bytes) -> tuple[int, ...]:
    """Where to cut: as the octets themselves say, so that the search can learn where it matters."""
    return tuple(sorted(set(_offsets(data))))


def _offsets(data: bytes) -> Iterator[int]:
    position = 0
    while position < len(data) and position < 4096:
        position += 1 + data[position] % 7
        yield min(position, len(data))


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
    )
}
