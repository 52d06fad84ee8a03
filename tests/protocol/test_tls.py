"""TLS on the wire, on both loops: STARTTLS, implicit TLS, and what can go wrong before either."""

import asyncio
import logging
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from mailshed.config.policy import ListenerPolicy, ProxyMode, TlsMode
from mailshed.listener.handshakes import Handshake
from mailshed.listener.server import finish_sessions
from mailshed.listener.tls import CIPHERS, load
from mailshed.mail.envelope import Client
from tests.support.certificates import Authority, make_authority, serial_of
from tests.support.front import Front, settle, until
from tests.support.tls import TlsPeer, client_context, new_handshakes, tls_peer, tls_policy

Pair = tuple[Path, Path]
GREETING = b"220 mail.example.com ESMTP mailshed\r\n"
READY = b"220 2.0.0 Ready to start TLS\r\n"
TOO_EAGER = b"554 5.5.0 STARTTLS must be the last command of a group\r\n"
MESSAGE = b"Subject: x\r\n\r\nx\r\n.\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue()


@pytest.fixture(scope="module")
def trusting(authority: Authority) -> ssl.SSLContext:
    """What a client needs to trust us."""
    return client_context(authority)


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture) -> object:
    """No traceback and no warning, of asyncio neither, whatever a client does."""
    yield
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@asynccontextmanager
async def listening(
    pair: Pair,
    mode: TlsMode = TlsMode.STARTTLS,
    *,
    notes: list[Handshake] | None = None,
    is_clinical: Callable[[Client], bool] = lambda _client: False,
    is_required: bool = False,
    **changes: object,
) -> AsyncIterator[Front]:
    """A front with TLS."""
    front = Front()
    front.policy = ListenerPolicy(name="smtp", tls=mode, is_tls_required=is_required)
    front.handshakes = new_handshakes(pair, notes, is_clinical=is_clinical, **changes)
    async with front:
        yield front


async def in_clear(front: Front, *, host: str = "127.0.0.1") -> TlsPeer:
    """Connect, and read the greeting."""
    peer = TlsPeer(front.port, host=host)
    front.on_exit(peer.close)
    await peer.connect()
    assert await peer.reply() == GREETING
    return peer


async def secured(front: Front, trusting: ssl.SSLContext) -> TlsPeer:
    """Connect, and go through STARTTLS."""
    peer = await in_clear(front)
    await peer.greet()
    await peer.command("STARTTLS", 220)
    await peer.begin_tls(trusting)
    return peer


async def send_message(peer: TlsPeer, greeting: str = "EHLO client.example.org") -> None:
    """One mail transaction, from the greeting to the reply."""
    await peer.command(greeting, 250)
    await peer.command("MAIL FROM:<alice@example.org>", 250)
    await peer.command("RCPT TO:<bob@example.net>", 250)
    await peer.command("DATA", 354)
    await peer.send(MESSAGE)
    assert (await peer.reply()).startswith(b"250 ")


# STARTTLS.


async def test_mail_goes_through_starttls(pair: Pair, trusting: ssl.SSLContext) -> None:
    notes: list[Handshake] = []
    async with listening(pair, notes=notes) as front:
        peer = await secured(front, trusting)
        await send_message(peer)
        await peer.command("QUIT", 221)
        assert await peer.rest() == b""
        assert len(front.handler.taken) == 1
    (note,) = notes
    assert note.result == "ok"
    assert note.state is not None
    assert (note.state.version, note.state.cipher) == ("TLSv1.3", "TLS_AES_256_GCM_SHA384")


async def test_the_session_knows_what_protects_it(pair: Pair, trusting: ssl.SSLContext) -> None:
    async with listening(pair) as front:
        peer = await in_clear(front)
        before = front.session.client.tls
        assert before is None
        await peer.command("STARTTLS", 220)
        await peer.begin_tls(trusting)
        await peer.greet()
        state = front.session.client.tls
        assert state is not None
        assert state.version == "TLSv1.3"


