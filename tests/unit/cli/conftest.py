"""A service that answers what a test tells it to, on a real Unix socket."""

import json
import os
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest


@dataclass
class ScriptedService:
    """Answers by target, path and query; `asked` is what came in, in order."""

    socket: Path
    config: Path
    """A configuration file that names the socket, and a spool beside it."""
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    posted: list[tuple[str, Any]] = field(default_factory=list)
    """Documents that were posted, with their targets."""

    def answer(self, target: str, document: Any, status: int = 200) -> None:
        """Answer `target` with `document`, as JSON."""
        self.answers[target] = (status, json.dumps(document).encode())


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MAILSHED_"):
            monkeypatch.delenv(name)


@pytest.fixture
def offline(tmp_path: Path) -> ScriptedService:
    """A configuration of a service that is not running."""
    config = tmp_path / "mailshed.yaml"
    config.write_text(
        f"spool: {{path: {tmp_path / 'spool'}}}\nadmin: {{socket: {tmp_path / 's'}}}\n"
    )
    return ScriptedService(socket=tmp_path / "s", config=config)


@pytest.fixture
def service(offline: ScriptedService) -> Iterator[ScriptedService]:
    """A service that runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            offline.posted.append((self.path, json.loads(self.rfile.read(length))))
            self._answer()

        def _answer(self) -> None:
            offline.asked.append(self.path)
            status, body = offline.answers.get(self.path, (404, b"{}"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

        def address_string(self) -> str:
            return "unix"

    with socketserver.ThreadingUnixStreamServer(str(offline.socket), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield offline
        server.shutdown()
        thread.join()
