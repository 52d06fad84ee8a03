"""Story: who does not exist is refused at RCPT, in the words of the Postfix that knows.

Postfix knows alice and bob and nobody else. mailshed asks it with MAIL, RCPT and RSET, which can
be counted in Postfix's log: only questions have a RSET. 127.0.0.1 is a stranger here, and
127.0.0.2 a trusted client.
"""

import re
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.load import PATIENCE
from tests.support.postfix import Postfix
from tests.support.processes import wait_until

KNOWN = ("alice@hospital.example", "bob@hospital.example")
MAPS = " ".join(f"{{{address} = inbox/}}" for address in KNOWN)
SETTINGS = {"virtual_mailbox_maps": f"inline:{{{MAPS}}}"}
STRANGER, TRUSTED = "127.0.0.1", "127.0.0.2"
SENDER = "someone@elsewhere.example"
MESSAGE = b"Subject: hello\r\n\r\n"
# One for the address, and one for a random address that tells a catch-all.
QUESTIONS_OF_THE_FIRST = 2


@contextmanager
def servers(
    folder: Path, settings: dict[str, str] = SETTINGS, **verification: object
) -> Iterator[tuple[Daemon, Postfix]]:
    """A proxy in front of a Postfix that knows some mailboxes."""
    overrides = {"trusted_networks": [f"{TRUSTED}/32"], "verification": verification}
    with (
        Postfix(settings=settings) as server,
        Daemon(folder=folder / "mailshed", backend_port=server.port, overrides=overrides) as daemon,
    ):
        yield daemon, server


@contextmanager
def client(daemon: Daemon, source: str = STRANGER) -> Iterator[smtplib.SMTP]:
    """A session after EHLO, from `source`."""
    with smtplib.SMTP(timeout=PATIENCE, source_address=(source, 0)) as made:
        made.connect("127.0.0.1", daemon.port)
        made.ehlo("client.example")
        yield made


def rcpt(session: smtplib.SMTP, *recipients: str) -> list[tuple[int, str]]:
    """Begin a transaction and name recipients; their replies."""
    session.rset()
    assert session.mail(SENDER)[0] == 250
    replies = [session.rcpt(address) for address in recipients]
    return [(code, text.decode()) for code, text in replies]


def send(session: smtplib.SMTP, *recipients: str) -> str:
    """Send a message to recipients who must be accepted; the reply to its end."""
    assert [code for code, _ in rcpt(session, *recipients)] == [250] * len(recipients)
    code, text = session.data(MESSAGE)
    return f"{code} {text.decode()}"


def questions(server: Postfix) -> int:
    """How often Postfix has been asked; a connection is counted when it is closed.

    A probe, which asks whether Postfix is there at all, names no recipient.
    """
    asked = re.findall(r"disconnect from .* rcpt=.* rset=(\d+)", server.log_text)
    return sum(map(int, asked))


def test_unknown_recipients_are_refused_in_postfixs_own_words(tmp_path: Path) -> None:
    with servers(tmp_path) as (daemon, server), client(daemon) as session:
        (known, (code, text), again) = rcpt(
            session, KNOWN[0], "nobody@hospital.example", "nobody@hospital.example"
        )
        assert known[0] == 250
        assert (code, text) == again
        assert code == 550
        assert text == (
            "5.1.1 <nobody@hospital.example>: Recipient address rejected:"
            " User unknown in virtual mailbox table"
        )
        code, _ = session.data(MESSAGE)
        assert code == 250
        server.wait_delivered(1)
        assert [each.recipient for each in server.delivered()] == [KNOWN[0]]
        daemon.wait_logged("event=rejected")
        daemon.wait_logged("reason=unknown_recipient")
        scrape = daemon.metrics()
        counted = {
            result: scrape.total("recipient_verifications_total", result=result)
            for result in ("known", "unknown", "cached_unknown", "accepts_all")
        }
        assert counted == {"known": 1, "unknown": 1, "cached_unknown": 1, "accepts_all": 0}


def test_one_question_is_enough_for_many_messages(tmp_path: Path) -> None:
    with servers(tmp_path) as (daemon, server):
        for _ in range(10):
            with client(daemon) as session:
                assert send(session, KNOWN[0]).startswith("250")
        server.wait_delivered(10)
        wait_until(lambda: questions(server) > 0, "the connection of questions is closed")
        assert questions(server) == QUESTIONS_OF_THE_FIRST
        scrape = daemon.metrics()
        assert scrape.total("cached_recipients") == 1
        assert scrape.total("call_ahead_seconds_count") == 1


