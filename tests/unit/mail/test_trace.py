"""Our one line in a message, and how it is found again."""

import email
import email.policy
import re
from dataclasses import replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.mail.envelope import Envelope, Recipient, TlsState
from mailshed.mail.header import HeaderView
from mailshed.mail.trace import RECEIVED_MAX, is_loop, received_line
from tests.support.builders import WALL, client, envelope, mailbox

HOST = "relay.example.org"


def test_the_line_says_who_when_and_under_which_id() -> None:
    made = envelope(wall=WALL, queue_id="0123456789ABCDEF")
    assert received_line(made, HOST) == (
        b"Received: from client.example.org ([192.0.2.1])\r\n"
        b"\tby relay.example.org (mailshed) with ESMTP id 0123456789ABCDEF\r\n"
        b"\tfor <bob@example.net>;\r\n"
        b"\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
    )


def test_no_recipient_learns_of_another() -> None:
    line = received_line(envelope("a@example.net", "b@example.net"), HOST)
    assert b"for" not in line
    assert b"example.net" not in line


def test_the_line_is_ascii_whatever_the_recipient() -> None:
    """It may go on where nobody knows SMTPUTF8."""
    line = received_line(envelope("jürgen@example.net", is_utf8=True), HOST)
    assert line.isascii()
    assert b"for" not in line
    assert b"with UTF8SMTP id" in line


@pytest.mark.parametrize(
    ("made", "part"),
    [
        (envelope(is_extended=False), b"with SMTP id"),
        (envelope(is_extended=True), b"with ESMTP id"),
        (envelope(client=client("2001:db8::1")), b"([IPv6:2001:db8::1])"),
        (envelope(helo=""), b"from unknown ("),
        (envelope(helo="[192.0.2.7]"), b"from [192.0.2.7] ("),
        (envelope(helo="[IPv6:2001:db8::7]"), b"from [IPv6:2001:db8::7] ("),
    ],
)
def test_the_line_of(made: Envelope, part: bytes) -> None:
    assert part in received_line(made, HOST)


helos = st.text(max_size=400) | st.text(st.sampled_from("a.\r\n ();:\x00é[]<>"), max_size=400)
mailboxes = st.sampled_from(
    ["a@b.example", '"a;b (c) \\" by x"@d.example', "a@[192.0.2.1]", '"\\>"@e.example']
).map(mailbox)
addresses = st.ip_addresses()


TLS = TlsState(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384")


@pytest.mark.parametrize("is_utf8", [False, True])
@pytest.mark.parametrize("is_extended", [False, True])
@pytest.mark.parametrize("user", ["", "alice"])
@pytest.mark.parametrize("tls", [None, TLS])
def test_how_the_message_came(
    tls: TlsState | None, user: str, is_extended: bool, is_utf8: bool
) -> None:
    """The eight names of the registry, and SMTP for a client without EHLO."""
    made = envelope(
        client=replace(client(), tls=tls, user=user), is_extended=is_extended, is_utf8=is_utf8
    )
    name = "SMTP"
    if is_extended:
        name = f"{'UTF8SMTP' if is_utf8 else 'ESMTP'}{'S' if tls else ''}{'A' if user else ''}"
    line = received_line(made, HOST)
    assert f"(mailshed) with {name} id ".encode() in line
    assert b"alice" not in line
    assert (b"\r\n\ttls TLS_AES_256_GCM_SHA384;\r\n" in line) is (tls is not None)


def test_the_clause_about_tls_comes_last() -> None:
    """RFC 5321, 4.4 has registered clauses behind the one about the recipient."""
    line = received_line(envelope(client=replace(client(), tls=TLS)), HOST)
    assert b"\r\n\tfor <bob@example.net>\r\n\ttls TLS_AES_256_GCM_SHA384;\r\n\t" in line


@settings(deadline=None, max_examples=300)
@given(helos, mailboxes, addresses, st.booleans(), st.floats(0, 4e9))
def test_whatever_a_client_says_it_stays_one_field_that_the_standard_library_reads(
    helo: str, target: object, address: object, is_extended: bool, wall: float
) -> None:
    made = envelope(
        wall=wall,
        helo=helo,
        is_extended=is_extended,
        client=client(str(address)),
        recipients=(Recipient(mailbox=target),),  # type: ignore[arg-type]
    )
    line = received_line(made, HOST)
    assert max(map(len, line.split(b"\r\n"))) <= 998  # RFC 5322, 2.1.1
    assert line.endswith(b"\r\n")
    assert b"\n." not in line
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\n(?![\t ]|\Z)|[\x00\x80-\xff]", line)
    parsed = email.message_from_bytes(line + b"\r\nbody\r\n", policy=email.policy.compat32)
    assert parsed.keys() == ["Received"]
    assert not parsed.defects
    assert parsed.get_payload() == "body\r\n"
    date = parsedate_to_datetime(str(parsed["Received"]).rpartition(";")[2])
    assert abs(date.replace(tzinfo=UTC).timestamp() - wall) <= 1
    assert HeaderView(line + b"\r\n").count("received") == 1


def header(*lines: bytes) -> HeaderView:
    return HeaderView(b"".join(lines) + b"Subject: x\r\n\r\n")


def test_our_line_in_a_message_twice_is_a_loop() -> None:
    """Once is not: a filter behind us may hand its mail back through us."""
    ours = received_line(envelope(), HOST)
    assert not is_loop(header(), HOST)
    assert not is_loop(header(ours), HOST)
    assert is_loop(header(ours, received_line(envelope("c@example.net"), HOST)), HOST)


def test_our_line_is_found_however_it_was_refolded() -> None:
    ours = received_line(envelope(), HOST)
    refolded = ours.replace(b"by relay", b"by\r\n  relay").replace(
        b"(mailshed) ", b"\t(mailshed)\t"
    )
    assert is_loop(header(ours, refolded), HOST)


@pytest.mark.parametrize("other", ["relay2.example.org", "elay.example.org", "relay.example"])
def test_the_line_of_another_instance_is_not_ours(other: str) -> None:
    theirs = received_line(envelope(), other)
    assert not is_loop(header(theirs, theirs, theirs), HOST)


def test_a_client_cannot_forge_our_mark_by_its_name() -> None:
    forged = received_line(envelope(helo=f"x by {HOST} (mailshed)"), "other.example")
    assert not is_loop(header(forged, forged), HOST)


@pytest.mark.parametrize(("lines", "loops"), [(RECEIVED_MAX - 1, False), (RECEIVED_MAX, True)])
def test_very_many_servers_are_a_loop_elsewhere(lines: int, loops: bool) -> None:
    many = b"Received: from a by b; Tue, 14 Nov 2023 22:13:20 +0000\r\n" * lines
    assert is_loop(header(many), HOST) is loops


@given(st.ip_addresses())
def test_the_clients_address_stands_in_the_line_as_an_address_literal(address: object) -> None:
    """RFC 5321, 4.1.3."""
    line = received_line(envelope(client=client(str(address))), HOST).decode()
    literal = line.partition("([")[2].partition("])")[0]
    assert ip_address(literal.removeprefix("IPv6:")) == address
