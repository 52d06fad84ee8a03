"""The work on a message belongs to nobody's connection; seen through the real handler and pipeline.

After the final dot the outcome is settled, whatever becomes of the session (RFC 1047); before our
own dot a client that has left ends the matter.
"""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from mailshed.errors import SpoolSick
from mailshed.listener import deadlines
from tests.support.builders import away, relay_policy
from tests.support.front import Front, Peer, settle, until
from tests.support.live_path import LivePath

MESSAGE = b"Subject: hello\r\n\r\nHello.\r\n.\r\n"


@pytest.fixture
def path(tmp_path: Path) -> LivePath:
    return LivePath(tmp_path)


async def at_the_backend(front: Front, path: LivePath) -> Peer:
    """Bring a message so far that the backend has our dot and has not answered."""
    path.backend.may_answer.clear()
    peer = await front.in_data()
    await peer.send(MESSAGE)
    await until(lambda: path.backend.in_transaction == 1, "the message is at the backend")
    return peer


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
async def test_a_client_that_leaves_after_our_dot_does_not_cancel_the_transaction(
    path: LivePath, how: str
) -> None:
    """The backend's answer is awaited and noted, or it would look as if nothing had been sent."""
    async with Front(path.handler) as front:
        peer = await at_the_backend(front, path)
        getattr(peer, how)()
        await settle(20)
        assert path.backend.in_transaction == 1
        path.backend.may_answer.set()
        await until(lambda: path.is_at_rest, "everything is given back")
    assert len(path.backend.taken) == 1
    assert "event=delivered" in path.log.getvalue()
    assert path.failures == []


async def test_a_session_that_is_cut_off_does_not_cancel_the_transaction(path: LivePath) -> None:
    """At a stop the deadline aborts connections; what is at the backend is settled all the same."""
    async with Front(path.handler) as front:
        await at_the_backend(front, path)
        (session,) = path.handler.open_sessions
        cast("asyncio.Transport", session.transport).abort()
        await until(lambda: not path.handler.open_sessions, "the session is gone")
        await settle(20)
        assert (path.backend.in_transaction, len(path.supervisor)) == (1, 1)
        path.backend.may_answer.set()
        await until(lambda: path.is_at_rest, "everything is given back")
    assert len(path.backend.taken) == 1


async def test_a_client_that_left_before_our_dot_gets_nothing_delivered(path: LivePath) -> None:
    """Nothing was promised; the client will send it again, and a second copy would be our doing."""
    path.backend.before_dot.clear()
    async with Front(path.handler) as front:
        peer = await front.peer()
        (session,) = path.handler.open_sessions
        await peer.send(
            b"HELO client.example.org\r\nMAIL FROM:<alice@example.org>\r\n"
            b"RCPT TO:<bob@example.net>\r\nDATA\r\n" + MESSAGE
        )
        peer.half_close()
        await until(lambda: session.is_client_gone, "the end of input is seen")
        path.backend.before_dot.set()
        rest = await peer.rest()
        await until(lambda: path.is_at_rest, "everything is given back")
    assert rest.count(b"\r\n") == 4, "greeted, sender, recipient, 354, and no word after the dot"
    assert rest.endswith(b"354 End data with <CR><LF>.<CR><LF>\r\n")
    assert (path.backend.taken, path.spool.added) == ([], [])
    assert "event=aborted" in path.log.getvalue()


async def test_a_pipelined_blast_with_quit_and_half_close_gets_all_replies(path: LivePath) -> None:
    """The library cancels such a session at the end of input; here it is finished."""
    transaction = (
        b"MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n" + MESSAGE
    )
    async with Front(path.handler) as front:
        peer = await front.peer()
        await peer.send(b"HELO client.example.org\r\n" + 3 * transaction + b"QUIT\r\n")
        peer.half_close()
        codes = [line[:3] for line in (await peer.rest()).splitlines()]
        await until(lambda: path.is_at_rest, "everything is given back")
    assert codes == [b"250", *3 * [b"250", b"250", b"354", b"250"], b"221"]
    assert len(path.backend.taken) == 3


