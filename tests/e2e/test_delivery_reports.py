"""Story: a sender that asks for news of a success gets it once, from whoever knows last.

One Postfix offers DSN, and reports by itself what it has put into the mailbox; another one does
not, and there mailshed says that it has handed the message over. The reports are found where their
reader would: in the sender's mailbox, which is in the same Postfix.
"""

import email
import smtplib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest

from tests.support.daemon import HOSTNAME, Daemon
from tests.support.load import PATIENCE
from tests.support.postfix import HOSTNAME as POSTFIX
from tests.support.postfix import UNKNOWN_MAILBOXES, Delivered, Postfix
from tests.support.processes import wait_until

ALICE, BOB = "alice@hospital.example", "bob@hospital.example"
MESSAGE = b"From: alice@hospital.example\r\nSubject: results\r\n\r\nThe body.\r\n"
WITHOUT_DSN = {"smtpd_discard_ehlo_keywords": "dsn"}


@contextmanager
def servers(folder: Path, settings: dict[str, str]) -> Iterator[tuple[Daemon, Postfix]]:
    """A proxy in front of a Postfix with these settings."""
    with (
        Postfix(settings=settings) as server,
        Daemon(
            folder=folder / "mailshed",
            backend_port=server.port,
            overrides={"verification": {"mode": "none"}},
        ) as daemon,
    ):
        yield daemon, server


def send(daemon: Daemon, to: str, mail: Sequence[str] = (), rcpt: Sequence[str] = ()) -> str:
    """Send one message with these parameters; the reply to it."""
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=PATIENCE) as session:
        session.ehlo("workstation.hospital.example")
        assert session.has_extn("dsn")
        assert session.mail(ALICE, mail)[0] == 250
        assert session.rcpt(to, rcpt)[0] == 250
        code, text = session.data(MESSAGE)
        return f"{code} {text.decode()}"


@dataclass(frozen=True)
class News:
    """A report as its reader finds it."""

    message: Message

    @property
    def fields(self) -> list[Message]:
        """The blocks of the delivery status."""
        (status,) = (
            part
            for part in self.message.walk()
            if part.get_content_type() == "message/delivery-status"
        )
        blocks = status.get_payload()
        assert isinstance(blocks, list)
        return [block for block in blocks if isinstance(block, Message)]

    @property
    def about(self) -> tuple[str, str]:
        """Action and Final-Recipient of the only recipient."""
        _, about = self.fields
        return about["Action"], about["Final-Recipient"].replace(" ", "").lower()


def news_in(delivered: Sequence[Delivered]) -> list[News]:
    """The reports among these files."""
    parsed = [email.message_from_bytes(each.content) for each in delivered]
    return [News(each) for each in parsed if each.get_content_type() == "multipart/report"]


def wait_for_news(server: Postfix, files: int) -> list[News]:
    """The reports, once so many files are there: messages and reports."""
    server.wait_delivered(files, PATIENCE)
    found = server.delivered()
    assert len(found) == files
    for each in found:
        if b"multipart/report" in each.content:
            assert each.recipient == ALICE
            assert each.content.startswith(b"Return-Path: <>\n")
    return news_in(found)


def wait_for_ledger(daemon: Daemon, **terms: int) -> None:
    """Wait until the books are these; what is shown of them may be a quarter of a second old."""

    def shown() -> dict[str, int]:
        scrape = daemon.metrics()
        found = {term: scrape.total("recipients_ledger_total", term=term) for term in TERMS}
        return {term: int(value) for term, value in found.items() if value}

    wait_until(lambda: shown() == terms, lambda: f"the ledger says {shown()}")


TERMS = ("accepted", "generated", "delivered", "bounced", "refused", "expired", "removed")
ENVELOPE = (("RET=HDRS", "ENVID=QQ+2B314"), ("NOTIFY=SUCCESS", "ORCPT=rfc822;Bob+2Bx@a.example"))


