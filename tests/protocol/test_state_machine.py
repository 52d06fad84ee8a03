"""Any sequence of commands, cut anywhere, gets the replies that a model of RFC 5321 gives.

The model is what sections 4.1.4 and 3.3 say about the order of commands, RFC 3030 about chunks and
nothing else, seventy lines that can be checked by reading. Hypothesis makes up groups of commands,
sends each group in one or several segments, and compares reply by reply, and at the end message by
message.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from mailshed.mail.address import Mailbox
from mailshed.mail.reply import Reply, make
from tests.support.front import DEADLINE, Front, Peer
from tests.support.intensity import tried

RECIPIENTS_MAX = 2
SMALL = 1 << 12
"""The size limit here."""


@dataclass(slots=True)
class Model:
    """A server as RFC 5321 describes it: what it remembers, and the code of each reply."""

    is_greeted: bool = False
    is_extended: bool = False
    has_sender: bool = False
    recipients: list[bytes] = field(default_factory=list)
    messages: list[tuple[list[bytes], bytes]] = field(default_factory=list)
    chunks: bytes | None = None
    """What came in chunks so far (RFC 3030); None before the first."""
    refusal: int = 0
    """What a chunk was refused with, and so are all that follow."""

    def code(self, verb: bytes, argument: bytes) -> int:
        """The reply to a command; after 354 comes the reply to the mail data."""
        answer = getattr(self, verb.decode().lower().strip("."), None)
        return answer(argument) if answer is not None else UNKNOWN.get(verb, 500)

    def rset(self, argument: bytes) -> int:
        if not argument:
            self.has_sender, self.recipients = False, []
            self.chunks, self.refusal = None, 0
        return 501 if argument else 250

    def helo(self, argument: bytes) -> int:
        if not argument:
            return 501
        self.is_greeted, self.is_extended = True, False
        return self.rset(b"")

    def ehlo(self, argument: bytes) -> int:
        code = self.helo(argument)
        self.is_extended = code == 250 or self.is_extended
        return code

    def mail(self, argument: bytes) -> int:
        if not self.is_greeted or self.has_sender:
            return 503
        _, _, parameters = argument.partition(b"> ")
        if not (parameters or argument.endswith(b">")):
            return 501
        code = PARAMETERS.get(parameters, 250)
        if b"SMTPUTF8" in parameters and not self.is_extended:
            code = 555
        self.has_sender = code == 250
        return code

    def rcpt(self, argument: bytes) -> int:
        if not self.has_sender or self.chunks is not None:
            return 503
        if not argument.endswith(b">"):
            return 501
        if len(self.recipients) == RECIPIENTS_MAX or b"nobody" in argument:
            return 452 if len(self.recipients) == RECIPIENTS_MAX else 550
        self.recipients.append(argument[4:-1])
        return 250

    def data(self, argument: bytes) -> int:
        if argument or not self.has_sender or self.chunks is not None:
            return 501 if argument else 503
        return 354 if self.recipients else 554

    def bdat(self, argument: bytes, text: bytes) -> int:
        if not self.has_sender or not self.recipients:
            return 554 if self.has_sender else 503
        self.chunks = (self.chunks or b"") + text
        if len(self.chunks) > SMALL or b"bare\n" in self.chunks:
            # A line end may come with the next chunk, so the first reason is the one that counts.
            self.refusal = self.refusal or (552 if len(self.chunks) > SMALL else 550)
        if not argument.endswith(b"LAST"):
            return self.refusal or 250
        if self.refusal:
            refusal = self.refusal
            self.rset(b"")
            return refusal
        return self.dot(stuffed(self.chunks))

    def dot(self, text: bytes) -> int:
        recipients = self.recipients
        self.rset(b"")
        if len(text) > SMALL or b"bare\n" in text:
            return 552 if len(text) > SMALL else 550
        self.messages.append((recipients, text))
        return 250


def stuffed(text: bytes) -> bytes:
    """What DATA would have brought, had the client used it."""
    lines = (b"\r\n" + text).replace(b"\r\n.", b"\r\n..")[2:]
    return lines if lines.endswith(b"\r\n") or not lines else lines + b"\r\n"


UNKNOWN = {b"STARTTLS": 502, b"HELP": 502, b"NOOP": 250}
PARAMETERS = {
    b"SIZE=10 BODY=8BITMIME": 250,
    b"SMTPUTF8 RET=HDRS ENVID=a+2Bb": 250,
    b"MT-PRIORITY=-3 BY=90;R": 250,
    b"SIZE=9999999": 552,
    b"BODY=BINARYMIME": 501,
    b"BY=0;R": 501,
    b"REQUIRETLS": 555,
}
"""Parameters of MAIL, and what they are answered."""
PATHS = [b"<a@b.example>", b"<>", b"a@b.example", b"<a@b.example", b""]
FORWARD = [b"TO:<bob@b.example>", b"TO:<c@b.example>", b"TO:<nobody@b.example>", b"TO:bob", b""]
COMMANDS = st.one_of(
    # The ordinary ones are listed twice, or transactions would rarely come to an end.
    st.tuples(st.just(b"EHLO"), st.just(b"client.example.org")),
    st.tuples(st.just(b"MAIL"), st.just(b"FROM:<a@b.example>")),
    st.tuples(st.just(b"RCPT"), st.just(b"TO:<bob@b.example>")),
    st.tuples(st.just(b"DATA"), st.just(b"")),
    st.tuples(st.sampled_from([b"HELO", b"EHLO"]), st.sampled_from([b"c.example", b""])),
    st.tuples(st.just(b"MAIL"), st.sampled_from([b"FROM:" + path for path in PATHS])),
    st.tuples(st.just(b"RCPT"), st.sampled_from(FORWARD)),
    st.tuples(
        st.just(b"MAIL"), st.sampled_from([b"FROM:<a@b.example> " + each for each in PARAMETERS])
    ),
    st.tuples(st.just(b"BDAT"), st.sampled_from([b"", b" LAST"])),
    st.tuples(st.sampled_from([b"DATA", b"RSET", b"NOOP"]), st.sampled_from([b"", b"x"])),
    st.tuples(st.sampled_from([b"STARTTLS", b"HELP", b"XYZ", b"."]), st.just(b"")),
)
TEXTS = st.sampled_from(
    [
        *(b"", b"Subject: x\r\n\r\ntext\r\n", b"..\r\n", b"MAIL FROM:<>\r\nDATA\r\n"),
        *(b"bare\n\r\n", (SMALL - 2) * b"x" + b"\r\n", SMALL * b"x" + b"\r\n"),
    ]
)


class Sequences(RuleBasedStateMachine):
    """One session and the model beside it."""

    new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self._runner = asyncio.Runner(loop_factory=type(self).new_loop)
        self._runner.run(self._begin())

    async def _begin(self) -> None:
        self._front = Front(recipients_max=RECIPIENTS_MAX, message_size_max=SMALL, errors_max=10**6)
        await self._front.__aenter__()
        self._front.handler.recipient_answer = refuse_nobody
        self._peer: Peer = await self._front.peer()

    @rule(
        group=st.lists(st.tuples(COMMANDS, TEXTS), min_size=1, max_size=8),
        cuts=st.lists(st.floats(0, 1), max_size=3),
    )
    def send(self, group: list[tuple[tuple[bytes, bytes], bytes]], cuts: list[float]) -> None:
        """Pipeline a group of commands."""
        octets = b""
        expected: list[int] = []
        for (verb, argument), text in group:
            if verb == b"BDAT":
                # Beyond that the session ends.
                room = 2 * SMALL - len(self.model.chunks or b"")
                chunk = text if len(text) <= room else b""
                octets += b"BDAT %d%b\r\n%b" % (len(chunk), argument, chunk)
                expected.append(self.model.bdat(argument, chunk))
                continue
            octets += verb + (b" " + argument if argument else b"") + b"\r\n"
            expected.append(self.model.code(verb, argument))
            if expected[-1] == 354:
                octets += text + b".\r\n"
                expected.append(self.model.dot(text))
        places = tuple(sorted({int(cut * len(octets)) for cut in cuts} - {0, len(octets)}))
        got = self._runner.run(self._exchange(octets, places, len(expected)))
        assert got == expected

    async def _exchange(self, octets: bytes, cuts: tuple[int, ...], replies: int) -> list[int]:
        async with asyncio.timeout(DEADLINE):
            await self._peer.send(octets, cuts=cuts)
            return [int((await self._peer.reply())[:3]) for _ in range(replies)]

    def teardown(self) -> None:
        """Nothing more is said, and the messages are those of the model."""
        taken = [(each.forward_paths, each.data) for each in self._front.handler.taken]
        is_silent = self._runner.run(self._peer.is_silent())
        self._runner.run(self._front.__aexit__())
        self._runner.close()
        assert is_silent
        assert taken == self.model.messages


def refuse_nobody(mailbox: Mailbox) -> Reply | None:
    """The one recipient that does not exist."""
    return make(550, "5.1.1 Nobody") if mailbox.raw.startswith(b"nobody@") else None


class SequencesOnUvloop(Sequences):
    """The same on the loop of the service."""

    new_loop = uvloop.new_event_loop


_QUICK = settings(tried(60), stateful_step_count=12)
TestSequences = Sequences.TestCase
TestSequences.settings = _QUICK
TestSequencesOnUvloop = SequencesOnUvloop.TestCase
TestSequencesOnUvloop.settings = _QUICK
