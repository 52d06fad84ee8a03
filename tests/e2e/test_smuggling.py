"""Story: one message in is one message in the mailbox, with a real Postfix behind.

Postfix is told to be as lenient as servers were before December 2023: it takes bare line feeds for
line ends (`smtpd_forbid_bare_newline = no`), so what smuggles through us is delivered twice.
Devices in `normalize_networks` have their line ends repaired; nobody else gets a bare one through.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.protocol.attacks.test_smuggling_matrix import SEQUENCES
from tests.support.clients import Item, send_lock_step
from tests.support.daemon import Daemon
from tests.support.intensity import TIMES
from tests.support.postfix import Postfix
from tests.support.smtp_dialog import Dialog

PUBLISHED = SEQUENCES[: 17 if TIMES == 1 else len(SEQUENCES)]
SMUGGLED = (
    b"MAIL FROM:<mallory@hospital.example>\r\nRCPT TO:<smuggled@hospital.example>\r\nDATA\r\n"
    b"Subject: smuggled\r\n\r\nsmuggled\r\n"
)


@pytest.fixture
def postfix() -> Iterator[Postfix]:
    with Postfix(settings={"smtpd_forbid_bare_newline": "no"}) as started:
        yield started


def transaction(recipient: str, sequence: bytes, *, is_chunk: bool) -> bytes:
    data = b"Subject: outer\r\n\r\nouter" + sequence + SMUGGLED
    envelope = f"MAIL FROM:<device@hospital.example>\r\nRCPT TO:<{recipient}>\r\n".encode()
    if is_chunk:
        return envelope + b"BDAT %d LAST\r\n%b" % (len(data), data)
    return envelope + b"DATA\r\n" + data + b".\r\n"


def send(port: int, recipient: str, sequence: bytes, *, is_chunk: bool) -> str:
    """Send it in one write; the reply to the message, after which nothing more is said."""
    with Dialog(port) as dialog:
        dialog.command("EHLO device.example", 250)
        dialog.send(transaction(recipient, sequence, is_chunk=is_chunk))
        replies = [dialog._reply() for _ in range(3 if is_chunk else 4)]
        assert dialog.command("NOOP", 250) == "250 2.0.0 Ok"
    return replies[-1]


def test_postfix_alone_delivers_what_was_smuggled(postfix: Postfix) -> None:
    """Otherwise the test below would prove nothing."""
    with Dialog(postfix.port) as dialog:
        dialog.command("EHLO device.example", 250)
        dialog.send(transaction("outer@hospital.example", b"\n.\r\n", is_chunk=False))
    postfix.wait_delivered(2)
    assert "smuggled@hospital.example" in {each.recipient for each in postfix.delivered()}


@pytest.mark.parametrize("normalize", [[], ["127.0.0.0/8"]], ids=["refused", "normalised"])
def test_nothing_is_smuggled_through_us(
    tmp_path: Path, postfix: Postfix, normalize: list[str]
) -> None:
    overrides = {"normalize_networks": normalize}
    expected: set[str] = {"witness@hospital.example"}
    with Daemon(
        folder=tmp_path / "mailshed", backend_port=postfix.port, overrides=overrides
    ) as daemon:
        for number, sequence in enumerate(PUBLISHED):
            for is_chunk in (False, True):
                name = f"{number}-{'chunk' if is_chunk else 'data'}@hospital.example"
                reply = send(daemon.port, name, sequence, is_chunk=is_chunk)
                assert reply.startswith("250" if normalize else "550 5.5.2"), (sequence, reply)
                if normalize:
                    expected.add(name)
        witness = Item(
            sender="device@hospital.example",
            recipient="witness@hospital.example",
            wire=b"Subject: last\r\n\r\n",
        )
        (reply,) = send_lock_step(daemon.port, [witness])
        assert reply.startswith("250")
        daemon.wait_spool_empty()
        postfix.wait_delivered(len(expected))
        delivered = [each.recipient for each in postfix.delivered()]
    assert len(delivered) == len(expected), "one in is one out"
    assert set(delivered) == expected
