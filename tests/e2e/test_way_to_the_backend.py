"""Story: the mail server wants TLS, a login and a PROXY header, and proves who it is.

A real Postfix, with passwords from a real Dovecot, and somebody who listens on the network between
it and us. First everything is set up wrong, one thing after the other: mail is acknowledged and
waits, nothing of it and no password is on the wire, and the log says what to do. Nothing is
restarted to put it right.
"""

import json
import smtplib
from base64 import b64encode
from pathlib import Path
from typing import Any

from tests.support.certificates import make_authority
from tests.support.daemon import Daemon
from tests.support.dovecot import Dovecot
from tests.support.load import PATIENCE
from tests.support.postfix import Postfix
from tests.support.processes import wait_until
from tests.support.wiretap import Wiretap

LOGIN = "mailshed@hospital.example"
PASSWORD = "pleurodelinae-9"
SECRETS = (
    PASSWORD.encode(),
    b64encode(PASSWORD.encode()),
    b64encode(b"\0%b\0%b" % (LOGIN.encode(), PASSWORD.encode())),
)


def events(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in daemon.log_text.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def send(daemon: Daemon, recipient: str) -> str:
    """Send a message; the reply to its end."""
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=PATIENCE) as session:
        session.ehlo("ward.example")
        session.mail("ward@clinical.example")
        session.rcpt(recipient)
        code, text = session.data(b"Subject: hello\r\n\r\nVermilion.\r\n")
        assert code == 250, text
        return text.decode()


def write_login(path: Path, password: str) -> None:
    path.write_text(f"{LOGIN}\n{password}\n")
    path.chmod(0o600)


def secure(dovecot: Dovecot, pair: tuple[Path, Path]) -> dict[str, str]:
    """Settings of a Postfix that takes mail from who logs in over TLS, behind a proxy."""
    return {
        "mynetworks": "",
        "smtpd_tls_security_level": "encrypt",
        "smtpd_tls_auth_only": "yes",
        "smtpd_tls_cert_file": str(pair[0]),
        "smtpd_tls_key_file": str(pair[1]),
        "smtpd_tls_received_header": "yes",
        "smtpd_sasl_auth_enable": "yes",
        "smtpd_sasl_type": "dovecot",
        "smtpd_sasl_path": str(dovecot.auth_socket),
        "smtpd_sasl_authenticated_header": "yes",
        "smtpd_recipient_restrictions": "permit_sasl_authenticated, reject",
        "smtpd_upstream_proxy_protocol": "haproxy",
    }


def test_mail_waits_until_the_way_is_safe_and_open(tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "authority")
    stranger = make_authority(tmp_path / "stranger", "Somebody else")
    pair = authority.issue(["mail.hospital.example"])
    trusted, login = tmp_path / "trusted.pem", tmp_path / "login"
    trusted.write_bytes(stranger.ca_file.read_bytes())
    write_login(login, "wrong")
    with (
        Dovecot(accounts={LOGIN: PASSWORD}) as dovecot,
        Postfix(settings=secure(dovecot, pair)) as server,
        Wiretap(server.port) as wire,
    ):
        backend = {
            "name": "postfix",
            "host": "127.0.0.1",
            "port": wire.port,
            "tls": "starttls",
            "tls_name": "mail.hospital.example",
            "ca_file": str(trusted),
            "credentials_file": str(login),
            "proxy_protocol": True,
        }
        overrides = {
            "backends": [backend],
            "verification": {"mode": "none"},
            "log": {"format": "json"},
        }
        with Daemon(
            folder=tmp_path / "mailshed", backend_port=wire.port, overrides=overrides
        ) as daemon:
            assert "queued as" in send(daemon, "one@hospital.example")
            wait_until(lambda: bool(events(daemon, "backend_away")), "no backend_away")
            detail = events(daemon, "backend_away")[0]["detail"]
            assert "certificate verify failed" in detail
            assert "set ca_file" in detail

            trusted.write_bytes(authority.ca_file.read_bytes())
            daemon.reload()
            wait_until(lambda: bool(events(daemon, "backend_login_refused")), "no login")
            (refused,) = events(daemon, "backend_login_refused")
            assert "refuses our login: it said 535 5.7.8" in refused["detail"]
            assert "queued as" in send(daemon, "two@hospital.example")
            wait_until(
                lambda: "refuses our login" in json.dumps(daemon.command_json("status")),
                "the status does not name the login",
            )
            assert b"Vermilion" not in wire.sent

            write_login(login, PASSWORD)
            daemon.reload()
            server.wait_delivered(2)
            daemon.wait_spool_empty()
            send(daemon, "three@hospital.example")
            server.wait_delivered(3)
            for message in server.delivered():
                assert b"using TLSv1.3" in message.content
                assert b"Authenticated sender: " + LOGIN.encode() in message.content
            shown = daemon.command("config", "show") + daemon.log_text + daemon.get("/metrics")[1]
        assert len(events(daemon, "backend_login_refused")) == 1
        clear = wire.sent + wire.heard
        assert b"STARTTLS" in clear
        assert clear.count(b"\r\n\r\n\x00\r\nQUIT\n") >= 3, "a PROXY header on each connection"
        for secret in (*SECRETS, b"AUTH PLAIN", b"MAIL FROM", b"Vermilion"):
            assert secret not in wire.sent
        for secret in SECRETS:
            assert secret not in clear
            assert secret.decode() not in shown


def test_the_front_promises_no_more_than_the_backend_also_after_a_restart(tmp_path: Path) -> None:
    """TLS comes first here (port 465), and the server's own certificate is what is trusted."""
    pair = make_authority(tmp_path / "authority").issue(["127.0.0.1"])
    with Postfix(
        settings={
            "message_size_limit": "1000000",
            "mailbox_size_limit": "0",
            "smtpd_tls_cert_file": str(pair[0]),
            "smtpd_tls_key_file": str(pair[1]),
            "smtpd_tls_wrappermode": "yes",
            "smtputf8_enable": "yes",
        }
    ) as server:
        backend = {
            "name": "postfix",
            "host": "127.0.0.1",
            "port": server.port,
            "tls": "implicit",
            "ca_file": str(pair[0]),
        }
        overrides = {"backends": [backend], "verification": {"mode": "none"}}
        with Daemon(
            folder=tmp_path / "mailshed", backend_port=server.port, overrides=overrides
        ) as daemon:
            assert offered(daemon) == (52_428_800, False), "nobody knows yet"
            send(daemon, "one@hospital.example")
            server.wait_delivered(1)
            (message,) = server.delivered()
            assert b"Vermilion" in message.content
            assert offered(daemon) == (1_000_000 - 2048, True)
            daemon.terminate()
            server.kill()
            daemon.start()
            assert offered(daemon) == (1_000_000 - 2048, True), "it is away, and was known"
            with smtplib.SMTP("127.0.0.1", daemon.port, timeout=PATIENCE) as session:
                session.ehlo("ward.example")
                code, _ = session.mail("ward@clinical.example", ["SIZE=999999"])
                assert code == 552


def offered(daemon: Daemon) -> tuple[int, bool]:
    """The size that EHLO announces, and whether SMTPUTF8 is."""
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=PATIENCE) as session:
        session.ehlo("ward.example")
        return int(session.esmtp_features["size"]), session.has_extn("smtputf8")
