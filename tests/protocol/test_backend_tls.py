"""TLS with a backend that has it, has not, pretends to, or breaks it; and who sees what in clear.

What is required is never done without: mail stays with us and no octet of it, nor of a password, is
on the wire. Every such end is a Deferred that says what to do.
"""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailshed.clock import SystemClock
from mailshed.mail.delivery import Deferred, Delivered, NoReply
from mailshed.mail.proxy_protocol import Endpoint
from mailshed.relay.connection import Address, Connection, Timeouts, open_connection
from mailshed.relay.security import BackendTls, Security, SecurityPolicy
from mailshed.relay.smtp import SmtpBackend
from mailshed.terms import Stage
from tests.support.certificates import Authority, make_authority
from tests.support.outbound import DEADLINE, eventually, outbound
from tests.support.scripted_backend import DEFAULT_EXTENSIONS, STALL, Say, say
from tests.support.tls_backend import Handshake, TlsBackend, server_context

NAME = "mail.hospital.test"
PASSWORD = "correct-horse-battery"
TIMEOUTS = Timeouts(connect=DEADLINE, command=DEADLINE, dot=DEADLINE)
BRIEF = Timeouts(connect=0.3, command=0.3, dot=DEADLINE)

Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority, which nobody told us to trust."""
    return make_authority(tmp_path_factory.mktemp("stranger"), "Somebody else")


@pytest.fixture(scope="module")
def good(authority: Authority) -> Pair:
    return authority.issue([NAME])


@pytest.fixture
def context(good: Pair) -> ssl.SSLContext:
    return server_context(good)


def policy(tls: BackendTls, authority: Authority, **changes: Any) -> SecurityPolicy:
    settings: dict[str, Any] = {"tls": tls, "name": NAME}
    if tls is not BackendTls.OPPORTUNISTIC:
        settings["ca_file"] = authority.ca_file
    return SecurityPolicy(**(settings | changes))


def where(port: int, security: Security | SecurityPolicy, **changes: Any) -> Address:
    if isinstance(security, SecurityPolicy):
        security = Security(security)
    return Address(host="127.0.0.1", port=port, hostname="relay.test", security=security, **changes)


def backend_at(address: Address) -> SmtpBackend:
    return SmtpBackend(
        "scripted",
        address,
        connect_timeout=DEADLINE,
        command_timeout=DEADLINE,
        dot_timeout=DEADLINE,
        idle_timeout=60.0,
        messages_per_connection=100,
        clock=SystemClock(),
    )


async def deferred(address: Address, timeouts: Timeouts = TIMEOUTS) -> Deferred:
    async with asyncio.timeout(DEADLINE):
        found = await open_connection(address, timeouts)
    assert isinstance(found, Deferred), found
    return found


@pytest.mark.parametrize("tls", [BackendTls.STARTTLS, BackendTls.IMPLICIT])
async def test_mail_goes_encrypted_and_large_as_well_as_small(
    tls: BackendTls, authority: Authority, context: ssl.SSLContext
) -> None:
    """Several segments each way, over the same connection."""
    contents = [b"Subject: a\r\n\r\nsmall\r\n", b"x" * 76 + b"\r\n", b"y" * 998 + b"\r\n"]
    contents[1] *= 40_000
    async with TlsBackend(context, is_implicit=tls is BackendTls.IMPLICIT) as server:
        backend = backend_at(where(server.port, policy(tls, authority)))
        for content in contents:
            result = await backend.deliver(outbound([content], is_streamed=len(content) > 1000))
            assert isinstance(result.recipients[0], Delivered), result
        assert [message.data for message in server.messages] == contents
        assert len(server.sessions) == 1
        assert b"MAIL" not in server.clear
        clear = b"" if server.is_implicit else b"EHLO relay.test\r\nSTARTTLS\r\n"
        assert bytes(server.clear) == clear
        await backend.close()


async def test_a_slow_server_holds_back_our_mail_data_also_over_tls(
    authority: Authority, context: ssl.SSLContext
) -> None:
    async with TlsBackend(context) as server:
        backend = backend_at(where(server.port, policy(BackendTls.STARTTLS, authority)))
        server.may_read.clear()
        read = 0

        async def deliver() -> None:
            result = await backend.deliver(outbound(pieces, is_streamed=True))
            assert isinstance(result.recipients[0], Delivered), result

        line = b"z" * 998 + b"\r\n"
        pieces = [line * 64] * 400
        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            await eventually(lambda: any(b"DATA" in each.commands for each in server.sessions))
            wire = next(iter(backend._pool._busy)).wire
            await eventually(lambda: wire._paused)
            assert wire._out is not None
            assert wire._out.get_write_buffer_size() < 2 * 1024 * 1024
            server.may_read.set()
            read += 1
        assert server.messages[0].data == b"".join(pieces)
        await backend.close()


async def test_what_was_offered_in_clear_does_not_count_after_tls(
    authority: Authority, context: ssl.SSLContext
) -> None:
    """RFC 3207, 4.2: it may have been anybody's word."""
    clear = ("PIPELINING", "SIZE 77", "XCLIENT ADDR", "STARTTLS")
    heard: list[tuple[str, ...]] = []
    async with TlsBackend(context, extensions=clear, after_tls=("SIZE 1000",)) as server:
        address = where(
            server.port,
            policy(BackendTls.STARTTLS, authority),
            on_hello=lambda lines: heard.append(tuple(lines)),
        )
        connection = await open_connection(address, TIMEOUTS)
        assert isinstance(connection, Connection)
        assert connection.wire.is_encrypted
        assert connection.offers.size_max == 1000
        assert not connection.offers.pipelining
        assert not connection.offers.xclient
        assert heard == [("SIZE 1000",)]
        await connection.quit()


