"""XCLIENT on one connection: what is sent, what answers mean, and whose the session is then."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mailshed.mail.delivery import Bounced, Deferred, NoReply
from mailshed.relay.backend import NOBODY, Origin
from mailshed.relay.connection import Address, Connection, Timeouts, open_connection
from mailshed.relay.introduction import NOT_AUTHORISED, introduce, suits
from mailshed.terms import Stage
from tests.support.outbound import DEADLINE
from tests.support.scripted_backend import CLOSE, STALL, Action, ScriptedBackend, bye, say

XCLIENT = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN"
EXTENSIONS = ("PIPELINING", "8BITMIME", XCLIENT)
ALICE = Origin(address="192.0.2.7", helo="ward7.example.org", login="alice")
BOB = Origin(address="2001:db8::8", helo="lab.example.org")
OURS = Origin(address="local", helo="")


async def connect(server: ScriptedBackend, command: float = DEADLINE) -> Connection:
    where = Address(
        host=server.host,
        port=server.port,
        hostname="relay.test",
        protocol="lmtp" if server.is_lmtp else "smtp",
    )
    timeouts = Timeouts(connect=DEADLINE, command=command, dot=DEADLINE)
    made = await open_connection(where, timeouts)
    assert isinstance(made, Connection)
    return made


@pytest.fixture
async def server() -> AsyncIterator[ScriptedBackend]:
    async with ScriptedBackend(extensions=EXTENSIONS) as running:
        yield running


@pytest.fixture
async def connection(server: ScriptedBackend) -> AsyncIterator[Connection]:
    made = await connect(server)
    yield made
    made.wire.abort()


async def test_the_session_becomes_the_clients(
    server: ScriptedBackend, connection: Connection
) -> None:
    assert connection.identity == NOBODY
    assert await introduce(connection, ALICE) is None
    assert connection.identity == ALICE
    assert connection.trouble == ""
    assert server.commands == [
        b"EHLO relay.test",
        (
            b"XCLIENT ADDR=192.0.2.7 NAME=[UNAVAILABLE] PORT=[UNAVAILABLE] PROTO=ESMTP"
            b" HELO=ward7.example.org LOGIN=alice"
        ),
        b"EHLO ward7.example.org",
    ]


async def test_the_same_client_is_not_introduced_twice(
    server: ScriptedBackend, connection: Connection
) -> None:
    await introduce(connection, ALICE)
    said = list(server.commands)
    assert await introduce(connection, Origin(**{f: getattr(ALICE, f) for f in FIELDS})) is None
    assert server.commands == said


FIELDS = ("address", "helo", "login")


@pytest.mark.parametrize("field", FIELDS)
async def test_a_client_that_differs_in_anything_is_introduced(
    server: ScriptedBackend, connection: Connection, field: str
) -> None:
    await introduce(connection, ALICE)
    values = {f: getattr(ALICE, f) for f in FIELDS} | {field: getattr(BOB, field)}
    assert await introduce(connection, Origin(**values)) is None
    assert server.sessions[0].commands[-2].startswith(b"XCLIENT ")
    assert connection.identity == Origin(**values)


async def test_nothing_of_the_client_before_is_left(
    server: ScriptedBackend, connection: Connection
) -> None:
    await introduce(connection, ALICE)
    await introduce(connection, BOB)
    told = server.sessions[0].identity
    assert told == {
        "ADDR": "IPV6:2001:db8::8",
        "NAME": "[UNAVAILABLE]",
        "PORT": "[UNAVAILABLE]",
        "PROTO": "ESMTP",
        "HELO": "lab.example.org",
        "LOGIN": "[UNAVAILABLE]",
    }


async def test_offers_are_those_to_the_client(
    server: ScriptedBackend, connection: Connection
) -> None:
    server.extensions = (XCLIENT, "SIZE 1000")
    await introduce(connection, ALICE)
    assert not connection.offers.pipelining
    assert connection.offers.size_max == 1000


async def test_lmtp_says_lhlo() -> None:
    async with ScriptedBackend(extensions=EXTENSIONS, is_lmtp=True) as server:
        connection = await connect(server)
        assert await introduce(connection, ALICE, is_lmtp=True) is None
        assert server.commands[::2] == [b"LHLO relay.test", b"LHLO ward7.example.org"]


class TestOurOwnMail:
    async def test_goes_out_under_our_name_as_long_as_nobody_was_named(
        self, server: ScriptedBackend, connection: Connection
    ) -> None:
        assert suits(connection, OURS)
        assert await introduce(connection, OURS) is None
        assert connection.trouble is None
        assert server.commands == [b"EHLO relay.test"]

    async def test_needs_another_connection_afterwards(self, connection: Connection) -> None:
        await introduce(connection, ALICE)
        assert not suits(connection, OURS)
        assert suits(connection, ALICE)
        assert suits(connection, BOB)

    async def test_a_session_that_may_not_be_renamed_suits_its_client_only(
        self, server: ScriptedBackend, connection: Connection
    ) -> None:
        server.extensions = ("PIPELINING",)
        server.answers[b"XCLIENT"].append(say("220 for this once"))
        await introduce(connection, ALICE)
        assert suits(connection, ALICE)
        assert not suits(connection, BOB)


async def test_a_backend_that_does_not_offer_it_is_away_for_clients() -> None:
    async with ScriptedBackend() as server:
        connection = await connect(server)
        assert suits(connection, ALICE)
        result = await introduce(connection, ALICE)
        assert result == Deferred(Stage.EHLO, None, NOT_AUTHORISED, NoReply.NO_CONNECTION)
        assert connection.is_spent
        assert connection.trouble == NOT_AUTHORISED
        assert await introduce(connection, OURS) is None


async def test_it_is_of_no_use_without_an_address(server: ScriptedBackend) -> None:
    server.extensions = ("XCLIENT NAME HELO",)
    connection = await connect(server)
    assert isinstance(await introduce(connection, ALICE), Deferred)
    assert connection.trouble == NOT_AUTHORISED


REFUSALS: list[tuple[str, type[Deferred | Bounced], bool]] = [
    # What the backend says, what becomes of the message, and whether the reply is passed on.
    ("450 4.7.25 Client host rejected", Deferred, True),
    ("454 4.7.0 not now", Deferred, True),
    ("500 5.5.2 what?", Deferred, False),
    ("501 5.5.4 Bad HELO syntax", Deferred, False),
    ("503 5.5.1 MAIL transaction in progress", Deferred, False),
    ("550 5.7.0 Error: insufficient authorization", Deferred, False),
    ("554 5.7.1 Client host blocked using zen.example", Bounced, True),
    ("521 5.7.1 go away", Bounced, True),
]


@pytest.mark.parametrize("is_at_ehlo", [False, True], ids=["xclient", "ehlo"])
@pytest.mark.parametrize(("said", "expected", "is_passed_on"), REFUSALS)
async def test_a_refusal_is_about_this_message_and_ends_the_session(
    server: ScriptedBackend,
    connection: Connection,
    said: str,
    expected: type[Deferred | Bounced],
    *,
    is_passed_on: bool,
    is_at_ehlo: bool,
) -> None:
    if is_at_ehlo:
        server.once(Stage.EHLO, say(said))
    else:
        server.answers[b"XCLIENT"].append(say(said))
    result = await introduce(connection, ALICE)
    assert type(result) is expected
    assert result.stage is Stage.MAIL
    assert (result.reply is not None) == is_passed_on
    if result.reply is not None:
        assert result.reply.text == said
    else:
        assert isinstance(result, Deferred)
        assert said in result.detail
    assert connection.is_spent
    assert connection.identity == NOBODY
    assert connection.wire.is_idle


BREAKS: dict[str, tuple[Action, NoReply, bool]] = {
    # The fault, why there is no reply, and whether there is one all the same.
    "close": (CLOSE, NoReply.NO_CONNECTION, False),
    "stall": (STALL, NoReply.TIMED_OUT, False),
    "421": (bye("421 4.3.2 going down"), NoReply.UNKNOWN, True),
    "garbage": (say("hello"), NoReply.NOT_SMTP, False),
}


@pytest.mark.parametrize("is_at_ehlo", [False, True], ids=["xclient", "ehlo"])
@pytest.mark.parametrize("fault", BREAKS)
async def test_a_dialog_that_breaks_is_about_the_backend(
    server: ScriptedBackend, fault: str, *, is_at_ehlo: bool
) -> None:
    action, why, has_reply = BREAKS[fault]
    connection = await connect(server, command=0.2 if fault == "stall" else DEADLINE)
    if is_at_ehlo:
        server.once(Stage.EHLO, action)
    else:
        server.answers[b"XCLIENT"].append(action)
    async with asyncio.timeout(DEADLINE):
        result = await introduce(connection, ALICE)
    assert isinstance(result, Deferred)
    assert result.stage is Stage.EHLO
    assert result.no_reply is why
    assert (result.reply is not None) == has_reply
    assert connection.wire.fault is not None
    assert connection.identity == NOBODY