def assert_names(report: News) -> None:
    """That it is about the message by the names that its sender gave it."""
    about_message, about = report.fields
    assert about_message["Original-Envelope-Id"] == "QQ+314"
    assert about["Original-Recipient"].replace(" ", "") == "rfc822;Bob+x@a.example"


def test_a_backend_that_offers_dsn_reports_by_itself(tmp_path: Path) -> None:
    with servers(tmp_path, {}) as (daemon, server):
        assert send(daemon, BOB, *ENVELOPE).startswith("250")
        (report,) = wait_for_news(server, 2)
        assert report.about == ("delivered", f"rfc822;{BOB}")
        assert report.fields[0]["Reporting-MTA"] == f"dns; {POSTFIX}"
        assert_names(report)
        scrape = daemon.metrics()
        assert scrape.total("reports_total") == 0
        assert "event=reported" not in daemon.log_text


def test_for_one_that_does_not_we_say_that_it_was_handed_over(tmp_path: Path) -> None:
    with servers(tmp_path, WITHOUT_DSN) as (daemon, server):
        assert send(daemon, BOB, *ENVELOPE).startswith("250")
        (report,) = wait_for_news(server, 2)
        assert report.about == ("relayed", f"rfc822;{BOB}")
        about_message, about = report.fields
        assert about_message["Reporting-MTA"] == f"dns; {HOSTNAME}"
        assert about["Diagnostic-Code"].startswith("smtp; 250 2.0.0 Ok: queued as")
        assert_names(report)
        assert report.message["Auto-Submitted"] == "auto-replied"
        assert daemon.metrics().total("reports_total", kind="relayed") == 1
        wait_for_ledger(daemon, generated=1, delivered=1)


@pytest.mark.parametrize(
    "notify", [(), ("NOTIFY=NEVER",), ("NOTIFY=FAILURE,DELAY",)], ids=["default", "never", "other"]
)
def test_nobody_is_told_who_did_not_ask(tmp_path: Path, notify: Sequence[str]) -> None:
    with servers(tmp_path, WITHOUT_DSN) as (daemon, server):
        assert send(daemon, BOB, (), notify).startswith("250")
        assert wait_for_news(server, 1) == []
        daemon.wait_spool_empty()
        assert daemon.metrics().total("reports_total") == 0


def test_what_waited_in_the_spool_is_reported_the_same(tmp_path: Path) -> None:
    """The backend is away, over a restart of ours; then some of the mail is refused."""
    settings = {**WITHOUT_DSN, "smtpd_relay_restrictions": UNKNOWN_MAILBOXES}
    with servers(tmp_path, settings) as (daemon, server):
        server.kill()
        gone = "unknown-carol@hospital.example"
        assert "queued as" in send(daemon, BOB, *ENVELOPE)
        assert "queued as" in send(daemon, gone, ("RET=FULL",), ("NOTIFY=SUCCESS,FAILURE",))
        assert "queued as" in send(daemon, f"silent.{BOB}", (), ("NOTIFY=NEVER",))
        assert "queued as" in send(daemon, gone.replace("carol", "dora"), (), ("NOTIFY=NEVER",))
        daemon.terminate()
        server.start()
        daemon.start()
        reports = wait_for_news(server, 4)
        assert sorted(each.about for each in reports) == [
            ("failed", f"rfc822;{gone}"),
            ("relayed", f"rfc822;{BOB}"),
        ]
        (failed,) = (each for each in reports if each.about[0] == "failed")
        _, about = failed.fields
        assert about["Diagnostic-Code"].startswith("smtp; 550 5.1.1")
        assert about["Remote-MTA"] == "dns; 127.0.0.1"
        returned = failed.message.get_payload()
        assert isinstance(returned, list)
        original = returned[2]
        assert isinstance(original, Message)
        assert original.get_content_type() == "message/rfc822"
        assert b"The body." in original.as_bytes()
        wait_for_ledger(daemon, accepted=4, generated=2, delivered=4, bounced=1, refused=1)
