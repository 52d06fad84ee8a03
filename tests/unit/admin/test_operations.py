"""The operations thread answers while the main loop does not, and shares its addresses with nobody.

The tests speak plain HTTP through `http.client`, from threads of their own where the main loop is
kept busy on purpose.
"""

import asyncio
import contextlib
import errno
import http.client
import json
import os
import re
import socket
import stat
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from mailshed.admin.audit import AuditLog
from mailshed.admin.operations import OperationsThread
from mailshed.admin.service import Commands
from mailshed.clock import SystemClock
from mailshed.errors import ConfigError, StartError
from mailshed.metrics import Metrics, SnapshotCollector, SnapshotHolder, new_registry
from mailshed.spool.store import AmendResult
from mailshed.terms import QueueAction, QueueId
from tests.support.snapshots import busy_snapshot
from tests.unit.admin.conftest import make_keeper

AGE = "mailshed_snapshot_age_seconds "


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(
    connection: http.client.HTTPConnection, path: str, method: str = "GET", body: str | None = None
) -> tuple[int, str]:
    with contextlib.closing(connection):
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read().decode()


class World:
    """What the thread serves."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "admin.sock"
        self.holder = SnapshotHolder()
        self.clock = SystemClock()
        self.holder.swap(busy_snapshot(made_at=self.clock.monotonic()))
        self.registry = new_registry()
        self.registry.register(SnapshotCollector(self.holder, self.clock.monotonic))
        self.metrics = Metrics(self.registry)
        self.failures: list[tuple[str, BaseException]] = []
        self.reload_fault: Exception | None = None
        self.amended: list[tuple[QueueAction, list[QueueId], str]] = []

    async def reload(self) -> str:
        if self.reload_fault is not None:
            raise self.reload_fault
        return f"reloaded on {threading.current_thread().name}"

    async def amend(self, action: QueueAction, ids: Sequence[QueueId]) -> AmendResult:
        self.amended.append((action, list(ids), threading.current_thread().name))
        return AmendResult(changed=len(ids))

    async def adopt_surge(self, *_: str) -> dict[str, float]:
        return {threading.current_thread().name: 2.0}

    def thread(self, port: int = 0) -> OperationsThread:
        return OperationsThread(
            host="127.0.0.1",
            port=port,
            admin_socket=self.socket,
            metrics=self.metrics,
            holder=self.holder,
            commands=Commands(
                list_messages=lambda wanted, limit: [
                    {
                        "class": wanted.classes,
                        "limit": limit,
                        "thread": threading.current_thread().name,
                    }
                ],
                count_messages=lambda _: [],
                show_messages=lambda ids, *, with_headers: [{"id": ids, "headers": with_headers}],
                find_ids=lambda wanted, limit: list(wanted.ids[:limit]),
                amend=self.amend,
                audit=AuditLog(self.socket.parent),
                announce=lambda **_: None,
                explain=lambda queue_id: {"queue_id": queue_id},
                reload=self.reload,
                adopt_surge=self.adopt_surge,
                overrides=make_keeper(self.socket.parent, self.clock),
            ),
            on_failure=lambda name, error: self.failures.append((name, error)),
        )

    def get(self, path: str, method: str = "GET") -> tuple[int, Any]:
        status, text = ask(UnixConnection(self.socket), path, method)
        return status, json.loads(text)

    def post(self, path: str, document: Any) -> tuple[int, Any]:
        connection = UnixConnection(self.socket)
        status, text = ask(connection, path, "POST", json.dumps(document))
        return status, json.loads(text)


@pytest.fixture
def world() -> Iterator[World]:
    """In a folder with a short name, since a socket's path has 107 octets."""
    with tempfile.TemporaryDirectory(prefix="ms-") as name:
        yield World(Path(name))


@pytest.fixture
async def operations(world: World) -> AsyncIterator[OperationsThread]:
    thread = world.thread()
    thread.start()
    yield thread
    assert await asyncio.to_thread(thread.stop)
    assert world.failures == []


