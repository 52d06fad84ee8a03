"""A reception ends once, however it ends: with a message, or with word that there is none."""

import pytest

from mailshed.mail import reply
from tests.support.front import Front, until


@pytest.mark.parametrize(
    ("begin", "data"),
    [(b"DATA\r\n", b"Hello.\r\n.\r\n"), (b"BDAT 8 LAST\r\n", b"Hello.\r\n")],
    ids=["data", "chunk"],
)
async def test_a_message_is_handed_over_and_its_place_is_given_up(
    begin: bytes, data: bytes
) -> None:
    async with Front() as front:
        peer = await front.in_transaction()
        await peer.send(begin + data)
        if begin == b"DATA\r\n":
            assert (await peer.reply())[:3] == b"354"
        assert (await peer.reply())[:3] == b"250"
        assert [each.data for each in front.handler.taken] == [b"Hello.\r\n"]
        assert front.handler.discarded_data == []
        assert front.session.envelope.reception is None
        assert front.session.is_idle


@pytest.mark.parametrize(
    ("begin", "data"),
    [(b"DATA\r\n", b"bare\n\r\n.\r\n"), (b"BDAT 5 LAST\r\n", b"bare\n")],
    ids=["data", "chunk"],
)
async def test_a_refusal_is_told_to_both_sides(begin: bytes, data: bytes) -> None:
    async with Front() as front:
        peer = await front.in_transaction()
        await peer.send(begin + data)
        if begin == b"DATA\r\n":
            await peer.reply()
        assert await peer.reply() == reply.BARE_LINE_ENDING.wire
        ((_, told),) = front.handler.discarded_data
        assert told is reply.BARE_LINE_ENDING
        assert front.session.is_idle


@pytest.mark.parametrize("begin", [b"DATA\r\n", b"BDAT 100\r\n"], ids=["data", "chunk"])
@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
async def test_a_client_that_leaves_ends_it_without_an_answer(begin: bytes, how: str) -> None:
    async with Front() as front:
        peer = await front.in_transaction()
        await peer.send(begin + b"not all of it")
        await until(lambda: front.session.envelope.reception is not None, "it has begun")
        getattr(peer, how)()
        await until(lambda: bool(front.handler.discarded_data), "the handler is told")
        ((_, told),) = front.handler.discarded_data
        assert told is None
        assert front.handler.store.memory.used == 0


@pytest.mark.parametrize("begin", [b"DATA\r\n", b"BDAT 100\r\n"], ids=["data", "chunk"])
async def test_a_client_that_falls_silent_is_told_so(begin: bytes) -> None:
    async with Front(data_timeout=0.05) as front:
        peer = await front.in_transaction()
        await peer.send(begin + b"not all of it")
        assert (await peer.rest()).endswith(reply.TIMED_OUT.wire)
        await until(lambda: bool(front.handler.discarded_data), "the handler is told")
        ((_, told),) = front.handler.discarded_data
        assert told is reply.TIMED_OUT


@pytest.mark.parametrize(
    "sent", [b"DATA\r\nx\r\n.\r\n", b"BDAT 3 LAST\r\nx\r\n"], ids=["data", "chunk"]
)
async def test_a_fault_of_ours_is_451(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with Front() as front:
        peer = await front.in_transaction()
        front.handler.answers.append(RuntimeError("a fault"))
        await peer.send(sent)
        assert (await peer.rest()).endswith(reply.INTERNAL.wire)
    assert "SMTP session failed" in caplog.text
