"""AUTH as a session has it: when it may be said, what is read meanwhile, and what it leaves behind.

The dialogs themselves stand in tests/protocol/dialogs.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailshed.authentication.sasl import RESPONSE_OCTETS_MAX, Credentials, Mechanism
from mailshed.config.policy import AuthMode, ListenerPolicy, TlsMode
from mailshed.errors import CredentialsError
from mailshed.listener.lines import COMMAND_OCTETS_MAX
from mailshed.listener.protocol import SmtpSession
from mailshed.mail import reply
from mailshed.mail.envelope import TlsState
from mailshed.terms import Stage
from tests.support.certificates import Authority, make_authority
from tests.support.front import Front, Peer, ScriptedHandler, until
from tests.support.tls import TlsPeer, client_context, new_handshakes

TLS = TlsState("TLSv1.3", "TLS_AES_256_GCM_SHA384")
PLAIN = "AUTH PLAIN " + base64.b64encode(b"\0alice\0Kanarienvogel-7").decode()


@asynccontextmanager
async def fronted(
    auth: AuthMode = AuthMode.OFFERED, handler: ScriptedHandler | None = None, **limits: Any
) -> AsyncIterator[Front]:
    """A front with AUTH, whose clients count as being under TLS."""
    front = Front(handler or ScriptedHandler(is_trusted=False, tls=TLS), **limits)
    front.policy = ListenerPolicy(name="smtp", auth=auth)
    async with front:
        yield front


async def _greeted(front: Front) -> Peer:
    peer = await front.peer()
    await peer.greet()
    return peer


async def test_a_client_that_has_authenticated_is_a_user_and_trusted() -> None:
    async with fronted() as front:
        peer = await _greeted(front)
        before = front.session.client
        await peer.command(PLAIN, 235)

        assert (before.user, before.is_trusted) == ("", False)
        assert (front.session.client.user, front.session.client.is_trusted) == ("alice", True)
        said = front.handler.said[0]
        assert isinstance(said, Credentials)
        assert said.responses == (b"\0alice\0Kanarienvogel-7",)


async def test_rset_and_ehlo_do_not_undo_it() -> None:
    async with fronted() as front:
        peer = await _greeted(front)
        await peer.command(PLAIN, 235)
        await peer.command("RSET", 250)
        await peer.greet()
        await peer.command("HELO client.example.org", 250)

        assert front.session.client.user == "alice"


async def test_only_the_listeners_mechanisms_are_offered_and_taken() -> None:
    front = Front(ScriptedHandler(tls=TLS))
    front.policy = ListenerPolicy(
        name="smtp", auth=AuthMode.OFFERED, mechanisms=(Mechanism.XOAUTH2, Mechanism.PLAIN)
    )
    async with front:
        peer = await front.peer()
        offered = await peer.command("EHLO client.example.org", 250)

        assert b"AUTH XOAUTH2 PLAIN\r\n" in offered
        await peer.command("AUTH LOGIN", 504)


async def test_a_listener_without_auth_knows_nothing_of_it() -> None:
    async with fronted(AuthMode.NONE) as front:
        peer = await front.peer()

        assert b"AUTH" not in await peer.command("EHLO client.example.org", 250)
        await peer.command(PLAIN, 502)
        await peer.command("MAIL FROM:<a@example.org>", 250)


# While somebody is asked.


async def test_what_comes_behind_waits_for_the_verdict() -> None:
    async with fronted() as front:
        front.handler.may_verify.clear()
        peer = await _greeted(front)
        await peer.send(f"NOOP\r\n{PLAIN}\r\nMAIL FROM:<a@example.org>\r\nQUIT\r\n".encode())
        assert (await peer.reply()).startswith(b"250 ")
        await until(lambda: front.handler.verifying == 1, "somebody is asked")

        assert await peer.is_silent()
        assert front.session.envelope.mail is None

        front.handler.may_verify.set()
        assert [(await peer.reply())[:3] for _ in range(3)] == [b"235", b"250", b"221"]


async def test_the_clients_timer_stands_still() -> None:
    async with fronted(command_timeout=0.05) as front:
        front.handler.may_verify.clear()
        peer = await _greeted(front)
        await peer.send(f"{PLAIN}\r\n".encode())
        await until(lambda: front.handler.verifying == 1, "somebody is asked")
        assert front.session.timer.is_paused
        loop, deadline = asyncio.get_running_loop(), front.session.timer.next_deadline
        await until(lambda: loop.time() > deadline, "time passes")

        front.handler.may_verify.set()
        assert (await peer.reply()).startswith(b"235 ")
        assert not front.session.timer.is_paused


async def test_a_client_that_leaves_ends_the_question() -> None:
    async with fronted() as front:
        front.handler.may_verify.clear()
        peer = await _greeted(front)
        await peer.send(f"{PLAIN}\r\n".encode())
        await until(lambda: front.handler.verifying == 1, "somebody is asked")
        peer.reset()

        await until(lambda: front.handler.verifying == 0, "nobody is asked any more")


async def test_a_client_that_is_silent_after_a_challenge_times_out() -> None:
    async with fronted(command_timeout=0.05) as front:
        peer = await _greeted(front)
        await peer.command("AUTH PLAIN", 334)

        assert (await peer.reply()).startswith(b"421 4.4.2")
        assert front.handler.said == []


async def test_a_stop_ends_a_session_that_is_asked_for_a_response() -> None:
    async with fronted() as front:
        peer = await _greeted(front)
        await peer.command("AUTH LOGIN", 334)
        front.session.stop()

        assert (await peer.reply()).startswith(b"421 4.3.2")


# Length.


async def test_a_response_may_be_as_long_as_the_standard_asks_for() -> None:
    token = b"t" * (RESPONSE_OCTETS_MAX // 4 * 3 - len(b"\0alice\0"))
    async with fronted() as front:
        peer = await _greeted(front)
        line = base64.b64encode(b"\0alice\0" + token)
        assert len(line) == RESPONSE_OCTETS_MAX > COMMAND_OCTETS_MAX
        await peer.command("AUTH PLAIN", 334)
        await peer.send(line + b"\r\n")

        assert (await peer.reply()).startswith(b"235 ")


@pytest.mark.parametrize("octets", [RESPONSE_OCTETS_MAX + 1, 3 * RESPONSE_OCTETS_MAX])
async def test_a_longer_one_is_refused_and_its_rest_is_no_command(octets: int) -> None:
    async with fronted() as front:
        peer = await _greeted(front)
        await peer.command("AUTH PLAIN", 334)
        await peer.send(b"A" * octets + b"\r\nNOOP\r\n")

        assert (await peer.reply()).startswith(b"500 5.5.6")
        assert (await peer.reply()) == b"250 2.0.0 Ok\r\n"
        assert front.handler.said == []


async def test_one_without_end_ends_the_session() -> None:
    async with fronted() as front:
        peer = await _greeted(front)
        await peer.command("AUTH PLAIN", 334)
        await peer.send(b"A" * 100_000)

        assert (await peer.reply()).startswith(b"421 ")


async def test_the_command_itself_is_no_longer_than_others() -> None:
    async with fronted() as front:
        peer = await _greeted(front)
        await peer.command("AUTH PLAIN " + "A" * COMMAND_OCTETS_MAX, 500)

        assert front.handler.said == []


# Failures.


async def test_after_so_many_failures_the_session_ends_and_nothing_more_is_read() -> None:
    async with fronted(auth_failures_max=2) as front:
        front.handler.auth_answer = reply.AUTH_FAILED
        peer = await _greeted(front)
        await peer.send(f"{PLAIN}\r\n{PLAIN}\r\n{PLAIN}\r\nMAIL FROM:<a@b.c>\r\n".encode())

        rest = await peer.rest()
        assert [line[:3] for line in rest.splitlines()] == [b"535", b"535", b"421"]
        assert len(front.handler.said) == 2


async def test_what_is_no_credentials_is_such_a_failure() -> None:
    async with fronted(auth_failures_max=1) as front:
        peer = await _greeted(front)
        await peer.send(b"AUTH PLAIN " + base64.b64encode(b"root\0alice\0x") + b"\r\n")

        assert [line[:3] for line in (await peer.rest()).splitlines()] == [b"535", b"421"]
        (said,) = front.handler.said
        assert isinstance(said, CredentialsError)


@pytest.mark.parametrize("answer", [reply.AUTH_UNAVAILABLE, reply.AUTH_LIMITED])
async def test_what_is_not_the_clients_fault_is_none(answer: reply.Reply) -> None:
    async with fronted(auth_failures_max=1, errors_max=3) as front:
        front.handler.auth_answer = answer
        peer = await _greeted(front)
        for _ in range(5):
            await peer.command(PLAIN, 454)

        front.handler.auth_answer = reply.AUTHENTICATED
        await peer.command(PLAIN, 235)


async def test_trying_for_ever_is_an_error_all_the_same() -> None:
    async with fronted(errors_max=3) as front:
        front.handler.auth_answer = reply.AUTH_UNAVAILABLE
        peer = await _greeted(front)
        await peer.send(f"{PLAIN}\r\n".encode() * 200)

        assert b"421 4.7.0 Too many errors" in await peer.rest()
        assert len(front.handler.said) < 110


# As whom a user may send.


async def test_a_sender_that_is_not_the_users_is_refused_and_noted() -> None:
    async with fronted() as front:
        peer = await _greeted(front)
        await peer.command(PLAIN, 235)
        front.handler.sender_answer = reply.SENDER_NOT_OWNED
        refused = await peer.command("MAIL FROM:<director@example.org>", 553)

        assert b"5.7.1" in refused
        assert front.handler.rejections == [(Stage.MAIL, b"FROM:<director@example.org>", 553)]
        await peer.command("RCPT TO:<bob@example.net>", 503)

        front.handler.sender_answer = None
        await peer.command("MAIL FROM:<alice@example.org>", 250)


async def test_nobody_else_is_asked_about() -> None:
    async with fronted() as front:
        front.handler.sender_answer = reply.SENDER_NOT_OWNED
        peer = await _greeted(front)

        await peer.command("MAIL FROM:<director@example.org>", 250)


# Before and after TLS.


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> tuple[Path, Path]:
    return authority.issue()


@asynccontextmanager
async def encrypting(pair: tuple[Path, Path]) -> AsyncIterator[tuple[Front, TlsPeer]]:
    """A front that knows STARTTLS, and a client of it that has not said so yet."""
    front = Front(ScriptedHandler(is_trusted=False))
    front.policy = ListenerPolicy(name="smtp", tls=TlsMode.STARTTLS, auth=AuthMode.OFFERED)
    front.handshakes = new_handshakes(pair)
    async with front:
        peer = TlsPeer(front.port)
        await peer.connect()
        assert (await peer.reply()).startswith(b"220 ")
        try:
            yield front, peer
        finally:
            peer.close()


async def test_before_tls_there_is_no_auth_and_after_it_there_is(
    authority: Authority, pair: tuple[Path, Path]
) -> None:
    async with encrypting(pair) as (front, peer):
        assert b"AUTH" not in await peer.command("EHLO client.example.org", 250)
        await peer.command(PLAIN, 538)
        await peer.command("STARTTLS", 220)
        await peer.begin_tls(client_context(authority))
        await peer.command(PLAIN, 503)  # RFC 3207, 4.2: nothing that was said before counts
        assert b"AUTH PLAIN LOGIN\r\n" in await peer.command("EHLO client.example.org", 250)
        await peer.command(PLAIN, 235)

        assert len(front.handler.said) == 1
        assert front.session.client.user == "alice"


async def test_who_was_taken_for_a_user_in_clear_is_not_taken_along_under_tls(
    pair: tuple[Path, Path],
) -> None:
    """Even if something had let it in: whoever speaks under TLS may be another."""
    async with encrypting(pair) as (front, peer):
        await peer.greet()
        _pretend_authenticated(front.session)
        await peer.command("STARTTLS", 503)

        assert front.session.client.tls is None


def _pretend_authenticated(session: SmtpSession) -> None:
    session.client = replace(session.client, user="mallory", is_trusted=True)


async def test_a_response_of_auth_is_not_taken_for_starttls(
    authority: Authority, pair: tuple[Path, Path]
) -> None:
    """A challenge in clear is never asked, so nothing can be waiting for its response."""
    async with encrypting(pair) as (front, peer):
        await peer.greet()
        await peer.command("AUTH LOGIN", 538)
        await peer.command("STARTTLS", 220)
        await peer.begin_tls(client_context(authority))
        await peer.greet()
        await peer.command("AUTH LOGIN", 334)

        assert front.handler.said == []
