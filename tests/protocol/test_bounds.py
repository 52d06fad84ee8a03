"""Everything a client can make grow has a bound, and memory stays where it was."""

import asyncio
import gc
import tracemalloc
import weakref
from pathlib import Path
from typing import cast

import pytest

from mailshed.listener import conduct, transaction
from mailshed.listener.reader import BUFFER_LIMIT
from tests.support.builders import content_store
from tests.support.front import Front, Peer, ScriptedHandler, is_full, settle, until

MIB = 1 << 20
# One event of a transport, and what the reader holds before it pauses.
BUFFERED_MAX = 256 * 1024 + 2 * BUFFER_LIMIT


async def flood(peer: Peer, block: bytes, times: int) -> int:
    """Send `block` so many times or until the server has enough; return the octets that went."""
    sent = 0
    try:
        for _ in range(times):
            await peer.send(block)
            sent += len(block)
    except ConnectionError:
        pass
    return sent


# Lines.


async def test_an_endless_command_line_ends_the_session() -> None:
    """Nothing of it is kept, and the session ends long before the client does."""
    async with Front() as front:
        peer = await front.peer()
        tracemalloc.start()
        try:
            sent = await flood(peer, 64 * 1024 * b"x", 1000)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert sent < 1000 * 64 * 1024
        assert peak < 2 * MIB
        await until(lambda: not front.handler.open_sessions, "the session has ended")
        assert front.handler.replies[-1] == ("other", 421)


async def test_a_long_command_line_is_refused_once_and_whole() -> None:
    """However it is cut, it is one line with one reply, and the next command is the next line."""
    line = 10_000 * b"x" + b"\r\n"
    async with Front(errors_max=100) as front:
        peer = await front.peer()
        for cuts in ((), (1,), (3000,), (3000, 6000, 9000), (10_001,), (2048, 2049, 2050)):
            await peer.send(line + b"NOOP\r\n", cuts=cuts)
            assert await peer.reply() == b"500 5.5.2 Command line too long\r\n"
            assert await peer.reply() == b"250 2.0.0 Ok\r\n"


async def test_long_lines_that_end_count_as_errors() -> None:
    async with Front(errors_max=3) as front:
        peer = await front.peer()
        await peer.send(5 * (5000 * b"x" + b"\r\n"))
        rest = await peer.rest()
        assert rest.splitlines() == [
            *3 * [b"500 5.5.2 Command line too long"],
            b"421 4.7.0 Too many errors, closing connection",
        ]


async def test_an_endless_line_in_mail_data_is_only_a_large_message(tmp_path: Path) -> None:
    """Lines are never put together, so their length costs nothing; the size limit counts."""
    handler = ScriptedHandler(store=content_store(tmp_path), is_keeping=False)
    async with Front(handler, message_size_max=8 * MIB) as front:
        peer = await front.in_data()
        tracemalloc.start()
        try:
            sent = await flood(peer, 64 * 1024 * b"x", 16 * 4 + 8)
            await peer.send(b"\r\n.\r\n")
            assert (await peer.reply())[:3] == b"250"
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert handler.octets == sent + 2
        assert peak < 3 * MIB


# Sizes.


async def test_a_message_over_the_limit_is_read_to_its_end_and_refused(tmp_path: Path) -> None:
    """A client that is sending does not listen; the session goes on after the 552."""
    store = content_store(tmp_path)
    async with Front(ScriptedHandler(store=store), message_size_max=MIB) as front:
        peer = await front.in_data()
        await peer.send(MIB * b"x" + b"\r\n.\r\n")
        assert await peer.reply() == b"552 5.3.4 Message size exceeds the limit\r\n"
        assert (store.memory.used, store.disk.used) == (0, 0)
        await peer.send(b"MAIL FROM:<>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n")
        assert [(await peer.reply())[:3] for _ in range(3)] == [b"250", b"250", b"354"]
        await peer.send((MIB - 2) * b"x" + b"\r\n.\r\n")
        assert (await peer.reply())[:3] == b"250"
        assert [len(each.data) for each in front.handler.taken] == [MIB], "the limit itself fits"


