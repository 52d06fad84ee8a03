"""A message from a file and an envelope from options."""

from pathlib import Path

import pytest

from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.cli.message_file import Claims, make_client, make_subject, read_file
from mailshed.config.shipped import shipped_configuration
from mailshed.terms import ClientKind

CONFIG = shipped_configuration()
MAIL = (
    b"Return-Path: <bounce@list.example>\r\n"
    b"From: Alice <alice@example.org>\r\n"
    b"To: Bob <bob@example.net>, carol@example.net\r\n"
    b'Cc: (comment) "D, Q" <dave@example.net>\r\n'
    b"\r\nTo: nobody@example.net\r\n"
)


@pytest.mark.parametrize(
    ("raw", "wire"),
    [
        (b"A: b\n\nc\n", b"A: b\r\n\r\nc\r\n"),
        (b"A: b\r\n\r\nc\r\n", b"A: b\r\n\r\nc\r\n"),
        (b"From x@y Mon Jan 1\nA: b\n", b"A: b\r\n"),
        (b"From: x@y\n", b"From: x@y\r\n"),
        (b"", b""),
    ],
)
def test_a_file_becomes_what_a_client_sends(raw: bytes, wire: bytes, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(raw)
    assert read_file(tmp_path / "m") == wire


def test_a_file_that_cannot_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(VerbFailed, match="No such file") as caught:
        read_file(tmp_path / "gone")
    assert caught.value.code is ExitCode.IO_ERROR


def test_the_envelope_comes_from_the_header_if_options_do_not_say_it() -> None:
    made = make_subject(MAIL, Claims(), CONFIG)
    assert str(made.reverse_path) == "bounce@list.example"
    to = [str(each.mailbox) for each in made.recipients]
    assert to == ["bob@example.net", "carol@example.net", "dave@example.net"]
    assert made.size == len(MAIL)
    without = MAIL.partition(b"\r\n")[2]
    assert str(make_subject(without, Claims(), CONFIG).reverse_path) == "alice@example.org"


@pytest.mark.parametrize("said", ["<>", ""])
def test_what_options_say_counts(said: str) -> None:
    made = make_subject(MAIL, Claims(sender=said, recipients=("<x@y.example>",)), CONFIG)
    assert made.reverse_path is None
    assert [str(each.mailbox) for each in made.recipients] == ["x@y.example"]


def test_a_report_has_no_sender() -> None:
    mail = MAIL.replace(b"<bounce@list.example>", b"<>")
    assert make_subject(mail, Claims(), CONFIG).reverse_path is None


@pytest.mark.parametrize(
    ("mail", "claims", "words"),
    [
        (b"To: a@b.example\r\n\r\n", Claims(), "names no sender"),
        (b"From: a@b.example\r\n\r\n", Claims(), "names no recipient"),
        (b"From: undisclosed\r\nTo: a@b.example\r\n\r\n", Claims(), "names no sender"),
        (MAIL, Claims(sender="a b"), "a b: malformed address"),
        (MAIL, Claims(recipients=("x",)), "x: malformed address"),
        (MAIL, Claims(address="10.0.0.256"), "not an IP address"),
        (MAIL, Claims(listener="devices"), "no such listener: devices; configured: smtp"),
    ],
)
def test_says_what_is_missing_or_wrong(mail: bytes, claims: Claims, words: str) -> None:
    with pytest.raises(VerbFailed, match=words) as caught:
        make_subject(mail, claims, CONFIG)
    assert caught.value.code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("claims", "is_trusted"),
    [
        (Claims(), True),
        (Claims(address="192.0.2.1"), False),
        (Claims(address="::ffff:127.0.0.1"), True),
        (Claims(address="192.0.2.1", user="alice"), True),
        (Claims(is_trusted=False), False),
        (Claims(address="192.0.2.1", is_trusted=True), True),
    ],
)
def test_trust_is_what_it_would_be(claims: Claims, is_trusted: bool) -> None:
    client = make_client(claims, CONFIG)
    assert client.is_trusted is is_trusted
    assert (client.listener, client.kind) == ("smtp", ClientKind.MTA)


def test_a_priority_counts_only_from_a_trusted_client() -> None:
    ours, theirs = Claims(priority=4), Claims(priority=4, address="192.0.2.1")
    assert make_subject(MAIL, ours, CONFIG).priority == 4
    assert make_subject(MAIL, theirs, CONFIG).priority is None
