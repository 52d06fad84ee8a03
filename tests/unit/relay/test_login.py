"""Logging in to find out whether a password is right: what is said, and what the answers mean."""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from mailshed.authentication.sasl import Credentials, Mechanism, credentials
from mailshed.authentication.verdict import Accepted, Rejected, Unavailable, Verdict
from mailshed.config.authentication import Authentication
from mailshed.errors import ConfigError
from mailshed.mail.envelope import Client
from mailshed.relay.login import COMMAND_OCTETS_MAX, LoginVerifier, address_of
from tests.support.certificates import Authority, make_authority
from tests.support.login_server import LoginServer
from tests.support.outbound import DEADLINE, eventually
from tests.support.tls_backend import server_context

SECRET = b"Kanarienvogel-7"
PLAIN = credentials(Mechanism.PLAIN, (b"\0alice\0" + SECRET,))
LOGIN = credentials(Mechanism.LOGIN, (b"Alice", SECRET))
TOKEN = credentials(Mechanism.XOAUTH2, (b"user=alice\x01auth=Bearer t0ken\x01\x01",))
CLIENT = Client(
    session_id="s1",
    listener="submission",
    address=ip_address("192.0.2.1"),
    port=1,
    is_trusted=False,
)
ACCEPTED = "235 2.7.0 welcome"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> tuple[Path, Path]:
    return authority.issue(("mail.hospital.example", "127.0.0.1"))


@asynccontextmanager
async def asking(
    port: int, *, timeout: float = DEADLINE, **section: Any
) -> AsyncIterator[LoginVerifier]:
    """What asks the server at this port; no fault of ours may have been reported at the end."""
    failures: list[BaseException] = []
    settings = {"host": "127.0.0.1", "port": port, "tls": "none", **section}
    address = address_of(Authentication.model_validate(settings), "relay.test")
    verifier = LoginVerifier(
        address, timeout=timeout, on_failure=lambda _name, error: failures.append(error)
    )
    await verifier.refresh()
    try:
        yield verifier
    finally:
        await verifier.close()
    assert failures == []


async def _verdict(
    server: LoginServer, said: Credentials, *answers: str, **section: Any
) -> Verdict:
    server.answers.extend(answers)
    async with server, asking(server.port, **section) as verifier:
        async with asyncio.timeout(DEADLINE):
            verdict = await verifier.verify(said, CLIENT)
        await eventually(lambda: not server.open_connections)
    return verdict


def _said(heard: Sequence[bytes]) -> list[bytes]:
    """What was said besides EHLO and STARTTLS."""
    return [each for each in heard if not each.startswith((b"EHLO", b"STARTTLS"))]


def _b64(text: bytes) -> bytes:
    return base64.b64encode(text)


# What is said.


async def test_the_server_gets_the_very_octets_of_the_client() -> None:
    server = LoginServer()

    assert await _verdict(server, PLAIN, ACCEPTED) == Accepted("alice")
    assert _said(server.in_clear) == [b"AUTH PLAIN " + PLAIN.encoded[0], b"QUIT"]


async def test_login_says_name_and_password_one_after_the_other() -> None:
    server = LoginServer()
    prompts = ("334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6")

    assert await _verdict(server, LOGIN, *prompts, ACCEPTED) == Accepted("alice")
    assert _said(server.in_clear) == [b"AUTH LOGIN", _b64(b"Alice"), _b64(SECRET), b"QUIT"]


async def test_a_server_without_login_is_asked_by_plain() -> None:
    server = LoginServer(mechanisms="DIGEST-MD5 PLAIN")

    assert await _verdict(server, LOGIN, ACCEPTED) == Accepted("alice")
    assert _said(server.in_clear) == [b"AUTH PLAIN " + _b64(b"\0Alice\0" + SECRET), b"QUIT"]


async def test_a_server_without_plain_is_asked_by_login() -> None:
    server = LoginServer(mechanisms="LOGIN")
    prompts = ("334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6")

    assert await _verdict(server, PLAIN, *prompts, ACCEPTED) == Accepted("alice")
    assert _said(server.in_clear) == [b"AUTH LOGIN", _b64(b"alice"), _b64(SECRET), b"QUIT"]


