"""The order of system calls of the whole daemon: each `250 queued as` follows the sync of its mail.

kill -9 cannot show a missing fsync, since the kernel keeps what was written, and a power switch is
not at hand. The order of system calls is exact instead. The real daemon runs under strace with its
backend away, so all mail is spooled, while clients send at the same time; `sync_audit` says what
must be between the write of a message and the promise to its client.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fault import straces
from tests.fault.sync_audit import CALLS, PRINTED_OCTETS, PROMISE, audit
from tests.support.clients import Item, send_lock_step
from tests.support.daemon import Daemon
from tests.support.processes import free_port

CLIENTS = 8
MESSAGES = 8
"""For each client. Every fourth is large, and enters the spool in several commits."""
LARGE_OCTETS = 600_000


def _items(client: int) -> list[Item]:
    return [
        Item(
            sender="lab@clinical.example",
            recipient=f"m-{client}-{number}@hospital.example",
            wire=b"Subject: hello\r\n\r\n"
            + (b"y" * 76 + b"\r\n") * (LARGE_OCTETS // 78 if number % 4 == 3 else 10),
        )
        for number in range(MESSAGES)
    ]


def test_every_promise_of_the_daemon_follows_a_sync_of_the_messages_commit(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    wrapper = straces.command(trace, CALLS, "-s", str(PRINTED_OCTETS))
    with Daemon(folder=tmp_path / "mailshed", backend_port=free_port(), wrapper=wrapper) as daemon:
        with ThreadPoolExecutor(CLIENTS) as pool:
            sent = pool.map(
                lambda client: send_lock_step(daemon.port, _items(client)), range(CLIENTS)
            )
            replies = [reply for each in sent for reply in each]
        assert daemon.terminate() == 0
    found = audit(straces.read(trace))
    promised = {match[1] for reply in replies if (match := PROMISE.fullmatch(reply))}
    assert len(promised) == CLIENTS * MESSAGES, replies
    assert found.promises.keys() == promised
    assert {queue_id: each for queue_id, each in found.promises.items() if each != "kept"} == {}
    assert found.failures == 0
    shared = len(found.syncs) - len(set(found.syncs.values()))
    assert shared > 0, "no two messages shared a commit, so nothing is shown about that"


A, B = "06BKJ2M3N4P5Q6R7", "06BKJ2M3N4P5Q6R8"


def _row(queue_id: str) -> str:
    return f'7 pwrite64(9</s/spool.db-wal>, "\\1\\2{queue_id}bulk"..., 4096, 56) = 4096\n'


def _say(queue_id: str) -> str:
    return f'8 sendto(5<socket:[77]>, "250 2.0.0 Ok: queued as {queue_id}\\r\\n", 44) = 44\n'


SYNC = "7 fdatasync(9</s/spool.db-wal>) = 0\n"
BEGIN_SYNC = "7 fdatasync(9</s/spool.db-wal> <unfinished ...>\n"
FAILED_SYNC = SYNC.replace("= 0", "= -1 EIO (Input/output error)")
OPEN = '7 openat(AT_FDCWD, "/s/spool.db", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 9</s/spool.db>\n'
END_SYNC = "7 <... fdatasync resumed>) = 0\n"


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        (_row(A) + SYNC + _say(A), {A: "kept"}),
        (_row(A) + _row(B) + SYNC + _say(B) + _say(A), {A: "kept", B: "kept"}),
        # The next group is being written already when the reply of this one goes out.
        (_row(A) + SYNC + _row(B) + _say(A) + SYNC + _say(B), {A: "kept", B: "kept"}),
        (_row(A) + BEGIN_SYNC + END_SYNC + _say(A), {A: "kept"}),
        (_say(A) + _row(A) + SYNC, {A: "not written"}),
        (_row(B) + SYNC + _say(A), {A: "not written"}),
        (_row(A) + _say(A) + SYNC, {A: "not synced"}),
        (_row(A) + BEGIN_SYNC + _say(A) + END_SYNC, {A: "not synced"}),
        (BEGIN_SYNC + _row(A) + END_SYNC + _say(A), {A: "not synced"}),
        (_row(A) + FAILED_SYNC + _say(A), {A: "not synced"}),
        (FAILED_SYNC + _row(A) + SYNC + _say(A), {A: "not synced"}),
        (FAILED_SYNC.replace("-wal", "") + _row(A) + SYNC + _say(A), {A: "not synced"}),
        (FAILED_SYNC + OPEN + _row(A) + SYNC + _say(A), {A: "kept"}),
        # The second one proves nothing: the kernel may have dropped the pages after the first.
        (_row(A) + FAILED_SYNC + SYNC + _say(A), {A: "not synced"}),
        (_row(A) + SYNC.replace("-wal", "") + _say(A), {A: "not synced"}),
        (_row(A).replace("-wal", "") + SYNC + _say(A), {A: "not written"}),
    ],
)
def test_the_audit_itself_can_tell(trace: str, expected: dict[str, str]) -> None:
    assert audit(trace).promises == expected
