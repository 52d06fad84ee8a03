"""The service manager's side of the protocol: readiness, reloads, watchdog.

systemd puts the address of a datagram socket into NOTIFY_SOCKET and reads `KEY=value` lines from it
(sd_notify(3)). That is all there is to it, so no library is used: those that exist lack parts or
wheels. Nothing here raises or blocks: a service without a manager, or with one that does not read,
runs on all the same.

`RELOADING=1` carries the monotonic time, as systemd 253 and later want it; older ones ignore it.
"""

import socket
from collections.abc import Callable, Mapping

Send = Callable[[bytes], object]


class Notifier:
    """Messages to the service manager; each says whether it was handed over."""

    def __init__(self, environ: Mapping[str, str], send: Send | None = None) -> None:
        """`environ` is the process's environment; `send` replaces the socket in tests."""
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._send_datagram = send or self._to_socket
        self._is_enabled = send is not None or self._address is not None

    def ready(self, status: str = "") -> bool:
        """Start-up, or a reload, is complete."""
        return self._send("READY=1", _status(status))

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send(_status(text))

    def reloading(self, monotonic_usec: int) -> bool:
        """A reload begins; `ready` ends it. The time is CLOCK_MONOTONIC in microseconds."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={monotonic_usec}")

    def stopping(self, status: str = "") -> bool:
        """The service is stopping by itself or by signal."""
        return self._send("STOPPING=1", _status(status))

    def watchdog(self) -> bool:
        """The service is alive; due more often than the unit's `WatchdogSec`."""
        return self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> bool:
        if not self._is_enabled:
            return False
        try:
            self._send_datagram("\n".join(filter(None, lines)).encode())
        except OSError:
            return False
        return True

    def _to_socket(self, datagram: bytes) -> None:
        assert self._address is not None
        # A socket for each message: they are rare, and the manager may be replaced (reexec).
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(datagram, self._address)


def _address(text: str) -> str | None:
    """The socket's address: a path, or `@name` in the abstract namespace."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else None


def _status(text: str) -> str:
    """One line: a newline in the text would start another assignment."""
    return f"STATUS={' '.join(text.split())}" if text else ""
