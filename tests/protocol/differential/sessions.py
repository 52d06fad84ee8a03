"""What clients say: sessions by name, and as many more as there are seeds.

The made ones are of what both engines are meant to do alike: transactions one after the other, some
with RSET or EHLO in between, with one recipient or several, of which the mail server or our policy
refuses some; commands out of order and unknown ones; mail data of 0 to 100 KiB, with dots, 8-bit
octets, lines of all lengths up to 900 octets, now and then a bare line ending; pipelined or in
lock-step, and cut where chance has it. Where the engines are meant to differ is `differences`, each
with a session of its own.
"""

import random
from collections.abc import Iterator

from tests.protocol.differential.engines import VERDICTS, Script, Step, Text
from tests.support.builders import session_limits
from tests.support.corpus import dot_stuffed

LIMIT = session_limits().message_size_max
LINE_MAX = 900
RECIPIENTS_MAX = 6

HELO, EHLO = b"HELO client.example.org\r\n", b"EHLO client.example.org\r\n"
MAIL, RCPT = b"MAIL FROM:<alice@example.org>\r\n", b"RCPT TO:<bob@example.net>\r\n"
DATA, RSET, QUIT = b"DATA\r\n", b"RSET\r\n", b"QUIT\r\n"
TEXT = Text(b"Subject: hello\r\n\r\nHello.\r\n..stuffed\r\n.\r\n")

