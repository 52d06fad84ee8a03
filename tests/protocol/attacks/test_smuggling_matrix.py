"""Inbound smuggling: every false end, in every context, in clear and under TLS, cut anywhere.

`test_smuggling` and `test_chunks` tell the stories; here is the whole table. The sequences are all
that can be built of two line endings of any kind around a dot, NUL octets before and after it
included, except those that hold the true end. Those that published scanners try (smtpsmug, SEC
Consult's) are among them, and are cut everywhere; the others in some places, and more intense, in
all and in every two. Behind each stands a second message with its envelope, and then the true end.

Each cell expects one reply that refuses the whole, and then the reply to NOOP: a server that had
seen two messages would say more.
"""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from mailshed.config.policy import ListenerPolicy, TlsMode
from tests.protocol.test_smuggling import AFTER, BEFORE
from tests.protocol.test_smuggling import SEQUENCES as PUBLISHED
from tests.support.certificates import Authority, make_authority
from tests.support.front import Front, Peer
from tests.support.intensity import TIMES
from tests.support.tls import client_context, new_handshakes, tls_peer

TRUE_END = b"\r\n.\r\n"
LINE_ENDINGS = (b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\n\n", b"\r\n\0", b"\0\r\n")
DOTS = (b".", b"\0.", b".\0")
SEQUENCES = [
    *PUBLISHED,
    *(
        made
        for first in LINE_ENDINGS
        for dot in DOTS
        for second in LINE_ENDINGS
        if TRUE_END not in (made := first + dot + second) and made not in PUBLISHED
    ),
]
SIZE_MAX = 1000
LINE_MAX = 200
LIMITS: dict[str, Any] = {
    "errors_max": 10**9,
    "message_size_max": SIZE_MAX,
    "line_octets_max": LINE_MAX,
}
ENVELOPE = b"RSET\r\nMAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\n"


@dataclass(frozen=True, slots=True)
class Context:
    """What stands around a sequence, and what it all is answered."""

    before: bytes
    refusal: bytes
    is_chunk: bool = False

    def said(self, sequence: bytes) -> tuple[bytes, int]:
        """The octets behind the envelope, and where among them the sequence begins."""
        data = self.before + sequence + AFTER
        if self.is_chunk:
            # AFTER ends with a true end, which is text here.
            command = b"BDAT %d LAST\r\n" % len(data)
            return command + data, len(command + self.before)
        return b"DATA\r\n" + data, len(b"DATA\r\n" + self.before)


LINES = BEFORE + b"\r\n"
CONTEXTS = {
    "DATA": Context(BEFORE, b"550 5.5.2 "),
    # From here on mail data is read and dropped; that has an end of its own to find.
    "DATA over the size limit": Context(
        LINES + SIZE_MAX // 50 * (48 * b"x" + b"\r\n"), b"552 5.3.4 "
    ),
    "DATA after a long line": Context(LINES + 2 * LINE_MAX * b"x", b"550 5.6.0 "),
    "BDAT": Context(BEFORE, b"550 5.5.2 ", is_chunk=True),
}


def cuts_of(number: int, places: range) -> Iterator[tuple[int, ...]]:
    """Where to cut: those that nobody has published in some places, unless there is time."""
    if TIMES == 1 and number >= len(PUBLISHED):
        places = places[number % 3 :: 3]
    yield from ((place,) for place in places)
    if TIMES > 1:
        yield from combinations(places, 2)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> tuple[Path, Path]:
    return authority.issue()


@pytest.fixture(scope="module")
def trusting(authority: Authority) -> ssl.SSLContext:
    return client_context(authority)


@asynccontextmanager
async def talking(
    pair: tuple[Path, Path], context: ssl.SSLContext | None
) -> AsyncIterator[tuple[Front, Peer]]:
    """A session that was greeted; in clear, or under TLS from its first octet."""
    front = Front(**LIMITS)
    if context is not None:
        front.policy = ListenerPolicy(name="smtp", tls=TlsMode.IMPLICIT)
        front.handshakes = new_handshakes(pair)
    async with front:
        peer = await tls_peer(front, context)
        assert (await peer.reply()).startswith(b"220 ")
        await peer.greet()
        yield front, peer


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize("context", CONTEXTS)
async def test_what_is_no_end_of_data_ends_nothing(
    context: str, pair: tuple[Path, Path], trusting: ssl.SSLContext, *, is_encrypted: bool
) -> None:
    cell = CONTEXTS[context]
    tried = 0
    async with talking(pair, trusting if is_encrypted else None) as (front, peer):
        for number, sequence in enumerate(SEQUENCES):
            said, start = cell.said(sequence)
            for cuts in cuts_of(number, range(start - 1, start + len(sequence) + 3)):
                await peer.send(ENVELOPE)
                assert [(await peer.reply())[:3] for _ in range(3)] == 3 * [b"250"]
                await peer.send(said, cuts=cuts)
                if not cell.is_chunk:
                    assert (await peer.reply())[:3] == b"354"
                answer = await peer.reply()
                assert answer.startswith(cell.refusal), (sequence, cuts, answer)
                assert await peer.command("NOOP", 250) == b"250 2.0.0 Ok\r\n", (sequence, cuts)
                tried += 1
        assert front.handler.taken == []
        assert await peer.is_silent()
    assert tried >= 2 * len(SEQUENCES)
