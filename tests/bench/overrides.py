"""What the overrides of the two libraries gain one by one: processor time, ours and the library's.

Both sides stand on a transport that does nothing, so there are no system calls in these figures and
no mail server behind; `engines` has the whole. Writes are counted, since each is a system call of
some five microseconds. The least of several rounds counts. ::

    python -m tests.bench.overrides

Decision 0042 has the table, and what else the overrides are for.
"""

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop
from aiosmtpd.smtp import SMTP
from aiosmtplib.protocol import SMTPProtocol

from mailshed.config.policy import ListenerPolicy
from mailshed.listener.server import SessionFactory
from mailshed.mail.address import parse_mail_argument
from mailshed.relay.wire import WireProtocol
from mailshed.terms import Stage
from tests.support.builders import session_limits
from tests.support.front import HOSTNAME, ScriptedHandler

ROUNDS = 12
MESSAGE_MAX = 1 << 26
EHLO = b"EHLO client.example.org\r\n"
MAIL, RCPT = b"MAIL FROM:<alice@example.org>", b"RCPT TO:<bob@example.net>"
SIZES = (1024, 10 * 1024, 1024 * 1024)


class Nowhere(asyncio.Transport):
    """Counts what is written; `answer` makes the other end's reply to it."""

    def __init__(self, answer: Callable[[bytes], bytes] | None = None) -> None:
        super().__init__()
        self.writes = self.octets = 0
        self.protocol: Any = None
        self._answer = answer

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Count it, and have it answered."""
        self.writes += 1
        self.octets += len(data)
        if self._answer is not None:
            answer = self._answer(bytes(data))
            asyncio.get_running_loop().call_soon(self.protocol.data_received, answer)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Only who the other end is."""
        return ("127.0.0.1", 40000) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""

    def get_write_buffer_size(self) -> int:
        """It is empty."""
        return 0

    def pause_reading(self) -> None:
        """There is nothing to read."""

    def resume_reading(self) -> None:
        """The same."""

    def is_closing(self) -> bool:
        """Never."""
        return False

    def close(self) -> None:
        """Nothing to close."""

    abort = close


class Taking:
    """A handler of aiosmtpd that takes every message."""

    async def handle_DATA(self, *_: object) -> str:  # noqa: N802 - its name is the library's
        """Take it."""
        return "250 2.0.0 Ok"


async def least(work: Callable[[], Awaitable[object]], times: int) -> float:
    """Microseconds for one `work`."""
    found: list[float] = []
    for _ in range(ROUNDS):
        gc.collect()
        gc.disable()
        began = time.process_time()
        for _ in range(times):
            await work()
        found.append((time.process_time() - began) / times * 1e6)
        gc.enable()
    return min(found)


async def call(work: Callable[[], object], times: int) -> float:
    """The same for a function."""

    async def awaited() -> None:
        work()

    return await least(awaited, times)


async def front(make: Callable[[], Any]) -> dict[str, str]:
    """The costs of one kind of session."""
    shown = {"a session is made": f"{await call(make, 100):.1f}"}
    session, transport = make(), Nowhere()
    session.connection_made(transport)

    async def say(data: bytes, replies: int = 1) -> None:
        """Until there are so many more lines; the library writes each by itself."""
        before, expected = transport.octets, replies
        session.data_received(data)
        while transport.octets == before or expected:
            expected -= expected > 0
            await asyncio.sleep(0)

    await say(EHLO, 6)
    for name, data, replies in (
        ("NOOP", b"NOOP\r\n", 1),
        ("EHLO", EHLO, 5),
        ("MAIL and RSET", MAIL + b"\r\nRSET\r\n", 3),
        ("MAIL, 5 RCPT and RSET", b"\r\n".join([MAIL, *(5 * [RCPT]), b"RSET\r\n"]), 8),
    ):
        writes = transport.writes
        await say(data, replies)
        writes = transport.writes - writes
        shown[name] = f"{await least(lambda d=data, r=replies: say(d, r), 100):.0f} ({writes})"  # type: ignore[misc]
    for size in SIZES:
        text = _text(size) + b".\r\n"

        async def message(text: bytes = text) -> None:
            for each in (MAIL, RCPT, b"DATA"):
                await say(each + b"\r\n", 3)
            session.data_received(text[:-1])
            await asyncio.sleep(0)
            await say(text[-1:], 3)

        shown[f"a message of {size} octets"] = f"{await least(message, max(2, 40960 // size)):,.0f}"
    session.connection_lost(None)
    await asyncio.sleep(0)
    return shown


def _answers(data: bytes) -> bytes:
    """A mail server's, one for each line; mail data is known by its dot."""
    if data.endswith(b"\n.\r\n"):
        return b"250 2.0.0 taken\r\n"
    lines = data.split(b"\r\n")[:-1]
    return b"".join(b"354 go\r\n" if each == b"DATA" else b"250 2.1.0 ok\r\n" for each in lines)


async def back() -> dict[str, tuple[str, str]]:
    """The costs of one message to a mail server, the library's and ours."""
    loop = asyncio.get_running_loop()
    library, ours = SMTPProtocol(loop), WireProtocol(loop)
    for protocol in (library, ours):
        transport = Nowhere(_answers)
        transport.protocol = protocol
        protocol.connection_made(transport)
    shown = {}
    for size in SIZES:
        text = _text(size)
        stuffed = text + b".\r\n"

        async def by_library(text: bytes = text) -> None:
            for each in (MAIL, RCPT):
                await library.execute_command(each, timeout=30.0)
            await library.execute_data_command(text, timeout=30.0)

        async def by_us(stuffed: bytes = stuffed) -> None:
            await ours.exchange((MAIL, RCPT, b"DATA"), (Stage.MAIL, Stage.RCPT, Stage.DATA), 30.0)
            ours.expect((Stage.DOT,))
            ours.send(stuffed)
            await ours.receive(30.0)

        times = max(2, 409600 // size)
        shown[f"a message of {size} octets, sent on"] = (
            f"{await least(by_library, times):,.0f} (4)",
            f"{await least(by_us, times):,.0f} (2)",
        )
    return shown


def _text(size: int) -> bytes:
    return (b"x" * 76 + b"\r\n") * (size // 78)


async def measure() -> str:
    """Everything, as a table of Markdown."""
    logging.getLogger("mail.log").setLevel(logging.WARNING)
    loop = asyncio.get_running_loop()
    limits = session_limits(errors_max=10**9, message_size_max=MESSAGE_MAX)
    factory = SessionFactory(
        policy=ListenerPolicy(name="smtp"),
        hostname=HOSTNAME,
        handler=ScriptedHandler(is_keeping=False),
        limits=limits,
    )

    def stock() -> SMTP:
        return SMTP(Taking(), hostname=HOSTNAME, data_size_limit=MESSAGE_MAX, loop=loop)

    library, ours = await front(stock), await front(factory)
    rows = {name: (library[name], ours[name]) for name in library}
    made = stock()
    rows["an address"] = (
        f"{await call(lambda: made._getaddr('<alice@example.org>'), 500):.1f}",
        f"{await call(lambda: parse_mail_argument(MAIL[5:], is_utf8=False), 500):.1f}",
    )
    rows |= await back()
    lines = ["| | the library | ours |", "|---|--:|--:|"]
    return "\n".join(
        lines + [f"| {name} | {one} | {other} |" for name, (one, other) in rows.items()]
    )


if __name__ == "__main__":
    sys.stdout.write(uvloop.run(measure()) + "\n")
