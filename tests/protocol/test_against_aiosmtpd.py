"""The same sessions held with our front and with aiosmtpd's own class, reply code by reply code.

The front overrides most of what aiosmtpd does with a session, so the library as it is serves as
the reference for everything in which we do not mean to differ. Where we do, the second table says
so, with both answers; a difference that is in neither table is a fault.
"""

import asyncio
from dataclasses import dataclass, field

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.support.builders import session_limits
from tests.support.front import HOSTNAME, Front, Peer

LIMIT = session_limits().message_size_max
HELO, EHLO = b"HELO client.example.org\r\n", b"EHLO client.example.org\r\n"
MAIL, RCPT = b"MAIL FROM:<alice@example.org>\r\n", b"RCPT TO:<bob@example.net>\r\n"
DATA, QUIT = b"DATA\r\n", b"QUIT\r\n"
TEXT = b"Subject: hello\r\n\r\nHello.\r\n..stuffed\r\n.\r\n"

# Each step is sent when the reply to the one before has come.
ALIKE: dict[str, list[bytes]] = {
    "one message": [EHLO, MAIL, RCPT, DATA, TEXT, QUIT],
    "one message by HELO": [HELO, MAIL, RCPT, DATA, TEXT, QUIT],
    "two messages": [EHLO, MAIL, RCPT, DATA, TEXT, MAIL, RCPT, RCPT, DATA, TEXT, QUIT],
    "an empty message": [EHLO, MAIL, RCPT, DATA, b".\r\n", QUIT],
    "an empty body": [EHLO, MAIL, RCPT, DATA, b"Subject: x\r\n\r\n.\r\n", QUIT],
    "only dots": [EHLO, MAIL, RCPT, DATA, b"..\r\n...\r\n.\r\n", QUIT],
    "octets beyond ASCII": [EHLO, MAIL, RCPT, DATA, b"\xc3\xa9\xff\r\n.\r\n", QUIT],
    "null reverse-path": [EHLO, b"MAIL FROM:<>\r\n", RCPT, DATA, TEXT, QUIT],
    "size that fits": [EHLO, b"MAIL FROM:<a@example.org> SIZE=1000\r\n", RCPT, DATA, TEXT, QUIT],
    "size without a number": [EHLO, b"MAIL FROM:<a@example.org> SIZE=\r\n", MAIL],
    "size that does not": [EHLO, b"MAIL FROM:<a@example.org> SIZE=%d\r\n" % (LIMIT + 1), QUIT],
    "body 8BITMIME": [EHLO, b"MAIL FROM:<a@example.org> BODY=8BITMIME\r\n", RCPT, DATA, TEXT],
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
    "quoted local part": [EHLO, b'MAIL FROM:<"a b"@example.org>\r\n', RCPT, DATA, TEXT],
    "source route": [EHLO, MAIL, b"RCPT TO:<@relay.example:bob@example.net>\r\n", DATA, TEXT],
    "address literal": [EHLO, b"MAIL FROM:<a@[192.0.2.1]>\r\n", RCPT, DATA, TEXT],
    "MAIL before HELO": [MAIL, HELO, MAIL, QUIT],
    "nested MAIL": [EHLO, MAIL, MAIL, RCPT, DATA, TEXT],
    "RCPT before MAIL": [EHLO, RCPT, MAIL, RCPT, QUIT],
    "reset": [EHLO, MAIL, RCPT, b"RSET\r\n", RCPT, MAIL, RCPT, DATA, TEXT],
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
    "too large": [EHLO, MAIL, RCPT, DATA, (LIMIT // 900 + 1) * (898 * b"x" + b"\r\n") + b".\r\n"],
    "pipelined": [EHLO, MAIL + RCPT + RCPT, DATA, TEXT + MAIL + RCPT, DATA, TEXT, QUIT],
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A session, the codes that we say and those that the library says, and why."""

    steps: list[bytes]
    ours: list[int]
    theirs: list[int]
    why: str


DIFFERENT: dict[str, Difference] = {
    "DATA without recipients": Difference(
        [EHLO, MAIL, DATA], [250, 250, 554], [250, 250, 503], "RFC 5321, 3.3 names 554"
    ),
    "malformed address": Difference(
        [EHLO, b"MAIL FROM:<a@@example.org>\r\n"],
        [250, 501],
        [250, 553],
        "RFC 5321, 4.2.4: syntax is 501",
    ),
    "no angle brackets": Difference(
        [EHLO, b"MAIL FROM:alice@example.org\r\n"], [250, 501], [250, 250], "RFC 5321, 4.1.1.2"
    ),
    "comment in an address": Difference(
        [EHLO, b"MAIL FROM:<a(c)@example.org>\r\n"], [250, 501], [250, 250], "it would be rewritten"
    ),
    "NUL in an address": Difference(
        [EHLO, b"MAIL FROM:<a\0b@example.org>\r\n"], [250, 501], [250, 250], "control characters"
    ),
    "null forward-path": Difference(
        [EHLO, MAIL, b"RCPT TO:<>\r\n"], [250, 250, 501], [250, 250, 250], "nobody is there"
    ),
    "address beyond ASCII": Difference(
        [EHLO, b"MAIL FROM:<\xc3\xa9@example.org>\r\n"], [250, 553], [250, 500], "RFC 6531, 3.5"
    ),
    "parameters of DSN": Difference(
        [
            EHLO,
            b"MAIL FROM:<a@example.org> RET=HDRS ENVID=x\r\n",
            MAIL,
            b"RCPT TO:<b@example.net> NOTIFY=NEVER\r\n",
        ],
        [250, 250, 503, 250],
        [250, 555, 250, 555],
        "clients send them unasked, and refusing them loses mail",
    ),
    "parameters after HELO": Difference(
        [HELO, b"MAIL FROM:<a@example.org> SIZE=1000\r\n"], [250, 250], [250, 501], "harmless"
    ),
    "bare line feed": Difference(
        [b"NOOP\n", b"NOOP\r\n"], [500, 250], [250, 250], "smuggled commands end so"
    ),
    "bare line feed in mail data": Difference(
        [EHLO, MAIL, RCPT, DATA, b"a\nb\r\n.\r\n"],
        [250, 250, 250, 354, 550],
        [250, 250, 250, 354, 250],
        "RFC 5321, 2.3.8",
    ),
    "a long line in mail data": Difference(
        [EHLO, MAIL, RCPT, DATA, 5000 * b"x" + b"\r\n.\r\n"],
        [250, 250, 250, 354, 250],
        [250, 250, 250, 354, 500],
        "hospital applications send such lines",
    ),
    "a command line of 600 octets": Difference(
        [b"NOOP " + 600 * b"x" + b"\r\n"], [250], [500], "room for the parameters of extensions"
    ),
    "HELP": Difference([b"HELP\r\n"], [502], [250], "not offered"),
    "AUTH": Difference([EHLO, b"AUTH PLAIN\r\n"], [250, 502], [250, 538], "not offered"),
    "STARTTLS": Difference([EHLO, b"STARTTLS\r\n"], [250, 502], [250, 454], "not offered"),
    "EHLO with two words": Difference([b"EHLO two words\r\n"], [501], [250], "RFC 5321, 4.1.1.1"),
}


@dataclass  # without slots: aiosmtpd reads every attribute, and 3.11.2 cannot read one of those
class Keeping:
    """A handler of aiosmtpd that takes every message."""

    taken: list[tuple[str, list[str], bytes]] = field(default_factory=list)

    async def handle_DATA(  # noqa: N802 - its name is the library's
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        content = envelope.original_content
        assert content is not None
        assert envelope.mail_from is not None
        self.taken.append((envelope.mail_from, envelope.rcpt_tos, content))
        return "250 2.0.0 Ok: taken"


async def held(port: int, steps: list[bytes]) -> list[int]:
    """Hold a session step by step and return all codes, the greeting's left out."""
    peer = Peer(port)
    await peer.connect()
    codes: list[int] = []
    try:
        assert (await peer.reply())[:3] == b"220"
        for step in steps:
            await peer.send(step)
            is_data = codes[-1:] == [354]
            commands = (b"\r\n" + step).partition(b"\r\n.\r\n")[2] if is_data else step
            expected = is_data + commands.count(b"\n")
            codes += [int((await peer.reply())[:3]) for _ in range(expected)]
    finally:
        peer.close()
    return codes


async def with_the_library(steps: list[bytes]) -> tuple[list[int], Keeping]:
    """Hold the session with aiosmtpd's own class."""
    keeping = Keeping()
    loop = asyncio.get_running_loop()
    sessions: list[SMTP] = []

    def new_session() -> SMTP:
        sessions.append(SMTP(keeping, hostname=HOSTNAME, data_size_limit=LIMIT, loop=loop))
        return sessions[-1]

    server = await loop.create_server(new_session, "127.0.0.1", 0)
    try:
        codes = await held(server.sockets[0].getsockname()[1], steps)
        tasks = [each._handler_coroutine for each in sessions]
        await asyncio.gather(*(task for task in tasks if task), return_exceptions=True)
    finally:
        server.close()
    return codes, keeping


@pytest.mark.parametrize("name", ALIKE)
async def test_both_say_and_take_the_same(name: str) -> None:
    """Codes, envelopes, and mail data once the dots are unstuffed."""
    theirs, keeping = await with_the_library(ALIKE[name])
    async with Front() as front:
        ours = await held(front.port, ALIKE[name])
        taken = [
            (
                (each.reverse_path or b"<>").decode(),
                [path.decode() for path in each.forward_paths],
                unstuffed(each.data),
            )
            for each in front.handler.taken
        ]
    assert ours == theirs
    if name != "quoted local part":  # the library takes the quotes off
        assert taken == keeping.taken


def unstuffed(data: bytes) -> bytes:
    """Mail data without dot-stuffing (RFC 5321, 4.5.2)."""
    lines = data.split(b"\r\n")
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)


@pytest.mark.parametrize("name", DIFFERENT)
async def test_differences_are_those_we_mean(name: str) -> None:
    """Both sides of each: a new version of the library may have come nearer to us."""
    difference = DIFFERENT[name]
    theirs, _ = await with_the_library(difference.steps)
    async with Front() as front:
        ours = await held(front.port, difference.steps)
    assert ours == difference.ours, difference.why
    assert theirs == difference.theirs, difference.why


@pytest.mark.parametrize(
    ("path", "rewritten"),
    [
        (b'"quoted"@example.net', "quoted@example.net"),
        (b"=?utf-8?q?a?=@example.net", "a@example.net"),
        (b'"a\\b"@example.net', "ab@example.net"),
    ],
)
async def test_the_library_rewrites_addresses_and_we_do_not(path: bytes, rewritten: str) -> None:
    """Two programs that disagree about an address is how mail reaches the wrong mailbox."""
    steps = [EHLO, MAIL, b"RCPT TO:<" + path + b">\r\n", DATA, TEXT]
    _, keeping = await with_the_library(steps)
    assert keeping.taken[0][1] == [rewritten]
    async with Front() as front:
        await held(front.port, steps)
        assert front.handler.taken[0].forward_paths == [path]
