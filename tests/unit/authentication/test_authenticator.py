"""From credentials to an answer: order, memory, limits, and what is written down."""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from mailshed.authentication.authenticator import Authenticator
from mailshed.authentication.sasl import KEY_OCTETS, Credentials, Mechanism, credentials
from mailshed.authentication.verdict import Accepted, Rejected, Unavailable, Verdict
from mailshed.config.policy import AuthenticationPolicy, SenderRule
from mailshed.errors import ConfigError, CredentialsError
from mailshed.mail import reply
from mailshed.mail.address import parse_mailbox
from mailshed.mail.domains import DomainSet
from mailshed.mail.envelope import Client
from mailshed.mail.reply import Reply
from mailshed.maillog import MailLog
from mailshed.metrics import Metrics
from tests.support.clock import ManualClock
from tests.support.middle import LogLines
from tests.support.virtual_time import in_virtual_time

SECRET = b"Kanarienvogel-7"
CLIENT = Client(
    session_id="s1",
    listener="submission",
    address=ip_address("192.0.2.1"),
    port=1,
    is_trusted=False,
)
NO, AWAY = Rejected("it said 535"), Unavailable("it is away")


def said(login: str = "alice@hospital.example", secret: bytes = SECRET) -> Credentials:
    return credentials(Mechanism.PLAIN, (b"\0" + login.encode() + b"\0" + secret,))


@dataclass(eq=False)
class ScriptedVerifier:
    """Says what the test wants; by default that all is right."""

    answers: deque[Verdict | Exception] = field(default_factory=deque)
    asked: list[Credentials] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: int = 0
    most: int = 0
    is_closed: bool = False
    fault: ConfigError | None = None

    def __post_init__(self) -> None:
        self.may_answer.set()

    async def verify(self, credentials: Credentials, client: Client) -> Verdict:
        self.asked.append(credentials)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.may_answer.wait()
        finally:
            self.under_way -= 1
        answer = self.answers.popleft() if self.answers else Accepted(credentials.login)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def refresh(self) -> None:
        if self.fault is not None:
            raise self.fault

    async def close(self) -> None:
        self.is_closed = True


class Bench:
    """An authenticator with its surroundings."""

    def __init__(self, *answers: Verdict | Exception, verifier: bool = True, **policy: Any) -> None:
        self.verifier = ScriptedVerifier(deque(answers))
        self.log = LogLines()
        self.metrics = Metrics(CollectorRegistry())
        self.clock = ManualClock()
        self.failures: list[BaseException] = []
        self.policy = AuthenticationPolicy(**policy)
        self.made = Authenticator(
            self.policy,
            verifier=self.verifier if verifier else None,
            timeout=10.0,
            questions_max=3,
            key=bytes(KEY_OCTETS),
            metrics=self.metrics,
            maillog=MailLog(self.log, "json"),
            clock=self.clock,
            on_failure=lambda _name, error: self.failures.append(error),
        )

    async def try_(self, what: Credentials | CredentialsError, client: Client = CLIENT) -> Any:
        return await self.made.authenticate(client, what)

    def counted(self, result: str) -> int:
        return self.metrics._authentications.value(result)


# The three verdicts.


async def test_a_right_password_makes_another_client() -> None:
    bench = Bench(Accepted("alice"))

    user = await bench.try_(said())

    assert isinstance(user, Client)
    assert (user.user, user.is_trusted) == ("alice", True)
    assert (user.session_id, user.address, user.listener) == ("s1", CLIENT.address, "submission")
    assert (CLIENT.user, CLIENT.is_trusted) == ("", False)
    assert bench.counted("accepted") == 1


@pytest.mark.parametrize(
    ("verdict", "answer", "result"),
    [
        (NO, reply.AUTH_FAILED, "rejected"),
        (AWAY, reply.AUTH_UNAVAILABLE, "unavailable"),
        (ValueError("a fault of ours"), reply.AUTH_UNAVAILABLE, "unavailable"),
    ],
)
async def test_only_a_no_is_a_5xx(verdict: Verdict, answer: Reply, result: str) -> None:
    bench = Bench(verdict)

    assert await bench.try_(said()) is answer
    assert bench.counted(result) == 1
    assert len(bench.failures) == isinstance(verdict, Exception)


