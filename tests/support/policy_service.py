"""A Postfix policy service that says DUNNO after a fixed time: a known cost for each recipient.

`python -m tests.support.policy_service PORT SECONDS` listens on 127.0.0.1. Each smtpd(8) process
keeps one connection and waits for the answer, so a Postfix with P processes takes P / SECONDS
recipients a second, whatever the machine can do. It runs apart from the tests, so that a busy test
does not change the time. A request with the one attribute `policy_delay`, which is the test's own,
changes the time from then on. Protocol: SMTPD_POLICY_README (attributes, an empty line, an action).
"""

import asyncio
import contextlib
import sys

DELAY_ATTRIBUTE = "policy_delay"


async def _serve(port: int, seconds: float) -> None:
    delay = seconds

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal delay
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                request = (await reader.readuntil(b"\n\n")).decode()
                name, _, value = request.strip().partition("=")
                if name == DELAY_ATTRIBUTE:
                    delay = float(value)
                else:
                    await asyncio.sleep(delay)
                writer.write(b"action=DUNNO\n\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    port, seconds = sys.argv[1:]
    asyncio.run(_serve(int(port), float(seconds)))


if __name__ == "__main__":
    main()