async def test_the_reply_of_the_backend_waits_longer_than_any_timer(
    path: LivePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timer for commands rests while we work; RFC 5321, 4.5.3.2.6 gives the dot 10 minutes."""
    async with Front(path.handler, command_timeout=0.05, data_timeout=0.05) as front:
        peer = await at_the_backend(front, path)
        (session,) = path.handler.open_sessions
        armed: list[float] = []
        monkeypatch.setattr(deadlines, "PAUSE_LOOK", 0.05)
        call_at = session.loop.call_at

        def noted(when: float, callback: Any, *arguments: Any, **options: Any) -> Any:
            armed.append(when)
            return call_at(when, callback, *arguments, **options)

        monkeypatch.setattr(session.loop, "call_at", noted)
        await until(lambda: len(armed) > 3, "the timer has run out several times")
        assert await peer.is_silent()
        path.backend.may_answer.set()
        assert (await peer.reply()).startswith(b"250 ")


async def test_a_fault_of_ours_is_451_and_the_session_goes_on(path: LivePath) -> None:
    """Never 5xx, and no word of the exception (the library answers 500 with its text)."""
    path.backend.results.append(RuntimeError("secret detail"))
    async with Front(path.handler) as front:
        peer = await front.in_data()
        await peer.send(MESSAGE)
        assert await peer.reply() == b"451 4.3.0 Local error in processing, try again later\r\n"
        await peer.command("NOOP", 250)
        ((name, error),) = path.failures
        peer.close()
        await until(lambda: path.is_at_rest, "everything is given back")
    assert name.startswith("message ")
    assert str(error) == "secret detail"


async def test_a_sick_spool_behind_an_absent_backend_is_451(path: LivePath) -> None:
    """Neither of the two that could keep the message can: the client keeps it."""
    path.backend.results.append(away())
    path.spool.unhealthy = str(SpoolSick("disk I/O error"))
    async with Front(path.handler) as front:
        peer = await front.in_data()
        await peer.send(MESSAGE)
        assert (await peer.reply()).startswith(b"451 4.4.1 ")
        await peer.command("QUIT", 221)
        await until(lambda: path.is_at_rest, "everything is given back")


async def test_the_spool_takes_what_the_backend_cannot(path: LivePath) -> None:
    """250 after the commit, with the queue id that the log has too."""
    path.backend.results.append(away())
    async with Front(path.handler) as front:
        peer = await front.in_data()
        await peer.send(MESSAGE)
        reply = (await peer.reply()).decode()
        await peer.command("QUIT", 221)
        await until(lambda: path.is_at_rest, "everything is given back")
    (queue_id,) = path.spool.added
    assert reply == f"250 2.0.0 Ok: queued as {queue_id}\r\n"
    assert path.spool.raw_content(queue_id).endswith(b"Subject: hello\r\n\r\nHello.\r\n")
    assert queue_id in path.log.getvalue()


async def test_strangers_do_not_relay(tmp_path: Path) -> None:
    """A client outside the trusted networks sends to our domains and nowhere else."""
    path = LivePath(tmp_path, relay=relay_policy("example.net", trusted=()))
    async with Front(path.handler) as front:
        peer = await front.peer()
        await peer.greet()
        await peer.command("MAIL FROM:<alice@example.org>", 250)
        await peer.command("RCPT TO:<bob@example.com>", 554)
        await peer.command("RCPT TO:<bob%example.com@example.net>", 554)
        await peer.command("RCPT TO:<bob@example.net>", 250)


STAGES = {
    "after the greeting": b"",
    "after EHLO": b"EHLO client.example.org\r\n",
    "in a command": b"EHLO client.exa",
    "after RCPT": b"HELO c\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<bob@example.net>\r\n",
    "in data": b"HELO c\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\nhalf",
    "in large data": b"HELO c\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n"
    + 5000 * (100 * b"x" + b"\r\n"),
    "after the dot": b"HELO c\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n"
    + MESSAGE,
}


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("stage", STAGES)
async def test_a_dropped_connection_leaves_nothing_behind(
    path: LivePath, stage: str, how: str
) -> None:
    """No task, no open session, no slot, and the budgets are back at zero."""
    async with Front(path.handler) as front:
        before = asyncio.all_tasks()
        peers = [await front.peer() for _ in range(5)]
        for peer in peers:
            await peer.send(STAGES[stage])
        await settle()
        assert len(path.handler.open_sessions) == 5
        for peer in peers:
            getattr(peer, how)()
        await until(lambda: path.is_at_rest, "everything is given back")
        await until(lambda: asyncio.all_tasks() == before, "all tasks have ended")
    assert path.failures == []