# Required and not to be had: issue's "not sent in clear, spooled instead".


@pytest.mark.parametrize(
    ("spoil", "detail"),
    [
        pytest.param(
            lambda server, _pairs: setattr(server, "extensions", DEFAULT_EXTENSIONS),
            "does not offer STARTTLS, and no mail goes there without TLS",
            id="stripped",
        ),
        pytest.param(
            lambda server, _pairs: setattr(server, "starttls", say("454 4.7.0 not now")),
            "refuses STARTTLS: 454 4.7.0 not now",
            id="refused",
        ),
        pytest.param(
            lambda server, pairs: setattr(server, "context", server_context(pairs["self-signed"])),
            "self-signed certificate, nobody we trust has signed it: set ca_file",
            id="self-signed",
        ),
        pytest.param(
            lambda server, pairs: setattr(server, "context", server_context(pairs["stranger"])),
            "nobody we trust has signed it: set ca_file",
            id="wrong_authority",
        ),
        pytest.param(
            lambda server, pairs: setattr(server, "context", server_context(pairs["other name"])),
            f"hostname mismatch, it is not for {NAME}: set tls_name",
            id="wrong_name",
        ),
        pytest.param(
            lambda server, pairs: setattr(server, "context", server_context(pairs["expired"])),
            "it has expired: renew it",
            id="expired",
        ),
        pytest.param(
            lambda server, _pairs: setattr(
                server, "starttls", Say(b"220 go\r\n250 2.1.0 injected\r\n250 2.1.5 injected\r\n")
            ),
            "sent more or other than a reply to STARTTLS",
            id="injected",
        ),
        pytest.param(
            lambda server, _pairs: setattr(server, "starttls", Say(b"220 go\r\n250 2.1.")),
            "sent more or other than a reply to STARTTLS",
            id="injected_in_part",
        ),
        pytest.param(
            lambda server, _pairs: setattr(server, "handshake", Handshake.GARBAGE),
            "",
            id="garbage",
        ),
        pytest.param(
            lambda server, _pairs: setattr(server, "handshake", Handshake.CLOSE),
            "closed the connection in the TLS handshake",
            id="closed",
        ),
        pytest.param(
            lambda server, _pairs: setattr(server, "starttls", say("250 fine, go on")),
            "refuses STARTTLS: 250",
            id="another_yes",
        ),
    ],
)
async def test_mail_stays_with_us_rather_than_to_go_in_clear(
    spoil: Callable[[TlsBackend, dict[str, Pair]], None],
    detail: str,
    authority: Authority,
    context: ssl.SSLContext,
    pairs: dict[str, Pair],
) -> None:
    async with TlsBackend(context) as server:
        spoil(server, pairs)
        server.accounts["relay"] = PASSWORD
        backend = backend_at(where(server.port, policy(BackendTls.STARTTLS, authority)))
        result = await backend.deliver(outbound())
        (found,) = result.recipients
        assert isinstance(found, Deferred), found
        assert result.is_backend_away, "so it is spooled, and nobody's mail is bounced"
        assert found.reply is None, "no client could do anything about it"
        assert detail in found.detail
        assert f"127.0.0.1:{server.port}" in found.detail
        for word in (b"MAIL", b"AUTH", b"RCPT", b"body"):
            assert word not in server.clear
        assert len(server.sessions) == 1, "there is no second try in clear"
        await eventually(lambda: server.open_sessions == 0)
        await backend.close()


