"""Story: mail straight into the mailboxes of a real Dovecot, by LMTP, each recipient by itself.

A full mailbox is found out after the mail data, for one recipient of several: that one's sender is
told, or it is tried again, and the others have the message once.
"""

import re
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.daemon import Daemon
from tests.support.dovecot import ACCOUNTS, Dovecot
from tests.support.load import PATIENCE
from tests.support.processes import wait_until

ALICE, BOB = ACCOUNTS
SENDER = "alice+reports@hospital.example"
"""Reports to the sender go into Alice's mailbox, by her `+` address."""
QUOTA = """\
protocol lmtp {{
  mail_plugins = $mail_plugins quota
}}
plugin {{
  quota = count:User quota
  quota_rule = *:storage={storage}
  quota_grace = 0
  quota_vsizes = yes
}}
quota_full_tempfail = {tempfail}
login_trusted_networks = 127.0.0.0/8
"""


@contextmanager
def servers(
    folder: Path, *, storage: str = "10M", tempfail: str = "no", **backend: Any
) -> Iterator[tuple[Daemon, Dovecot]]:
    """A proxy in front of a Dovecot whose mailboxes take so much; `backend` are keys of it."""
    with Dovecot(extra=QUOTA.format(storage=storage, tempfail=tempfail)) as server:
        section: dict[str, Any] = {"name": "dovecot", "protocol": "lmtp", "preset": "dovecot"}
        if backend.pop("is_socket", False):
            section["socket"] = str(server.root / "run/lmtp")
        else:
            section |= {"host": "127.0.0.1", "port": server.lmtp_port}
        overrides = {"backends": [section | backend]}
        with Daemon(folder=folder / "mailshed", backend_port=1, overrides=overrides) as daemon:
            yield daemon, server


def send(
    daemon: Daemon, name: str, *to: str, octets: int = 100, sender: str = SENDER
) -> tuple[int, str]:
    """Send a message called `name`; the reply to its end."""
    line = "x" * 70 + "\r\n"
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=PATIENCE) as session:
        session.ehlo("client.example")
        session.mail(sender)
        for address in to:
            assert session.rcpt(address)[0] == 250
        text = f"Subject: {name}\r\n\r\n" + line * (octets // len(line) + 1)
        code, said = session.data(text.encode())
        return code, said.decode()


def subjects(server: Dovecot, account: str) -> list[str]:
    """What is in a mailbox, the oldest first."""
    found = (re.search(rb"^Subject: (.*?)\r?$", m, re.MULTILINE) for m in server.delivered(account))
    return [each[1].decode() for each in found if each is not None]


def test_one_recipient_hears_dovecot_and_several_go_by_the_spool(tmp_path: Path) -> None:
    with servers(tmp_path, is_socket=True) as (daemon, server):
        code, said = send(daemon, "one", BOB)
        assert (code, f"<{BOB}>" in said, "Saved" in said) == (250, True, True)
        code, said = send(daemon, "two", BOB, ALICE)
        assert (code, "queued as" in said) == (250, True)
        wait_until(lambda: subjects(server, ALICE) == ["two"], lambda: daemon.log_tail)
        daemon.wait_spool_empty()
        assert subjects(server, BOB) == ["one", "two"]
        assert subjects(server, ALICE) == ["two"]
        assert daemon.metrics().total("decisions_total", reason="per_recipient") == 1

        with smtplib.SMTP(timeout=PATIENCE, source_address=("127.0.0.9", 0)) as session:
            session.connect("127.0.0.1", daemon.port)
            session.ehlo("client.example")
            session.mail(SENDER)
            code, text = session.rcpt("nobody@hospital.example")
            assert (code, b"User doesn't exist" in text) == (550, True)


def test_a_full_mailbox_is_reported_and_the_others_have_it_once(tmp_path: Path) -> None:
    with servers(tmp_path, storage="100K", identity="xclient") as (daemon, server):
        assert send(daemon, "filler", BOB, octets=90_000)[0] == 250
        code, said = send(daemon, "alone", BOB, octets=30_000)
        assert (code, "5.2.2" in said) == (552, True)  # the client itself is told
        (filler,) = server.delivered(BOB)
        assert b"Received: from client.example ([127.0.0.1])" in filler

        assert send(daemon, "both", BOB, ALICE, octets=30_000)[0] == 250
        wait_until(lambda: len(server.delivered(ALICE)) == 2, lambda: daemon.log_tail)
        daemon.wait_spool_empty()
        assert subjects(server, BOB) == ["filler"]
        delivered = subjects(server, ALICE)
        assert delivered.count("both") == 1
        (report,) = [m for m in server.delivered(ALICE) if b"report-type=delivery-status" in m]
        assert len(delivered) == 2
        assert f"Final-Recipient: rfc822; {BOB}".encode() in report
        assert b"Status: 5.2.2" in report
        assert ALICE.encode() not in report.partition(b"Final-Recipient")[2]


def test_a_full_mailbox_that_may_empty_is_held_by_itself(tmp_path: Path) -> None:
    """`quota_full_tempfail`: Bob's part is tried again; Alice's mail does not wait for it."""
    with servers(tmp_path, storage="100K", tempfail="yes") as (daemon, server):
        assert send(daemon, "filler", BOB, octets=90_000)[0] == 250
        assert send(daemon, "first", BOB, ALICE, octets=30_000)[0] == 250
        wait_until(lambda: subjects(server, ALICE) == ["first"], lambda: daemon.log_tail)
        wait_until(lambda: daemon.metrics().total("held_mailboxes") == 1, lambda: daemon.log_tail)
        assert send(daemon, "second", BOB, ALICE, octets=30_000)[0] == 250
        wait_until(lambda: "second" in subjects(server, ALICE), lambda: daemon.log_tail)
        assert subjects(server, ALICE) == ["first", "second"]
        assert subjects(server, BOB) == ["filler"]
        wait_until(lambda: daemon.metrics().total("queue_messages") == 2, lambda: daemon.log_tail)

        server.empty(BOB)
        daemon.command("queue", "retry", "--all", "--yes", "--reason", "Bob has tidied up")
        wait_until(lambda: len(server.delivered(BOB)) == 2, lambda: daemon.log_tail)
        assert sorted(subjects(server, BOB)) == ["first", "second"]
        assert subjects(server, ALICE) == ["first", "second"]