async def test_it_is_offered_in_clear_only(pair: Pair, trusting: ssl.SSLContext) -> None:
    async with listening(pair) as front:
        peer = await in_clear(front)
        assert b"STARTTLS\r\n" in await peer.command("EHLO x", 250)
        await peer.command("STARTTLS", 220)
        await peer.begin_tls(trusting)
        assert b"STARTTLS" not in await peer.command("EHLO x", 250)


@pytest.mark.parametrize("before", ["", "EHLO x", "HELO x", "MAIL"])
async def test_it_may_come_at_any_time(pair: Pair, trusting: ssl.SSLContext, before: str) -> None:
    """RFC 3207 does not ask for EHLO; a transaction is forgotten."""
    async with listening(pair) as front:
        peer = await in_clear(front)
        if before == "MAIL":
            await peer.greet()
            await peer.command("MAIL FROM:<alice@example.org>", 250)
        elif before:
            await peer.command(before, 250)
        await peer.command("STARTTLS", 220)
        await peer.begin_tls(trusting)
        await send_message(peer)


async def test_what_was_said_in_clear_is_forgotten(pair: Pair, trusting: ssl.SSLContext) -> None:
    async with listening(pair) as front:
        peer = await in_clear(front)
        await peer.greet()
        await peer.command("MAIL FROM:<mallory@example.org>", 250)
        await peer.command("RCPT TO:<bob@example.net>", 250)
        await peer.command("STARTTLS", 220)
        await peer.begin_tls(trusting)
        for said in ("RCPT TO:<bob@example.net>", "DATA"):
            assert b"Need MAIL command" in await peer.command(said, 503)
        said = "MAIL FROM:<alice@example.org>"
        assert b"Send HELO or EHLO first" in await peer.command(said, 503)
        await send_message(peer)
        assert [each.recipients[0].mailbox.raw for each in front.handler.taken] == [
            b"bob@example.net"
        ]
        assert front.handler.taken[0].reverse_path == b"alice@example.org"


async def test_a_second_one_is_refused(pair: Pair, trusting: ssl.SSLContext) -> None:
    async with listening(pair) as front:
        peer = await secured(front, trusting)
        await peer.command("STARTTLS", 503)
        await send_message(peer)


async def test_an_argument_is_refused(pair: Pair, trusting: ssl.SSLContext) -> None:
    async with listening(pair) as front:
        peer = await in_clear(front)
        await peer.command("STARTTLS now", 501)
        await peer.command("STARTTLS", 220)
        await peer.begin_tls(trusting)
        await send_message(peer)


@pytest.mark.parametrize("mode", [TlsMode.NONE, TlsMode.IMPLICIT])
async def test_where_it_is_not_offered_it_is_refused(
    pair: Pair, trusting: ssl.SSLContext, mode: TlsMode
) -> None:
    async with listening(pair, mode) as front:
        if mode is TlsMode.NONE:
            peer = await in_clear(front)
        else:
            peer = await tls_peer(front, trusting)
            assert await peer.reply() == GREETING
        assert b"STARTTLS" not in await peer.command("EHLO x", 250)
        await peer.command("STARTTLS", 502 if mode is TlsMode.NONE else 503)


@pytest.mark.parametrize(
    "changes",
    [{"address": ip_address("203.0.113.7")}, {"is_trusted": False}, {"user": "alice"}],
    ids=["address", "trust", "user"],
)
async def test_not_after_a_proxy_has_said_whose_connection_it_is(
    pair: Pair, changes: dict[str, Any]
) -> None:
    """To forget that would turn a client into its proxy."""
    async with listening(pair) as front:
        peer = await in_clear(front)
        passed_on = replace(front.session.client, **changes)
        front.session.client = passed_on
        assert b"STARTTLS" not in await peer.command("EHLO x", 250)
        await peer.command("STARTTLS", 503)
        assert front.session.client == passed_on


async def test_where_tls_is_required_nothing_is_sent_in_clear(
    pair: Pair, trusting: ssl.SSLContext
) -> None:
    async with listening(pair, is_required=True) as front:
        peer = await in_clear(front)
        await peer.greet()
        said = await peer.command("MAIL FROM:<alice@example.org>", 530)
        assert said == b"530 5.7.0 Must issue a STARTTLS command first\r\n"
        await peer.command("NOOP", 250)
        await peer.command("STARTTLS", 220)
        await peer.begin_tls(trusting)
        await send_message(peer)


