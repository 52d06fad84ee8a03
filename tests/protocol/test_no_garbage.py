"""A session that has ended is gone: it leaves no task, and nothing to the garbage collector.

Thousands of sessions may end in a second. Were their objects tied to one another, their memory
would be there until a look at everything, which is seldom while sessions are many (`garbage`).
"""

import asyncio
import gc
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mailshed.config.policy import ListenerPolicy, TlsMode
from tests.support.certificates import make_authority
from tests.support.front import Front, settle, until
from tests.support.tls import Pair, new_handshakes

CLIENTS = 5
ENVELOPE = b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@example.com>\r\nDATA\r\n"
SAID = {
    "nothing": b"",
    "half a command": b"NOO",
    "a greeting": b"EHLO x\r\n",
    "mail data": ENVELOPE + b"Sub",
    "a message": ENVELOPE + b"\r\nHi\r\n.\r\n",
    "errors": b"NONSENSE\r\nMAIL FROM:<a@\r\nRCPT TO:<b>\r\nDATA\r\n",
    "half a hello": b"\x16\x03\x01\x02",
    "no hello": b"EHLO x\r\n",
}
OVER_TLS = {"half a hello", "no hello"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_authority(tmp_path_factory.mktemp("authority")).issue()


@contextmanager
def collector_off() -> Iterator[None]:
    """From a clean state on, nothing is collected; at the end what it would have found is kept."""
    gc.collect()
    gc.disable()
    gc.garbage.clear()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
    finally:
        gc.set_debug(0)
        gc.enable()


def _is_ours(thing: object) -> bool:
    return type(thing).__module__.partition(".")[0] in {"mailshed", "_ssl", "ssl"}


async def come_and_go(front: Front, octets: bytes, *, is_reset: bool) -> None:
    """Connect, say it, and leave when the session is there."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", front.port))
        await until(lambda: bool(front.handler.open_sessions), "there is a session")
        if octets:
            await loop.sock_sendall(client, octets)
        await settle()
        if is_reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await until(lambda: not front.handler.open_sessions, "the session is over")
    await settle()


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("said", SAID)
async def test_a_session_that_has_ended_leaves_nothing(
    said: str, pair: Pair, *, is_reset: bool
) -> None:
    front = Front()
    if said in OVER_TLS:
        front.policy = ListenerPolicy(name="smtps", tls=TlsMode.IMPLICIT)
        front.handshakes = new_handshakes(pair)
    async with front:
        await come_and_go(front, SAID[said], is_reset=is_reset)  # what is made once is made
        tasks = len(asyncio.all_tasks())
        with collector_off():
            for _ in range(CLIENTS):
                await come_and_go(front, SAID[said], is_reset=is_reset)
            assert len(asyncio.all_tasks()) == tasks
            front.handler.sessions.clear()
            front.handler.taken.clear()
            gc.collect()
            # asyncio's own transports leave their callbacks; the service runs on uvloop.
            found = [type(each).__name__ for each in gc.garbage if _is_ours(each)]
            gc.garbage.clear()
    assert found == []
