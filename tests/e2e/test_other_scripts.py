"""Story: addresses of other scripts (RFC 6531), live and through the spool, to a real Postfix.

SMTPUTF8 is offered once the mail server behind is known to have it, also while that is away and
after a restart. The octets of addresses and header pass unchanged, logs stay ASCII, and operators
find the message by its address. A message in chunks with a priority goes the same way.
"""

import smtplib
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.load import PATIENCE
from tests.support.postfix import Postfix
from tests.support.processes import wait_until

SENDER, RECIPIENT = "jürgen@bücher.example", "Ärztin.用户@hospital.example"
MESSAGE = "From: Jürgen <jürgen@bücher.example>\r\nSubject: Grüße\r\n\r\n.用户\r\n".encode()
SETTINGS = {"smtputf8_enable": "yes"}


def has_smtputf8(daemon: Daemon) -> bool:
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=PATIENCE) as session:
        session.ehlo("workstation.hospital.example")
        return session.has_extn("smtputf8")


def send(daemon: Daemon, *, in_chunks: bool) -> str:
    """Send the message; the reply to it."""
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=PATIENCE) as session:
        session.ehlo("workstation.hospital.example")
        assert session.mail(SENDER, ["SMTPUTF8", "BODY=8BITMIME", "MT-PRIORITY=2"])[0] == 250
        assert session.rcpt(RECIPIENT)[0] == 250
        if not in_chunks:
            code, text = session.data(MESSAGE)
            return f"{code} {text.decode()}"
        assert session.sock is not None
        session.sock.sendall(b"BDAT 20\r\n" + MESSAGE[:20])
        assert session.getreply() == (250, b"2.0.0 20 octets received")
        session.sock.sendall(b"BDAT %d LAST\r\n%b" % (len(MESSAGE) - 20, MESSAGE[20:]))
        code, text = session.getreply()
        return f"{code} {text.decode()}"


def test_they_pass_live_and_through_the_spool(tmp_path: Path) -> None:
    with (
        Postfix(settings=SETTINGS) as server,
        Daemon(folder=tmp_path / "mailshed", backend_port=server.port) as daemon,
    ):
        with smtplib.SMTP("127.0.0.1", daemon.port, timeout=PATIENCE) as session:
            session.sendmail("alice@example.org", "bob@hospital.example", "Subject: x\r\n\r\nx\r\n")
        wait_until(lambda: has_smtputf8(daemon), "SMTPUTF8 is offered")
        assert send(daemon, in_chunks=False).startswith("250 2.0.0 Ok: queued as")
        server.wait_delivered(2, PATIENCE)

        server.kill()
        queue_id = send(daemon, in_chunks=True).rpartition(" ")[2]
        (shown,) = daemon.command_json("queue", "show", queue_id)["messages"]
        assert (shown["sender"], shown["recipients"][0]["address"]) == (SENDER, RECIPIENT)
        assert "MT-PRIORITY=2" in shown["parameters"]
        assert queue_id in daemon.command("queue", "list", "--rcpt", RECIPIENT)
        assert queue_id in daemon.command("queue", "list", "--from", "@bücher.example")
        assert SENDER in daemon.command("queue", "show", queue_id)
        explained = daemon.command_json("explain", queue_id)
        assert explained["known"]

        daemon.terminate()
        daemon.start()
        assert has_smtputf8(daemon), "what is known of the server outlives a restart"
        server.start()
        server.wait_delivered(3, PATIENCE)
        daemon.wait_spool_empty()

        delivered = [each for each in server.delivered() if "用户".encode() in each.content]
        assert len(delivered) == 2
        for each in delivered:
            assert f"Return-Path: <{SENDER}>\n".encode() in each.content
            assert each.original.replace(b"\r\n", b"\n").endswith(MESSAGE.replace(b"\r\n", b"\n"))
            assert b"with UTF8SMTP id" in each.content
        assert daemon.log_text.isascii()
        daemon.wait_logged(r"from=\"<j\u00fcrgen@b\u00fccher.example>\"".replace('\\"', '"'))
