"""A storm of TLS handshakes: the clinical client is served, and the event loop goes on turning.

A handshake costs a server a millisecond or two of arithmetic, in which the loop stands still, and
the client next to nothing. So their number at a time is bounded, and of those places one network
cannot have all (`Handshakes`). Here strangers begin as many as they can, whole ones and ones that
they leave in the middle.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop

from mailshed.config.policy import ListenerPolicy, TlsMode
from mailshed.listener.handshakes import Handshakes
from tests.support.certificates import make_authority
from tests.support.front import DEADLINE, Front, ScriptedHandler
from tests.support.intensity import TIMES
from tests.support.tls import TlsPeer, client_context, new_handshakes

STRANGER, CLINICAL = "127.0.0.1", "127.0.0.2"
CONNECTIONS = 200 * TIMES
AT_ONCE = 40
OF_NETWORK = 8
LAG_P99, LAG_MAX = 0.05, 0.5
"""Seconds of its own work that a turn of the server's loop may take."""


async def storm(port: int, context: ssl.SSLContext) -> None:
    """All strangers: a handshake each, or the half of one."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with turn, asyncio.timeout(DEADLINE):
            peer = TlsPeer(port, host=STRANGER)
            with suppress(OSError, ssl.SSLError):
                await peer.connect()
                if number % 3:
                    await peer.begin_tls(context)
                else:
                    await peer.send_in_clear(b"\x16\x03\x01\x02\x00\x01")
            peer.reset()

    async with asyncio.TaskGroup() as strangers:
        for number in range(CONNECTIONS):
            strangers.create_task(one(number))


async def clinical(front: Front, context: ssl.SSLContext) -> float:
    """Send a message from the first octet on; the seconds it took."""
    began = asyncio.get_running_loop().time()
    peer = TlsPeer(front.port, host=CLINICAL)
    front.on_exit(peer.close)
    await peer.connect()
    await peer.begin_tls(context)
    assert (await peer.reply()).startswith(b"220 ")
    await peer.greet()
    await peer.command("MAIL FROM:<lab@example.org>", 250)
    await peer.command("RCPT TO:<bob@example.net>", 250)
    await peer.command("DATA", 354)
    await peer.send(b"Subject: potassium\r\n\r\n6.9\r\n.\r\n")
    assert (await peer.reply()).startswith(b"250 ")
    return asyncio.get_running_loop().time() - began


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_in_a_storm_of_handshakes_clinical_mail_gets_through(
    new_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    authority = make_authority(tmp_path)
    pair, context = authority.issue(), client_context(authority)
    lags: list[float] = []
    busy: set[int] = set()

    async def watch(door: Handshakes) -> None:
        while True:
            busy.add(door._open.total)
            before = time.thread_time()
            await asyncio.sleep(0)
            lags.append(time.thread_time() - before)

    async def story() -> list[float]:
        front = Front(ScriptedHandler(clinical_hosts=(CLINICAL,)), sessions_max=10_000)
        front.policy = ListenerPolicy(name="smtps", tls=TlsMode.IMPLICIT)
        front.handshakes = new_handshakes(
            pair,
            is_clinical=lambda client: client.address_text == CLINICAL,
            handshakes_max=16,
            handshakes_per_network=OF_NETWORK,
        )
        took: list[float] = []
        async with front, asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch(front.handshakes))
            # In a thread with a loop of its own: its arithmetic is not ours.
            strangers = tasks.create_task(
                asyncio.to_thread(asyncio.run, storm(front.port, context))
            )
            while not (strangers.done() and took):
                took.append(await clinical(front, context))
            watching.cancel()
        assert len(front.handler.taken) == len(took)
        return took

    with asyncio.Runner(loop_factory=new_loop) as runner:
        took = runner.run(story())
    lags.sort()
    assert max(took) < 5.0
    assert OF_NETWORK <= max(busy) <= OF_NETWORK + 1, "the strangers' places, and the clinical one"
    assert lags[int(0.99 * len(lags))] < LAG_P99
    assert lags[-1] < LAG_MAX