async def test_a_command_may_come_with_the_last_octets_of_the_handshake(
    pair: Pair, trusting: ssl.SSLContext
) -> None:
    """A session that is connected anew after the handshake would lose it, and the client wait."""
    async with listening(pair) as front:
        for _ in range(5):
            peer = await in_clear(front)
            await peer.command("STARTTLS", 220)
            await peer.begin_tls(trusting, first=b"EHLO client.example.org\r\nNOOP\r\n")
            assert (await peer.reply()).startswith(b"250-mail.example.com")
            assert await peer.reply() == b"250 2.0.0 Ok\r\n"


async def test_a_large_message_goes_through(pair: Pair, trusting: ssl.SSLContext) -> None:
    """More than all buffers hold: reading pauses and goes on through the TLS layer."""
    front = Front(message_size_max=1 << 23)
    front.policy = ListenerPolicy(name="smtp", tls=TlsMode.STARTTLS)
    front.handshakes = new_handshakes(pair)
    data = b"".join(b"%060d\r\n" % number for number in range(60_000))
    async with front:
        peer = await secured(front, trusting)
        await peer.greet()
        await peer.command("MAIL FROM:<alice@example.org>", 250)
        await peer.command("RCPT TO:<bob@example.net>", 250)
        await peer.command("DATA", 354)
        await peer.send(data + b".\r\n")
        assert (await peer.reply()).startswith(b"250 ")
        assert front.handler.taken[0].data == data


# Injection (CVE-2011-0411 and its many relatives).

INJECTED = (
    b"EHLO mallory\r\n",
    b"MAIL FROM:<mallory@example.org>\r\n",
    b"AUTH PLAIN AG1hbGxvcnkAcGFzcw==\r\n",
    b"NOOP\r\n",
    b"RSET\r\nNOOP\r\nQUIT\r\n",
    b"STARTTLS\r\n",
    b"X",
)


@pytest.mark.parametrize("injected", INJECTED)
async def test_nothing_behind_starttls_is_ever_answered(pair: Pair, injected: bytes) -> None:
    """Wherever the segments are cut: either it is refused, or it fails the handshake."""
    said = b"STARTTLS\r\n" + injected
    async with listening(pair) as front:
        for cut in range(1, len(said) + 1):
            peer = await in_clear(front)
            await peer.send(said, cuts=(cut,) if cut < len(said) else ())
            with suppress(OSError):  # it is closed already
                peer.half_close()
            rest = await peer.rest()
            if rest.startswith(READY):
                assert cut >= len(b"STARTTLS\r\n")
                assert rest.removeprefix(READY)[:1] in (b"", b"\x15")  # an alert record of TLS
            else:
                assert rest == TOO_EAGER
            session = front.session
            assert session.envelope.mail is None
            assert session.session is not None
            assert not session.session.host_name
            assert session.client.user == ""
        assert all(verb in ("connect", "starttls") for verb, _ in front.handler.replies)


async def test_injection_into_a_whole_group_is_not_answered(pair: Pair) -> None:
    async with listening(pair) as front:
        peer = await in_clear(front)
        await peer.send(b"EHLO x\r\nSTARTTLS\r\nMAIL FROM:<mallory@example.org>\r\n")
        assert (await peer.reply()).startswith(b"250-")
        assert await peer.rest() == TOO_EAGER


async def test_injection_before_the_hello_fails_the_handshake(
    pair: Pair, trusting: ssl.SSLContext
) -> None:
    """After our 220, in one segment with the client's own first message."""
    notes: list[Handshake] = []
    async with listening(pair, notes=notes) as front:
        peer = await in_clear(front)
        await peer.greet()
        await peer.command("STARTTLS", 220)
        with pytest.raises((ConnectionResetError, ssl.SSLError)):
            await peer.begin_tls(trusting, before=b"MAIL FROM:<mallory@example.org>\r\n")
        await until(lambda: not front.handler.open_sessions, "the session ends")
        assert front.session.envelope.mail is None
    assert [note.result for note in notes] == ["failed"]