@pytest.mark.parametrize("octets", [COMMAND_OCTETS_MAX, COMMAND_OCTETS_MAX + 1])
async def test_a_command_that_would_be_too_long_is_split(octets: int) -> None:
    room = octets - len(b"AUTH PLAIN \r\n")
    secret = b"x" * (room // 4 * 3 - len(b"\0alice\0") + (3 if octets > COMMAND_OCTETS_MAX else 0))
    said = credentials(Mechanism.PLAIN, (b"\0alice\0" + secret,))
    server = LoginServer()
    is_split = octets > COMMAND_OCTETS_MAX

    verdict = await _verdict(server, said, *(("334 ",) if is_split else ()), ACCEPTED)

    assert verdict == Accepted("alice")
    whole = [b"AUTH PLAIN " + said.encoded[0]]
    assert _said(server.in_clear)[:-1] == ([b"AUTH PLAIN", said.encoded[0]] if is_split else whole)


async def test_the_reason_of_a_refused_token_is_taken_note_of() -> None:
    server = LoginServer(mechanisms="XOAUTH2")

    verdict = await _verdict(server, TOKEN, "334 eyJzdGF0dXMiOiI0MDAifQ==", "535 5.7.8 expired")

    assert verdict == Rejected("it said 535 5.7.8")
    assert _said(server.in_clear) == [b"AUTH XOAUTH2 " + TOKEN.encoded[0], b"", b"QUIT"]


async def test_who_is_asked_more_than_a_password_gives_up() -> None:
    server = LoginServer()

    verdict = await _verdict(server, PLAIN, "334 b25lLXRpbWUgY29kZT8=", "501 5.7.0 cancelled")

    assert isinstance(verdict, Unavailable)
    assert _said(server.in_clear)[1:] == [b"*", b"QUIT"]


# What the answers mean.


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("235 2.7.0 ok", Accepted("alice")),
        ("235 ok", Accepted("alice")),
        ("535 5.7.8 Error: authentication failed: UGFzc3dvcmQ6", Rejected("it said 535 5.7.8")),
        ("535 no", Rejected("it said 535")),
        ("534 5.7.9 Application-specific password required", Rejected("it said 534 5.7.9")),
        ("525 5.7.13 User account disabled", Rejected("it said 525 5.7.13")),
        ("550 5.7.1 no", Rejected("it said 550 5.7.1")),
        ("454 4.7.0 Temporary authentication failure", Unavailable("it said 454 4.7.0")),
        ("421 4.3.2 shutting down", Unavailable("it said 421 4.3.2")),
        ("432 4.7.12 a password transition is needed", Unavailable("it said 432 4.7.12")),
        ("500 5.5.6 line too long", Unavailable("it said 500 5.5.6")),
        ("501 5.5.4 syntax", Unavailable("it said 501 5.5.4")),
        ("503 5.5.1 authentication not enabled", Unavailable("it said 503 5.5.1")),
        ("504 5.5.4 Unrecognized authentication type", Unavailable("it said 504 5.5.4")),
        ("530 5.7.0 Must issue a STARTTLS command first", Unavailable("it said 530 5.7.0")),
        ("538 5.7.11 Encryption required", Unavailable("it said 538 5.7.11")),
    ],
)
async def test_a_no_is_what_speaks_of_the_password(answer: str, verdict: Verdict) -> None:
    assert await _verdict(LoginServer(), PLAIN, answer) == verdict


@pytest.mark.parametrize("answer", ["250 ok", "235", "354 go on", "close", "garbage", "235-ok"])
async def test_what_is_neither_is_no_answer(answer: str) -> None:
    server = LoginServer()
    server.answers.append(answer)
    async with server, asking(server.port, timeout=0.3) as verifier:
        verdict = await verifier.verify(PLAIN, CLIENT)

    if answer == "235":  # a code is a reply
        assert verdict == Accepted("alice")
    else:
        assert isinstance(verdict, Unavailable)