async def test_what_is_no_credentials_is_refused_without_asking() -> None:
    bench = Bench()

    assert await bench.try_(CredentialsError("PLAIN has 1 NUL instead of 2")) is reply.AUTH_FAILED
    assert bench.verifier.asked == []
    assert bench.log.one("auth")["detail"] == "PLAIN has 1 NUL instead of 2"


async def test_without_anybody_to_ask_clients_come_back() -> None:
    assert await Bench(verifier=False).try_(said()) is reply.AUTH_UNAVAILABLE


@in_virtual_time
async def test_an_answer_that_does_not_come_is_none() -> None:
    bench = Bench()
    bench.verifier.may_answer.clear()
    loop = asyncio.get_running_loop()
    began = loop.time()

    assert await bench.try_(said()) is reply.AUTH_UNAVAILABLE
    assert loop.time() - began == 10.0
    assert bench.verifier.under_way == 0


@in_virtual_time
async def test_so_many_questions_at_a_time_and_the_wait_is_part_of_the_deadline() -> None:
    bench = Bench()
    bench.verifier.may_answer.clear()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(bench.try_(said(f"user{number}"))) for number in range(8)]

    assert bench.verifier.most == 3
    assert {task.result() for task in tasks} == {reply.AUTH_UNAVAILABLE}
    assert len(bench.verifier.asked) == 3


# Failures.


async def test_after_too_many_wrong_passwords_nobody_is_asked() -> None:
    bench = Bench(*[NO] * 10, failures_per_login=3)
    for number in range(3):
        assert await bench.try_(said(secret=b"%d" % number)) is reply.AUTH_FAILED

    assert await bench.try_(said()) is reply.AUTH_LIMITED
    assert len(bench.verifier.asked) == 3
    assert bench.counted("limited") == 1

    bench.clock.advance(600.0)
    bench.verifier.answers.clear()
    assert isinstance(await bench.try_(said()), Client)


async def test_many_at_once_get_no_further() -> None:
    """Who waits for a place is judged when he has it, not when he came."""
    bench = Bench(*[NO] * 50, failures_per_address=5, failures_per_login=5)
    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(bench.try_(said(secret=b"%d" % number)))

    assert len(bench.verifier.asked) <= 5 + 3


async def test_being_away_is_nobodys_failure() -> None:
    bench = Bench(*[AWAY] * 20, failures_per_login=3, failures_per_address=3)
    for number in range(20):
        assert await bench.try_(said(secret=b"%d" % number)) is reply.AUTH_UNAVAILABLE

    assert isinstance(await bench.try_(said()), Client)


async def test_other_terms_hold_after_a_reload() -> None:
    bench = Bench(NO, NO, failures_per_login=5)
    await bench.try_(said(secret=b"1"))
    await bench.try_(said(secret=b"2"))
    bench.made.set_policy(AuthenticationPolicy(failures_per_login=2, senders=SenderRule.OWN))

    assert await bench.try_(said()) is reply.AUTH_LIMITED
    assert not bench.made.may_send_as(CLIENT, parse_mailbox("bob@hospital.example"))


# Memory.


async def test_while_nobody_answers_a_right_password_still_is_if_the_site_wants_that() -> None:
    bench = Bench(Accepted("alice"), AWAY, AWAY, AWAY, cache_ttl=3600.0)
    await bench.try_(said())

    user = await bench.try_(said())
    assert isinstance(user, Client)
    assert user.user == "alice"
    assert await bench.try_(said(secret=b"another")) is reply.AUTH_UNAVAILABLE

    bench.clock.advance(3600.0)
    assert await bench.try_(said()) is reply.AUTH_UNAVAILABLE


async def test_without_that_it_is_not() -> None:
    bench = Bench(Accepted("alice"), AWAY)
    await bench.try_(said())

    assert await bench.try_(said()) is reply.AUTH_UNAVAILABLE


async def test_a_password_that_was_changed_is_asked_about_as_long_as_there_are_answers() -> None:
    bench = Bench(Accepted("alice"), NO, AWAY, cache_ttl=3600.0)
    await bench.try_(said())

    assert await bench.try_(said()) is reply.AUTH_FAILED
    assert await bench.try_(said()) is reply.AUTH_UNAVAILABLE


async def test_tables_tell_how_full_they_are() -> None:
    bench = Bench(cache_ttl=3600.0)
    await bench.try_(said("a"))
    await bench.try_(said("b"))

    assert bench.made.remembered == (2, 10_000)


# What is written down.