# Handshakes that fail.


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", "the client speaks HTTP"),
        (b"EHLO client.example.org\r\n", "the client does not speak TLS"),
        (b"\x00" * 100, None),
        (bytes(range(256)) * 8, None),
        (b"\x16\x03\x01\xff\xff" + b"\xff" * 300, None),
    ],
)
@pytest.mark.parametrize("mode", [TlsMode.STARTTLS, TlsMode.IMPLICIT])
async def test_garbage_ends_the_connection(
    pair: Pair, mode: TlsMode, sent: bytes, said: str | None
) -> None:
    notes: list[Handshake] = []
    async with listening(pair, mode, notes=notes) as front:
        if mode is TlsMode.STARTTLS:
            peer = await in_clear(front)
            await peer.command("STARTTLS", 220)
        else:
            peer = await tls_peer(front)
        await peer.send(sent)
        peer.half_close()
        rest = await peer.rest()
        assert rest[:1] in (b"", b"\x15")
        await until(lambda: not front.handler.open_sessions, "the session ends")
        assert front.handshakes is not None
        assert front.handshakes.under_way == 0
    (note,) = notes
    assert note.result == "failed"
    assert note.detail
    if said is not None:
        assert note.detail == said


@pytest.mark.parametrize("mode", [TlsMode.STARTTLS, TlsMode.IMPLICIT])
@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
async def test_a_handshake_that_does_not_end_is_broken_off(
    pair: Pair, mode: TlsMode, sent: bytes
) -> None:
    notes: list[Handshake] = []
    async with listening(pair, mode, notes=notes, handshake_timeout=0.1) as front:
        if mode is TlsMode.STARTTLS:
            peer = await in_clear(front)
            await peer.command("STARTTLS", 220)
        else:
            peer = await tls_peer(front)
        if sent:
            await peer.send(sent)
        assert await peer.rest() == b""
        await until(lambda: not front.handler.open_sessions, "the session ends")
    assert [(note.result, note.detail) for note in notes] == [("timeout", "not done after 0.1 s")]


@pytest.mark.parametrize("mode", [TlsMode.STARTTLS, TlsMode.IMPLICIT])
@pytest.mark.parametrize("is_reset", [True, False])
async def test_a_client_may_leave_in_the_middle(
    pair: Pair,
    mode: TlsMode,
    is_reset: bool,
) -> None:
    notes: list[Handshake] = []
    async with listening(pair, mode, notes=notes) as front:
        if mode is TlsMode.STARTTLS:
            peer = await in_clear(front)
            await peer.command("STARTTLS", 220)
        else:
            peer = await tls_peer(front)
        await peer.send(b"\x16\x03\x01\x02\x00")
        await until(lambda: front.handshakes.under_way == 1, "it has begun")  # type: ignore[union-attr]
        peer.reset() if is_reset else peer.close()
        await until(lambda: not front.handler.open_sessions, "the session ends")
        assert front.handshakes is not None
        assert front.handshakes.under_way == 0
    assert [(note.result, note.detail) for note in notes] == [("failed", "the client left")]


async def test_a_client_that_does_not_trust_us_is_told_apart(pair: Pair) -> None:
    """The first thing to look for after a new certificate."""
    notes: list[Handshake] = []
    async with listening(pair, TlsMode.IMPLICIT, notes=notes) as front:
        peer = await tls_peer(front)
        with pytest.raises(ssl.SSLCertVerificationError):
            await peer.begin_tls(ssl.create_default_context())
        await peer.send_alert()
        await until(lambda: not front.handler.open_sessions, "the session ends")
    (note,) = notes
    assert note.detail == "the client does not know the issuer of our certificate"


