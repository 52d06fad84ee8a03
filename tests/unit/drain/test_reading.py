"""What the backend is sent is what was kept, and a slow disk keeps no slot."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mailshed.drain.reading import READ_AHEAD_OCTETS
from tests.support.builders import (
    CLINICAL,
    OK,
    WALL,
    spool_record,
    wire,
)
from tests.support.middle import Middle
from tests.support.virtual_time import in_virtual_time, until
from tests.support.watched_spool import WatchedSpool


class TestWhatIsSent:
    @in_virtual_time
    async def test_is_what_was_kept_and_may_go_to_some(self, middle: Middle) -> None:
        record = spool_record("a@example.net", "b@example.net", parameters=(b"BODY=8BITMIME",))
        await middle.keep(record, wire("kept"))
        async with middle.draining():
            await until(lambda: middle.backend.handed)
        (sent,) = middle.backend.asked
        assert sent.recipients == ((b"a@example.net", ()), (b"b@example.net", ()))
        assert (sent.reverse_path, sent.parameters) == (b"alice@example.org", (b"BODY=8BITMIME",))
        assert sent.partial_ok
        assert sent.deadline_wall is None
        assert sent.may_send_dot(), "nobody waits who could have left"
        assert middle.backend.handed[0].content == wire("kept")

    @in_virtual_time
    async def test_has_the_time_that_its_sender_has_set(self, middle: Middle) -> None:
        await middle.keep(spool_record(parameters=(b"BY=90;N",)))
        async with middle.draining():
            await until(lambda: middle.backend.handed)
        assert middle.backend.asked[0].deadline_wall == WALL + 90

    @pytest.mark.parametrize(
        "octets", [READ_AHEAD_OCTETS, READ_AHEAD_OCTETS + 1, 3 * READ_AHEAD_OCTETS]
    )
    @in_virtual_time
    async def test_is_streamed_if_it_is_large(self, middle: Middle, octets: int) -> None:
        data = bytes(n % 251 for n in range(octets - 2)) + b"\r\n"
        await middle.keep(spool_record(), data)
        async with middle.draining():
            await until(lambda: middle.backend.handed)
        (sent,) = middle.backend.asked
        assert (sent.in_memory is None) == (octets > READ_AHEAD_OCTETS)
        assert middle.backend.handed[0].content == data


class TestSlowDisk:
    @in_virtual_time
    async def test_a_read_that_hangs_keeps_no_slot(
        self, middle: Middle, spool: WatchedSpool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Live mail passes at once while the drain waits for its disk."""

        async def hang(_queue_id: str) -> AsyncIterator[bytes]:
            await asyncio.Event().wait()
            yield b""

        read = spool.content
        monkeypatch.setattr(spool, "content", hang)
        queue_id = await middle.keep(spool_record(names=CLINICAL))
        async with middle.draining():
            await asyncio.sleep(1.0)
            assert middle.gate.in_flight == 0
            assert await middle.submit() == OK
            monkeypatch.setattr(spool, "content", read)
            await until(lambda: queue_id not in spool, 60)
