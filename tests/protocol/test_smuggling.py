"""One message in is one message out, or none: SMTP smuggling (CVE-2023-51764 to -51766).

The sequences are those that published scanners try as a false end of data. Behind each stands a
complete second message, and only then the true end. A server that refuses sees one bad message;
one that normalises must hand on data in which no server, however lenient, can find an end.
"""

import re
from ipaddress import ip_network
from itertools import combinations

import pytest

from mailshed.mail.networks import NetworkSet
from tests.support.front import Front, Peer

SEQUENCES = [
    *(b"\n.\n", b"\n.\r\n", b"\n.\r", b"\r.\n", b"\r.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r"),
    *(b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\n\0.\r\n", b"\n.\0\n"),
    *(b"\r\n\n.\r\r\n", b"\r\n\r.\n", b"\r\n.\n\r\n"),
]
BEFORE = b"Subject: outer\r\n\r\nouter"
AFTER = (
    b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\n"
    b"Subject: smuggled\r\n\r\nsmuggled\r\n.\r\n"
)
# What some server somewhere takes for a line with nothing but a dot.
LENIENT_END = re.compile(rb"(?:\r\n|\r|\n|^)\0*\.\0*(?:\r\n|\r|\n)")
BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)|\0")

LIMITS = {"errors_max": 10**6}
NORMALISING = {**LIMITS, "normalize_networks": NetworkSet([ip_network("127.0.0.0/8")])}


async def send_cut(peer: Peer, data: bytes, cuts: tuple[int, ...]) -> bytes:
    """Send one message whose mail data arrives in pieces; return the reply to its end."""
    await peer.send(
        b"RSET\r\nMAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n"
    )
    replies = [await peer.reply() for _ in range(4)]
    assert [each[:3] for each in replies] == [b"250", b"250", b"250", b"354"]
    await peer.send(data, cuts=cuts)
    answer = await peer.reply()
    # Exactly one answer: the next one is that to NOOP.
    assert await peer.command("NOOP", 250) == b"250 2.0.0 Ok\r\n"
    return answer


def cuts_around(data: bytes, sequence: bytes) -> list[tuple[int, ...]]:
    """All places where a segment may end within and next to `sequence`, and all at once."""
    start = len(BEFORE) - 1
    places = range(start, start + len(sequence) + 3)
    return [(), *((place,) for place in places), tuple(range(1, len(data)))]


@pytest.mark.parametrize("sequence", SEQUENCES, ids=repr)
async def test_a_false_end_of_data_is_refused(sequence: bytes) -> None:
    """One reply, 550, for all of it; not a trace of the second message."""
    data = BEFORE + sequence + AFTER
    async with Front(**LIMITS) as front:
        peer = await front.peer()
        await peer.greet()
        for cuts in cuts_around(data, sequence):
            answer = await send_cut(peer, data, cuts)
            assert answer.startswith(b"550 5.5.2 "), (cuts, answer)
        assert front.handler.taken == []


@pytest.mark.parametrize("sequence", SEQUENCES, ids=repr)
async def test_a_false_end_of_data_is_normalised_into_one_message(sequence: bytes) -> None:
    """What goes on has the second message as text, and nothing that anyone takes for an end."""
    data = BEFORE + sequence + AFTER
    async with Front(**NORMALISING) as front:
        peer = await front.peer()
        await peer.greet()
        for cuts in cuts_around(data, sequence):
            answer = await send_cut(peer, data, cuts)
            assert answer.startswith(b"250 "), (cuts, answer)
            taken = front.handler.taken[-1]
            assert LENIENT_END.search(taken.data) is None, (cuts, taken.data)
            assert BARE.search(taken.data) is None, (cuts, taken.data)
            assert taken.data.startswith(BEFORE)
            assert taken.data.endswith(b"\r\nsmuggled\r\n")
            assert taken.forward_paths == [b"bob@example.net"]


@pytest.mark.parametrize("limits", [LIMITS, NORMALISING], ids=["refusing", "normalising"])
async def test_the_true_end_is_found_wherever_it_is_cut(limits: dict[str, object]) -> None:
    """All sixteen ways to cut CRLF.CRLF, and a command right behind it in the last segment."""
    body = b"Subject: x\r\n\r\nbody"
    data = body + b"\r\n.\r\n"
    places = range(len(body) + 1, len(data))
    async with Front(**limits) as front:
        peer = await front.peer()
        await peer.greet()
        for number in range(len(places) + 1):
            for cuts in combinations(places, number):
                assert (await send_cut(peer, data, cuts)).startswith(b"250 ")
                assert front.handler.taken[-1].data == body + b"\r\n"
        assert len(front.handler.taken) == 16


@pytest.mark.parametrize("filler", [b"\r\n", b"x\r\n", b"\r\n.", b"..\r\n", b"\r\n.\r"], ids=repr)
async def test_a_line_ending_that_is_cut_in_two_is_no_bare_one(filler: bytes) -> None:
    """CR at the end of one segment and LF at the beginning of the next belong together."""
    body = b"a\r\n" + filler + b"\r\n" + b"b\r\n"
    if b"\r\n.\r\n" in b"\r\n" + body:
        body = body.replace(b"\r\n.\r\n", b"\r\n..\r\n")
    data = body + b".\r\n"
    is_clean = BARE.search(body) is None
    async with Front(**LIMITS) as front:
        peer = await front.peer()
        await peer.greet()
        for cut in range(1, len(data)):
            answer = await send_cut(peer, data, (cut,))
            assert answer.startswith(b"250 " if is_clean else b"550 "), cut


async def test_a_bare_line_feed_does_not_smuggle_a_command() -> None:
    """Commands behind a bare LF are neither run nor lost to the count of replies."""
    async with Front() as front:
        peer = await front.peer()
        await peer.greet()
        line = b"MAIL FROM:<alice@example.org>\nRCPT TO:<bob@example.net>\nDATA\n"
        await peer.send(line + b"NOOP\r\n")
        answers = [await peer.reply() for _ in range(4)]
        assert [each[:3] for each in answers] == [b"500", b"500", b"500", b"250"]
        await peer.command("RCPT TO:<bob@example.net>", 503)