def old_context(version: ssl.TLSVersion, ciphers: str = "ALL:@SECLEVEL=0") -> ssl.SSLContext:
    """A client that speaks this version alone, however broken it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    context.set_ciphers(ciphers)
    return context


@pytest.mark.parametrize(
    ("version", "minimum", "said"),
    [
        (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_2, "no version of TLS that is spoken here"),
        (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, "no version of TLS that is spoken here"),
        (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3, "no version of TLS that is spoken here"),
    ],
)
async def test_old_versions_are_refused(
    pair: Pair, version: ssl.TLSVersion, minimum: ssl.TLSVersion, said: str
) -> None:
    notes: list[Handshake] = []
    async with listening(pair, notes=notes, minimum=minimum) as front:
        peer = await in_clear(front)
        await peer.command("STARTTLS", 220)
        with pytest.raises((ConnectionResetError, ssl.SSLError)):
            await peer.begin_tls(old_context(version))
        await until(lambda: not front.handler.open_sessions, "the session ends")
    (note,) = notes
    assert said in note.detail


@pytest.mark.parametrize(
    "ciphers",
    ["AES128-SHA", "AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "ADH-AES128-GCM-SHA256"],
)
async def test_ciphers_without_forward_secrecy_or_aead_are_refused(
    pair: Pair, ciphers: str
) -> None:
    notes: list[Handshake] = []
    async with listening(pair, notes=notes) as front:
        peer = await in_clear(front)
        await peer.command("STARTTLS", 220)
        with pytest.raises((ConnectionResetError, ssl.SSLError)):
            await peer.begin_tls(old_context(ssl.TLSVersion.TLSv1_2, f"{ciphers}:@SECLEVEL=0"))
        await until(lambda: not front.handler.open_sessions, "the session ends")
    assert [note.detail for note in notes] == ["the client offers no cipher that is spoken here"]


@pytest.mark.parametrize("cipher", [name for name in CIPHERS if "ECDSA" in name])
async def test_the_ciphers_of_tls_1_2_are_spoken(pair: Pair, cipher: str) -> None:
    async with listening(pair) as front:
        peer = await in_clear(front)
        await peer.command("STARTTLS", 220)
        await peer.begin_tls(old_context(ssl.TLSVersion.TLSv1_2, cipher))
        await send_message(peer)
        state = front.session.client.tls
        assert state is not None
        assert (state.version, state.cipher) == ("TLSv1.2", CIPHERS[cipher])


# Caps.


async def test_over_the_cap_starttls_is_for_later(pair: Pair, trusting: ssl.SSLContext) -> None:
    notes: list[Handshake] = []
    async with listening(pair, notes=notes, handshakes_max=1) as front:
        first = await in_clear(front)
        await first.command("STARTTLS", 220)
        second = await in_clear(front)
        await second.command("STARTTLS", 454)
        await second.greet()
        await first.begin_tls(trusting)
        await first.greet()
        await second.command("STARTTLS", 220)
        await second.begin_tls(trusting)
        await send_message(second)
    assert [note.result for note in notes] == ["refused", "ok", "ok"]


async def test_over_the_cap_connections_that_begin_with_tls_are_closed(
    pair: Pair, trusting: ssl.SSLContext
) -> None:
    """Clinical networks have their share left, and what ended makes room."""
    notes: list[Handshake] = []
    async with listening(
        pair,
        TlsMode.IMPLICIT,
        notes=notes,
        is_clinical=lambda client: client.port in clinical_ports,
        handshakes_max=4,
    ) as front:
        clinical_ports: set[int] = set()
        silent = [await tls_peer(front) for _ in range(3)]
        await until(lambda: front.handshakes.under_way == 3, "they have begun")  # type: ignore[union-attr]
        refused = await tls_peer(front)
        assert await refused.rest() == b""
        clinical = TlsPeer(front.port)
        front.on_exit(clinical.close)
        clinical_ports.add(clinical.local_port)
        await clinical.connect()
        await clinical.begin_tls(trusting)
        assert await clinical.reply() == GREETING
        silent[0].close()
        await until(lambda: front.handshakes.under_way == 2, "one has ended")  # type: ignore[union-attr]
        peer = await tls_peer(front, trusting)
        assert await peer.reply() == GREETING
    assert [note.result for note in notes][:4] == ["refused", "ok", "failed", "ok"]


async def test_one_network_cannot_take_all(pair: Pair) -> None:
    notes: list[Handshake] = []
    async with listening(pair, notes=notes, handshakes_max=40, handshakes_per_network=2) as front:
        for address, code in (
            ("192.0.2.1", 220),
            ("192.0.2.2", 220),
            ("192.0.2.3", 454),
            ("192.0.3.3", 220),
        ):
            peer = await in_clear(front)
            came_from = replace(front.session.client, address=ip_address(address))
            front.session.client = front.session.arrived = came_from
            await peer.command("STARTTLS", code)
    assert (notes[0].result, notes[0].client.address_text) == ("refused", "192.0.2.3")


# Implicit TLS.


async def test_implicit_tls_comes_before_the_greeting(pair: Pair, trusting: ssl.SSLContext) -> None:
    async with listening(pair, TlsMode.IMPLICIT, is_required=True) as front:
        peer = await tls_peer(front, trusting)
        assert await peer.reply() == GREETING
        await send_message(peer)
        assert front.session.client.tls is not None
        await peer.command("QUIT", 221)
        assert await peer.rest() == b""


async def test_implicit_tls_takes_what_comes_with_the_handshake(
    pair: Pair, trusting: ssl.SSLContext
) -> None:
    async with listening(pair, TlsMode.IMPLICIT) as front:
        for _ in range(5):
            peer = await tls_peer(front)
            await peer.begin_tls(trusting, first=b"EHLO client.example.org\r\n")
            assert await peer.reply() == GREETING
            assert (await peer.reply()).startswith(b"250-mail.example.com")


@pytest.mark.parametrize("mode", [TlsMode.STARTTLS, TlsMode.IMPLICIT])
async def test_the_handshake_may_come_in_pieces(
    pair: Pair, trusting: ssl.SSLContext, mode: TlsMode
) -> None:
    """The first of them perhaps before the session has begun."""
    async with listening(pair, mode) as front:
        for cuts in ((1,), (5,), (6, 7, 8), (100, 200), (300,)):
            if mode is TlsMode.STARTTLS:
                peer = await in_clear(front)
                await peer.command("STARTTLS", 220)
            else:
                peer = await tls_peer(front)
            await peer.begin_tls(trusting, cuts=cuts)
            if mode is TlsMode.IMPLICIT:
                assert await peer.reply() == GREETING
            await peer.greet()


@pytest.mark.parametrize("mode", [TlsMode.STARTTLS, TlsMode.IMPLICIT])
async def test_behind_a_proxy_its_header_comes_before_all_tls(
    pair: Pair, trusting: ssl.SSLContext, mode: TlsMode
) -> None:
    """With implicit TLS in one segment with the client's hello; the caps go by the client."""
    header = b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 465\r\n"
    notes: list[Handshake] = []
    front = Front()
    front.policy = ListenerPolicy(name="smtp", tls=mode, proxy=ProxyMode.PROXY_PROTOCOL)
    front.handshakes = new_handshakes(pair, notes)
    async with front:
        peer = await tls_peer(front)
        if mode is TlsMode.STARTTLS:
            await peer.send(header)
            assert await peer.reply() == GREETING
            await peer.command("STARTTLS", 220)
            await peer.begin_tls(trusting)
        else:
            await peer.begin_tls(trusting, before=header)
            assert await peer.reply() == GREETING
        await send_message(peer)
        assert front.session.client.address_text == "203.0.113.7"
    assert [note.client.address_text for note in notes] == ["203.0.113.7"]


