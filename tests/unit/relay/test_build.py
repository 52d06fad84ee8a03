"""Which backend, and who asks it, come of which section."""

import io
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mailshed.clock import SystemClock
from mailshed.config.back import Backend as Section
from mailshed.control.breaker import Step
from mailshed.control.limit import FixedLimit
from mailshed.maillog import MailLog
from mailshed.relay.backend import Backend
from mailshed.relay.build import (
    build_address,
    build_backend,
    build_call_ahead,
    build_gate,
    build_prober,
    build_stock_backend,
    host_port,
    target_of,
)
from mailshed.relay.connection import Address, Timeouts
from mailshed.relay.gate import Gate
from mailshed.relay.maildir import MaildirBackend
from mailshed.relay.manner import Identity, Manner
from mailshed.relay.presets import POSTFIX
from mailshed.relay.security import BackendTls, SecurityPolicy
from mailshed.relay.smtp import SmtpBackend
from mailshed.relay.stock import StockBackend
from tests.support.middle import LogLines
from tests.support.scripted_backend import ScriptedBackend

HOSTNAME = "mx.example.org"
MAILDIR = Section(name="trial", maildir=Path("/var/lib/trial"))


@pytest.fixture
async def server() -> AsyncIterator[ScriptedBackend]:
    async with ScriptedBackend() as running:
        yield running


def section(port: int = 25, **settings: Any) -> Section:
    return Section.model_validate({"name": "exch", "host": "127.0.0.1", "port": port} | settings)


def where(made: Section) -> Address | None:
    maillog = MailLog(LogLines(), "json", "debug")
    return build_address(
        made, HOSTNAME, clock=SystemClock(), maillog=maillog, on_hello=lambda _lines: None
    )


def gate() -> Gate:
    return Gate(limit=FixedLimit(1), clock=SystemClock(), rng=random.Random(1))


def fail(name: str, error: BaseException) -> None:
    raise AssertionError(name) from error


@pytest.mark.parametrize(
    ("made", "target"),
    [
        (section(), "127.0.0.1:25"),
        (section(2526, host="mail.example.org"), "mail.example.org:2526"),
        (section(host="::1"), "[::1]:25"),
        (Section(name="dovecot", socket=Path("/run/lmtp")), "socket /run/lmtp"),
        (MAILDIR, "Maildir /var/lib/trial"),
    ],
)
def test_a_target_is_what_people_would_type(made: Section, target: str) -> None:
    assert target_of(made) == target


def test_an_ipv6_endpoint_has_brackets() -> None:
    assert [host_port("10.0.0.5", 25), host_port("fd00::5", 0)] == ["10.0.0.5:25", "[fd00::5]:0"]


async def test_a_server_is_reached_over_a_pool_with_the_sections_bounds() -> None:
    crowded: list[int] = []
    server = section(
        connect_timeout="3s",
        command_timeout="4s",
        dot_timeout="5s",
        idle_timeout="6s",
        messages_per_connection=7,
    )
    made = build_backend(
        server,
        HOSTNAME,
        where(server),
        clock=SystemClock(),
        on_result=lambda _message, _result: None,
        on_crowded=crowded.append,
        maillog=MailLog(io.StringIO()),
    )
    assert isinstance(made, SmtpBackend)
    assert made.name == "exch"
    policy = made._pool._policy
    assert (policy.idle_timeout, policy.messages_per_connection) == (6.0, 7)
    address, timeouts = made._pool._connect.args  # type: ignore[attr-defined]
    assert (address.host, address.port, address.hostname) == ("127.0.0.1", 25, HOSTNAME)
    assert timeouts == Timeouts(connect=3.0, command=4.0, dot=5.0)
    made._pool._on_crowded(3)
    assert crowded == [3]


async def test_a_maildir_is_not_asked_anything() -> None:
    made = build_backend(
        MAILDIR,
        HOSTNAME,
        where(MAILDIR),
        clock=SystemClock(),
        on_result=lambda _message, _result: None,
        on_crowded=lambda _connections: None,
        maillog=MailLog(io.StringIO()),
    )
    assert isinstance(made, MaildirBackend)
    assert made.name == "trial"
    assert build_prober(MAILDIR, where(MAILDIR), fail) is None
    asking = build_call_ahead(MAILDIR, None, gate=gate(), clock=SystemClock(), on_failure=fail)
    assert asking is None


@pytest.mark.parametrize(("made", "kind"), [(section(), StockBackend), (MAILDIR, MaildirBackend)])
def test_the_stock_engine_has_a_backend_of_its_own_for_servers(
    made: Section, kind: type[Backend]
) -> None:
    backend = build_stock_backend(
        made,
        HOSTNAME,
        where(made),
        clock=SystemClock(),
        on_result=lambda _message, _result: None,
        on_crowded=lambda _connections: None,
        maillog=MailLog(io.StringIO()),
    )
    assert type(backend) is kind
    if isinstance(backend, StockBackend):
        assert backend.name == "exch"
        assert backend._timeouts == Timeouts(connect=10.0, command=30.0, dot=540.0)


