"""Story: mailshed stands behind a proxy, and still knows who the client is.

HAProxy in both versions of its protocol, and swaks, which can say XCLIENT and write the header.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import HOSTNAME, Daemon
from tests.support.debian import require
from tests.support.haproxy import HAProxy
from tests.support.processes import DEADLINE, wait_until
from tests.support.smtp_sink import SmtpSink

SENDER, RECIPIENT = "ward@personal.example", "doctor@hospital.example"
ELSEWHERE = "someone@elsewhere.example"
SETTINGS = {
    "trusted_proxies": ["127.0.0.1/32"],
    "trusted_networks": ["127.0.0.9/32", "192.0.2.0/24"],
}


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with SmtpSink() as started:
        yield started


def behind(folder: Path, sink: SmtpSink, proxy: str) -> Daemon:
    daemon = Daemon(folder=folder / "mailshed", backend_port=sink.port)
    listener = {"name": "smtp", "bind": f"127.0.0.1:{daemon.port}", "proxy": proxy}
    daemon.overrides = {**SETTINGS, "listeners": [listener]}
    return daemon


def swaks(port: int, *options: str, recipient: str = RECIPIENT, source: str = "") -> str:
    """Send one message; everything that was said."""
    done = subprocess.run(
        [
            *(str(require("swaks")), "--server", f"127.0.0.1:{port}", "--helo", "swaks.example"),
            *("--from", SENDER, "--to", recipient, "--body", "hello", "--timeout", "20"),
            *(("--local-interface", source) if source else ()),
            *options,
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout + done.stderr


def received(data: bytes) -> str:
    """Our trace line, unfolded."""
    match = re.match(rb"Received: .*?\r\n(?=[^ \t])", data, re.DOTALL)
    assert match is not None
    return " ".join(match[0].decode().split())


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"])
def test_behind_haproxy_the_client_is_the_real_one(
    tmp_path: Path, sink: SmtpSink, send: str
) -> None:
    """In the log, in the trace line and in what it may do; and the health check is content."""
    with (
        behind(tmp_path, sink, "proxy_protocol") as daemon,
        HAProxy(folder=tmp_path / "haproxy", target=daemon.port, send=send) as proxy,
    ):
        wait_until(
            lambda: proxy.check == ("UP", "L7OK"),
            lambda: f"{proxy.check}: {daemon.log_tail}",
        )
        assert "250" in swaks(proxy.port, source="127.0.0.5")
        (message,) = sink.wait_for(1)
        assert received(message.data).startswith(
            f"Received: from swaks.example ([127.0.0.5]) by {HOSTNAME} (mailshed) with ESMTP"
        )
        assert re.search(r"event=delivered .* client=\S*127\.0\.0\.5", daemon.log_text)
        # Neither the proxy's address nor its trust is the client's.
        assert "554 5.7.1" in swaks(proxy.port, source="127.0.0.5", recipient=ELSEWHERE)
        assert "250 2" in swaks(proxy.port, source="127.0.0.9", recipient=ELSEWHERE)
        sink.wait_for(2)
        assert proxy.check[0] == "UP"


def test_who_goes_round_the_proxy_is_turned_away(tmp_path: Path, sink: SmtpSink) -> None:
    with behind(tmp_path, sink, "proxy_protocol") as daemon:
        said = swaks(daemon.port, source="127.0.0.9")
        assert "554 5.7.1 This port is for our proxies only" in said
        claim = ("--proxy-version", "1", "--proxy-family", "TCP4", "--proxy-protocol", "STREAM")
        ends = (
            *("--proxy-source", "192.0.2.7", "--proxy-source-port", "7"),
            *("--proxy-dest", "198.51.100.25", "--proxy-dest-port", "25"),
        )
        assert "250 2" not in swaks(daemon.port, *claim, *ends, source="127.0.0.9")
        assert "250 2" in swaks(daemon.port, *claim, *ends, source="127.0.0.1")
        (message,) = sink.wait_for(1)
        assert "([192.0.2.7])" in received(message.data)
        scrape = daemon.metrics()
        assert scrape.total("smtp_connections_refused_total", cause="no_proxy") == 2
        assert daemon.log_text.count("event=session_refused") == 1


def test_swaks_introduces_a_client_with_xclient(tmp_path: Path, sink: SmtpSink) -> None:
    with behind(tmp_path, sink, "xclient") as daemon:
        client = ("--xclient-addr", "198.51.100.7", "--xclient-name", "client.example")
        said = swaks(daemon.port, *client, source="127.0.0.1")
        assert said.count(f"220 {HOSTNAME} ESMTP mailshed") == 2
        (message,) = sink.wait_for(1)
        assert "([198.51.100.7])" in received(message.data)
        # Trusted by its address, or by its name; and neither if there is none.
        trusted = ("--xclient-addr", "192.0.2.7")
        named = ("--xclient-addr", "IPV6:2001:db8::7", "--xclient-login", "alice@hospital.example")
        assert "554 5.7.1" in swaks(daemon.port, *client, recipient=ELSEWHERE)
        assert "250 2.0.0" in swaks(daemon.port, *trusted, recipient=ELSEWHERE)
        assert "250 2.0.0" in swaks(daemon.port, *named, recipient=ELSEWHERE)
        assert "([IPv6:2001:db8::7])" in received(sink.wait_for(3)[2].data)
        # From anybody else it changes nothing.
        said = swaks(daemon.port, *trusted, source="127.0.0.5", recipient=ELSEWHERE)
        assert "250 2.0.0" not in said
