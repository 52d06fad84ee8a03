"""Users log in with real clients, and real servers know their passwords: Dovecot, and Postfix.

Every connection on which a password could be seen goes through a wire tap; at the end of each story
nothing of any password stands in what was seen, in the log, in the metrics, in what operators are
shown, nor in what is on disk.
"""

import base64
import smtplib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority, make_authority
from tests.support.daemon import Daemon
from tests.support.debian import require
from tests.support.dovecot import ACCOUNTS, Dovecot
from tests.support.postfix import Postfix
from tests.support.processes import DEADLINE, free_port, wait_until
from tests.support.secret_forms import found_in
from tests.support.wiretap import Wiretap

pytestmark = pytest.mark.e2e

ALICE, BOB = ACCOUNTS
SECRETS = [*(password.encode() for password in ACCOUNTS.values()), b"Kanarienvogel-7"]
WRONG = "Kanarienvogel-7"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with Dovecot() as running:
        yield running


# Dovecot slows an address down after a failure, and to it Postfix' clients are one: us.
_NO_PENALTY = """
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
"""


@pytest.fixture(scope="module")
def postfix(authority: Authority) -> Iterator[Postfix]:
    """Takes our mail, and logs users in over TLS, by what a Dovecot of its own knows."""
    with Dovecot(extra=_NO_PENALTY) as dovecot, _postfix(dovecot, authority) as running:
        yield running


def _postfix(dovecot: Dovecot, authority: Authority) -> Postfix:
    certificate, key = authority.issue(("localhost", "127.0.0.1"))
    settings = {
        "smtpd_sasl_auth_enable": "yes",
        "smtpd_sasl_type": "dovecot",
        "smtpd_sasl_path": str(dovecot.auth_socket),
        "smtpd_tls_auth_only": "yes",
        "smtpd_tls_security_level": "may",
        "smtpd_tls_cert_file": str(certificate),
        "smtpd_tls_key_file": str(key),
        "smtpd_tls_received_header": "yes",
    }
    return Postfix(settings=settings)


def _overrides(
    authority: Authority, listening: int, authentication: dict[str, Any]
) -> dict[str, Any]:
    certificate, key = authority.issue(("localhost", "127.0.0.1"))
    return {
        "listeners": [
            {
                "name": "submission",
                "bind": f"127.0.0.1:{listening}",
                "clients": "user_agent",
                "tls": "starttls",
                "auth": "required",
            }
        ],
        "tls": {"certificate": str(certificate), "key": str(key)},
        "authentication": {"timeout": "5s"} | authentication,
        "classification": {
            "rules": [{"name": "alice", "class": "clinical", "users": ["alice@*"]}],
            "default": "personal",
        },
    }


class Site:
    """A daemon for users, and a tap before it."""

    def __init__(self, daemon: Daemon, tap: Wiretap, authority: Authority) -> None:
        self.daemon = daemon
        self.tap = tap
        self.ca_file = authority.ca_file
        self.context = ssl.create_default_context(cafile=authority.ca_file)

    def client(self) -> smtplib.SMTP:
        """A client that has begun TLS."""
        client = smtplib.SMTP("localhost", self.tap.port, timeout=DEADLINE)
        client.ehlo("client.example.org")
        assert not client.has_extn("auth"), "AUTH is offered in clear"
        client.starttls(context=self.context)
        client.ehlo("client.example.org")
        return client

    def code(self, login: str, password: str) -> int:
        """What a login comes to."""
        with self.client() as client:
            return client.docmd("AUTH", _plain(login, password))[0]

    def sent(self, login: str, sender: str, recipient: str) -> None:
        """One message by a user."""
        with self.client() as client:
            client.login(login, ACCOUNTS[login])
            client.sendmail(sender, [recipient], f"Subject: of {login}\r\n\r\nhello\r\n")

    def assert_silent(self, *taps: Wiretap) -> None:
        """No password stands anywhere that somebody could look at."""
        shown = "".join(
            (
                self.daemon.log_text,
                self.daemon.get("/metrics")[1],
                self.daemon.command("config", "show"),
                self.daemon.command("status"),
            )
        ).encode()
        spooled = b"".join(
            each.read_bytes() for each in self.daemon.folder.rglob("*") if each.is_file()
        )
        for secret in SECRETS:
            for tap in (self.tap, *taps):
                assert tap.sent, "nothing came through the tap"
                assert found_in(tap.sent + tap.heard, secret) == []
            assert found_in(shown + spooled, secret) == []


