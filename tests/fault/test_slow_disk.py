"""Story: every sync of the disk takes two seconds, and no promise is made a moment earlier.

strace makes fdatasync(2) of the real daemon return late, while its backend is away and several
clients send at a time. Commits are shared, or each message would cost its sender two seconds more
than the one before; the event loop is not what waits, so the daemon goes on answering others.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fault import straces
from tests.fault.sync_audit import CALLS, PRINTED_OCTETS, PROMISE, audit
from tests.support.clients import Item, send_lock_step
from tests.support.daemon import Daemon
from tests.support.processes import free_port

SYNC_SECONDS = 2
CLIENTS = 12
MESSAGES = 2
"""For each client."""
# Counted in the thread that writes. The first ones belong to the start, which is not the story.
WHEN = "25+"
# One after another they would take 48 s of syncs.
SHARED_SECONDS = 30.0


def _items(client: int) -> list[Item]:
    return [
        Item(
            sender="lab@clinical.example",
            recipient=f"m-{client}-{number}@hospital.example",
            wire=b"Subject: hello\r\n\r\n" + (b"y" * 76 + b"\r\n") * 10,
        )
        for number in range(MESSAGES)
    ]


def test_promises_wait_for_slow_syncs_and_share_them(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    wrapper = straces.command(
        trace,
        CALLS,
        *("-s", str(PRINTED_OCTETS)),
        *("-e", f"inject=fdatasync:delay_exit={SYNC_SECONDS * 1_000_000}:when={WHEN}"),
    )
    with Daemon(folder=tmp_path / "mailshed", backend_port=free_port(), wrapper=wrapper) as daemon:
        began = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool:
            sending = [
                pool.submit(send_lock_step, daemon.port, _items(client))
                for client in range(CLIENTS)
            ]
            answered = 0
            while not all(each.done() for each in sending):
                assert daemon.get("/healthz")[0] == 200
                answered += 1
            replies = [reply for each in sending for reply in each.result()]
        seconds = time.monotonic() - began
        late = daemon.metrics().total("event_loop_lag_seconds")
        assert daemon.terminate() == 0
    found = audit(straces.read(trace))
    promised = {match[1] for reply in replies if (match := PROMISE.fullmatch(reply))}
    assert len(promised) == CLIENTS * MESSAGES, replies
    assert {queue_id: each for queue_id, each in found.promises.items() if each != "kept"} == {}
    assert found.promises.keys() == promised
    assert SYNC_SECONDS <= seconds <= SHARED_SECONDS
    assert late < SYNC_SECONDS, "the event loop waited for the disk"
    assert answered > 10
