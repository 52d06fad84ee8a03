"""Dovecot, by LMTP, with STARTTLS."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop.backends.backend import Backend, Pair, take_files
from tests.interop.clients import said_version
from tests.interop.ways import BACKEND_WAYS, LOGIN, PASSWORD
from tests.support.debian import require
from tests.support.dovecot import Dovecot

_TLS = """\
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
"""


@contextmanager
def dovecot(folder: Path, pair: Pair) -> Iterator[Backend]:
    """Start it."""
    mailboxes = [f"keeper@{way.domain}" for way in BACKEND_WAYS]
    accounts = {LOGIN: PASSWORD} | dict.fromkeys(mailboxes, "x")
    extra = _TLS.format(certificate=pair[0], key=pair[1])
    with Dovecot(accounts=accounts, extra=extra) as server:
        inboxes = [server.root / "mail" / mailbox / "new" for mailbox in mailboxes]
        yield Backend(
            name="Dovecot LMTP",
            version=said_version(require("dovecot-core"), "--version"),
            port=server.lmtp_port,
            take=lambda: [each for inbox in inboxes for each in take_files(inbox)],
            log=lambda: server.log_text,
            encrypted=r"\(using TLSv1",
            authenticated=r"Authenticated sender",
            section={"protocol": "lmtp", "preset": "dovecot"},
        )
