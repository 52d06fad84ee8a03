"""What the service manager is told, and that it can never hurt to tell it."""

import os
import socket
import tempfile
from collections.abc import Callable, Iterator

import pytest

from mailshed.systemd import Notifier


class Manager:
    """The manager's end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self._socket.setblocking(False)

    def received(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[Manager]:
    with tempfile.TemporaryDirectory(prefix="ms-") as name:
        address = f"{name}/notify" if request.param == "path" else f"@mailshed-test-{os.getpid()}"
        manager = Manager(address)
        yield manager
        manager.close()


def test_the_life_of_a_service_as_the_manager_sees_it(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    assert notifier.ready("3 queued")
    assert notifier.status("4 queued, exch01 20/20")
    assert notifier.watchdog()
    assert notifier.reloading(123456789)
    assert notifier.ready()
    assert notifier.stopping()
    assert manager.received() == [
        "READY=1\nSTATUS=3 queued",
        "STATUS=4 queued, exch01 20/20",
        "WATCHDOG=1",
        "RELOADING=1\nMONOTONIC_USEC=123456789",
        "READY=1",
        "STOPPING=1",
    ]


def test_a_status_cannot_become_another_assignment(manager: Manager) -> None:
    """Its text may quote an error of a peer."""
    Notifier({"NOTIFY_SOCKET": manager.address}).status("sick:\nMAINPID=1\r\nX=\t1")
    assert manager.received() == ["STATUS=sick: MAINPID=1 X= 1"]


def test_a_manager_that_does_not_read_never_blocks_us(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    results = [notifier.status(f"{number}" * 100) for number in range(2000)]
    assert results[0]
    assert not results[-1]
    assert len(manager.received()) == sum(results)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "/nonexistent/notify"},
        {"NOTIFY_SOCKET": "@nobody-listens-here"},
        {"NOTIFY_SOCKET": "vsock:2:1234"},
        {"NOTIFY_SOCKET": "/" + "x" * 200},
        {"NOTIFY_SOCKET": "relative"},
    ],
)
def test_no_manager_is_no_error(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    calls: list[Callable[[], bool]] = [notifier.ready, notifier.watchdog, notifier.stopping]
    assert not any(call() for call in calls)


def test_send_can_be_replaced() -> None:
    sent: list[bytes] = []
    assert Notifier({}, send=sent.append).watchdog()
    assert sent == [b"WATCHDOG=1"]
