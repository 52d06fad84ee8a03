"""Who is slow has a deadline for everything it can be slow with; and a shorter one under stress."""

import asyncio
import time
from typing import Any

import pytest

from mailshed.listener.deadlines import Phase
from mailshed.mail.reply import TIMED_OUT, TOO_MANY_ERRORS, TOO_SLOW
from tests.protocol.test_connection import make_small
from tests.support.front import Front, Peer, ScriptedHandler, is_full, until

STRANGER, CLINICAL = "127.0.0.1", "127.0.0.2"
HURRY = 0.3
"""Seconds of `stress_timeout` in these tests."""


def front_of(**limits: Any) -> Front:
    return Front(ScriptedHandler(clinical_hosts=(CLINICAL,)), **limits)


async def drip(peer: Peer, octets: bytes = b"N", pause: float = 0.01) -> None:
    """Send octets one by one until the connection breaks."""
    while True:
        try:
            await peer.send(octets)
        except ConnectionError:
            return
        await asyncio.sleep(pause)


async def ended(front: Front, peer: Peer) -> bytes:
    """Wait until the session has ended; what was said last."""
    await until(lambda: not front.handler.open_sessions, "the session has ended")
    return (await peer.rest())[-200:]


# Each phase.


async def test_a_command_line_that_drips_ends_however_long_commands_may_take() -> None:
    async with front_of(command_timeout=60.0, line_timeout=0.3) as front:
        peer = await front.peer()
        work = asyncio.get_running_loop().create_task(drip(peer))
        assert (await ended(front, peer)).endswith(TIMED_OUT.wire)
        assert front.handler.delays == [Phase.LINE]
        await work


async def test_so_does_one_that_is_too_long_already() -> None:
    async with front_of(command_timeout=60.0, line_timeout=0.3, errors_max=1000) as front:
        peer = await front.peer()
        await peer.send(b"x" * 3000)
        work = asyncio.get_running_loop().create_task(drip(peer))
        assert (await ended(front, peer)).endswith(TIMED_OUT.wire)
        await work


async def test_lines_that_end_in_time_may_follow_one_another_for_long() -> None:
    async with front_of(line_timeout=0.2) as front:
        peer = await front.peer()
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            await peer.send(b"NO")
            await asyncio.sleep(0.01)
            await peer.command("OP", 250)
        assert front.handler.delays == []


async def test_between_commands_there_is_more_time_than_within_one() -> None:
    async with front_of(command_timeout=60.0, line_timeout=0.1) as front:
        peer = await front.peer()
        await asyncio.sleep(0.3)
        await peer.command("NOOP", 250)


async def test_a_client_that_does_not_read_is_broken_off() -> None:
    """421 would wait behind what it does not read."""
    async with front_of(reply_timeout=0.3, errors_max=10**6) as front:
        peer = await front.peer(receive_buffer=2048)
        transport: Any = front.session.transport
        make_small(transport)  # or the kernel's own patience, which is as long, may end first
        blast = asyncio.get_running_loop().create_task(
            peer.send(200_000 * b"EHLO client.example.org\r\n")
        )
        await until(lambda: is_full(front.session), "our side of the connection is full")
        await until(lambda: not front.handler.open_sessions, "the session has ended")
        assert front.handler.delays == [Phase.REPLY]
        blast.cancel()
        await asyncio.gather(blast, return_exceptions=True)


async def test_a_client_that_reads_in_time_is_not() -> None:
    async with front_of(reply_timeout=0.5, errors_max=10**6) as front:
        peer = await front.peer(receive_buffer=2048)
        transport: Any = front.session.transport
        make_small(transport)
        commands = 2000 * b"EHLO c\r\n" + b"QUIT\r\n"
        blast = asyncio.get_running_loop().create_task(peer.send(commands))
        await until(lambda: is_full(front.session), "our side of the connection is full")
        await asyncio.sleep(0.2)
        assert (await peer.rest()).endswith(b"221 2.0.0 Bye\r\n")
        await blast
        assert front.handler.delays == []


async def test_a_session_without_mail_ends_however_busy_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mailshed.listener.conduct.IDLE_COMMANDS_MAX", 10**6)
    async with front_of(session_idle_max=0.4) as front:
        peer = await front.peer()
        work = asyncio.get_running_loop().create_task(drip(peer, b"NOOP\r\n"))
        assert (await ended(front, peer)).endswith(TIMED_OUT.wire)
        assert front.handler.delays == [Phase.NO_MAIL]
        await work


