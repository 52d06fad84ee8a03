"""Story: mailshed is not an open relay, although the Postfix behind it would relay for it.

Postfix trusts all of 127.0.0.0/8, as a mail server behind a proxy must trust the proxy, and takes
mail for any domain. mailshed is configured so that the scanning client, 127.0.0.1, is a stranger.
Strangers may send to hospital.example and nowhere else: neither nmap's scanner nor any of the
spellings that have fooled mail servers in the past gets a message to anyone else.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import Item, send_lock_step
from tests.support.daemon import Daemon
from tests.support.debian import require
from tests.support.postfix import Postfix
from tests.support.smtp_dialog import Dialog

_NMAP_SECONDS = 300.0

# Each asks to reach victim@elsewhere.example, or would if some server on the way rewrote it.
FOREIGN_PATHS = (
    "<victim@elsewhere.example>",
    "<VICTIM@ELSEWHERE.EXAMPLE>",
    "victim@elsewhere.example",
    "<@hospital.example:victim@elsewhere.example>",
    "<@hospital.example,@mx.hospital.example:victim@elsewhere.example>",
    "<victim%elsewhere.example@hospital.example>",
    "<victim%elsewhere.example@[127.0.0.1]>",
    "<victim%elsewhere.example@mx.hospital.example>",
    "<elsewhere.example!victim>",
    "<elsewhere.example!victim@hospital.example>",
    "<elsewhere.example!victim@[127.0.0.1]>",
    '<"victim@elsewhere.example">',
    '<"victim@elsewhere.example"@hospital.example>',
    '<"victim%elsewhere.example"@hospital.example>',
    '<"elsewhere.example!victim"@hospital.example>',
    "<victim@elsewhere.example@hospital.example>",
    "<victim@hospital.example@elsewhere.example>",
    "<victim@[127.0.0.1]>",
    "<victim@[IPv6:::1]>",
    "<victim@localhost>",
    "<victim@mx.hospital.example>",
    "<victim@sub.hospital.example>",
    "<victim@hospital.example.elsewhere.example>",
    "<victim@nothospital.example>",
    "<victim@hospital.example.>",
    "<victim>",
    "<victim@elsewhere.example\t@hospital.example>",
    "<victim@elsewhere.example> <ok@hospital.example>",
    "<victim@elsewhere.example>,<ok@hospital.example>",
    "<victim@elsewhere.example,ok@hospital.example>",
)

# Domains that look like ours, or become ours where somebody else folds letters. The last characters
# are a Cyrillic o, a fullwidth h, a long s, dots that are none, and spaces of no width.
LOOK_ALIKES = (
    "h\u043espital.example",
    "\uff48ospital.example",
    "ho\u017fpital.example",
    "hospital\u3002example",
    "hospital\uff0eexample",
    "hospital.example\u200b",
    "hospital\u00ad.example",
    "hospital.exam\u2060ple",
    "xn--hspital-7of.example",
    "hospital.\uff45xample",
)

# What a stranger may say to be taken for a friend, and what it is answered.
CLAIMS = (
    ("XCLIENT ADDR=127.0.0.2", 550),
    ("XCLIENT ADDR=127.0.0.2 LOGIN=root", 550),
    ("XFORWARD ADDR=127.0.0.2", 500),
    ("PROXY TCP4 127.0.0.2 127.0.0.1 40000 25", 500),
    ("AUTH PLAIN AHJvb3QAcm9vdA==", 502),
    ("AUTH LOGIN cm9vdA==", 502),
    ("EHLO [127.0.0.2]", 250),
    ("EHLO mx.hospital.example", 250),
    ("EHLO localhost", 250),
)

SENDERS = (
    "<stranger@elsewhere.example>",
    "<postmaster@hospital.example>",
    "<root@localhost>",
    "<postmaster@[127.0.0.1]>",
    "<>",
)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Daemon, Postfix]]:
    """A proxy to which 127.0.0.1 is a stranger, in front of a Postfix that trusts it."""
    overrides = {"trusted_networks": ["127.0.0.2/32"], "limits": {"errors_max": 1000}}
    with (
        Postfix(settings={"virtual_mailbox_domains": "hospital.example"}) as server,
        Daemon(
            folder=tmp_path / "mailshed", backend_port=server.port, overrides=overrides
        ) as daemon,
    ):
        yield daemon, server


def _assert_only_the_witness_arrived(daemon: Daemon, server: Postfix) -> None:
    """Send a message that is allowed; when it is there, everything before it would be too."""
    witness = Item(
        sender="stranger@elsewhere.example",
        recipient="witness@hospital.example",
        wire=b"Subject: allowed\r\n\r\n",
    )
    (reply,) = send_lock_step(daemon.port, [witness])
    assert reply.startswith("250"), reply
    daemon.wait_spool_empty()
    server.wait_delivered(1)
    recipients = [item.recipient for item in server.delivered()]
    foreign = [name for name in recipients if not name.endswith("@hospital.example")]
    assert not foreign, f"relayed to {foreign}"
    assert recipients == ["witness@hospital.example"]


def test_the_postfix_behind_would_relay(servers: tuple[Daemon, Postfix]) -> None:
    """Otherwise the other tests here would prove nothing."""
    _, server = servers
    item = Item(
        sender="stranger@elsewhere.example",
        recipient="victim@elsewhere.example",
        wire=b"Subject: relayed\r\n\r\n",
    )
    (reply,) = send_lock_step(server.port, [item])
    assert reply.startswith("250")
    server.wait_delivered(1)


def test_nmap_finds_no_open_relay(servers: tuple[Daemon, Postfix]) -> None:
    daemon, server = servers
    done = subprocess.run(
        [
            require("nmap"),
            *("-n", "-Pn", "-sT", "-p", str(daemon.port)),
            # The plus sign runs the script although the port is not one of mail.
            *("--script", "+smtp-open-relay"),
            *("--script-args", "smtp-open-relay.domain=scanner.example"),
            "127.0.0.1",
        ],
        capture_output=True,
        text=True,
        timeout=_NMAP_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "all tests failed" in done.stdout, done.stdout
    assert daemon.log_text.count("event=rejected") >= 10, "nmap hardly tried"
    _assert_only_the_witness_arrived(daemon, server)


def test_no_spelling_of_a_foreign_address_is_relayed(servers: tuple[Daemon, Postfix]) -> None:
    daemon, server = servers
    for sender in SENDERS:
        with Dialog(daemon.port) as dialog:
            dialog.command("EHLO scanner.example", 250)
            for path in FOREIGN_PATHS:
                dialog.command(f"MAIL FROM:{sender}", 250)
                reply = dialog.command(f"RCPT TO:{path}")
                assert reply.startswith("5"), f"{sender} -> {path}: {reply}"
                # A server that forgot to remember the refusal would take the message now.
                reply = dialog.command("DATA")
                assert reply.startswith("5"), f"DATA after a refused {path}: {reply}"
                dialog.command("RSET", 250)
    _assert_only_the_witness_arrived(daemon, server)


def test_nothing_that_a_stranger_says_of_himself_makes_him_a_friend(
    servers: tuple[Daemon, Postfix],
) -> None:
    """Neither alone nor all of it together; nor a sender that somebody vouches for."""
    daemon, server = servers
    for claims in (*((claim,) for claim in CLAIMS), CLAIMS):
        with Dialog(daemon.port) as dialog:
            dialog.command("EHLO scanner.example", 250)
            for line, code in claims:
                dialog.command(line, code)
            for parameters in ("", " AUTH=postmaster@hospital.example", " BODY=8BITMIME"):
                dialog.command(f"MAIL FROM:<postmaster@hospital.example>{parameters}", 250)
                dialog.command("RCPT TO:<victim@elsewhere.example>", 554)
                dialog.command("DATA", 554)
                dialog.command("RSET", 250)
    _assert_only_the_witness_arrived(daemon, server)


def test_a_domain_that_looks_like_ours_is_not_ours(servers: tuple[Daemon, Postfix]) -> None:
    daemon, server = servers
    with Dialog(daemon.port) as dialog:
        dialog.command("EHLO scanner.example", 250)
        for domain in LOOK_ALIKES:
            for parameter in ("", " SMTPUTF8"):
                dialog.command(f"MAIL FROM:<stranger@elsewhere.example>{parameter}")
                said = f"RCPT TO:<victim@{domain}>".encode().decode("latin-1")
                assert dialog.command(said).startswith("5"), domain
                dialog.command("RSET", 250)
    _assert_only_the_witness_arrived(daemon, server)


def test_a_refused_recipient_gets_no_copy_of_an_accepted_one(
    servers: tuple[Daemon, Postfix],
) -> None:
    daemon, server = servers
    with Dialog(daemon.port) as dialog:
        dialog.command("EHLO scanner.example", 250)
        dialog.command("MAIL FROM:<stranger@elsewhere.example>", 250)
        dialog.command("RCPT TO:<witness@hospital.example>", 250)
        dialog.command("RCPT TO:<victim@elsewhere.example>", 554)
        dialog.command("DATA", 354)
        dialog.command("Subject: for one\r\n\r\n.", 250)
    daemon.wait_spool_empty()
    server.wait_delivered(1)
    assert [item.recipient for item in server.delivered()] == ["witness@hospital.example"]
