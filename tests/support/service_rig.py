"""The whole service in the test's own loop, and a client that talks with it."""

import asyncio
import json
import logging
import os
import socket
import struct
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from mailshed.app import Service
from mailshed.config.schema import Config
from mailshed.engine import OWN, Engine
from mailshed.linewriter import LineWriter
from mailshed.metrics import Snapshot
from mailshed.spool.lock import SpoolLock
from mailshed.systemd import Notifier
from tests.support.outbound import eventually

DEADLINE = 30.0


@contextmanager
def logging_as_it_was() -> Iterator[None]:
    """The service takes over the standard logging of its process, which here is the test's."""
    loggers = [logging.getLogger(name) for name in (None, "mail.log", "asyncio", "aiohttp")]
    levels = [logger.level for logger in loggers]
    handlers = list(loggers[0].handlers)
    show = warnings.showwarning
    yield
    logging.captureWarnings(capture=False)
    warnings.showwarning = show
    loggers[0].handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


class Rig:
    """A service that is not started yet, and what it says to the log and to systemd."""

    def __init__(
        self, folder: Path, backend_port: int = 25, engine: Engine = OWN, **changes: Any
    ) -> None:
        self.folder = folder
        self.backend_port = backend_port
        self.config = self.make_config(**changes)
        self.next_config: Callable[[], Config] = lambda: self.config
        self.told: list[bytes] = []
        self.stop, self.hangup = asyncio.Event(), asyncio.Event()
        self._log = folder / "log"
        self._descriptor = os.open(self._log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._sink = LineWriter(self._descriptor)
        self.service = Service(
            self.config,
            reload=self._reload,
            sink=self._sink,
            notifier=Notifier({}, send=self.told.append),
            engine=engine,
        )
        self.parts = self.service.parts

    def _reload(self) -> Config:
        return self.next_config()

    def make_config(self, **changes: Any) -> Config:
        """A configuration for loopback; sections in `changes` replace whole sections."""
        base: dict[str, Any] = {
            "version": 1,
            "hostname": "mx.example.org",
            "domains": ["example.net"],
            "trusted_networks": [],
            "listeners": [{"name": "smtp", "bind": "127.0.0.1:0"}],
            "backends": [{"name": "exch", "host": "127.0.0.1", "port": self.backend_port}],
            "spool": {"path": str(self.folder / "spool"), "disk_reserve": "0B"},
            "metrics": {"bind": "127.0.0.1:0"},
            "log": {"format": "json", "level": "debug"},
            "limits": {"shutdown_timeout": "60s"},
            # A scripted server plays its script for mail, and not for questions about mailboxes.
            "verification": {"mode": "none"},
        }
        return Config.model_validate(base | changes)

    @property
    def port(self) -> int:
        """The port of the first listener."""
        return self.service._servers[0].port

    @property
    def snapshot(self) -> Snapshot:
        """What the operations thread sees now."""
        current = self.parts.holder.current
        assert current is not None
        return current

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The log's lines of one event so far."""
        self._sink.flush()
        found = map(json.loads, self._log.read_text().splitlines())
        return [line for line in found if line["event"] == event]

    async def run(self) -> int:
        """Run the service to its end."""
        try:
            async with asyncio.timeout(DEADLINE):
                return await self.service.run(self.stop, self.hangup)
        finally:
            self._sink.flush()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["asyncio.Task[int]"]:
        """Start the service; stop it at the end, if it has not been stopped."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.run())
            await eventually(lambda: b"READY=1" in self.told)
            try:
                yield task
            finally:
                self.stop.set()

    def assert_nothing_is_left(self) -> None:
        """No port, no socket, no thread, no lock, no task."""
        for server in self.service._servers:
            assert server._listening.fileno() == -1
        assert not self.config.admin_socket.exists()
        names = {thread.name for thread in threading.enumerate()}
        assert not names & {"mailshed-operations", "spool-writer"}
        assert len(self.parts.supervisor) == 0
        if self.config.spool.path.is_dir():
            lock = SpoolLock(self.config.spool.path)
            lock.acquire()
            lock.release()


class Talk:
    """One SMTP session of a client, past EHLO."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, line: str) -> str:
        """Send a line; return the last line of the reply."""
        self.writer.write(line.encode() + b"\r\n")
        return await self.hear()

    async def hear(self) -> str:
        """The last line of the next reply; empty at the end of the connection."""
        async with asyncio.timeout(DEADLINE):
            while True:
                line = (await self.reader.readline()).decode()
                if not line or line[3] == " ":
                    return line.rstrip()

    async def submit(self, *, to: str = "bob@example.net", header: str = "Subject: x") -> None:
        """Send a message up to and with the final dot, and do not wait for the answer."""
        assert (await self.say("MAIL FROM:<alice@example.org>")).startswith("250")
        assert (await self.say(f"RCPT TO:<{to}>")).startswith("250")
        assert (await self.say("DATA")).startswith("354")
        self.writer.write(f"{header}\r\n\r\nHello.\r\n.\r\n".encode())

    def vanish(self) -> None:
        """Break the connection (RST), so that the server cannot take it for a half-closed one."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@asynccontextmanager
async def talk(port: int) -> AsyncIterator[Talk]:
    """Connect and greet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    made = Talk(reader, writer)
    try:
        assert (await made.hear()).startswith("220")
        await made.say("EHLO client.example.org")
        yield made
    finally:
        writer.close()