async def test_a_success_is_a_line_with_the_login() -> None:
    bench = Bench(Accepted("alice@hospital.example"))
    await bench.try_(said())

    line = bench.log.one("auth")
    assert line["id"] == "s1"
    assert line["level"] == "info"
    assert {key: line[key] for key in ("result", "login", "mechanism", "client", "listener")} == {
        "result": "accepted",
        "login": "alice@hospital.example",
        "mechanism": "PLAIN",
        "client": "192.0.2.1",
        "listener": "submission",
    }


@pytest.mark.parametrize("verdict", [NO, AWAY])
async def test_of_a_login_that_was_not_proved_only_the_beginning_is_seen(verdict: Verdict) -> None:
    """Whoever types into the wrong field types a password."""
    bench = Bench(verdict)
    await bench.try_(said("correct horse battery"))

    assert bench.log.one("auth")["login"] == "cor***"
    assert "horse" not in str(bench.log.lines)


async def test_nor_of_one_that_was_not_looked_at() -> None:
    bench = Bench(NO, NO, failures_per_address=1)
    await bench.try_(said(secret=b"x"))
    await bench.try_(said("correct horse battery"))

    assert [line["result"] for line in bench.log.of("auth")] == ["rejected", "limited"]
    assert "horse" not in str(bench.log.lines)


async def test_no_line_has_the_secret() -> None:
    bench = Bench(Accepted("alice"), NO, AWAY, ValueError("x"), cache_ttl=60.0)
    for _ in range(4):
        await bench.try_(said())

    written = str(bench.log.lines) + repr(bench.made) + repr(vars(bench.made))
    assert SECRET.decode() not in written
    assert said().encoded[0].decode() not in written


async def test_it_is_told_when_answers_begin_to_fail_and_when_they_are_back() -> None:
    bench = Bench(AWAY, AWAY, NO, Accepted("alice"), AWAY)
    for number in range(5):
        await bench.try_(said(secret=b"%d" % number))
        bench.clock.advance(10.0)

    told = [event for event in bench.log.events if event.startswith("verifier")]
    assert told == ["verifier_failing", "verifier_works", "verifier_failing"]
    assert bench.log.of("verifier_failing")[0]["detail"] == "it is away"
    assert bench.log.one("verifier_works")["failed"] == 20.0


async def test_the_status_can_say_why_nobody_can_log_in_and_for_how_long() -> None:
    bench = Bench(AWAY, NO)
    assert bench.made.failing == ("", 0.0), "nobody has been asked"
    await bench.try_(said())
    bench.clock.advance(30.0)
    assert bench.made.failing == ("it is away", 30.0)
    await bench.try_(said(secret=b"wrong"))
    assert bench.made.failing == ("", 0.0), "an answer, if a refusal"


# The rest.


@in_virtual_time
async def test_a_client_that_leaves_ends_the_question() -> None:
    bench = Bench()
    bench.verifier.may_answer.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await bench.try_(said())

    assert bench.verifier.most == 1
    assert bench.verifier.under_way == 0
    assert bench.counted("accepted") == 0
    bench.verifier.may_answer.set()
    assert isinstance(await bench.try_(said("bob")), Client)


@in_virtual_time
async def test_who_leaves_before_the_answer_has_no_more_tries_than_others() -> None:
    bench = Bench(failures_per_address=2)
    for number in range(4):
        bench.verifier.may_answer.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await bench.try_(said(secret=b"%d" % number))
        bench.verifier.may_answer.set()
    assert len(bench.verifier.asked) == 2
    assert bench.counted("rejected") == 2
    assert bench.log.of("auth")[0]["detail"] == "the client left before the answer"


async def test_as_whom_a_user_may_send_is_the_policys() -> None:
    domains = DomainSet(("hospital.example",))
    bench = Bench(Accepted("alice"), senders=SenderRule.OWN, domains=domains)
    user = await bench.try_(said())

    assert bench.made.may_send_as(user, parse_mailbox("alice@hospital.example"))
    assert not bench.made.may_send_as(user, parse_mailbox("bob@hospital.example"))
    assert bench.made.may_send_as(user, None)


async def test_what_the_verifier_needs_from_files_is_its_own_matter() -> None:
    bench = Bench()
    await bench.made.refresh()
    bench.verifier.fault = ConfigError("authentication.ca_file: nothing in it")
    with pytest.raises(ConfigError, match="ca_file"):
        await bench.made.refresh()
    await bench.made.close()

    assert bench.verifier.is_closed
    await Bench(verifier=False).made.close()
