"""Mail data in chunks (RFC 3030): one message or none, and none of its octets is ever a command."""

import random
import tracemalloc
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path

import pytest

from mailshed.mail.networks import NetworkSet
from tests.protocol.test_smuggling import AFTER, BARE, BEFORE, LENIENT_END, SEQUENCES
from tests.support.builders import content_store
from tests.support.front import Front, Peer, ScriptedHandler, settle

LIMITS = {"errors_max": 10**6}
NORMALISING = {**LIMITS, "normalize_networks": NetworkSet([ip_network("127.0.0.0/8")])}
ENVELOPE = b"RSET\r\nMAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\n"
MIB = 1 << 20


def in_chunks(data: bytes, *cuts: int) -> bytes:
    """`data` as BDAT commands, cut at these places; the last says LAST."""
    ends = [0, *sorted(cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(ends)]
    last = len(pieces) - 1
    return b"".join(
        b"BDAT %d%b\r\n%b" % (len(piece), b" LAST" if number == last else b"", piece)
        for number, piece in enumerate(pieces)
    )


async def replies(peer: Peer, number: int) -> list[bytes]:
    return [await peer.reply() for _ in range(number)]


async def exchange(peer: Peer, octets: bytes, number: int, cuts: tuple[int, ...]) -> list[bytes]:
    """Send commands cut as said, and read so many replies, and not one more."""
    await peer.send(ENVELOPE + octets, cuts=cuts)
    assert [each[:3] for each in await replies(peer, 3)] == 3 * [b"250"]
    answers = await replies(peer, number)
    assert await peer.command("NOOP", 250) == b"250 2.0.0 Ok\r\n"
    return answers


@pytest.mark.parametrize("sequence", SEQUENCES, ids=repr)
async def test_a_false_end_of_data_in_chunks_is_refused(sequence: bytes) -> None:
    """Wherever chunks and segments are cut; a chunk that is well formed may still be taken."""
    data = BEFORE + sequence + AFTER
    start = len(BEFORE) - 1
    async with Front(**LIMITS) as front:
        peer = await front.peer()
        await peer.greet()
        for place in range(start, start + len(sequence) + 3):
            for segments in ((), (len(ENVELOPE) + place + 10,)):
                answers = await exchange(peer, in_chunks(data, place), 2, segments)
                assert answers[-1].startswith(b"550 5.5.2 "), (place, answers)
        assert front.handler.taken == []


@pytest.mark.parametrize("sequence", SEQUENCES, ids=repr)
async def test_a_false_end_of_data_in_chunks_is_normalised_into_one_message(
    sequence: bytes,
) -> None:
    data = BEFORE + sequence + AFTER
    start = len(BEFORE) - 1
    async with Front(**NORMALISING) as front:
        peer = await front.peer()
        await peer.greet()
        for place in range(start, start + len(sequence) + 3):
            answers = await exchange(peer, in_chunks(data, place), 2, ())
            assert [each[:3] for each in answers] == [b"250", b"250"]
            taken = front.handler.taken[-1]
            assert LENIENT_END.search(taken.data) is None, taken.data
            assert BARE.search(taken.data) is None
            assert taken.data.endswith(b"\r\nsmuggled\r\n..\r\n")
            assert taken.forward_paths == [b"bob@example.net"]
        assert len(front.handler.taken) == len(sequence) + 3


async def test_a_true_end_of_data_is_text_in_a_chunk() -> None:
    """What ends mail data after DATA is a line with a dot here, and goes on doubled."""
    data = BEFORE + b"\r\n.\r\n" + AFTER
    async with Front(**LIMITS) as front:
        peer = await front.peer()
        await peer.greet()
        for place in range(len(BEFORE), len(BEFORE) + 6):
            answers = await exchange(peer, in_chunks(data, place), 2, ())
            assert [each[:3] for each in answers] == [b"250", b"250"]
            taken = front.handler.taken[-1].data
            assert taken == BEFORE + b"\r\n..\r\n" + AFTER.replace(b"\r\n.\r\n", b"\r\n..\r\n")


async def test_chunks_and_commands_may_be_cut_anywhere() -> None:
    """A whole session in one write, cut at each place in turn."""
    data = b"Subject: x\r\n\r\n.\r\nDATA\r\n"
    octets = in_chunks(data, 3, 13, 14) + b"NOOP\r\n"
    whole = ENVELOPE + octets
    async with Front(**LIMITS) as front:
        peer = await front.peer()
        await peer.greet()
        for place in range(1, len(whole)):
            await peer.send(whole, cuts=(place,))
            assert [each[:3] for each in await replies(peer, 8)] == 8 * [b"250"], place
        assert {each.data for each in front.handler.taken} == {b"Subject: x\r\n\r\n..\r\nDATA\r\n"}
        assert len(front.handler.taken) == len(whole) - 1


async def test_any_message_is_stored_as_after_data() -> None:
    """Random messages of awkward pieces, in random chunks."""
    rng = random.Random(3030)
    pieces = [b"a", b".", b"..", b"\r\n", b"\r\n.\r\n", b"\xff", 70 * b"x"]
    async with Front(**LIMITS) as front:
        peer = await front.peer()
        await peer.greet()
        for _ in range(60):
            data = b"".join(rng.choices(pieces, k=rng.randrange(12))) + b"\r\n"
            cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(4)))
            answers = await exchange(peer, in_chunks(data, *cuts), len(cuts) + 1, ())
            assert answers[-1].startswith(b"250 2.0.0 Ok: taken")
            stuffed = (b"\r\n" + data).replace(b"\r\n.", b"\r\n..")[2:]
            await peer.send(ENVELOPE + b"DATA\r\n" + stuffed + b".\r\n")
            assert [each[:3] for each in await replies(peer, 5)][3:] == [b"354", b"250"]
            chunked, plain = front.handler.taken[-2:]
            assert chunked.data == plain.data


