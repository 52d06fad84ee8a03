"""A real HAProxy on loopback that passes connections on with a PROXY header.

It comes from the Debian package, with a configuration of its own in a folder of the test, and runs
as one process in the foreground. Its health check looks at the server every 200 ms; how that went
is asked over its runtime socket.
"""

import csv
import socket
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.debian import require
from tests.support.processes import Process, accepts, free_port, wait_until

_CONFIGURATION = """\
global
    stats socket {folder}/haproxy.sock mode 600 level user
    maxconn 200
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout check 2s
frontend mail
    bind 127.0.0.1:{port}
    default_backend mailshed
backend mailshed
    option smtpchk EHLO haproxy.example
    server one 127.0.0.1:{target} {send} check check-send-proxy inter 200ms fastinter 200ms
"""


@dataclass(kw_only=True)
class HAProxy:
    """One HAProxy in front of `target`; a context manager that waits until it is ready."""

    folder: Path
    target: int
    """The port of the server behind it, which is up already."""
    send: str = "send-proxy-v2"
    """How it says whose connection it is: `send-proxy` is version 1."""
    port: int = field(default_factory=free_port)
    process: Process = field(init=False)

    def __enter__(self) -> Self:
        program = require("haproxy")
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "haproxy.cfg"
        file.write_text(
            _CONFIGURATION.format(
                folder=self.folder, port=self.port, target=self.target, send=self.send
            )
        )
        self.process = Process([program, "-db", "-f", file], self.folder / "haproxy.log")
        wait_until(lambda: accepts(self.port), lambda: self.process.log_text)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill_session()

    @property
    def check(self) -> tuple[str, str]:
        """What it thinks of the server: `UP` or `DOWN`, and how the last check went (`L7OK`)."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(str(self.folder / "haproxy.sock"))
            asked.sendall(b"show stat\n")
            text = b"".join(iter(lambda: asked.recv(65536), b"")).decode()
        for row in csv.DictReader(text.removeprefix("# ").splitlines()):
            if row["svname"] == "one":
                return row["status"], row["check_status"]
        raise AssertionError(text)