@pytest.fixture(scope="module")
def pairs(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, stranger: Authority
) -> dict[str, Pair]:
    return {
        "self-signed": (stranger.ca_file, stranger.folder / "ca.key"),
        "stranger": stranger.issue([NAME]),
        "other name": authority.issue(["other.hospital.test"]),
        "expired": authority.issue([NAME], expired=True),
    }


@pytest.mark.parametrize("spoiled", ["self-signed", "stranger", "other name", "expired"])
async def test_a_certificate_that_is_not_good_ends_implicit_tls_too(
    spoiled: str, authority: Authority, pairs: dict[str, Pair]
) -> None:
    async with TlsBackend(server_context(pairs[spoiled]), is_implicit=True) as server:
        found = await deferred(where(server.port, policy(BackendTls.IMPLICIT, authority)))
        assert found.stage is Stage.CONNECT
        assert "certificate verify failed" in found.detail
        assert server.commands == []


@pytest.mark.parametrize("tls", [BackendTls.STARTTLS, BackendTls.IMPLICIT])
async def test_who_need_not_prove_anything_may_be_anybody(
    tls: BackendTls, authority: Authority, pairs: dict[str, Pair]
) -> None:
    context = server_context(pairs["self-signed"])
    async with TlsBackend(context, is_implicit=tls is BackendTls.IMPLICIT) as server:
        backend = backend_at(where(server.port, policy(tls, authority, is_verified=False)))
        result = await backend.deliver(outbound())
        assert isinstance(result.recipients[0], Delivered), result
        assert b"MAIL" not in server.clear
        await backend.close()


async def test_the_servers_own_certificate_may_be_what_is_trusted(
    good: Pair, context: ssl.SSLContext, authority: Authority
) -> None:
    """Not its authority: a pin."""
    async with TlsBackend(context) as server:
        pinned = policy(BackendTls.STARTTLS, authority, ca_file=good[0])
        connection = await open_connection(where(server.port, pinned), TIMEOUTS)
        assert isinstance(connection, Connection), connection
        await connection.quit()


async def test_a_certificate_may_be_for_an_address(authority: Authority) -> None:
    pair = authority.issue(["127.0.0.1"])
    async with TlsBackend(server_context(pair)) as server:
        named = policy(BackendTls.STARTTLS, authority, name="127.0.0.1")
        connection = await open_connection(where(server.port, named), TIMEOUTS)
        assert isinstance(connection, Connection), connection
        await connection.quit()
        other = policy(BackendTls.STARTTLS, authority, name="127.0.0.2")
        found = await deferred(where(server.port, other))
        assert "it is not for 127.0.0.2" in found.detail


async def test_a_port_without_tls_first_is_told_from_one_that_is_dead(
    authority: Authority, context: ssl.SSLContext
) -> None:
    async with TlsBackend(context) as server:
        found = await deferred(where(server.port, policy(BackendTls.IMPLICIT, authority)))
        assert "it does not answer in TLS" in found.detail
        assert "set tls to starttls" in found.detail


# Time and memory.


@pytest.mark.parametrize("is_implicit", [False, True])
async def test_a_handshake_that_stalls_ends_at_its_deadline(
    authority: Authority, context: ssl.SSLContext, *, is_implicit: bool
) -> None:
    tls = BackendTls.IMPLICIT if is_implicit else BackendTls.STARTTLS
    async with TlsBackend(context, is_implicit=is_implicit) as server:
        server.handshake = Handshake.STALL
        began = asyncio.get_running_loop().time()
        found = await deferred(where(server.port, policy(tls, authority)), BRIEF)
        assert found.no_reply is NoReply.TIMED_OUT
        assert asyncio.get_running_loop().time() - began < 10 * BRIEF.connect
        assert b"MAIL" not in server.clear