@pytest.mark.parametrize("state", ["nothing", "greeted", "mail", "nobody", "refused", "too large"])
async def test_the_octets_of_a_refused_chunk_are_never_run(state: str) -> None:
    """Whatever the reason, as many replies come as commands were sent."""
    evil = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<v@example.net>\r\nDATA\r\nx\r\n.\r\n"
    before = {
        "nothing": b"",
        "greeted": b"HELO c\r\n",
        "mail": b"HELO c\r\nMAIL FROM:<>\r\n",
        "nobody": b"HELO c\r\nMAIL FROM:<>\r\nRCPT TO:nobody\r\n",
        "refused": b"HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@c.example>\r\nBDAT 1\r\n\0",
        "too large": b"HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@c.example>\r\nBDAT 200\r\n"
        + 200 * b"x",
    }[state]
    chunk = b"BDAT %d LAST\r\n%b" % (len(evil), evil)
    async with Front(**LIMITS, message_size_max=200) as front:
        peer = await front.peer()
        expected = before.count(b"\r\n") + 1
        for place in (0, 1, 10, len(evil) // 2, len(evil) - 1):
            await peer.send(before + chunk + b"RSET\r\n", cuts=(len(before + chunk) - place,))
            answers = await replies(peer, expected + 1)
            assert answers[-2][:1] == b"5", answers
            assert answers[-1] == b"250 2.0.0 Ok\r\n"
        await settle()
        assert front.handler.taken == []
        assert "data" not in [verb for verb, _ in front.handler.replies]


async def test_thousands_of_chunks_in_one_write_are_one_message(tmp_path: Path) -> None:
    store = content_store(tmp_path, memory_per_message=1024)
    async with Front(ScriptedHandler(store=store), **LIMITS) as front:
        peer = await front.in_transaction()
        await peer.send(3000 * b"BDAT 1\r\nx" + b"BDAT 0 LAST\r\n")
        answers = await replies(peer, 3001)
        assert set(answers[:-1]) == {b"250 2.0.0 1 octets received\r\n"}
        assert [each.data for each in front.handler.taken] == [3000 * b"x" + b"\r\n"]


async def test_a_large_message_in_one_chunk_passes_in_bounded_memory(tmp_path: Path) -> None:
    store = content_store(tmp_path, disk=64 * MIB, memory_per_message=256 * 1024)
    handler = ScriptedHandler(store=store, is_keeping=False)
    line = 998 * b"x" + b"\r\n"
    block = 66 * line
    blocks = 10 * MIB // len(block)
    async with Front(handler, message_size_max=50 * MIB) as front:
        peer = await front.in_transaction()
        tracemalloc.start()
        try:
            await peer.send(b"BDAT %d LAST\r\n" % (blocks * len(block)))
            for _ in range(blocks):
                await peer.send(block)
            assert (await peer.reply())[:3] == b"250"
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert handler.octets == blocks * len(block)
        assert peak < 4 * MIB
        assert (store.memory.used, store.disk.used) == (0, 0)
