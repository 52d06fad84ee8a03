"""A TCP proxy that can be taken away and brought back in no time, which no real server can.

Up, it copies octets between its port and the target's. Down, nobody listens on its port, and all
connections that there were have been reset on both sides, wherever their dialog stood.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from tests.support.processes import DEADLINE, free_port

_BLOCK_OCTETS = 64 * 1024
# SO_LINGER on, for 0 seconds: closing resets the connection, and what was not read is gone.
_RESET = struct.pack("ii", 1, 0)


class Flapper:
    """The proxy on a port of its own, in a thread of its own; a context manager. It begins up."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.cuts = 0
        """Connections from clients that were cut."""
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="flapper")
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self.up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()

    def up(self) -> None:
        """Listen; returns when connections are accepted."""
        self._run(self._up())

    def down(self) -> None:
        """Reset all connections and refuse new ones; returns when that is done."""
        self._run(self._down())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE)

    async def _up(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)

    async def _down(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self.cuts += len(self._connections) // 2
        for writer in self._connections:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        self._connections.clear()  # the tasks that copy see the end by themselves

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.close()
            return
        pair = {writer, far_writer}
        self._connections |= pair
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, far_writer))
                group.create_task(_copy(far_reader, writer))
        finally:
            self._connections -= pair
            for each in pair:
                each.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while block := await reader.read(_BLOCK_OCTETS):
            writer.write(block)
            await writer.drain()
        writer.write_eof()