async def test_silence_after_tls_ends_at_its_deadline(
    authority: Authority, context: ssl.SSLContext
) -> None:
    async with TlsBackend(context) as server:
        server.once(Stage.EHLO, say("250-scripted.test", "250 STARTTLS"), STALL)
        found = await deferred(where(server.port, policy(BackendTls.STARTTLS, authority)), BRIEF)
        assert found.no_reply is NoReply.TIMED_OUT
        assert "no reply to EHLO" in found.detail


FLOOD = 10 * 1024 * 1024


@pytest.mark.parametrize(
    ("stage", "octets"),
    [
        pytest.param(Stage.CONNECT, b"220 " + b"x" * FLOOD, id="banner_without_end"),
        pytest.param(Stage.CONNECT, b"220-welcome\r\n" * (FLOOD // 13), id="banner_of_many_lines"),
        pytest.param(Stage.EHLO, b"250 " + b"x" * FLOOD, id="ehlo_without_end"),
        pytest.param(Stage.EHLO, b"250-SIZE 5\r\n" * (FLOOD // 12), id="ehlo_of_many_lines"),
        pytest.param(Stage.EHLO, bytes(range(256)) * (FLOOD // 256), id="binary"),
    ],
)
@pytest.mark.parametrize("is_encrypted", [False, True])
async def test_ten_megabytes_of_anything_are_not_kept(
    stage: Stage,
    octets: bytes,
    authority: Authority,
    context: ssl.SSLContext,
    *,
    is_encrypted: bool,
) -> None:
    tls = BackendTls.IMPLICIT if is_encrypted else BackendTls.NONE
    async with TlsBackend(context, is_implicit=is_encrypted) as server:
        server.once(stage, Say(octets))
        found = await deferred(where(server.port, policy(tls, authority)))
        assert found.stage is stage
        assert found.no_reply is NoReply.NOT_SMTP
        assert len(found.detail) < 500
        await eventually(lambda: server.open_sessions == 0)


async def test_a_reply_that_drips_ends_at_its_deadline(
    authority: Authority, context: ssl.SSLContext
) -> None:
    """Each octet is progress, and none of them is a reply."""
    async with TlsBackend(context) as server, asyncio.timeout(DEADLINE):

        async def drip() -> None:
            # What comes with the greeting would be more than a greeting.
            await eventually(lambda: b"EHLO" in server.clear)
            while True:
                server.push(b"2")
                await asyncio.sleep(0.02)

        server.once(Stage.EHLO, Say(b"250-"))
        task = asyncio.get_running_loop().create_task(drip())
        found = await deferred(where(server.port, policy(BackendTls.NONE, authority)), BRIEF)
        task.cancel()
        assert found.no_reply is NoReply.TIMED_OUT


# TLS that may be missing.


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda s: setattr(s, "starttls", say("454 4.7.0 not now")), id="refused"),
        pytest.param(lambda s: setattr(s, "handshake", Handshake.GARBAGE), id="garbage"),
        pytest.param(lambda s: setattr(s, "handshake", Handshake.CLOSE), id="closed"),
    ],
)
async def test_tls_that_does_not_work_and_need_not_is_left_for_a_while(
    spoil: Callable[[TlsBackend], None], authority: Authority, context: ssl.SSLContext
) -> None:
    told: list[tuple[str, float]] = []
    security = Security(
        policy(BackendTls.OPPORTUNISTIC, authority),
        on_clear=lambda detail, seconds: told.append((detail, seconds)),
    )
    async with TlsBackend(context) as server:
        spoil(server)
        for _ in range(3):
            connection = await open_connection(where(server.port, security), TIMEOUTS)
            assert isinstance(connection, Connection), connection
            assert not connection.wire.is_encrypted
            await connection.quit()
        assert server.commands.count(b"STARTTLS") == 1
        assert len(server.sessions) == 4
        assert len(told) == 1
        assert told[0][1] == 600.0

        server.handshake, server.starttls = Handshake.DO, say("220 go")
        security.use(security.read())
        connection = await open_connection(where(server.port, security), TIMEOUTS)
        assert isinstance(connection, Connection)
        assert connection.wire.is_encrypted, "a reload tries again"
        await connection.quit()


async def test_tls_is_used_where_it_is_offered_whoever_signed(
    authority: Authority, pairs: dict[str, Pair]
) -> None:
    async with TlsBackend(server_context(pairs["expired"])) as server:
        security = Security(policy(BackendTls.OPPORTUNISTIC, authority, name="not.its.name"))
        connection = await open_connection(where(server.port, security), TIMEOUTS)
        assert isinstance(connection, Connection)
        assert connection.wire.is_encrypted
        server.extensions = DEFAULT_EXTENSIONS
        in_clear = await open_connection(where(server.port, security), TIMEOUTS)
        assert isinstance(in_clear, Connection)
        assert not in_clear.wire.is_encrypted
        await connection.quit()
        await in_clear.quit()


async def test_a_backend_that_is_gone_altogether_is_not_one_without_tls(
    authority: Authority, context: ssl.SSLContext
) -> None:
    """It closed in the handshake and greets nobody any more: TLS is tried again afterwards."""
    security = Security(policy(BackendTls.OPPORTUNISTIC, authority))
    async with TlsBackend(context) as server:
        server.handshake = Handshake.CLOSE
        server.once(Stage.CONNECT, say("220 hello"), say("421 4.3.2 going down"))
        found = await deferred(where(server.port, security))
        assert found.reply is not None
        assert found.reply.code == 421
        assert security.tls is BackendTls.OPPORTUNISTIC


# PROXY.


@pytest.mark.parametrize("tls", [BackendTls.NONE, BackendTls.STARTTLS, BackendTls.IMPLICIT])
async def test_a_header_comes_before_all_else_and_tells_both_ends(
    tls: BackendTls, authority: Authority, context: ssl.SSLContext
) -> None:
    is_implicit = tls is BackendTls.IMPLICIT
    async with TlsBackend(context, is_implicit=is_implicit, is_behind_proxy=True) as server:
        address = where(server.port, policy(tls, authority), proxy_protocol=True)
        connection = await open_connection(address, TIMEOUTS)
        assert isinstance(connection, Connection), connection
        (header,) = server.headers
        ((host, port),) = server.peers
        assert header.source is not None
        assert (str(header.source.address), header.source.port) == (host, port)
        assert isinstance(header.destination, Endpoint)
        assert header.destination.port == server.port
        await connection.quit()


# Our login.


def credentials(folder: Path, password: str = PASSWORD) -> Path:
    path = folder / "credentials"
    path.write_text(f"relay\n{password}\n")
    path.chmod(0o600)
    return path


AUTH = (*DEFAULT_EXTENSIONS, "AUTH PLAIN LOGIN")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("tls", [BackendTls.STARTTLS, BackendTls.IMPLICIT])
async def test_we_log_in_once_nobody_can_listen(
    tls: BackendTls,
    mechanism: str,
    authority: Authority,
    context: ssl.SSLContext,
    tmp_path: Path,
) -> None:
    offered = (*DEFAULT_EXTENSIONS, f"AUTH {mechanism}")
    async with TlsBackend(
        context,
        extensions=(*offered, "STARTTLS"),
        after_tls=offered,
        is_implicit=tls is BackendTls.IMPLICIT,
    ) as server:
        server.accounts["relay"] = PASSWORD
        checked = policy(tls, authority, credentials_file=credentials(tmp_path))
        backend = backend_at(where(server.port, checked))
        result = await backend.deliver(outbound())
        assert isinstance(result.recipients[0], Delivered), result
        assert server.logins == 1
        assert b"AUTH" not in server.clear
        await backend.close()


async def test_a_login_that_is_refused_is_not_repeated_by_every_connection(
    authority: Authority, context: ssl.SSLContext, tmp_path: Path
) -> None:
    """A directory would lock the account. And nobody's mail is bounced."""
    told: list[str] = []
    checked = policy(
        BackendTls.STARTTLS, authority, credentials_file=credentials(tmp_path, "wrong")
    )
    security = Security(checked, on_login_refused=lambda detail, _seconds: told.append(detail))
    async with TlsBackend(context, after_tls=AUTH) as server:
        server.accounts["relay"] = PASSWORD
        address = where(server.port, security)
        backend = backend_at(address)
        results = await asyncio.gather(*(backend.deliver(outbound()) for _ in range(10)))
        for result in results:
            (found,) = result.recipients
            assert isinstance(found, Deferred)
            assert found.reply is None
            assert result.is_backend_away
            assert "refuses our login: it said 535 5.7.8" in found.detail
            assert "credentials_file" in found.detail
            assert "wrong" not in found.detail
        assert server.logins == 1
        assert len(told) == 1
        sessions = len(server.sessions)
        assert "next attempt in 300 s" in (await deferred(address)).detail
        assert len(server.sessions) == sessions, "it is not even connected to"

        credentials(tmp_path)
        security.use(security.read())
        result = await backend.deliver(outbound())
        assert isinstance(result.recipients[0], Delivered), "the new password is tried at once"
        assert server.logins == 2
        await backend.close()


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (say("454 4.7.0 temporary failure"), "it said 454 4.7.0"),
        (say("421 4.3.2 shutting down"), "it said 421 4.3.2"),
        (say("250 2.0.0 fine"), "make no sense"),
        (say("334 "), "asks for more than a password"),
        (Say(b"what?\r\n"), "not SMTP"),
        (Say(b"235 2.7.0 welcome\r\n250 2.1.0 injected\r\n"), "not SMTP"),
        (Say(b"", is_last=True), "closed the connection at AUTH"),
        (STALL, "does not answer AUTH"),
    ],
)
async def test_a_login_without_an_answer_is_tried_again(
    answer: Any, detail: str, authority: Authority, context: ssl.SSLContext, tmp_path: Path
) -> None:
    checked = policy(BackendTls.STARTTLS, authority, credentials_file=credentials(tmp_path))
    security = Security(checked)
    async with TlsBackend(context, after_tls=(*DEFAULT_EXTENSIONS, "AUTH PLAIN")) as server:
        server.auth = answer
        found = await deferred(where(server.port, security), BRIEF)
        assert detail in found.detail
        assert found.reply is None
        assert security.login_pause() is None


async def test_nobody_waits_long_for_a_turn_to_log_in(
    authority: Authority, context: ssl.SSLContext, tmp_path: Path
) -> None:
    """One stalls, and the others do not stall one after the other."""
    checked = policy(BackendTls.STARTTLS, authority, credentials_file=credentials(tmp_path))
    security = Security(checked)
    async with TlsBackend(context, after_tls=AUTH) as server:
        server.auth = STALL
        began = asyncio.get_running_loop().time()
        found = await asyncio.gather(
            *(open_connection(where(server.port, security), BRIEF) for _ in range(30))
        )
        assert asyncio.get_running_loop().time() - began < 15 * BRIEF.command
        details = [each.detail for each in found if isinstance(each, Deferred)]
        assert any("no turn to log in" in detail for detail in details)
        assert not security.proving.locked()


async def test_a_server_without_our_mechanisms_is_told(
    authority: Authority, context: ssl.SSLContext, tmp_path: Path
) -> None:
    checked = policy(BackendTls.STARTTLS, authority, credentials_file=credentials(tmp_path))
    async with TlsBackend(context, after_tls=("AUTH GSSAPI NTLM",)) as server:
        found = await deferred(where(server.port, checked))
        assert "it offers GSSAPI, NTLM, and we have PLAIN and LOGIN" in found.detail
        assert server.logins == 0


async def test_no_password_leaves_the_host_in_clear(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, context: ssl.SSLContext, tmp_path: Path
) -> None:
    """The configuration asks for TLS; should it not come, this is the last line."""
    checked = SecurityPolicy(credentials_file=credentials(tmp_path))
    async with TlsBackend(context, extensions=AUTH) as server:
        server.accounts["relay"] = PASSWORD
        connection = await open_connection(where(server.port, checked), TIMEOUTS)
        assert isinstance(connection, Connection), "loopback is this host"
        await connection.quit()
        assert server.logins == 1
        monkeypatch.setattr("mailshed.relay.connection.stays_here", lambda _wire: False)
        found = await deferred(where(server.port, checked))
        assert "no login without TLS" in found.detail
        assert server.logins == 1


async def test_cancellation_in_the_handshake_leaves_no_connection(
    authority: Authority, context: ssl.SSLContext
) -> None:
    async with TlsBackend(context) as server:
        server.handshake = Handshake.LISTEN
        address = where(server.port, policy(BackendTls.STARTTLS, authority))
        task = asyncio.get_running_loop().create_task(open_connection(address, TIMEOUTS))
        await eventually(lambda: b"STARTTLS" in server.commands)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: server.ended == 1)