async def test_implicit_tls_says_nothing_in_clear(pair: Pair) -> None:
    """Not even that there are too many sessions."""
    front = Front(sessions_max=1)
    front.handler.clinical_hosts = ()
    front.policy = ListenerPolicy(name="smtp", tls=TlsMode.IMPLICIT)
    front.handshakes = new_handshakes(pair)
    async with front:
        first = await tls_peer(front)
        await until(lambda: bool(front.handler.open_sessions), "the first is there")
        second = await tls_peer(front)
        assert await second.rest() == b""
        assert await first.is_silent()


# The end of a session.


async def test_a_client_may_leave_with_a_goodbye(pair: Pair, trusting: ssl.SSLContext) -> None:
    async with listening(pair) as front:
        peer = await secured(front, trusting)
        await peer.greet()
        await peer.say_goodbye()
        await until(lambda: not front.handler.open_sessions, "the session ends")


async def test_a_client_may_leave_without_a_goodbye(pair: Pair, trusting: ssl.SSLContext) -> None:
    async with listening(pair) as front:
        for leave in (TlsPeer.close, TlsPeer.reset):
            peer = await secured(front, trusting)
            await peer.greet()
            leave(peer)
            await until(lambda: not front.handler.open_sessions, "the session ends")


async def test_garbage_in_the_middle_ends_the_session(pair: Pair, trusting: ssl.SSLContext) -> None:
    async with listening(pair) as front:
        peer = await secured(front, trusting)
        await peer.greet()
        await peer.send_in_clear(b"MAIL FROM:<mallory@example.org>\r\n")
        await until(lambda: not front.handler.open_sessions, "the session ends")
        assert front.session.envelope.mail is None