def test_what_was_delivered_need_not_be_asked_about(tmp_path: Path) -> None:
    """Accepted unverified while Postfix was away, delivered from the spool, and so known."""
    with servers(tmp_path) as (daemon, server):
        server.kill()
        with client(daemon, TRUSTED) as session:
            assert "queued as" in send(session, *KNOWN)
        server.start()
        server.wait_delivered(len(KNOWN))
        daemon.wait_spool_empty()
        with client(daemon) as session:
            assert send(session, KNOWN[1]).startswith("250")
        assert daemon.metrics().total("recipient_verifications_total", result="cached_known") == 1
        assert questions(server) == 0


def test_without_postfix_what_is_known_is_taken_and_strangers_come_back_for_the_rest(
    tmp_path: Path,
) -> None:
    with servers(tmp_path) as (daemon, server):
        with client(daemon) as session:
            assert send(session, KNOWN[0]).startswith("250")
        server.wait_delivered(1)
        server.kill()
        with client(daemon) as session:
            assert "queued as" in send(session, KNOWN[0])
            ((code, text),) = rcpt(session, KNOWN[1])
            assert (code, text[:5]) == (450, "4.3.2")
        with client(daemon, TRUSTED) as session:
            assert "queued as" in send(session, KNOWN[1])
        daemon.wait_logged("reason=unverified_recipient")
        server.start()
        server.wait_delivered(3)
        daemon.wait_spool_empty()
        with client(daemon) as session:
            assert send(session, KNOWN[1]).startswith("250")


def test_a_postfix_that_takes_everything_is_found_out(tmp_path: Path) -> None:
    with servers(tmp_path, settings={}) as (daemon, server):
        with client(daemon) as session:
            assert rcpt(session, "anybody-0@hospital.example")[0][0] == 250
            wait_until(
                lambda: "event=catch_all_found domain=hospital.example" in daemon.log_text,
                "the catch-all is in the log",
            )
            others = [f"anybody-{number}@hospital.example" for number in range(1, 20)]
            assert {code for code, _ in rcpt(session, *others)} == {250}
        wait_until(lambda: questions(server) > 0, "the connection of questions is closed")
        assert questions(server) == QUESTIONS_OF_THE_FIRST
        scrape = daemon.metrics()
        assert scrape.total("recipient_verifications_total", result="accepts_all") == len(others)
        assert daemon.log_text.count("event=catch_all_found") == 1


def test_a_connection_of_questions_does_not_keep_a_process(tmp_path: Path) -> None:
    """With a single smtpd process, nothing else would come through while it is held."""
    with (
        Postfix(settings=SETTINGS, smtpd_processes=1) as server,
        Daemon(
            folder=tmp_path / "mailshed",
            backend_port=server.port,
            overrides={"backends": [_one_at_a_time(server)]},
        ) as daemon,
        client(daemon) as session,
    ):
        for number in range(5):
            recipients = (KNOWN[number % 2],)
            assert send(session, *recipients).startswith("250")
        daemon.wait_spool_empty()
        server.wait_delivered(5)


def _one_at_a_time(server: Postfix) -> dict[str, object]:
    return {"name": "postfix", "host": "127.0.0.1", "port": server.port, "in_flight_max": 1}


def test_a_list_of_recipients_answers_instead_and_is_read_again(tmp_path: Path) -> None:
    recipients = tmp_path / "recipients"
    recipients.write_text("alice@hospital.example\n")
    with servers(tmp_path, mode="file", recipients_file=str(recipients)) as (daemon, server):
        with client(daemon) as session:
            (listed, unlisted) = rcpt(session, "Alice@hospital.example", KNOWN[1])
            assert (listed[0], unlisted[0]) == (250, 550)
        recipients.write_text("alice@hospital.example\nbob at home\n")
        daemon.reload()
        wait_until(lambda: "event=reload_refused" in daemon.log_text, "the reload is refused")
        daemon.wait_logged("verification.recipients_file")
        recipients.write_text("bob@hospital.example\n")
        daemon.reload()
        wait_until(lambda: "event=reloaded" in daemon.log_text, "the reload is done")
        with client(daemon) as session:
            (unlisted, listed) = rcpt(session, *KNOWN)
            assert (unlisted[0], listed[0]) == (550, 250)
        assert questions(server) == 0
