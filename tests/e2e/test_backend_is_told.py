"""Story: the backend sees the clients, not the proxy: a real Postfix with XCLIENT and XFORWARD.

Postfix' own `Received:` line says whom it took for its client, its log who that was for a human
reader. 127.0.0.1, .2 and .3 are three clients.
"""

import re
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.daemon import Daemon
from tests.support.load import PATIENCE
from tests.support.postfix import Delivered, Postfix
from tests.support.processes import wait_until

AUTHORISED = {"smtpd_authorized_xclient_hosts": "127.0.0.0/8"}
LOGS = {"smtpd_authorized_xforward_hosts": "127.0.0.0/8"}
# Who is a stranger to Postfix may send to its own domains only; 127.0.0.1 is none, as the proxy.
OWN_RULES = {
    "mynetworks": "127.0.0.1/32",
    "smtpd_recipient_restrictions": "",
    "smtpd_relay_restrictions": "permit_mynetworks, permit_sasl_authenticated, "
    "reject_unauth_destination",
}


@contextmanager
def servers(
    folder: Path, settings: dict[str, str], **backend: Any
) -> Iterator[tuple[Daemon, Postfix]]:
    """A proxy in front of a Postfix; `backend` are keys of its section."""
    with Postfix(settings=settings) as server:
        section = {"name": "postfix", "host": "127.0.0.1", "port": server.port, **backend}
        overrides = {
            "backends": [section],
            "trusted_networks": ["127.0.0.0/8"],
            "verification": {"mode": "none"},
        }
        with Daemon(
            folder=folder / "mailshed", backend_port=server.port, overrides=overrides
        ) as daemon:
            yield daemon, server


def send(
    daemon: Daemon, source: str, *to: str, helo: str = "", sender: str = "ward@personal.example"
) -> tuple[int, str]:
    """Send a message from `source`; the reply to its end."""
    with smtplib.SMTP(timeout=PATIENCE, source_address=(source, 0)) as session:
        session.connect("127.0.0.1", daemon.port)
        session.ehlo(helo or f"client-{source.replace('.', '-')}.example")
        session.mail(sender)
        for address in to:
            session.rcpt(address)
        code, text = session.data(b"Subject: hello\r\n\r\nHello.\r\n")
        return code, text.decode()


def received_from(message: Delivered) -> tuple[str, str]:
    """HELO name and address in the `Received:` line of Postfix, which is its topmost."""
    found = re.search(rb"^Received: from (\S+) \(\S+ \[([^]]+)\]\)", message.content, re.MULTILINE)
    assert found is not None, message.content[:600]
    return found[1].decode(), found[2].decode()


def test_postfix_takes_each_message_for_its_clients(tmp_path: Path) -> None:
    names = {2: "client-127-0-0-2.example", 3: "client-127-0-0-3.example"}
    # What is no name does no harm.
    helos = ["", "", "", "", "(x)", "ADDR=10.0.0.1", "a" * 400, "h" * 255]
    sources = [2, 3, 3, 2, 2, 2, 3, 3]
    with servers(tmp_path, AUTHORISED, identity="xclient") as (daemon, server):
        for number, (source, helo) in enumerate(zip(sources, helos, strict=True)):
            code, _ = send(daemon, f"127.0.0.{source}", f"n{number}@hospital.example", helo=helo)
            assert code == 250
        server.wait_delivered(len(sources))
        for message in server.delivered():
            number = int(message.recipient[1])
            name, address = received_from(message)
            assert address == f"127.0.0.{sources[number]}"
            expected = names[sources[number]] if not helos[number] else f"[{address}]"
            assert name == ("h" * 255 if number == 7 else expected)
        assert daemon.metrics().total("backend_connections_opened_total") <= 3


def test_postfix_judges_the_client_by_its_own_rules_and_reports_are_ours(tmp_path: Path) -> None:
    """All may relay as far as the proxy is concerned; Postfix trusts the proxy only."""
    settings = AUTHORISED | OWN_RULES
    with servers(tmp_path, settings, identity="xclient") as (daemon, server):
        code, text = send(daemon, "127.0.0.2", "someone@elsewhere.example")
        assert (code, "Relay access denied" in text) == (554, True)
        assert send(daemon, "127.0.0.1", "someone@elsewhere.example")[0] == 250
        assert send(daemon, "127.0.0.2", "someone@elsewhere.example")[0] == 554
        server.wait_delivered(1)

        server.kill()
        sender = "ward@personal.example"
        assert send(daemon, "127.0.0.2", "n0@hospital.example", sender=sender)[0] == 250
        code, _ = send(daemon, "127.0.0.2", "out@elsewhere.example", sender=sender)
        assert code == 250  # Postfix will refuse it, and the sender is told
        server.start()
        server.wait_delivered(3, 60.0)
        daemon.wait_spool_empty()
        by_recipient = {each.recipient: each for each in server.delivered()}
        assert received_from(by_recipient["n0@hospital.example"])[1] == "127.0.0.2"
        report = by_recipient[sender]
        assert received_from(report)[1] == "127.0.0.1"
        assert b"out@elsewhere.example" in report.content


def test_mail_waits_until_postfix_authorises_us_and_the_log_says_what_to_do(
    tmp_path: Path,
) -> None:
    settings = {"smtpd_authorized_xclient_hosts": "192.0.2.1"}
    with servers(tmp_path, settings, identity="xclient") as (daemon, server):
        for number in range(5):
            code, text = send(daemon, "127.0.0.2", f"n{number}@hospital.example")
            assert (code, "queued as" in text) == (250, True)
        refused = [line for line in daemon.log_text.splitlines() if "identity_refused" in line]
        assert len(refused) == 1
        assert "smtpd_authorized_xclient_hosts" in refused[0]
        assert server.delivered_count == 0

        command = ["postconf", "-c", str(server.root / "conf"), "-e"]
        server._command(*command, "smtpd_authorized_xclient_hosts=127.0.0.0/8")
        server._command("postfix", "-c", str(server.root / "conf"), "reload")
        server.wait_delivered(5, deadline=60.0)
        assert {received_from(each)[1] for each in server.delivered()} == {"127.0.0.2"}
        wait_until(lambda: "backend_identity_taken" in daemon.log_text, lambda: daemon.log_tail)


def test_postfix_logs_the_client_and_several_recipients_go_by_bdat(tmp_path: Path) -> None:
    body = b"Subject: dots\r\n\r\n.\r\n..\r\n...three\r\nend.\r\n"
    with servers(tmp_path, LOGS, identity="xforward", chunking="auto") as (daemon, server):
        for to in (["n0@hospital.example"], ["n1@hospital.example", "n2@hospital.example"]):
            with smtplib.SMTP(timeout=PATIENCE, source_address=("127.0.0.2", 0)) as session:
                session.connect("127.0.0.1", daemon.port)
                session.sendmail("a@personal.example", to, body)
        server.wait_delivered(3)
        for message in server.delivered():
            assert message.original == body.replace(b"\r\n", b"\n")
        told = re.findall(
            r"client=localhost\[127\.0\.0\.1\], orig_queue_id=(\w{16}), "
            r"orig_client=unknown\[127\.0\.0\.2\]",
            server.log_text,
        )
        assert len(told) == 2
        assert all(queue_id in daemon.log_text for queue_id in told)
        daemon.terminate()
        wait_until(
            lambda: re.search(r"disconnect from .* data=1 bdat=1 ", server.log_text) is not None,
            lambda: server.log_text[-1500:],
        )