@pytest.fixture
def by_dovecot(
    tmp_path: Path, dovecot: Dovecot, postfix: Postfix, authority: Authority
) -> Iterator[Site]:
    """Passwords are asked of Dovecot's socket."""
    port = free_port()
    overrides = _overrides(
        authority,
        port,
        {
            "verifier": "dovecot",
            "dovecot_socket": str(dovecot.auth_socket),
            "mechanisms": ["plain", "login", "xoauth2"],
            "senders": "own",
        },
    )
    with (
        Daemon(
            folder=tmp_path / "mailshed", backend_port=postfix.port, port=port, overrides=overrides
        ) as daemon,
        Wiretap(port) as tap,
    ):
        yield Site(daemon, tap, authority)


def test_users_log_in_by_what_dovecot_knows_and_send(by_dovecot: Site, postfix: Postfix) -> None:
    """The login is the user's for rules, for what he may send as, and in the log."""
    site = by_dovecot
    before = len(postfix.delivered())

    with site.client() as client:
        assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN", "XOAUTH2"]
        assert client.mail(ALICE)[0] == 530
        assert client.login(ALICE, ACCOUNTS[ALICE])[0] == 235
        assert client.mail(BOB)[0] == 553
        assert client.mail(ALICE)[0] == 250
        assert client.rcpt("somebody@elsewhere.example")[0] == 250
        client.rset()
        client.sendmail(ALICE, ["doctor@hospital.example"], "Subject: plain\r\n\r\nhello\r\n")
    assert site.code(ALICE, WRONG) == 535
    assert site.code("nobody@hospital.example", WRONG) == 535

    wait_until(lambda: len(postfix.delivered()) > before, "it is delivered")
    log = site.daemon.log_text
    assert f"event=auth result=accepted login={ALICE} mechanism=PLAIN" in log
    assert "event=auth result=rejected login=ali*** mechanism=PLAIN" in log
    assert "event=auth result=rejected login=nob*** mechanism=PLAIN" in log
    assert f"event=rejected stage=mail from=<{BOB}>" in log
    assert "event=delivered class=clinical rule=alice" in log
    assert b"ESMTPSA" in postfix.delivered()[-1].content.partition(b"\n\n")[0]
    metrics = site.daemon.metrics()
    assert metrics.total("authentications_total", result="accepted") == 1
    assert metrics.total("authentications_total", result="rejected") == 2
    site.assert_silent()


