"""aiosmtplib, from PyPI."""

import asyncio
import json
import ssl
import sys
from pathlib import Path
from typing import Any

import aiosmtplib


def main() -> None:
    """Send the message of the job."""
    job = json.loads(Path(sys.argv[1]).read_text())
    asyncio.run(send(job, Path(job["wire"]).read_bytes()))


async def send(job: dict[str, Any], message: bytes) -> None:
    """Send it."""
    options = ["BODY=8BITMIME"] if job["is_8bit"] else []
    if job["is_utf8"]:
        options.append("SMTPUTF8")
    await aiosmtplib.send(
        message,
        sender=job["sender"],
        recipients=[job["recipient"]],
        mail_options=options,
        hostname="localhost",
        port=job["port"],
        local_hostname="aiosmtplib.example",
        start_tls=job["is_tls"],
        tls_context=ssl.create_default_context(cafile=job["ca_file"]) if job["is_tls"] else None,
        username=job["user"] or None,
        password=job["password"] or None,
    )


if __name__ == "__main__":
    try:
        main()
    except aiosmtplib.SMTPException as error:
        sys.exit(f"{type(error).__name__}: {error}")