async def test_serves_port_and_socket(world: World, operations: OperationsThread) -> None:
    port = http.client.HTTPConnection("127.0.0.1", operations.port, timeout=30)
    status, page = await asyncio.to_thread(ask, port, "/metrics")
    assert status == 200
    assert "mailshed_snapshot_age_seconds" in page
    status, document = await asyncio.to_thread(world.get, "/v1/status")
    assert status == 200
    assert document["schema"] == "mailshed.status/1"


async def test_answers_while_the_main_loop_is_blocked(
    world: World, operations: OperationsThread
) -> None:
    """Each answer comes within a second, and tells that the snapshot is growing old."""
    answers: list[tuple[float, float, float]] = []
    blocked = threading.Event()

    def scrape() -> None:
        blocked.wait(20)
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            begun = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", operations.port, timeout=30)
            status, page = ask(connection, "/metrics")
            assert status == 200
            line = next(line for line in page.splitlines() if line.startswith(AGE))
            _, document = world.get("/v1/status")
            took = time.monotonic() - begun
            answers.append((float(line.split()[1]), document["snapshot_age_seconds"], took))
            time.sleep(0.1)

    thread = threading.Thread(target=scrape)
    thread.start()
    blocked.set()
    time.sleep(2.0)  # noqa: ASYNC251 - the fault under test
    await asyncio.to_thread(thread.join)
    assert len(answers) >= 3
    assert all(took < 1.0 for _, _, took in answers)
    scraped = [age for age, _, _ in answers]
    assert scraped == sorted(scraped)
    assert scraped[-1] - scraped[0] > 0.5
    assert all(document >= age - 0.01 for age, document, _ in answers)


async def test_reload_runs_on_the_main_loop(world: World, operations: OperationsThread) -> None:
    status, document = await asyncio.to_thread(world.get, "/v1/reload", "POST")
    assert (status, document["result"]) == (200, f"reloaded on {threading.main_thread().name}")


async def test_a_refused_reload_carries_its_text(
    world: World, operations: OperationsThread
) -> None:
    world.reload_fault = ConfigError("f.yaml:3:1: unknown key")
    answer = await asyncio.to_thread(world.get, "/v1/reload", "POST")
    assert answer == (422, {"error": "f.yaml:3:1: unknown key"})


async def test_the_spool_is_read_in_a_thread_of_its_own(
    world: World, operations: OperationsThread
) -> None:
    _, document = await asyncio.to_thread(world.get, "/v1/queue?class=bulk")
    assert document["messages"][0]["class"] == ["bulk"]
    assert document["messages"][0]["thread"].startswith("mailshed-queue-reader")


async def test_the_queue_is_changed_on_the_main_loop(
    world: World, operations: OperationsThread
) -> None:
    ids = [QueueId(f"{number:016}") for number in range(3)]
    request = {"filter": {"id": ids}, "reason": "a test"}
    answer = await asyncio.to_thread(world.post, "/v1/queue/hold", request)
    assert (answer[0], answer[1]["changed"]) == (200, 3)
    assert world.amended == [(QueueAction.HOLD, ids, threading.main_thread().name)]


async def test_the_longest_filter_fits_a_request(
    world: World, operations: OperationsThread
) -> None:
    """As the command line writes it: a thousand ids, each a parameter of its own."""
    ids = [f"{number:016}" for number in range(1000)]
    query = urlencode({"id": ids, "from": "@" + "%" * 3000 + ".example"}, doseq=True)
    status, document = await asyncio.to_thread(world.get, f"/v1/queue?{query}")
    assert status == 400
    assert "expected an address" in document["error"]
    query = urlencode({"id": ids, "limit": 1000}, doseq=True)
    assert (await asyncio.to_thread(world.get, f"/v1/queue?{query}"))[0] == 200
    request = {"filter": {"id": ids}, "reason": "é" * 500, "to": "é" * 4000}
    assert (await asyncio.to_thread(world.post, "/v1/queue/export", request))[0] == 200


async def test_the_socket_is_for_owner_and_group_only(
    world: World, operations: OperationsThread
) -> None:
    mode = world.socket.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660
    assert list(world.socket.parent.iterdir()) == [world.socket]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
