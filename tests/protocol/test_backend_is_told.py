"""A backend that is told whose message it gets: never a wrong one, whatever the pool does.

`Received.identity` is what the scripted server took the session for when the message came, and
`forwarded` what it was to log; both as Postfix keeps them.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from functools import partial

import pytest

from mailshed.admission.recipients import Known
from mailshed.clock import SystemClock
from mailshed.control.breaker import Step
from mailshed.mail.delivery import Bounced, Deferred, Delivered, TransactionResult
from mailshed.relay.backend import Origin, OutboundMessage
from mailshed.relay.call_ahead import CallAhead
from mailshed.relay.connection import Address, Timeouts, open_connection
from mailshed.relay.introduction import NOT_AUTHORISED
from mailshed.relay.manner import Identity, Manner
from mailshed.relay.probe import Prober
from mailshed.relay.smtp import SmtpBackend
from mailshed.relay.transaction import XFORWARD_NOT_OFFERED
from mailshed.terms import Stage
from tests.support.outbound import DEADLINE, outbound, smtp_backend
from tests.support.scripted_backend import (
    CLOSE,
    STALL,
    Action,
    Received,
    ScriptedBackend,
    bye,
    say,
)

OFFERS_XCLIENT = ("PIPELINING", "XCLIENT NAME ADDR PORT PROTO HELO LOGIN")
OFFERS_XFORWARD = ("PIPELINING", "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE")
XCLIENT = Manner(identity=Identity.XCLIENT)
XFORWARD = Manner(identity=Identity.XFORWARD)
PEOPLE = [
    Origin(address=f"192.0.2.{n}", helo=f"h{n}.example.org", login=f"user{n}" if n % 2 else "")
    for n in range(1, 6)
]
OURS = Origin(address="local")


def of(origin: Origin, name: str = "x") -> OutboundMessage:
    """A message whose only recipient says whose it is."""
    return outbound(to=[name.encode() + b"@example.com"], origin=origin)


def fail(name: str, error: BaseException) -> None:
    raise AssertionError(name) from error


def is_from(received: Received, origin: Origin) -> bool:
    """Whether the server took it for a message of `origin`."""
    told = received.identity
    if origin is OURS:
        return not told
    login = origin.login or "[UNAVAILABLE]"
    return (told["ADDR"], told["HELO"], told["LOGIN"]) == (origin.address, origin.helo, login)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedBackend]:
    async with ScriptedBackend(extensions=OFFERS_XCLIENT) as running, asyncio.timeout(DEADLINE):
        yield running


@pytest.fixture
async def troubles() -> list[str]:
    return []


@pytest.fixture
async def backend(server: ScriptedBackend, troubles: list[str]) -> AsyncIterator[SmtpBackend]:
    made = smtp_backend(server.port, manner=XCLIENT, on_trouble=troubles.append)
    yield made
    await made.close()


class TestXclient:
    async def test_one_connection_carries_one_client_after_the_other(
        self, server: ScriptedBackend, backend: SmtpBackend, troubles: list[str]
    ) -> None:
        order = [PEOPLE[0], PEOPLE[1], PEOPLE[1], PEOPLE[0]]
        for each in order:
            assert isinstance((await backend.deliver(of(each))).uniform, Delivered)
        assert len(server.sessions) == 1
        assert all(is_from(got, who) for got, who in zip(server.messages, order, strict=True))
        assert [c.split(b" ")[0] for c in server.commands].count(b"XCLIENT") == 3
        assert troubles == []

    async def test_our_own_mail_never_goes_under_a_clients_name(
        self, server: ScriptedBackend, backend: SmtpBackend
    ) -> None:
        await backend.deliver(of(OURS))
        await backend.deliver(of(PEOPLE[0]))  # the same connection, which is ours no more
        await backend.deliver(of(OURS))
        assert len(server.sessions) == 2
        assert [is_from(m, OURS) for m in server.messages] == [True, False, True]
        assert b"QUIT" in server.sessions[0].commands
        assert backend.connections().idle == 1

    @pytest.mark.parametrize("seed", range(3))
    async def test_no_identity_ever_leaks(
        self, server: ScriptedBackend, backend: SmtpBackend, seed: int
    ) -> None:
        """Many at a time, with refusals, lost connections and clients that leave in between."""
        rng = random.Random(seed)
        faults: list[Action] = [say("450 4.3.0 later"), say("550 5.1.1 no"), CLOSE]
        jobs = [rng.choice([*PEOPLE, OURS]) for _ in range(60)]

        async def deliver(number: int, who: Origin) -> None:
            await asyncio.sleep(rng.random() * 0.05)
            if rng.random() < 0.3:
                stage = rng.choice([Stage.EHLO, Stage.MAIL, Stage.RCPT, Stage.DOT])
                server.once(stage, rng.choice(faults))
            if rng.random() < 0.1:
                server.answers[b"XCLIENT"].append(rng.choice([*faults, bye("421 4.3.2 bye")]))
            delivery = asyncio.get_running_loop().create_task(
                backend.deliver(of(who, f"n{number}"))
            )
            if rng.random() < 0.15:
                await asyncio.sleep(rng.random() * 0.005)
                delivery.cancel()
            await asyncio.gather(delivery, return_exceptions=True)

        await asyncio.gather(*(deliver(n, who) for n, who in enumerate(jobs)))
        assert len(server.received) > len(jobs) / 3
        for got in server.received:
            number = int(got.forward_paths[0].partition(b"@")[0][1:])
            assert is_from(got, jobs[number]), (jobs[number], got.identity)
        assert backend.connections().busy == 0

    async def test_a_backend_that_does_not_authorise_us_is_away_and_says_so_once(
        self, server: ScriptedBackend, backend: SmtpBackend, troubles: list[str]
    ) -> None:
        server.extensions = ("PIPELINING",)
        for _ in range(3):
            result = await backend.deliver(of(PEOPLE[0]))
            (deferred,) = result.recipients
            assert isinstance(deferred, Deferred)
            assert deferred.detail == NOT_AUTHORISED
            assert deferred.reply is None
            assert result.is_backend_away
        assert troubles == [NOT_AUTHORISED]
        assert isinstance((await backend.deliver(of(OURS))).uniform, Delivered)
        assert troubles == [NOT_AUTHORISED]

        server.extensions = OFFERS_XCLIENT
        assert isinstance((await backend.deliver(of(PEOPLE[0]))).uniform, Delivered)
        assert troubles == [NOT_AUTHORISED, ""]

    async def test_a_client_whom_the_backend_does_not_want_is_nobody_elses_trouble(
        self, server: ScriptedBackend, backend: SmtpBackend, troubles: list[str]
    ) -> None:
        """A stranger in a blocklist must not make the backend look away."""
        server.answers[b"XCLIENT"].append(say("554 5.7.1 blocked"))
        refused = await backend.deliver(of(PEOPLE[0]))
        assert isinstance(refused.uniform, Bounced)
        assert refused.uniform.stage is Stage.MAIL
        assert not refused.is_backend_away
        result = await backend.deliver(of(PEOPLE[1]))
        assert isinstance(result.uniform, Delivered)
        assert is_from(server.messages[-1], PEOPLE[1])
        assert len(server.sessions) == 2
        assert troubles == []

    @pytest.mark.parametrize("is_at_ehlo", [False, True], ids=["xclient", "ehlo"])
    async def test_a_connection_that_died_in_the_pool_costs_the_message_nothing(
        self, server: ScriptedBackend, backend: SmtpBackend, *, is_at_ehlo: bool
    ) -> None:
        await backend.deliver(of(PEOPLE[0]))
        if is_at_ehlo:
            server.once(Stage.EHLO, CLOSE)
        else:
            server.answers[b"XCLIENT"].append(CLOSE)
        result = await backend.deliver(of(PEOPLE[1]))
        assert isinstance(result.uniform, Delivered)
        assert is_from(server.messages[-1], PEOPLE[1])
        assert len(server.sessions) == 2

    async def test_a_new_connection_that_breaks_there_means_a_backend_that_is_away(
        self, server: ScriptedBackend, backend: SmtpBackend
    ) -> None:
        server.answers[b"XCLIENT"].append(CLOSE)
        result = await backend.deliver(of(PEOPLE[0]))
        assert result.is_backend_away
        assert len(server.sessions) == 1

    async def test_whoever_is_cancelled_in_the_middle_leaves_no_name_behind(
        self, server: ScriptedBackend, backend: SmtpBackend
    ) -> None:
        server.answers[b"XCLIENT"].append(STALL)
        delivery = asyncio.get_running_loop().create_task(backend.deliver(of(PEOPLE[0])))
        while not any(c.startswith(b"XCLIENT") for c in server.commands):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        delivery.cancel()
        await asyncio.gather(delivery, return_exceptions=True)
        assert backend.connections().busy == backend.connections().idle == 0
        await backend.deliver(of(PEOPLE[1]))
        assert is_from(server.messages[0], PEOPLE[1])

    async def test_questions_have_connections_of_their_own_and_our_name(
        self, server: ScriptedBackend, backend: SmtpBackend
    ) -> None:
        """A probe or a question about a mailbox asks for us, whoever was named in the pool."""
        await backend.deliver(of(PEOPLE[0]))
        timeouts = Timeouts(connect=DEADLINE, command=DEADLINE, dot=DEADLINE)
        where = Address(host=server.host, port=server.port, hostname="relay.test")
        connect = partial(open_connection, where, timeouts)
        assert await Prober(connect, on_failure=fail).ask(Step.MAIL) is None
        asking = CallAhead(
            connect, is_pressed=lambda: False, clock=SystemClock(), on_failure=fail, idle_seconds=0
        )
        assert isinstance(await asking.ask(b"n1@example.com"), Known)
        await asking.close()
        for session in server.sessions[1:]:
            assert session.identity == {}
            assert session.commands[0] == b"EHLO relay.test"
        assert len(server.sessions) == 3
        await backend.deliver(of(PEOPLE[0]))
        assert len(server.sessions) == 3
        assert is_from(server.messages[-1], PEOPLE[0])

    async def test_what_xclient_takes_is_the_connections_and_not_the_messages_time(
        self, server: ScriptedBackend, backend: SmtpBackend
    ) -> None:
        await backend.deliver(of(PEOPLE[0]))
        second = await backend.deliver(of(PEOPLE[1]))
        third = await backend.deliver(of(PEOPLE[1]))
        assert second.times.connect > 0
        assert third.times.connect < second.times.connect

    async def test_lmtp_takes_it_too(self) -> None:
        manner = Manner(identity=Identity.XCLIENT, is_lmtp=True)
        async with ScriptedBackend(extensions=OFFERS_XCLIENT, is_lmtp=True) as server:
            backend = smtp_backend(server.port, manner=manner)
            for each in PEOPLE:
                await backend.deliver(of(each))
            assert all(map(is_from, server.messages, PEOPLE))
            await backend.close()


class TestXforward:
    @pytest.fixture
    async def server(self) -> AsyncIterator[ScriptedBackend]:
        async with (
            ScriptedBackend(extensions=OFFERS_XFORWARD) as running,
            asyncio.timeout(DEADLINE),
        ):
            yield running

    @pytest.fixture
    async def backend(
        self, server: ScriptedBackend, troubles: list[str]
    ) -> AsyncIterator[SmtpBackend]:
        made = smtp_backend(server.port, manner=XFORWARD, on_trouble=troubles.append)
        yield made
        await made.close()

    @pytest.mark.parametrize("is_pipelining", [True, False], ids=["pipelining", "lock_step"])
    async def test_each_message_has_its_client(
        self, server: ScriptedBackend, backend: SmtpBackend, *, is_pipelining: bool
    ) -> None:
        if not is_pipelining:
            server.extensions = server.extensions[1:]
        for each in (PEOPLE[0], OURS, PEOPLE[1], PEOPLE[1]):
            assert isinstance((await backend.deliver(of(each))).uniform, Delivered)
        told = [(m.forwarded["ADDR"], m.forwarded["SOURCE"]) for m in server.messages]
        assert told == [
            ("192.0.2.1", "REMOTE"),
            ("[UNAVAILABLE]", "LOCAL"),
            ("192.0.2.2", "REMOTE"),
            ("192.0.2.2", "REMOTE"),
        ]
        assert server.messages[0].forwarded["IDENT"] == "0000000000000000"
        assert len(server.sessions) == 1

    async def test_it_costs_no_round_trip(
        self, server: ScriptedBackend, backend: SmtpBackend
    ) -> None:
        """All of it is there before the first reply has left."""
        await backend.deliver(of(PEOPLE[0]))
        session = server.sessions[0]
        server.answers[b"XFORWARD"].append(say("250 2.0.0 noted"))
        await backend.deliver(of(PEOPLE[1]))
        assert [c.split(b" ")[0] for c in session.commands[-4:]] == [
            b"XFORWARD",
            b"MAIL",
            b"RCPT",
            b"DATA",
        ]

    @pytest.mark.parametrize("is_pipelining", [True, False], ids=["pipelining", "lock_step"])
    @pytest.mark.parametrize("said", ["501 5.5.4 bad", "550 5.7.0 no", "450 4.3.0 later"])
    async def test_a_refusal_is_told_once_and_mail_goes_on(
        self,
        server: ScriptedBackend,
        backend: SmtpBackend,
        troubles: list[str],
        said: str,
        *,
        is_pipelining: bool,
    ) -> None:
        if not is_pipelining:
            server.extensions = server.extensions[1:]
        server.answers[b"XFORWARD"].extend([say(said), say(said)])
        for _ in range(3):
            result = await backend.deliver(of(PEOPLE[0]))
            assert isinstance(result.uniform, Delivered)
        assert troubles == [f"XFORWARD was answered: {said}", ""]

    async def test_a_backend_that_does_not_offer_it_gets_its_mail(
        self, server: ScriptedBackend, backend: SmtpBackend, troubles: list[str]
    ) -> None:
        server.extensions = ("PIPELINING",)
        for _ in range(2):
            assert isinstance((await backend.deliver(of(PEOPLE[0]))).uniform, Delivered)
        assert troubles == [XFORWARD_NOT_OFFERED]

    @pytest.mark.parametrize("is_pipelining", [True, False], ids=["pipelining", "lock_step"])
    @pytest.mark.parametrize("fault", [CLOSE, bye("421 4.3.2 bye"), say("what?")])
    async def test_a_dialog_that_breaks_there_has_judged_nothing(
        self,
        server: ScriptedBackend,
        backend: SmtpBackend,
        fault: Action,
        *,
        is_pipelining: bool,
    ) -> None:
        if not is_pipelining:
            server.extensions = server.extensions[1:]
        server.answers[b"XFORWARD"].append(fault)
        result: TransactionResult = await backend.deliver(of(PEOPLE[0]))
        (deferred,) = result.recipients
        assert isinstance(deferred, Deferred)
        assert server.received == []
        assert isinstance((await backend.deliver(of(PEOPLE[1]))).uniform, Delivered)
        assert server.messages[0].forwarded["ADDR"] == "192.0.2.2"