NAMED: dict[str, list[Step]] = {
    "one message": [EHLO, MAIL, RCPT, DATA, TEXT, QUIT],
    "one message by HELO": [HELO, MAIL, RCPT, DATA, TEXT, QUIT],
    "two messages": [EHLO, MAIL, RCPT, DATA, TEXT, MAIL, RCPT, RCPT, DATA, TEXT, QUIT],
    "an empty message": [EHLO, MAIL, RCPT, DATA, Text(b".\r\n"), QUIT],
    "an empty body": [EHLO, MAIL, RCPT, DATA, Text(b"Subject: x\r\n\r\n.\r\n"), QUIT],
    "only dots": [EHLO, MAIL, RCPT, DATA, Text(b"..\r\n...\r\n.\r\n"), QUIT],
    "octets beyond ASCII": [EHLO, MAIL, RCPT, DATA, Text(b"\xc3\xa9\xff\r\n.\r\n"), QUIT],
    "null reverse-path": [EHLO, b"MAIL FROM:<>\r\n", RCPT, DATA, TEXT, QUIT],
    "size that fits": [EHLO, b"MAIL FROM:<a@example.org> SIZE=1000\r\n", RCPT, DATA, TEXT, QUIT],
    "size without a number": [EHLO, b"MAIL FROM:<a@example.org> SIZE=\r\n", MAIL],
    "size that does not": [EHLO, b"MAIL FROM:<a@example.org> SIZE=%d\r\n" % (LIMIT + 1), QUIT],
    "body 8BITMIME": [EHLO, b"MAIL FROM:<a@example.org> BODY=8BITMIME\r\n", RCPT, DATA, TEXT],
    "body in lower case": [EHLO, b"MAIL FROM:<a@example.org> body=8bitmime\r\n", RCPT, DATA, TEXT],
    "body 7BIT": [EHLO, b"MAIL FROM:<a@example.org> BODY=7BIT\r\n", RCPT, DATA, TEXT],
    "body unknown": [EHLO, b"MAIL FROM:<a@example.org> BODY=BINARYMIME\r\n", QUIT],
    "parameter unknown": [EHLO, b"MAIL FROM:<a@example.org> XFOO=1\r\n", MAIL, QUIT],
    "parameter of RCPT unknown": [EHLO, MAIL, b"RCPT TO:<b@example.net> XFOO=1\r\n", RCPT, QUIT],
    "lower case": [b"ehlo c\r\n", b"mail from:<a@example.org>\r\n", b"rcpt to:<b@c.example>\r\n"],
    "space after the colon": [
        EHLO,
        b"MAIL FROM: <a@example.org>\r\n",
        b"RCPT TO: <b@c.example>\r\n",
    ],
    "space at the end": [EHLO, b"MAIL FROM:<a@example.org> \r\n", b"RCPT TO:<b@c.example> \r\n"],
    "source route": [EHLO, MAIL, b"RCPT TO:<@relay.example:bob@example.net>\r\n", DATA, TEXT],
    "address literal": [EHLO, b"MAIL FROM:<a@[192.0.2.1]>\r\n", RCPT, DATA, TEXT],
    "MAIL before HELO": [MAIL, HELO, MAIL, QUIT],
    "nested MAIL": [EHLO, MAIL, MAIL, RCPT, DATA, TEXT],
    "RCPT before MAIL": [EHLO, RCPT, MAIL, RCPT, QUIT],
    "DATA before MAIL": [EHLO, DATA, MAIL, RCPT, DATA, TEXT],
    "reset": [EHLO, MAIL, RCPT, RSET, RCPT, MAIL, RCPT, DATA, TEXT],
    "reset by EHLO": [EHLO, MAIL, RCPT, EHLO, RCPT, MAIL, RCPT, DATA, TEXT],
    "reset with an argument": [EHLO, MAIL, b"RSET now\r\n", RCPT],
    "no operation": [b"NOOP\r\n", b"NOOP with words\r\n", QUIT],
    "VRFY": [EHLO, b"VRFY bob@example.net\r\n", b"VRFY\r\n", QUIT],
    "EXPN": [EHLO, b"EXPN staff\r\n", QUIT],
    "EHLO without a name": [b"EHLO\r\n", b"HELO\r\n", EHLO],
    "QUIT with an argument": [b"QUIT now\r\n", QUIT],
    "DATA with an argument": [EHLO, MAIL, RCPT, b"DATA now\r\n", DATA, TEXT],
    "MAIL without an argument": [EHLO, b"MAIL\r\n", b"MAIL FROM\r\n", b"MAIL TO:<a@b.example>\r\n"],
    "RCPT without an argument": [EHLO, MAIL, b"RCPT\r\n", b"RCPT FROM:<a@b.example>\r\n", RCPT],
    "unknown command": [b"FOO\r\n", b"\r\n", b"FOO BAR\r\n", QUIT],
    "too large": [
        *(EHLO, MAIL, RCPT, DATA),
        Text((LIMIT // 900 + 1) * (898 * b"x" + b"\r\n") + b".\r\n"),
        *(MAIL, RCPT, DATA, TEXT),
    ],
    "bare line endings": [
        *(EHLO, MAIL, RCPT, DATA, Text(b"a\nb\r\n.\r\n")),
        *(MAIL, RCPT, DATA, Text(b"a\rb\r\n.\r\n")),
        *(MAIL, RCPT, DATA, Text(b"a\0b\r\n.\r\n"), QUIT),
    ],
    "pipelined": [EHLO, MAIL + RCPT + RCPT, DATA, Text(TEXT.wire + MAIL + RCPT), DATA, TEXT, QUIT],
    "half a message": [EHLO, MAIL, RCPT, DATA],
    "too many recipients": [EHLO, MAIL, RCPT * (RECIPIENTS_MAX + 3), DATA, TEXT, QUIT],
    **{
        f"{stage} is answered {verdict}": [
            *(EHLO, b"MAIL FROM:<%s-%s@example.org>\r\n" % (stage.encode(), verdict.encode())),
            *(RCPT, DATA, TEXT, MAIL, RCPT, DATA, TEXT, QUIT),
        ]
        for stage in ("mail", "data", "dot")
        for verdict in VERDICTS
    },
    **{
        f"one of two recipients is answered {verdict}": [
            *(EHLO, MAIL, b"RCPT TO:<rcpt-%s@example.net>\r\n" % verdict.encode(), RCPT, DATA),
            *(TEXT, MAIL, RCPT, DATA, TEXT, QUIT),
        ]
        for verdict in VERDICTS
    },
}
"""By what they are about."""


def made(seed: int) -> Script:
    """The session of this seed; the same for ever."""
    rng = random.Random(seed)
    steps: list[Step] = [EHLO if rng.random() < 0.8 else HELO]
    is_extended = steps[0] == EHLO
    for _ in range(rng.randrange(1, 4)):
        if rng.random() < 0.3:
            steps += _noise(rng)
        steps += _transaction(rng, is_extended=is_extended, is_pipelined=rng.random() < 0.5)
    if rng.random() < 0.7:
        steps.append(QUIT)
    return Script(
        steps=steps,
        cuts=lambda octets: _cuts(random.Random(f"{seed} {octets}"), octets),
        is_trusted=rng.random() < 0.7,
    )


def _cuts(rng: random.Random, octets: int) -> tuple[int, ...]:
    """None for half of all writes, else up to five; a short write perhaps at each octet."""
    if rng.random() < 0.5 or octets < 2:
        return ()
    if octets <= 20 and rng.random() < 0.3:
        return tuple(range(1, octets))
    return tuple(sorted(rng.randrange(1, octets) for _ in range(rng.randrange(1, 6))))


def _noise(rng: random.Random) -> Iterator[Step]:
    """Commands that are about nothing, or out of place."""
    yield rng.choice(
        [
            *(
                b"NOOP\r\n",
                b"NOOP twice\r\n",
                b"noop\r\n",
                b"VRFY bob@example.net\r\n",
                b"VRFY\r\n",
            ),
            *(RSET, b"RSET now\r\n", RCPT, b"RCPT\r\n", b"MAIL\r\n", b"QUIT now\r\n", b"EHLO\r\n"),
            *(b"EXPN staff\r\n", b"FROBNICATE\r\n", b"\r\n", DATA, EHLO, b"NOOP\r\nRSET\r\n"),
        ]
    )


def _transaction(rng: random.Random, *, is_extended: bool, is_pipelined: bool) -> Iterator[Step]:
    commands = [_mail(rng, is_extended=is_extended)]
    if rng.random() < 0.1:
        commands.append(rng.choice([MAIL, RSET, b"NOOP\r\n", EHLO, b"RCPT TO:\r\n"]))
    commands += [_rcpt(rng) for _ in range(_number_of_recipients(rng))]
    if rng.random() < 0.1:
        commands.insert(rng.randrange(len(commands)), RSET)
    commands.append(DATA)
    if is_pipelined:
        yield b"".join(commands)
    else:
        yield from commands
    behind = rng.choice([b"", b"", b"NOOP\r\n", b"NOOP\r\nRSET\r\n"])
    yield Text(dot_stuffed(content(rng)) + b".\r\n" + behind)


def _number_of_recipients(rng: random.Random) -> int:
    return rng.choice([1, 1, 1, 1, 2, 2, 3, 5, RECIPIENTS_MAX + 2])


def _mail(rng: random.Random, *, is_extended: bool) -> bytes:
    path = rng.choice([b"", b"alice@example.org", b"a.b+c=d@example.org", b"x@[192.0.2.7]"])
    if rng.random() < 0.3:
        stage = rng.choice([b"mail", b"data", b"dot"])
        path = b"%s-%s@example.org" % (stage, rng.choice(list(VERDICTS)).encode())
    parameters = b""
    if is_extended:
        parameters += rng.choice([b"", b"", b" BODY=8BITMIME", b" BODY=7BIT"])
        parameters += rng.choice([b"", b"", b" SIZE=1000", b" SIZE=1", b" SIZE=%d" % (2 * LIMIT)])
    return b"MAIL FROM:<%s>%s\r\n" % (path, parameters)


def _rcpt(rng: random.Random) -> bytes:
    path = b"bob%d@example.net" % rng.randrange(5)
    match rng.randrange(12):
        case 0 | 1:
            verdict = rng.choice(list(VERDICTS)).encode()
            path = b"rcpt-%s-%d@example.net" % (verdict, rng.randrange(5))
        case 2:
            path = b"far@elsewhere.example"
        case 3:
            path = rng.choice([b"", b"@@example.net", b"postmaster", b"x@[192.0.2.7]"])
    return b"RCPT TO:<%s>\r\n" % path


def content(rng: random.Random) -> bytes:
    """Mail data as a client has it: not dot-stuffed, of whole lines."""
    size = rng.choice([0, 1, 100, 100, 1000, 1000, 10_000, 100_000])
    lines = [b"Subject: made", b"Message-Id: <%d@example.org>" % rng.randrange(10**9), b""]
    if rng.random() < 0.2:
        lines = []
    octets = 0
    while octets < size:
        lines.append(_line(rng))
        octets += len(lines[-1]) + 2
    return b"".join(line + b"\r\n" for line in lines)


_ALPHABETS = (bytes(range(32, 127)), bytes((*range(1, 10), *range(14, 256))), b".", b"ab ")


def _line(rng: random.Random) -> bytes:
    if rng.random() < 0.002:
        return rng.choice([b"a\nb", b"a\rb", b"a\0b", b".\n.", b"\n.\n"])
    length = rng.choice([0, 1, rng.randrange(80), rng.randrange(80), rng.randrange(LINE_MAX)])
    dots = b"." * rng.choice([0, 0, 0, 0, 1, 2, 3])
    return dots + bytes(rng.choices(rng.choice(_ALPHABETS), k=length))