async def test_a_session_with_mail_goes_on() -> None:
    async with front_of(session_idle_max=0.4) as front:
        peer = await front.peer()
        await peer.greet()
        end = time.monotonic() + 0.8
        while time.monotonic() < end:
            await peer.send(b"MAIL FROM:<>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n")
            for _ in range(3):
                await peer.reply()
            await peer.send(b"x\r\n.\r\n")
            assert (await peer.reply())[:3] == b"250"
        assert front.handler.delays == []


# Stress.


@pytest.mark.parametrize("how", ["silent", "idle", "in a command", "in mail data", "dripping data"])
async def test_under_stress_slow_strangers_leave_and_clinical_clients_stay(how: str) -> None:
    """Also those who were there before it began."""
    limits: dict[str, Any] = {"data_rate_min": 100_000} if how == "dripping data" else {}
    async with front_of(sessions_max=10, stress_timeout=HURRY, **limits) as front:
        slow = await front.peer(host=STRANGER)
        if how == "idle":
            await slow.greet()
        elif how == "in a command":
            await slow.send(b"NO")
        elif "data" in how:
            await slow.send(b"HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n")
            for _ in range(4):
                await slow.reply()
        others = [await front.peer(host=CLINICAL) for _ in range(6)]
        assert not front.handler.caps.is_stressed
        others.append(await front.peer(host=CLINICAL))
        assert front.handler.caps.is_stressed
        work = None
        if how == "dripping data":
            work = asyncio.get_running_loop().create_task(drip(slow, b"x"))
        async with asyncio.timeout(10.0):
            said = await slow.rest()
        assert said in (TIMED_OUT.wire, TOO_SLOW.wire, b"")
        assert len(front.handler.delays) == 1
        await until(lambda: len(front.handler.open_sessions) == 7, "the session has ended")
        for other in others:
            await other.command("NOOP", 250)
        if work is not None:
            await work


async def test_under_stress_a_newcomer_has_little_time_and_few_errors() -> None:
    async with front_of(sessions_max=10, stress_timeout=HURRY, stress_errors_max=2) as front:
        _others = [await front.peer(host=CLINICAL) for _ in range(8)]
        clumsy = await front.peer(host=STRANGER)
        await clumsy.send(b"A\r\nB\r\nC\r\n")
        assert (await clumsy.rest()).endswith(b"recognized\r\n" + TOO_MANY_ERRORS.wire)
        silent = await front.peer(host=STRANGER)
        assert await silent.rest() == TIMED_OUT.wire
        assert front.handler.delays == [Phase.COMMAND]


async def test_a_quick_stranger_gets_its_mail_through_under_stress() -> None:
    async with front_of(sessions_max=10, stress_timeout=HURRY) as front:
        _others = [await front.peer(host=CLINICAL) for _ in range(8)]
        assert front.handler.caps.is_stressed
        peer = await front.in_data(host=STRANGER)
        await peer.send(b"Subject: x\r\n\r\nHello.\r\n.\r\n")
        assert (await peer.reply())[:3] == b"250"
        await peer.command("QUIT", 221)


async def test_when_it_is_over_everybody_has_time_again() -> None:
    async with front_of(sessions_max=10, stress_timeout=HURRY) as front:
        others = [await front.peer(host=CLINICAL) for _ in range(8)]
        assert front.handler.caps.is_stressed
        for other in others[:4]:
            await other.command("QUIT", 221)
        await until(lambda: not front.handler.caps.is_stressed, "the stress is over")
        patient = await front.peer(host=STRANGER)
        await asyncio.sleep(2 * HURRY)
        await patient.command("NOOP", 250)
        log = front.handler.log.getvalue()
        assert log.count("stress_began sessions=8 limit=10") == 1
        assert log.count("stress_ended") == 1


# Floods.


async def test_a_flood_from_one_address_keeps_no_clinical_client_waiting() -> None:
    """Refusals are cheap: who connects thousands of times in a row leaves the loop to others."""
    limits = {"sessions_per_address": 20, "connection_rate_max": 60, "sessions_max": 200}
    async with front_of(**limits) as front:
        is_flooding = True
        opened = 0

        async def flood() -> None:
            nonlocal opened
            while is_flooding:
                peer = Peer(front.port, host=STRANGER)
                try:
                    await peer.connect()
                    opened += 1
                finally:
                    peer.close()

        waits = []
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(flood())
            while opened < 500:
                began = time.monotonic()
                clinical = await front.peer(host=CLINICAL)
                waits.append(time.monotonic() - began)
                await clinical.command("QUIT", 221)
            is_flooding = False
        assert set(front.handler.refusals) <= {"address", "rate"}
        assert sorted(waits)[len(waits) // 2] < 1.0
        lines = front.handler.log.getvalue().splitlines()
        assert 1 <= len(lines) <= 4