async def test_another_user_is_refused_even_with_the_file_open(
    world: World, operations: OperationsThread
) -> None:
    """If somebody loosens the mode of the file, the kernel's word still counts."""
    world.socket.chmod(0o666)
    world.socket.parent.chmod(0o755)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 99
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            status = ask(UnixConnection(world.socket), "/v1/status")[0] // 100 * 10 + 3
        finally:
            os.write(writer, str(status).encode())
            os._exit(0)
    os.close(writer)
    answer = await asyncio.to_thread(os.read, reader, 10)
    os.close(reader)
    await asyncio.to_thread(os.waitpid, child, 0)
    assert answer == b"43"


async def test_stop_closes_the_port_and_removes_the_socket(world: World) -> None:
    operations = world.thread()
    operations.start()
    assert await asyncio.to_thread(operations.stop)
    assert not world.socket.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", operations.port), timeout=5)
    assert operations.stop(), "stopping twice is harmless"
    again = world.thread(port=operations.port)
    again.start()
    assert await asyncio.to_thread(again.stop)


def test_stop_without_start_is_harmless(world: World) -> None:
    assert world.thread().stop()


async def test_stop_leaves_a_socket_that_is_not_ours(world: World) -> None:
    operations = world.thread()
    operations.start()
    world.socket.unlink()
    world.socket.write_text("somebody else's")
    assert await asyncio.to_thread(operations.stop)
    assert world.socket.read_text() == "somebody else's"


async def test_a_taken_port_stops_the_start_and_says_what_to_do(
    world: World, operations: OperationsThread
) -> None:
    with tempfile.TemporaryDirectory(prefix="ms-") as name:
        other = World(Path(name))
        with pytest.raises(StartError) as caught:
            other.thread(port=operations.port).start()
        assert not other.socket.exists()
    text = str(caught.value)
    assert f"metrics port 127.0.0.1:{operations.port} is taken" in text
    assert "metrics.bind" in text


async def test_a_living_socket_is_not_replaced(world: World, operations: OperationsThread) -> None:
    with pytest.raises(StartError, match="another mailshed runs here"):
        world.thread().start()
    status, _ = await asyncio.to_thread(world.get, "/v1/status")
    assert status == 200, "the first one goes on"


async def test_the_socket_of_a_dead_process_is_replaced(world: World) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(world.socket))
        dead.listen()
    operations = world.thread()
    operations.start()
    status, _ = await asyncio.to_thread(world.get, "/v1/status")
    assert status == 200
    assert await asyncio.to_thread(operations.stop)


@pytest.mark.parametrize("kind", ["file", "folder", "link to a file"])
async def test_nothing_but_a_socket_is_ever_replaced(world: World, kind: str) -> None:
    precious = world.socket.with_name("precious")
    precious.write_text("precious")
    match kind:
        case "file":
            world.socket.write_text("precious")
        case "folder":
            world.socket.mkdir()
        case _:
            world.socket.symlink_to(precious)
    with pytest.raises(StartError, match="something that is not a socket is there"):
        world.thread().start()
    assert world.socket.is_dir() or world.socket.read_text() == "precious"


async def test_a_path_that_is_too_long_says_so(world: World) -> None:
    world.socket = world.socket.with_name("x" * 120)
    with pytest.raises(StartError, match=r"set admin\.socket to a short path"):
        world.thread().start()


async def test_a_command_after_the_main_loop_has_ended_is_503(world: World) -> None:
    """The thread may outlive the loop that started it for a moment."""
    operations = world.thread()

    async def start() -> None:
        operations.start()

    loop = asyncio.new_event_loop()
    starter = threading.Thread(target=loop.run_until_complete, args=(start(),))
    starter.start()
    starter.join()
    loop.close()
    status, _ = await asyncio.to_thread(world.get, "/v1/reload", "POST")
    assert status == 503
    assert await asyncio.to_thread(operations.stop)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EADDRINUSE, "`ss -ltnp` names it"),
        (errno.EADDRNOTAVAIL, "`ip addr` lists them"),
        (errno.EACCES, "needs root or CAP_NET_BIND_SERVICE"),
        (errno.EIO, "see metrics.bind"),
    ],
)
async def test_a_port_that_cannot_be_had_is_advised_on_by_its_cause(
    world: World, number: int, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "what the kernel says")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(StartError, match=re.escape(advice)):
        world.thread().start()