async def test_a_server_is_probed_under_our_name(server: ScriptedBackend) -> None:
    asked = section(server.port)
    prober = build_prober(asked, where(asked), fail)
    assert prober is not None
    assert await prober.ask(Step.EHLO) is None
    assert server.commands[0] == b"EHLO " + HOSTNAME.encode()
    await prober.stop()


async def test_questions_do_not_wait_as_long_as_mail_does() -> None:
    asked = section(command_timeout="300s")
    prober = build_prober(asked, where(asked), fail)
    assert prober is not None
    _, timeouts = prober._connect.args  # type: ignore[attr-defined]
    assert timeouts == Timeouts(connect=10.0, command=10.0, dot=10.0)


async def test_the_gate_has_the_preset_and_asks_if_there_is_a_prober() -> None:
    server = section(preset="postfix")
    prober = build_prober(server, where(server), fail)
    for each in (prober, None):
        made = build_gate(
            server, limit=FixedLimit(2), prober=each, clock=SystemClock(), rng=random.Random(1)
        )
        assert made._preset is POSTFIX
        assert made.limit == 2
        assert made.station.breaker.can_ask is (each is not None)


async def test_questions_about_mailboxes_see_whether_the_gate_is_pressed() -> None:
    door = gate()
    asked = section()
    asking = build_call_ahead(asked, where(asked), gate=door, clock=SystemClock(), on_failure=fail)
    assert asking is not None
    assert not asking._is_pressed()
    door.station._in_flight = 1
    assert asking._is_pressed(), "all slots are in use"


def test_an_address_has_what_the_section_says_of_tls_and_login(tmp_path: Path) -> None:
    log, heard = LogLines(), list[Sequence[str]]()
    made = section(
        465,
        host="mail.example.org",
        tls="implicit",
        tls_name="mx.example.org",
        ca_file=str(tmp_path / "ca.pem"),
        credentials_file=str(tmp_path / "login"),
        proxy_protocol=True,
    )
    address = build_address(
        made,
        HOSTNAME,
        clock=SystemClock(),
        maillog=MailLog(log, "json", "debug"),
        on_hello=heard.append,
    )
    assert address is not None
    assert (address.host, address.port, address.hostname) == ("mail.example.org", 465, HOSTNAME)
    assert address.proxy_protocol
    assert address.security.policy == SecurityPolicy(
        tls=BackendTls.IMPLICIT,
        is_verified=True,
        name="mx.example.org",
        ca_file=tmp_path / "ca.pem",
        credentials_file=tmp_path / "login",
    )
    address.on_hello(("SIZE",))
    assert heard == [("SIZE",)]
    address.security.note_login_refused("it said 535")
    told = log.one("backend_login_refused")
    assert (told["backend"], told["next_try"], told["detail"]) == ("exch", 300.0, "it said 535")
    assert where(MAILDIR) is None


def test_an_address_says_once_that_mail_goes_in_clear() -> None:
    log = LogLines()
    address = build_address(
        section(),
        HOSTNAME,
        clock=SystemClock(),
        maillog=MailLog(log, "json", "debug"),
        on_hello=lambda _lines: None,
    )
    assert address is not None
    assert address.security.policy.name == "127.0.0.1"
    for _ in range(2):
        address.security.note_clear("handshake failed")
    told = log.one("backend_in_clear")
    assert (told["backend"], told["next_try"]) == ("exch", 600.0)


async def test_how_a_server_is_spoken_with_comes_of_its_section() -> None:
    made = section(24, protocol="lmtp", identity="xclient", chunking="auto")
    backend = build_backend(
        made,
        HOSTNAME,
        where(made),
        clock=SystemClock(),
        on_result=lambda _message, _result: None,
        on_crowded=lambda _connections: None,
        maillog=MailLog(io.StringIO()),
    )
    assert isinstance(backend, SmtpBackend)
    assert backend._manner == Manner(is_lmtp=True, identity=Identity.XCLIENT, is_chunking=True)
    assert backend.answers_each_recipient
    address = where(made)
    assert address is not None
    assert (address.protocol, address.socket) == ("lmtp", None)


async def test_what_keeps_a_server_from_being_told_is_logged_and_its_end_too() -> None:
    made, lines = section(identity="xclient"), io.StringIO()
    backend = build_backend(
        made,
        HOSTNAME,
        where(made),
        clock=SystemClock(),
        on_result=lambda _message, _result: None,
        on_crowded=lambda _connections: None,
        maillog=MailLog(lines),
    )
    assert isinstance(backend, SmtpBackend)
    backend._on_trouble("not authorised")
    backend._on_trouble("")
    refused, taken = lines.getvalue().splitlines()
    assert "event=backend_identity_refused backend=exch" in refused
    assert "not authorised" in refused
    assert "event=backend_identity_taken backend=exch" in taken


def test_a_socket_needs_neither_host_nor_tls() -> None:
    made = Section(name="dovecot", socket=Path("/run/lmtp"), protocol="lmtp")
    address = where(made)
    assert address is not None
    assert address.socket == Path("/run/lmtp")
    assert address.security.policy.tls is BackendTls.NONE