@pytest.mark.parametrize("mode", [TlsMode.STARTTLS, TlsMode.IMPLICIT])
async def test_a_stop_does_not_wait_for_handshakes(pair: Pair, mode: TlsMode) -> None:
    async with listening(pair, mode) as front:
        if mode is TlsMode.STARTTLS:
            peer = await in_clear(front)
            await peer.command("STARTTLS", 220)
        else:
            peer = await tls_peer(front)
        await until(lambda: front.handshakes.under_way == 1, "it has begun")  # type: ignore[union-attr]
        front.server.stop_accepting()
        assert await finish_sessions(front.handler.open_sessions, 0.0) == 1
        assert await peer.rest() == b""
        await until(lambda: not front.handler.open_sessions, "the session ends")
        assert front.handshakes is not None
        assert front.handshakes.under_way == 0


async def test_a_stop_lets_a_session_hear_it(pair: Pair, trusting: ssl.SSLContext) -> None:
    async with listening(pair) as front:
        peer = await secured(front, trusting)
        await peer.greet()
        front.server.stop_accepting()
        async with asyncio.TaskGroup() as group:
            stopping = group.create_task(finish_sessions(front.handler.open_sessions, 20.0))
            assert (await peer.rest()).startswith(b"421 4.3.2 ")
        assert stopping.result() == 0


# A new certificate.


async def test_a_new_certificate_is_shown_from_then_on(
    authority: Authority, trusting: ssl.SSLContext
) -> None:
    """Sessions that are open keep theirs, and go on; those in between get either."""
    old, new = authority.issue(), authority.issue()
    async with listening(old) as front:
        assert front.handshakes is not None
        before = await secured(front, trusting)
        begun = await in_clear(front)
        await begun.command("STARTTLS", 220)
        front.handshakes.certificates.use(load(tls_policy(new)))
        after = await secured(front, trusting)
        await begun.begin_tls(trusting)
        serials = [peer.shown_serial for peer in (before, begun, after)]
        assert serials[0] == serial_of(old[0])
        assert serials[1] in (serial_of(old[0]), serial_of(new[0]))
        assert serials[2] == serial_of(new[0])
        for peer in (before, begun, after):
            await send_message(peer)


async def test_certificates_may_change_under_load(
    authority: Authority, trusting: ssl.SSLContext
) -> None:
    pairs = [authority.issue() for _ in range(3)]
    seen: list[str] = []
    async with listening(pairs[0]) as front:
        assert front.handshakes is not None
        certificates = front.handshakes.certificates
        is_over = asyncio.Event()

        async def clients() -> None:
            while not is_over.is_set():
                peer = await secured(front, trusting)
                seen.append(peer.shown_serial)
                await send_message(peer)
                peer.close()

        async def renew() -> None:
            for certificate, key in (*pairs, *pairs):
                certificates.use(await asyncio.to_thread(load, tls_policy((certificate, key))))
                before, serial = len(seen), serial_of(certificate)
                while serial not in seen[before:]:
                    await settle()
            is_over.set()

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(clients())
            group.create_task(renew())
    assert len(front.handler.taken) == len(seen)
