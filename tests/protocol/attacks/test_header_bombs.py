"""Headers that are made to be slow to read: what looks at them looks at a bounded part, once.

The standard library's header parsers are quadratic (CPython gh-136063), and MIME parsers recurse.
Nothing here uses them: a message of any of these shapes is answered, classified, looked through for
loops, and shown to an operator in milliseconds each, which is also how long the event loop stands.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mailshed.mail.content import ContentStore
from mailshed.mail.header import HeaderView, priority_in
from mailshed.mail.redaction import redacted
from mailshed.mail.trace import is_loop
from tests.support.builders import content_store
from tests.support.front import Front, until
from tests.support.live_path import LivePath

MIB = 1 << 20
BOMBS: dict[str, Callable[[], bytes]] = {
    "a million fields": lambda: 1_000_000 * b"A: b\r\n" + b"\r\nx\r\n",
    "one field of ten megabytes": lambda: b"Subject: " + 10 * MIB * b"x" + b"\r\n\r\nx\r\n",
    "one field in a million lines": lambda: b"To: x" + 1_000_000 * b"\r\n a" + b"\r\n\r\nx\r\n",
    "twenty thousand Received": lambda: 20_000 * b"Received: from a by b; now\r\n" + b"\r\nx\r\n",
    "80 kB of To": lambda: b"To: " + 20_000 * b"a@b," + b"\r\n\r\nx\r\n",
    "80 kB of quotes": lambda: b'From: "' + 40_000 * b'\\"' + b"\r\n\r\nx\r\n",
    "80 kB of comments": lambda: b"From: " + 40_000 * b"(" + 40_000 * b")" + b"\r\n\r\nx\r\n",
    "80 kB of one word": lambda: b"Cc: " + 80_000 * b"a" + b"\r\n\r\nx\r\n",
    "80 kB of encoded words": lambda: b"Subject: " + 8_000 * b"=?u?q?=41?=" + b"\r\n\r\nx\r\n",
    "40 kB of parameters": lambda: b"Content-Type: a/b" + 5_000 * b"; a*0*=x" + b"\r\n\r\nx\r\n",
    "2,000 nested parts": lambda: b"".join(
        b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (number, number)
        for number in range(2_000)
    ),
    "no header at all": lambda: 10 * MIB * b"x",
    "colons": lambda: 60_000 * b":" + b"\r\n\r\n",
    "names without end": lambda: 60_000 * b"a" + b": x\r\n\r\n",
}
SECONDS_MAX = 0.1
"""For one look, ten times what it may cost."""


@pytest.mark.parametrize("bomb", BOMBS)
def test_no_look_at_a_header_takes_long(bomb: str) -> None:
    data = BOMBS[bomb]()
    looks: list[Callable[[], object]] = [
        lambda: is_loop(HeaderView(data), "mail.example.com"),
        lambda: priority_in(HeaderView(data)),
        lambda: HeaderView(data).values("to"),
        lambda: redacted(data),
    ]
    for number, look in enumerate(looks):
        assert min(_seconds(look) for _ in range(3)) < SECONDS_MAX, number


def _seconds(look: Callable[[], object]) -> float:
    began = time.perf_counter()
    look()
    return time.perf_counter() - began


@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_bomb_is_answered_and_the_loop_goes_on_turning(bomb: str, tmp_path: Path) -> None:
    store: ContentStore = content_store(tmp_path, disk=64 * MIB)
    path = LivePath(tmp_path, contents=store)
    lags: list[float] = []
    is_over = False

    async def watch() -> None:
        while not is_over:
            began = time.perf_counter()
            await asyncio.sleep(0)
            lags.append(time.perf_counter() - began)

    async with Front(path.handler, message_size_max=32 * MIB) as front:
        peer = await front.in_data()
        watching = asyncio.gather(watch())
        await peer.send(BOMBS[bomb]() + b"\r\n.\r\n")
        assert (await peer.reply())[:3] in (b"250", b"554", b"550")
        is_over = True
        await watching
        peer.close()
        await until(lambda: path.is_at_rest, "everything is given back")
    assert path.failures == []
    assert max(lags) < 10 * SECONDS_MAX, "the loop stood still"
