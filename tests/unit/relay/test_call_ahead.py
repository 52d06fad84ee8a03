"""The dialog of questions: shared connections, shared answers, and an end for every question."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from mailshed.admission.recipients import KNOWN, Finding, Known, Unknown, Unsure
from mailshed.clock import SystemClock
from mailshed.mail.delivery import Deferred
from mailshed.relay import call_ahead
from mailshed.relay.call_ahead import ANSWER_TIMEOUT, CallAhead, question_timeouts
from mailshed.relay.connection import Address, Connection, Timeouts, open_connection
from mailshed.terms import Stage
from tests.support.outbound import DEADLINE, eventually
from tests.support.scripted_backend import (
    CLOSE,
    RESET,
    STALL,
    Action,
    ScriptedBackend,
    Wait,
    bye,
    say,
)

NO_SUCH_USER = "550 5.1.1 no such user"


@pytest.fixture
async def server() -> AsyncIterator[ScriptedBackend]:
    async with ScriptedBackend() as running:
        yield running


@asynccontextmanager
async def asking(
    server: ScriptedBackend,
    *,
    timeout: float = DEADLINE,
    idle_seconds: float = 60.0,
    is_pressed: Callable[[], bool] = lambda: False,
) -> AsyncIterator[CallAhead]:
    """What asks `server`; no fault of ours may have been reported at the end."""
    failures: list[BaseException] = []
    address = Address(host=server.host, port=server.port, hostname="relay.test")
    timeouts = Timeouts(connect=timeout, command=timeout, dot=timeout)
    made = CallAhead(
        partial(open_connection, address, timeouts),
        is_pressed=is_pressed,
        clock=SystemClock(),
        on_failure=lambda _name, error: failures.append(error),
        idle_seconds=idle_seconds,
    )
    try:
        yield made
    finally:
        await made.close()
    assert failures == []


async def answer(asked: "asyncio.Future[Finding]") -> Finding:
    async with asyncio.timeout(DEADLINE):
        return await asyncio.shield(asked)


def paths(server: ScriptedBackend) -> list[bytes]:
    """The addresses that were asked about, connection by connection."""
    return [each[9:-1] for each in server.commands if each.startswith(b"RCPT TO:")]


@pytest.mark.parametrize("extensions", [("PIPELINING",), ()])
async def test_the_answer_to_rcpt_is_the_answer_and_nothing_is_sent(
    extensions: tuple[str, ...],
) -> None:
    async with ScriptedBackend(extensions=extensions) as server, asking(server) as asks:
        server.once(Stage.RCPT, say("250 2.1.5 ok"), say(NO_SUCH_USER), say("450 4.2.0 later"))
        assert await answer(asks.ask(b"a@example.net")) is KNOWN
        refused = await answer(asks.ask(b"b@example.net"))
        assert isinstance(refused, Unknown)
        assert refused.reply.text == NO_SUCH_USER
        later = await answer(asks.ask(b"c@example.net"))
        assert isinstance(later, Unsure)
        assert later.reply is not None
        assert later.reply.code == 450
        (session,) = server.sessions
        assert session.commands[1:4] == [b"MAIL FROM:<>", b"RCPT TO:<a@example.net>", b"RSET"]
        assert len(session.commands) == 10
        assert server.received == []


async def test_a_question_leaves_in_one_write_where_that_is_allowed(
    server: ScriptedBackend,
) -> None:
    """Then an answer costs one round trip: the server has all of it before it answers MAIL."""
    may_answer = asyncio.Event()
    server.once(Stage.MAIL, Wait(may_answer, say("250 ok")))
    async with asking(server) as asks:
        asked = asks.ask(b"a@example.net")
        await eventually(lambda: len(server.commands) == 2)
        (session,) = server.sessions
        await eventually(lambda: session.buffer == b"RCPT TO:<a@example.net>\r\nRSET\r\n")
        may_answer.set()
        assert await answer(asked) is KNOWN


async def test_the_sender_of_questions_is_a_setting(server: ScriptedBackend) -> None:
    async with asking(server) as asks:
        asks.sender = b"verify@example.org"
        await answer(asks.ask(b"a@example.net"))
    assert b"MAIL FROM:<verify@example.org>" in server.commands


async def test_addresses_share_a_connection_and_askers_an_answer(server: ScriptedBackend) -> None:
    async with asking(server) as asks:
        asked = [asks.ask(b"%d@example.net" % (number % 10)) for number in range(20)]
        assert asked[:10] == asked[10:]
        assert set(await asyncio.gather(*asked)) == {KNOWN}
        assert paths(server) == [b"%d@example.net" % number for number in range(10)]
        assert len(server.sessions) == 1
        assert await answer(asks.ask(b"0@example.net")) is KNOWN
        assert len(paths(server)) == 11, "an answer is not remembered here"


async def test_an_asker_that_leaves_takes_nothing_from_the_others(server: ScriptedBackend) -> None:
    may_answer = asyncio.Event()
    server.once(Stage.RCPT, Wait(may_answer, say("250 ok")))
    async with asking(server) as asks:
        asked = asks.ask(b"a@example.net")
        waiting = [asyncio.wait([asks.ask(b"a@example.net")], timeout=0) for _ in range(2)]
        await asyncio.gather(*waiting)
        may_answer.set()
        assert await answer(asked) is KNOWN
        assert len(paths(server)) == 1


async def test_an_idle_connection_says_quit(server: ScriptedBackend) -> None:
    async with asking(server, idle_seconds=0.02) as asks:
        await answer(asks.ask(b"a@example.net"))
        await eventually(lambda: not server.open_sessions)
        assert server.commands[-1] == b"QUIT"
        await answer(asks.ask(b"b@example.net"))
        assert len(server.sessions) == 2


async def test_while_the_backend_is_short_of_room_no_connection_waits(
    server: ScriptedBackend,
) -> None:
    async with asking(server, is_pressed=lambda: True) as asks:
        both = [asks.ask(b"a@example.net"), asks.ask(b"b@example.net")]
        await asyncio.gather(*both)
        await eventually(lambda: not server.open_sessions)
        assert [session.commands[-1] for session in server.sessions] == [b"QUIT"]


async def test_a_connection_ends_before_the_server_loses_patience(
    server: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_ahead, "QUESTIONS_PER_CONNECTION", 3)
    monkeypatch.setattr(call_ahead, "REFUSALS_PER_CONNECTION", 2)
    server.rcpt = lambda path: say(NO_SUCH_USER if path.startswith(b"no") else "250 ok")
    async with asking(server) as asks:
        names = [b"1", b"2", b"3", b"no4", b"no5", b"6"]
        await asyncio.gather(*(asks.ask(name + b"@example.net") for name in names))
        counts = [sum(c.startswith(b"RCPT") for c in s.commands) for s in server.sessions]
        assert counts == [3, 2, 1]


@pytest.mark.parametrize("action", [CLOSE, RESET, bye("421 4.4.2 idle too long")])
async def test_a_connection_that_died_meanwhile_costs_the_question_nothing(
    server: ScriptedBackend, action: Action
) -> None:
    async with asking(server) as asks:
        await answer(asks.ask(b"a@example.net"))
        server.once(Stage.MAIL, action)
        assert await answer(asks.ask(b"b@example.net")) is KNOWN
        assert len(server.sessions) == 2


@pytest.mark.parametrize("last_words", [b"", b"421 4.4.2 idle too long\r\n"])
async def test_a_connection_that_ended_by_itself_is_replaced(
    server: ScriptedBackend, last_words: bytes
) -> None:
    async with asking(server) as asks:
        await answer(asks.ask(b"a@example.net"))
        server.push(last_words)
        server.hang_up()
        await eventually(lambda: not server.open_sessions)
        assert await answer(asks.ask(b"b@example.net")) is KNOWN
        assert len(server.sessions) == 2


class TestSilence:
    """Every question ends."""

    async def test_without_a_backend(self) -> None:
        server = ScriptedBackend()
        async with server:
            pass
        async with asking(server) as asks:
            both = [asks.ask(b"a@example.net"), asks.ask(b"b@example.net")]
            first, second = await asyncio.gather(*both)
        assert isinstance(first, Unsure)
        assert first.reply is None
        assert first.detail.endswith(": Connection refused")
        assert isinstance(second, Unsure)
        assert second.reply is None

    @pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.EHLO])
    async def test_of_a_server_that_does_not_greet(
        self, server: ScriptedBackend, stage: Stage
    ) -> None:
        server.always(stage, say("421 4.3.2 too many connections"))
        async with asking(server) as asks:
            found = await answer(asks.ask(b"a@example.net"))
            assert found == Unsure(None, "421 4.3.2 too many connections")

    @pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT])
    @pytest.mark.parametrize("action", [CLOSE, STALL, say("what"), bye("421 4.3.2 going")])
    async def test_in_the_dialog(
        self, server: ScriptedBackend, stage: Stage, action: Action
    ) -> None:
        server.always(stage, action)
        async with asking(server, timeout=0.2) as asks:
            found = await answer(asks.ask(b"a@example.net"))
            assert isinstance(found, Unsure)
            assert found.reply is None
            assert found.detail

    async def test_of_one_ends_the_wait_of_all(self, server: ScriptedBackend) -> None:
        server.always(Stage.RCPT, STALL)
        async with asking(server, timeout=0.2) as asks:
            asked = [asks.ask(b"%d@example.net" % number) for number in range(50)]
            found = await asyncio.gather(*asked)
        assert all(isinstance(each, Unsure) and each.reply is None for each in found)
        assert len(paths(server)) == 1

    @pytest.mark.parametrize("line", ["550 5.7.1 no null sender here", "451 4.3.0 not now"])
    async def test_a_refused_sender_says_nothing_about_the_mailbox(
        self, server: ScriptedBackend, line: str
    ) -> None:
        server.always(Stage.MAIL, say(line))
        async with asking(server) as asks:
            found = await answer(asks.ask(b"a@example.net"))
            assert isinstance(found, Unsure)
            assert found.reply is None
            assert found.detail == f"MAIL FROM:<> was answered: {line}"

    async def test_the_next_question_tries_anew(self, server: ScriptedBackend) -> None:
        server.once(Stage.RCPT, CLOSE)
        async with asking(server) as asks:
            assert isinstance(await answer(asks.ask(b"a@example.net")), Unsure)
            assert await answer(asks.ask(b"a@example.net")) is KNOWN


async def test_a_refusal_counts_although_the_server_hangs_up_on_it(
    server: ScriptedBackend,
) -> None:
    server.once(Stage.RCPT, bye(NO_SUCH_USER))
    async with asking(server) as asks:
        assert isinstance(await answer(asks.ask(b"a@example.net")), Unknown)
        assert await answer(asks.ask(b"b@example.net")) is KNOWN
        assert len(server.sessions) == 2


async def test_a_server_that_refuses_rset_gets_a_new_connection(server: ScriptedBackend) -> None:
    server.rset = say("500 5.5.2 what?")
    async with asking(server) as asks:
        assert await answer(asks.ask(b"a@example.net")) is KNOWN
        assert await answer(asks.ask(b"b@example.net")) is KNOWN
        assert len(server.sessions) == 2


class TestSecondConnection:
    async def test_serves_who_waits_behind_a_slow_answer(
        self, server: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(call_ahead, "PATIENCE", 0.05)
        slow = asyncio.Event()
        server.rcpt = lambda path: (
            Wait(slow, say(NO_SUCH_USER)) if path.startswith(b"slow") else say("250 ok")
        )
        async with asking(server) as asks:
            held = asks.ask(b"slow@example.net")
            assert await answer(asks.ask(b"b@example.net")) is KNOWN
            assert not held.done()
            assert len(server.sessions) == 2
            more = [asks.ask(b"slow%d@example.net" % number) for number in range(20)]
            await eventually(lambda: len(paths(server)) == 3)
            assert len(server.sessions) == 2, "and there is no third"
            slow.set()
            assert isinstance(await answer(held), Unknown)
            await asyncio.gather(*more)

    async def test_is_not_opened_while_answers_come_in(
        self, server: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(call_ahead, "QUESTIONS_PER_CONNECTION", 1000)
        async with asking(server) as asks:
            await asyncio.gather(*(asks.ask(b"%d@example.net" % n) for n in range(500)))
        assert len(server.sessions) == 1

    @pytest.mark.parametrize("is_pressed", [False, True])
    async def test_is_not_opened_where_it_would_not_help(
        self, server: ScriptedBackend, monkeypatch: pytest.MonkeyPatch, is_pressed: bool
    ) -> None:
        """The first has no greeting yet, or the backend is short of room."""
        monkeypatch.setattr(call_ahead, "PATIENCE", 0.02)
        goes_on = asyncio.Event()
        stage, line = (Stage.RCPT, "250 ok") if is_pressed else (Stage.CONNECT, "220 hello")
        server.once(stage, Wait(goes_on, say(line)))
        looks = 0
        async with asking(server, is_pressed=lambda: is_pressed) as asks:
            plain = asks._help

            def counted() -> None:
                nonlocal looks
                looks += 1
                plain()

            monkeypatch.setattr(asks, "_help", counted)
            both = [asks.ask(b"a@example.net"), asks.ask(b"b@example.net")]
            await eventually(lambda: looks >= 3)
            assert len(server.sessions) == 1
            goes_on.set()
            assert await asyncio.gather(*both) == [KNOWN, KNOWN]

    async def test_that_is_refused_leaves_the_questions_to_the_first(
        self, server: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(call_ahead, "PATIENCE", 0.02)
        goes_on = asyncio.Event()
        server.once(Stage.RCPT, Wait(goes_on, say("250 ok")))
        server.once(Stage.CONNECT, say("220 hello"), bye("421 4.3.2 one is enough"))
        async with asking(server) as asks:
            both = [asks.ask(b"a@example.net"), asks.ask(b"b@example.net")]
            await eventually(lambda: len(server.sessions) == 2)
            await eventually(lambda: server.open_sessions == 1)
            server.always(Stage.CONNECT, bye("421 4.3.2 one is enough"))
            goes_on.set()
            assert await asyncio.gather(*both) == [KNOWN, KNOWN]
            assert len(server.sessions[0].commands) == 7


async def test_questions_that_wait_are_bounded(
    server: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_ahead, "QUESTIONS_MAX", 3)
    server.always(Stage.CONNECT, STALL)
    async with asking(server) as asks:
        asked = [asks.ask(b"%d@example.net" % number) for number in range(5)]
        assert [each.done() for each in asked] == [False] * 3 + [True] * 2
        assert asked[0] is asks.ask(b"0@example.net")


async def test_a_question_that_was_settled_elsewhere_is_not_asked(
    server: ScriptedBackend,
) -> None:
    goes_on = asyncio.Event()
    server.once(Stage.RCPT, Wait(goes_on, say("250 ok")))
    async with asking(server) as asks:
        held, waiting, last = (asks.ask(b"%d@example.net" % number) for number in range(3))
        await eventually(lambda: bool(paths(server)))
        for path in (b"0@example.net", b"1@example.net", b"nobody@example.net"):
            asks.settle(path, Known(is_taken=False))
        assert held.result() == waiting.result() == Known(is_taken=False)
        again = asks.ask(b"0@example.net")
        assert again is not held
        goes_on.set()
        assert list(await asyncio.gather(last, again)) == [KNOWN, KNOWN]
        assert b"1@example.net" not in paths(server)


async def test_stopping_ends_every_wait_and_closes_every_connection(
    server: ScriptedBackend,
) -> None:
    server.always(Stage.RCPT, STALL)
    async with asking(server) as asks:
        asked = [asks.ask(b"a@example.net"), asks.ask(b"b@example.net")]
        await eventually(lambda: bool(paths(server)))
        asks.stop()
        assert [each.result() for each in asked] == [Unsure(None, "the service is stopping")] * 2
        assert asks.ask(b"c@example.net").done()
    await eventually(server.sessions[0].reader.at_eof)


async def test_stopping_is_polite_where_it_can_be(server: ScriptedBackend) -> None:
    async with asking(server) as asks:
        await answer(asks.ask(b"a@example.net"))
    assert server.commands[-1] == b"QUIT"


async def test_a_fault_of_ours_is_reported_and_the_question_ends() -> None:
    failures: list[BaseException] = []

    async def connect() -> Connection | Deferred:
        raise RuntimeError("a fault of ours")

    asks = CallAhead(
        connect,
        is_pressed=lambda: False,
        clock=SystemClock(),
        on_failure=lambda _name, error: failures.append(error),
    )
    both = [asks.ask(b"a@example.net"), asks.ask(b"b@example.net")]
    assert isinstance(await answer(both[0]), Unsure)
    assert isinstance(await answer(both[1]), Unsure)
    await eventually(lambda: bool(failures))
    assert str(failures[0]) == "a fault of ours"
    await asks.close()


async def test_a_mailbox_that_refuses_for_another_reason_is_known(server: ScriptedBackend) -> None:
    server.once(Stage.RCPT, say("552 5.2.2 mailbox full"))
    async with asking(server) as asks:
        assert await answer(asks.ask(b"a@example.net")) == Known(is_taken=False)


def test_a_question_has_less_time_than_a_message() -> None:
    assert question_timeouts(30.0).command == question_timeouts(30.0).connect == ANSWER_TIMEOUT
    assert question_timeouts(1.0).command == 1.0
