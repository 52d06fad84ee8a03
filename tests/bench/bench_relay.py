"""What the backend side costs: CPU microseconds of this process per message, by size.

Run it as `python -m tests.bench.bench_relay`. A sink in a child process answers as fast as it
can, so that what is measured is `SmtpBackend.deliver` with its event loop, not the sink. The best
of several rounds is printed: the machine is shared, and noise only ever adds.
"""

import asyncio
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from typing import cast

import uvloop

from mailshed.clock import SystemClock
from mailshed.mail.delivery import Delivered
from mailshed.relay.backend import OutboundMessage
from mailshed.relay.connection import Address
from mailshed.relay.smtp import SmtpBackend
from mailshed.terms import QueueId

ROUNDS = 5
CONCURRENCY = 20
# Octets of content, messages a round.
CASES = ((1024, 10_000), (10 * 1024, 5_000), (1024 * 1024, 100))


class Sink(asyncio.Protocol):
    """Says yes to everything, with as little work as possible."""

    def __init__(self) -> None:
        self._in_data = False
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by duck typing
        self._transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer a group of commands, or look for the end of data."""
        if self._in_data:
            self._tail = (self._tail + data)[-5:]
            if self._tail == b"\r\n.\r\n":
                self._in_data = False
                self._transport.write(b"250 2.0.0 Ok: queued as 12345678\r\n")
        elif data.startswith(b"MAIL"):
            self._in_data = True
            self._tail = b""
            self._transport.write(b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data\r\n")
        elif data.startswith(b"EHLO"):
            self._transport.write(b"250-sink\r\n250-PIPELINING\r\n250 SIZE 99999999\r\n")
        else:
            self._transport.write(b"221 2.0.0 Bye\r\n")


def serve(pipe: Connection) -> None:
    """Run the sink until the process is terminated."""

    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(forever())


async def send(backend: SmtpBackend, message: OutboundMessage, count: int) -> None:
    """Deliver `message` count times, one after the other."""
    for _ in range(count):
        result = await backend.deliver(message)
        assert isinstance(result.recipients[0], Delivered), result


async def measure(port: int) -> None:
    """Print one line per size."""
    backend = SmtpBackend(
        "sink",
        Address(host="127.0.0.1", port=port, hostname="bench.test"),
        connect_timeout=5,
        command_timeout=30,
        dot_timeout=600,
        idle_timeout=10,
        messages_per_connection=1_000_000,
        clock=SystemClock(),
    )
    for size, count in CASES:
        line = b"x" * 76 + b"\r\n"
        content = (line * (size // len(line) + 1))[: size - 2] + b"\r\n"
        message = OutboundMessage(
            queue_id=QueueId("0000000000000000"),
            reverse_path=b"sender@example.com",
            recipients=((b"recipient@example.com", ()),),
            size=size,
            prefix=b"Received: by bench\r\n",
            in_memory=(content,),
        )
        best_cpu, best_rate = float("inf"), 0.0
        for _ in range(ROUNDS):
            began, cpu = time.perf_counter(), time.process_time()
            async with asyncio.TaskGroup() as group:
                for _ in range(CONCURRENCY):
                    group.create_task(send(backend, message, count // CONCURRENCY))
            best_cpu = min(best_cpu, (time.process_time() - cpu) / count)
            best_rate = max(best_rate, count / (time.perf_counter() - began))
        show(f"{size:>8} octets: {best_cpu * 1e6:8.1f} us CPU/message, {best_rate:8.0f} msg/s")
    await backend.close()


def show(line: str) -> None:
    """Print a line of the result."""
    sys.stdout.write(line + "\n")


def main() -> None:
    """Start the sink, measure under uvloop and under asyncio, stop the sink."""
    ours, theirs = multiprocessing.Pipe()
    sink = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    sink.start()
    port = ours.recv()
    show("uvloop")
    uvloop.run(measure(port))
    show("asyncio")
    asyncio.run(measure(port))
    sink.terminate()
    sink.join()


if __name__ == "__main__":
    main()
