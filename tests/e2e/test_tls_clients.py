"""Story: clients of every habit come over TLS, and what is old or hostile does not get in."""

import smtplib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.certificates import Authority, make_authority
from tests.support.daemon import Daemon
from tests.support.debian import require
from tests.support.postfix import Postfix
from tests.support.processes import DEADLINE, free_port, wait_until

SENDER = "someone@personal.example"
RECIPIENT = "everyone@hospital.example"
MESSAGE = b"Subject: trial\r\n\r\nIt works.\r\n"


@dataclass(frozen=True, slots=True)
class Site:
    """The proxy with a port for each way into TLS, in front of Postfix."""

    daemon: Daemon
    server: Postfix
    authority: Authority
    implicit_port: int

    @property
    def context(self) -> ssl.SSLContext:
        """What a client needs to trust it."""
        return ssl.create_default_context(cafile=self.authority.ca_file)

    def received(self, number: int) -> str:
        """Our trace line in the message that was delivered as the so-manieth, unfolded."""
        self.server.wait_delivered(number)
        texts = [each.content.decode() for each in self.server.delivered()]
        (line,) = [
            field
            for field in texts[-1].replace("\n\t", " ").splitlines()
            if field.startswith("Received:") and "(mailshed)" in field
        ]
        return line


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Both are up."""
    authority = make_authority(tmp_path / "authority")
    certificate, key = authority.issue()
    port, implicit_port = free_port(), free_port()
    overrides = {
        "listeners": [
            {"name": "smtp", "bind": f"127.0.0.1:{port}", "tls": "starttls", "tls_required": True},
            {"name": "smtps", "bind": f"127.0.0.1:{implicit_port}", "tls": "implicit"},
        ],
        "tls": {"certificate": str(certificate), "key": str(key), "handshake_timeout": "1s"},
    }
    with (
        Postfix() as server,
        Daemon(
            folder=tmp_path / "mailshed",
            backend_port=server.port,
            port=port,
            overrides=overrides,
        ) as daemon,
    ):
        yield Site(daemon, server, authority, implicit_port)


def s_client(port: int, *words: str) -> str:
    """What `openssl s_client` says of a port, on both its outputs."""
    done = subprocess.run(
        [str(require("openssl")), "s_client", "-connect", f"127.0.0.1:{port}", *words],
        input=b"QUIT\r\n",
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    return (done.stdout + done.stderr).decode("latin-1")


def test_mail_comes_over_both_ways_into_tls(site: Site) -> None:
    with smtplib.SMTP("localhost", site.daemon.port, timeout=DEADLINE) as client:
        client.ehlo("workstation.example")
        with pytest.raises(smtplib.SMTPSenderRefused) as caught:
            client.sendmail(SENDER, RECIPIENT, MESSAGE)
        assert caught.value.smtp_code == 530
        client.starttls(context=site.context)
        client.ehlo("workstation.example")
        assert not client.has_extn("starttls")
        client.sendmail(SENDER, RECIPIENT, MESSAGE)
    line = site.received(1)
    assert "(mailshed) with ESMTPS id " in line
    assert f"for <{RECIPIENT}> tls TLS_AES_256_GCM_SHA384; " in line
    with smtplib.SMTP_SSL(
        "localhost", site.implicit_port, timeout=DEADLINE, context=site.context
    ) as client:
        client.ehlo("workstation.example")
        client.sendmail(SENDER, RECIPIENT, MESSAGE)
    assert "(mailshed) with ESMTPS id " in site.received(2)
    scrape = site.daemon.metrics()
    assert scrape.total("tls_handshakes_total", result="ok") == 2
    assert scrape.total("tls_sessions_total", protocol="TLSv1.3") == 2


def test_swaks_delivers_over_both(site: Site) -> None:
    for port, way in ((site.daemon.port, "--tls"), (site.implicit_port, "--tls-on-connect")):
        done = subprocess.run(
            [
                str(require("swaks")),
                *("--server", f"127.0.0.1:{port}", way, "--tls-verify", "--helo", "swaks.example"),
                *("--tls-ca-path", str(site.authority.ca_file)),
                *("--from", SENDER, "--to", RECIPIENT, "--body", "It works."),
            ],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    site.server.wait_delivered(2)


def test_openssl_finds_nothing_old(site: Site) -> None:
    trusting = ("-CAfile", str(site.authority.ca_file))
    for words in (
        ("-starttls", "smtp", "-connect", f"127.0.0.1:{site.daemon.port}"),
        ("-connect", f"127.0.0.1:{site.implicit_port}"),
    ):
        shown = s_client(site.implicit_port, *words, *trusting)
        assert "Verify return code: 0 (ok)" in shown
        assert "New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384" in shown
        assert "Compression: NONE" in shown
        assert "No ALPN negotiated" in shown
        old = s_client(site.implicit_port, *words, "-tls1_2", *trusting)
        assert "Secure Renegotiation IS supported" in old
        assert "Cipher    : ECDHE-ECDSA-" in old
        for version in ("-tls1_1", "-tls1"):
            refused = s_client(site.implicit_port, *words, version, "-cipher", "ALL:@SECLEVEL=0")
            assert "alert protocol version" in refused
        refused = s_client(site.implicit_port, *words, "-tls1_2", "-cipher", "AES128-SHA")
        assert "alert handshake failure" in refused


def test_renegotiation_is_refused(site: Site) -> None:
    """A client could ask for private key operations without end."""
    words = ("s_client", "-tls1_2", "-connect", f"127.0.0.1:{site.implicit_port}")
    with subprocess.Popen(
        [str(require("openssl")), *words],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as client:
        # A greeting that came while it renegotiates would end the client before our answer.
        assert client.stdout
        while not client.stdout.readline().startswith(b"220 "):
            assert client.poll() is None
        shown = client.communicate(b"R\n", timeout=DEADLINE)[0].decode("latin-1")
    assert "RENEGOTIATING" in shown
    assert "no renegotiation" in shown


def test_scanners_leave_one_quiet_line(site: Site) -> None:
    """No traceback, and the connection ends when it should."""
    for port in (site.daemon.port, site.implicit_port):
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as scanner:
            if port == site.daemon.port:
                assert scanner.recv(1000).startswith(b"220 ")
                scanner.sendall(b"STARTTLS\r\n")
                assert scanner.recv(1000).startswith(b"220 ")
            scanner.sendall(b"\x16\x03\x01")
            assert scanner.recv(1000) == b"", "it is closed at the deadline"
    with socket.create_connection(("127.0.0.1", site.implicit_port), timeout=DEADLINE) as scanner:
        scanner.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while scanner.recv(1000):
            pass
    wait_until(lambda: site.daemon.log_text.count("event=tls_failed") == 3, "they are told")
    assert 'detail="the client speaks HTTP"' in site.daemon.log_text
    assert site.daemon.log_text.count('detail="not done after 1 s"') == 2
    assert "event=task_failed" not in site.daemon.log_text
    assert "event=library" not in site.daemon.log_text
    assert "Traceback" not in site.daemon.log_text