def test_clients_of_other_kinds_log_in(by_dovecot: Site, postfix: Postfix) -> None:
    """Of curl, each mechanism; XOAUTH2 is one that this Dovecot does not know."""
    site = by_dovecot
    sent = {ALICE: "PLAIN", BOB: "LOGIN"}
    for login, mechanism in sent.items():
        curl = [
            *(str(require("curl")), "-sS", "--ssl-reqd", "--cacert", str(site.ca_file)),
            *("--url", f"smtp://localhost:{site.tap.port}"),
            *("--login-options", f"AUTH={mechanism}", "--user", f"{login}:{ACCOUNTS[login]}"),
            *("--mail-from", login, "--mail-rcpt", "doctor@hospital.example", "--crlf", "-T", "-"),
        ]
        done = subprocess.run(
            curl,
            input="Subject: curl\n\nhello\n",
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        line = f"result=accepted login={login} mechanism={mechanism}"
        assert line in site.daemon.log_text
    token = base64.b64encode(f"user={ALICE}\1auth=Bearer {WRONG}\1\1".encode()).decode()
    with site.client() as client:
        assert client.docmd("AUTH", f"XOAUTH2 {token}")[0] == 454

    site.assert_silent()


def _plain(login: str, password: str) -> str:
    return "PLAIN " + base64.b64encode(f"\0{login}\0{password}".encode()).decode()


def test_a_longest_password_passes_dovecots_socket(by_dovecot: Site) -> None:
    """12288 octets of base64 are what RFC 4954 asks for; Dovecot's line has to hold them."""
    secret = "x" * (12288 // 4 * 3 - len(ALICE) - 2)
    response = base64.b64encode(f"\0{ALICE}\0{secret}".encode()).decode()
    assert len(response) == 12288
    with by_dovecot.client() as client:
        assert client.docmd("AUTH", "PLAIN")[0] == 334
        client.send(f"{response}\r\n")
        assert client.getreply()[0] == 535


def test_while_dovecot_is_away_nobody_is_told_that_the_password_is_wrong(
    tmp_path: Path, postfix: Postfix, authority: Authority
) -> None:
    """454 while it is down and while its database is; and what is remembered, where that is on."""
    port = free_port()
    with Dovecot() as dovecot:
        overrides = _overrides(
            authority,
            port,
            {
                "verifier": "dovecot",
                "dovecot_socket": str(dovecot.auth_socket),
                "cache_ttl": "1h",
            },
        )
        with (
            Daemon(
                folder=tmp_path / "mailshed",
                backend_port=postfix.port,
                port=port,
                overrides=overrides,
            ) as daemon,
            Wiretap(port) as tap,
        ):
            site = Site(daemon, tap, authority)
            assert site.code(ALICE, ACCOUNTS[ALICE]) == 235
            dovecot.stop()
            assert site.code(ALICE, ACCOUNTS[ALICE]) == 235
            assert site.code(ALICE, WRONG) == 454
            assert site.code(BOB, ACCOUNTS[BOB]) == 454
            daemon.wait_logged("event=verifier_failing")
            dovecot.start()
            assert site.code(BOB, ACCOUNTS[BOB]) == 235
            assert site.code(ALICE, WRONG) == 535
            daemon.wait_logged("event=verifier_works")
            site.assert_silent()


def test_a_database_that_is_away_is_no_wrong_password(
    tmp_path: Path, postfix: Postfix, authority: Authority
) -> None:
    port = free_port()
    with Dovecot(is_database_away=True) as dovecot:
        overrides = _overrides(
            authority, port, {"verifier": "dovecot", "dovecot_socket": str(dovecot.auth_socket)}
        )
        with (
            Daemon(
                folder=tmp_path / "mailshed",
                backend_port=postfix.port,
                port=port,
                overrides=overrides,
            ) as daemon,
            Wiretap(port) as tap,
        ):
            assert Site(daemon, tap, authority).code(ALICE, ACCOUNTS[ALICE]) == 454
            daemon.wait_logged("temp_fail")


def test_users_log_in_by_what_a_mail_server_says(
    tmp_path: Path, postfix: Postfix, authority: Authority
) -> None:
    """Asked is Postfix, over STARTTLS; the connection to it is tapped too."""
    port = free_port()
    with Wiretap(postfix.port) as behind:
        overrides = _overrides(
            authority,
            port,
            {
                "host": "localhost",
                "port": behind.port,
                "ca_file": str(authority.ca_file),
                "failures_max": 2,
                "failures_per_address": 5,
            },
        )
        with (
            Daemon(
                folder=tmp_path / "mailshed",
                backend_port=postfix.port,
                port=port,
                overrides=overrides,
            ) as daemon,
            Wiretap(port) as tap,
        ):
            site = Site(daemon, tap, authority)
            site.sent(ALICE, "anybody@hospital.example", "doctor@hospital.example")
            with site.client() as client:
                for number in range(2):
                    assert client.docmd("AUTH", _plain(BOB, f"{WRONG}{number}"))[0] == 535
                assert client.getreply()[0] == 421
                client.close()
            for number in range(2, 5):
                assert site.code(BOB, f"{WRONG}{number}") == 535
            assert site.code(BOB, ACCOUNTS[BOB]) == 454
            assert site.code(ALICE, ACCOUNTS[ALICE]) == 235

            daemon.wait_logged("result=limited login=bob***")
            assert daemon.metrics().total("authentications_total", result="limited") == 1
            site.assert_silent(behind)


def test_a_password_would_be_found() -> None:
    """Else the stories above would prove nothing."""
    seen = base64.b64encode(b"\0alice\0" + SECRETS[0])

    assert found_in(seen, SECRETS[0])
    assert found_in(b"xx" + SECRETS[1], SECRETS[1])
    assert not found_in(seen, SECRETS[1])
