"""The naive proxy: what one writes in an afternoon with aiosmtpd and aiosmtplib, and no more.

usage: python -m tests.bench.naive PORT BACKEND_PORT

Both libraries as they come, in one process, with uvloop. Each message goes to one of twenty kept
connections, and its client gets the backend's reply. It is meant to be honest: its host name is
given, so that no connection waits for the DNS, nothing is logged, and nothing is slower than the
libraries make it. It is not a mail server: it forgets parameters, and a lost connection stays lost.
"""

import asyncio
import logging
import sys

import aiosmtplib
import uvloop
from aiosmtpd.smtp import SMTP, Envelope, Session

CONNECTIONS = 20
_HOSTNAME = "naive.hospital.example"
_MESSAGE_OCTETS_MAX = 50 * 1024 * 1024


class Handler:
    """Hands each message on before it is acknowledged."""

    def __init__(self, pool: asyncio.Queue[aiosmtplib.SMTP]) -> None:
        self._pool = pool

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Relay one message; the reply is the backend's."""
        assert envelope.mail_from is not None
        assert envelope.content is not None
        client = await self._pool.get()
        try:
            _, reply = await client.sendmail(
                envelope.mail_from, envelope.rcpt_tos, envelope.content
            )
        except aiosmtplib.SMTPResponseException as error:
            return f"{error.code} {error.message}"
        finally:
            self._pool.put_nowait(client)
        return f"250 {reply}"


async def serve(port: int, backend_port: int) -> None:
    """Connect to the backend and listen until killed."""
    pool: asyncio.Queue[aiosmtplib.SMTP] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        client = aiosmtplib.SMTP(
            hostname="127.0.0.1",
            port=backend_port,
            local_hostname=_HOSTNAME,
            start_tls=False,
            timeout=60,
        )
        await client.connect()
        pool.put_nowait(client)
    handler = Handler(pool)
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(handler, hostname=_HOSTNAME, data_size_limit=_MESSAGE_OCTETS_MAX),
        "127.0.0.1",
        port,
        backlog=4096,
    )
    await server.serve_forever()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