async def test_room_is_given_back_as_soon_as_a_message_is_refused(tmp_path: Path) -> None:
    """Not only when a slow client has sent the rest of it."""
    store = content_store(tmp_path)
    async with Front(ScriptedHandler(store=store), message_size_max=MIB) as front:
        peer = await front.in_data()
        await peer.send(MIB // 2 * b"x")
        await until(lambda: store.disk.used > 0, "half of it is held")
        await peer.send(b"a bare line feed\n")
        await until(lambda: (store.memory.used, store.disk.used) == (0, 0), "nothing is held")
        await peer.send(MIB // 4 * b"x" + b"\r\n.\r\n")
        assert (await peer.reply())[:3] == b"550"


async def test_mail_data_far_beyond_the_limit_ends_the_session(tmp_path: Path) -> None:
    """Twice the limit is read for the sake of the 552, and not more."""
    store = content_store(tmp_path)
    async with Front(ScriptedHandler(store=store), message_size_max=MIB) as front:
        peer = await front.in_data()
        block = 64 * 1024 * b"y"
        sent = await flood(peer, block, 16 * 64)
        assert sent < 64 * MIB
        await until(lambda: not front.handler.open_sessions, "the session has ended")
        assert front.handler.replies[-1] == ("other", 552)
        assert (store.memory.used, store.disk.used) == (0, 0)
        assert front.handler.taken == []


async def test_25_mib_pass_in_bounded_memory(tmp_path: Path) -> None:
    """Beyond its share of memory a message is in a file; the library held it four times over."""
    store = content_store(tmp_path, disk=64 * MIB, memory_per_message=256 * 1024)
    handler = ScriptedHandler(store=store, is_keeping=False)
    line = 998 * b"x" + b"\r\n"
    block = 66 * line
    async with Front(handler, message_size_max=50 * MIB) as front:
        peer = await front.in_data()
        blocks = 25 * MIB // len(block) + 1
        tracemalloc.start()
        try:
            for _ in range(blocks):
                await peer.send(block)
            await peer.send(b".\r\n")
            assert (await peer.reply())[:3] == b"250"
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert handler.octets == blocks * len(block)
        assert store.memory.peak <= 256 * 1024
        assert peak < 4 * MIB
        assert (store.memory.used, store.disk.used) == (0, 0)


async def test_without_room_for_mail_data_the_message_is_452(tmp_path: Path) -> None:
    """It is read to its end all the same, and the client keeps it."""
    store = content_store(tmp_path, memory=1000, disk=10_000, memory_per_message=1000)
    async with Front(ScriptedHandler(store=store)) as front:
        peer = await front.in_data()
        await peer.send(50_000 * b"x" + b"\r\n.\r\n")
        assert (await peer.reply()).startswith(b"452 4.3.1 ")
        assert (store.memory.used, store.disk.used) == (0, 0)
        await peer.command("NOOP", 250)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("sent", [b"", b"QUIT\r\n", b"HELO c\r\nHALF A LINE" + 2000 * b"x"])
async def test_a_session_that_ended_is_freed_with_its_buffers(sent: bytes, how: str) -> None:
    """At once, and not when the garbage collector next looks at old objects."""
    async with Front() as front:
        peer = await front.peer()
        session = weakref.ref(front.session)
        front.handler.sessions.clear()
        await peer.send(sent)
        await settle()
        gc.disable()
        try:
            getattr(peer, how)()
            await until(lambda: not front.handler.open_sessions, "the session has ended")
            await until(lambda: session() is None, "the session is freed")
        finally:
            gc.enable()


# Replies that nobody reads.


async def test_a_client_that_reads_no_replies_cannot_make_us_hold_them() -> None:
    """When it stops reading, so do we; what waits on our side is a few hundred kilobytes."""
    async with Front(errors_max=10**9) as front:
        peer = await front.peer(receive_buffer=4096)
        blast = asyncio.get_running_loop().create_task(
            flood(peer, 1000 * b"EHLO client.example.org\r\n", 10_000)
        )
        session = front.session
        await until(lambda: is_full(session), "our side of the connection is full")
        answered = len(front.handler.replies)
        held = sum(map(len, session._out))
        waiting = cast("asyncio.WriteTransport", session.transport).get_write_buffer_size()
        assert session.reader.buffered <= BUFFERED_MAX
        assert held + waiting <= 256 * 1024
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(front.handler.replies) == answered, "nothing more is answered"
        assert not blast.done()
        blast.cancel()
        await asyncio.gather(blast, return_exceptions=True)


# Counts.


async def test_recipients_without_end_end_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """452 is for lists that are too long; a hundred thousand recipients are something else."""
    monkeypatch.setattr(transaction, "RECIPIENT_EXCESS_MAX", 50)
    async with Front(recipients_max=10, errors_max=5) as front:
        peer = await front.in_transaction()
        await flood(peer, 20 * b"RCPT TO:<bob@example.net>\r\n", 50)
        await until(lambda: not front.handler.open_sessions, "the session has ended")
        codes = [code for verb, code in front.handler.replies if verb == "rcpt"]
        assert (codes.count(250), codes.count(452)) == (10, 55)
        assert front.handler.replies[-1] == ("other", 421)


async def test_the_excess_of_recipients_is_counted_per_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transaction, "RECIPIENT_EXCESS_MAX", 3)
    async with Front(recipients_max=1, errors_max=2) as front:
        peer = await front.peer()
        await peer.greet()
        for _ in range(4):
            await peer.send(b"MAIL FROM:<>\r\n" + 4 * b"RCPT TO:<bob@example.net>\r\n")
            assert [(await peer.reply())[:3] for _ in range(5)] == [b"250", b"250", *3 * [b"452"]]
            await peer.command("RSET", 250)


@pytest.mark.parametrize("command", [b"NOOP", b"RSET", b"VRFY bob", b"EHLO c", b"HELO c"])
async def test_commands_that_lead_nowhere_are_bounded(command: bytes) -> None:
    """Otherwise a NOOP every few minutes would hold a session for ever."""
    async with Front(errors_max=20) as front:
        peer = await front.peer()
        await flood(peer, 10 * (command + b"\r\n"), 100)
        await until(lambda: not front.handler.open_sessions, "the session has ended")
        answered = len(front.handler.replies) - 2
        assert answered == conduct.IDLE_COMMANDS_MAX + 20
        assert front.handler.replies[-1] == ("other", 421)


async def test_a_message_makes_up_for_commands_that_led_nowhere() -> None:
    """A client that keeps its connection open with NOOP and uses it is welcome."""
    async with Front(errors_max=1) as front:
        peer = await front.peer()
        await peer.command("HELO client.example.org", 250)
        for _ in range(3):
            await peer.send((conduct.IDLE_COMMANDS_MAX - 1) * b"NOOP\r\n")
            for _ in range(conduct.IDLE_COMMANDS_MAX - 1):
                assert await peer.reply() == b"250 2.0.0 Ok\r\n"
            await peer.send(b"MAIL FROM:<>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n.\r\n")
            codes = [(await peer.reply())[:3] for _ in range(4)]
            assert codes == [b"250", b"250", b"354", b"250"]


async def test_sessions_over_the_limit_get_421_and_their_place_is_free_again() -> None:
    """The limit counts open sessions; one that ends makes room for another."""
    async with Front(sessions_max=2) as front:
        one, two = await front.peer(), await front.peer()
        third = await front.peer(greeted=False)
        assert await third.rest() == b"421 4.3.2 Too many connections, try again later\r\n"
        assert front.handler.refusals == ["total"]
        await one.command("QUIT", 221)
        await until(lambda: len(front.handler.open_sessions) == 1, "the session has ended")
        await front.peer()
        await two.command("NOOP", 250)
        assert front.handler.refusals == ["total"]


async def test_many_connections_at_once_do_not_pass_the_limit() -> None:
    """They are accepted in one turn of the event loop, before any of them has begun."""
    async with Front(sessions_max=5) as front:
        peers = [Peer(front.port) for _ in range(30)]
        for peer in peers:
            await peer.connect()
        greetings = [(await peer.line())[:3] for peer in peers]
        assert sorted(greetings) == [b"220"] * 5 + [b"421"] * 25
        for peer in peers:
            peer.close()


# Sessions held in reserve.

COMMON, CLINICAL = "127.0.0.1", "127.0.0.2"
BUSY = b"421 4.3.2 Too many connections, try again later\r\n"


def clinical_front(sessions_max: int) -> Front:
    return Front(ScriptedHandler(clinical_hosts=(CLINICAL,)), sessions_max=sessions_max)


async def test_whoever_fills_the_sessions_leaves_some_for_clinical_networks() -> None:
    """5 % of them; and at the limit itself nobody is let in any more."""
    async with clinical_front(40) as front:
        common = [await front.peer(host=COMMON) for _ in range(38)]
        assert await (await front.peer(host=COMMON, greeted=False)).rest() == BUSY
        clinical = [await front.peer(host=CLINICAL) for _ in range(2)]
        await clinical[0].command("NOOP", 250)
        assert await (await front.peer(host=CLINICAL, greeted=False)).rest() == BUSY
        assert front.handler.refusals == ["total", "total"]
        await common[0].command("QUIT", 221)
        await until(lambda: len(front.handler.open_sessions) == 39, "a session has ended")
        assert await (await front.peer(host=COMMON, greeted=False)).rest() == BUSY
        await front.peer(host=CLINICAL)


async def test_a_burst_of_others_in_one_turn_of_the_loop_leaves_the_reserve_alone() -> None:
    """They are accepted together, and none of them takes a place before its address is known."""
    async with clinical_front(20) as front:
        burst = [Peer(front.port, host=COMMON) for _ in range(60)]
        burst.append(Peer(front.port, host=CLINICAL))
        for peer in burst:
            await peer.connect()
        greetings = [(await peer.line())[:3] for peer in burst]
        assert sorted(greetings[:-1]) == [b"220"] * 19 + [b"421"] * 41
        assert greetings[-1] == b"220"
        assert len(front.handler.refusals) == 41
        for peer in burst:
            peer.close()


# Envelopes.


async def test_recipients_with_long_parameters_do_not_hold_megabytes() -> None:
    """The client hears what it hears of too many recipients, and sends to those accepted."""
    orcpt = b" ORCPT=rfc822;" + 480 * b"x"
    async with Front(recipients_max=1000) as front:
        peer = await front.in_transaction()
        await peer.send(b"".join(b"RCPT TO:<b@c.example>%b\r\n" % orcpt for _ in range(1000)))
        codes = [(await peer.reply())[:3] for _ in range(1000)]
        accepted = codes.count(b"250")
        assert codes == accepted * [b"250"] + (1000 - accepted) * [b"452"]
        pending = front.session.envelope
        held = sum(sum(map(len, each.parameters)) for each in pending.recipients)
        assert 240 * 1024 < held < 256 * 1024
        await peer.command("DATA", 354)
        await peer.send(b".\r\n")
        assert (await peer.reply())[:3] == b"250"
        assert len(front.handler.taken[0].recipients) == accepted + 1