@pytest.mark.parametrize("mechanisms", ["", "CRAM-MD5", "XOAUTH2 GSSAPI"])
async def test_a_server_without_the_mechanism_hears_no_password(mechanisms: str) -> None:
    server = LoginServer(mechanisms=mechanisms)

    verdict = await _verdict(server, PLAIN, ACCEPTED)

    assert isinstance(verdict, Unavailable)
    assert "PLAIN" in verdict.detail
    assert _said(server.in_clear) == [b"QUIT"]


async def test_a_server_that_repeats_the_password_is_not_repeated() -> None:
    server = LoginServer()
    echo = PLAIN.encoded[0].decode()

    verdict = await _verdict(server, PLAIN, f"504 5.5.4 unknown command AUTH PLAIN {echo}")

    assert verdict == Unavailable("it said 504 5.5.4")


async def test_nor_is_one_that_answers_with_something_else_than_smtp() -> None:
    server = LoginServer()
    server.answers.append(PLAIN.encoded[0].decode())
    async with server, asking(server.port, timeout=DEADLINE) as verifier:
        verdict = await verifier.verify(PLAIN, CLIENT)

    assert isinstance(verdict, Unavailable)
    assert PLAIN.encoded[0].decode() not in repr(verdict)


async def test_a_server_that_is_away_has_no_answer() -> None:
    async with LoginServer() as server:
        port = server.port
    async with asking(port) as verifier:
        verdict = await verifier.verify(PLAIN, CLIENT)

    assert isinstance(verdict, Unavailable)
    assert str(port) in verdict.detail


async def test_a_client_that_leaves_ends_the_question() -> None:
    server = LoginServer()
    server.answers.append("stall")
    async with server, asking(server.port) as verifier:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await verifier.verify(PLAIN, CLIENT)
        assert server.is_stalled.is_set()
        await eventually(lambda: server.was_left)


# Over what.


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_over_tls_nothing_of_it_is_in_clear(
    tls: str, authority: Authority, pair: tuple[Path, Path]
) -> None:
    server = LoginServer(context=server_context(pair), is_implicit=tls == "implicit")

    verdict = await _verdict(server, PLAIN, ACCEPTED, tls=tls, ca_file=str(authority.ca_file))

    assert verdict == Accepted("alice")
    assert _said(server.in_clear) == []
    assert _said(server.in_tls)[0] == b"AUTH PLAIN " + PLAIN.encoded[0]


async def test_a_server_that_has_lost_starttls_gets_no_password(authority: Authority) -> None:
    server = LoginServer()

    verdict = await _verdict(
        server, PLAIN, ACCEPTED, tls="starttls", ca_file=str(authority.ca_file)
    )

    assert isinstance(verdict, Unavailable)
    assert _said(server.in_clear) == []


@pytest.mark.parametrize("fault", ["another name", "nobody we trust", "expired"])
async def test_a_server_that_does_not_prove_its_name_gets_no_password(
    fault: str, authority: Authority, tmp_path: Path
) -> None:
    issuer = make_authority(tmp_path / "other") if fault == "nobody we trust" else authority
    names = ("elsewhere.example",) if fault == "another name" else ("127.0.0.1",)
    context = server_context(issuer.issue(names, expired=fault == "expired"))
    server = LoginServer(context=context)

    verdict = await _verdict(
        server, PLAIN, ACCEPTED, tls="starttls", ca_file=str(authority.ca_file)
    )

    assert isinstance(verdict, Unavailable)
    assert "certificate verify failed" in verdict.detail
    assert _said([*server.in_clear, *server.in_tls]) == []


async def test_the_name_in_the_certificate_may_be_another_than_the_host(
    authority: Authority, pair: tuple[Path, Path]
) -> None:
    server = LoginServer(context=server_context(pair))
    section = {"tls": "starttls", "tls_name": "mail.hospital.example"}

    verdict = await _verdict(server, PLAIN, ACCEPTED, ca_file=str(authority.ca_file), **section)

    assert verdict == Accepted("alice")


async def test_a_file_of_authorities_that_is_of_no_use_is_told_by_its_key(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")

    with pytest.raises(ConfigError, match=r"authentication\.ca_file"):
        async with asking(1, tls="starttls", ca_file=str(tmp_path / "ca.pem")):
            pass
