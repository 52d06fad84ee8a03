"""Who waits for an answer at RCPT, how long, and what is answered without one."""

import asyncio
import io
import json
import random
from collections.abc import Callable
from ipaddress import ip_network
from itertools import pairwise
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from mailshed.admission.decision import Defer, Reject
from mailshed.admission.recipients import (
    CATCH_ALL_SECONDS,
    KNOWN,
    UNSURE_SECONDS,
    Finding,
    Known,
    Unknown,
    Unsure,
)
from mailshed.control.breaker import FAILURES_TO_OPEN
from mailshed.control.limit import FixedLimit
from mailshed.mail import reply
from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    Delivered,
    DeliveryResult,
    TransactionResult,
)
from mailshed.mail.envelope import Client
from mailshed.mail.networks import NetworkSet
from mailshed.mail.recipient_list import parse_recipients
from mailshed.maillog import MailLog
from mailshed.metrics import Metrics
from mailshed.relay.call_ahead import CallAhead
from mailshed.relay.gate import Gate
from mailshed.relay.verify import SILENCES_TO_TELL, RecipientVerifier, Ruling, is_pressed
from mailshed.terms import Reason, Stage
from mailshed.work import Work
from tests.support.builders import (
    BUSY,
    CLINICAL,
    OK,
    PERSONAL,
    REFUSED,
    away,
    client,
    mailbox,
    outbound,
    verification_policy,
)
from tests.support.virtual_time import LoopClock, in_virtual_time, settle_down

STRANGER = client()
TRUSTED = client("198.51.100.1", is_trusted=True)
WARD = client("203.0.113.9")
UNKNOWN = Unknown(REFUSED)
SILENT = Unsure(None, "no greeting")
REFUSAL = Reject(Reason.UNKNOWN_RECIPIENT, REFUSED)
COME_BACK = Defer(Reason.UNVERIFIED_RECIPIENT, reply.UNVERIFIED_RECIPIENT)


class Oracle:
    """In place of `CallAhead`: answers as the test says, after as long as it says."""

    def __init__(self) -> None:
        self.sender = b""
        self.seconds = 0.0
        self.answer: Callable[[bytes], Finding | None] = lambda _path: KNOWN
        """None: never."""
        self.random_address: Finding | None = UNKNOWN
        """The answer about an address that nobody has."""
        self.asked: list[bytes] = []
        """Real addresses that were asked about, in order."""
        self.trials: list[bytes] = []
        """The random ones."""
        self.is_stopped = False
        self.open: dict[bytes, asyncio.Future[Finding]] = {}
        self.settled: list[bytes] = []

    def settle(self, path: bytes, found: Finding) -> None:
        self.settled.append(path)
        self._answer(path, found)

    def _answer(self, path: bytes, found: Finding) -> None:
        future = self.open[path]
        if not future.done():
            future.set_result(found)

    def ask(self, path: bytes) -> "asyncio.Future[Finding]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Finding] = loop.create_future()
        if path.startswith(b"no-such-mailbox-"):
            self.trials.append(path)
            found = self.random_address
        else:
            self.asked.append(path)
            found = self.answer(path)
        self.open[path] = future
        if found is not None:
            loop.call_later(self.seconds, self._answer, path, found)
        return future

    def stop(self) -> None:
        self.is_stopped = True

    async def close(self) -> None:
        self.is_stopped = True


class Bench:
    """A verifier with everything around it within reach."""

    def __init__(self, *, slots: int = 4, has_backend: bool = True, **policy: Any) -> None:
        self.clock = LoopClock()
        self.oracle = Oracle()
        self.registry = CollectorRegistry()
        self.log = io.StringIO()
        rng = random.Random(1)
        self.gate = Gate(limit=FixedLimit(slots), clock=self.clock, rng=rng)
        self.verifier = RecipientVerifier(
            verification_policy(**policy),
            call_ahead=cast("CallAhead", self.oracle) if has_backend else None,
            gate=self.gate,
            metrics=Metrics(self.registry),
            maillog=MailLog(self.log, "json", wall=lambda: 0.0),
            clock=self.clock,
            rng=rng,
        )

    async def rcpt(
        self, who: Client = STRANGER, to: str = "alice@example.net", waited: float = 0.0
    ) -> tuple[Ruling, float]:
        """The ruling about a recipient, and how long it took."""
        began = self.clock.monotonic()
        ruling = self.verifier.check(who, mailbox(to), waited)
        if callable(ruling):
            ruling = await ruling()
        return ruling, self.clock.monotonic() - began

    def count(self, result: str) -> float:
        name = "mailshed_recipient_verifications_total"
        return self.registry.get_sample_value(name, {"result": result}) or 0.0

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def occupy(self, slots: int) -> None:
        """Take slots, as messages in flight do."""
        for _ in range(slots):
            assert self.gate.try_acquire(Work(CLINICAL)) is not None

    def lose_backend(self) -> None:
        """Let the gate learn that nobody is there."""
        for _ in range(FAILURES_TO_OPEN):
            slot = self.gate.try_acquire(Work(PERSONAL))
            assert slot is not None
            self.gate.release(slot, away())
        assert not self.gate.is_up


class TestAsked:
    @in_virtual_time
    async def test_once_a_yes_is_known_for_a_day(self) -> None:
        bench = Bench()
        bench.oracle.seconds = 0.25
        assert await bench.rcpt() == (None, 0.25)
        assert await bench.rcpt(to="alice@EXAMPLE.net") == (None, 0.0)
        assert bench.verifier.check(STRANGER, mailbox("alice@example.net")) is None
        assert bench.oracle.asked == [b"alice@example.net"]
        await asyncio.sleep(86400.0)
        assert await bench.rcpt() == (None, 0.25)
        assert len(bench.oracle.asked) == 2
        assert (bench.count("known"), bench.count("cached_known")) == (2, 2)
        name = "mailshed_call_ahead_seconds_sum"
        assert bench.registry.get_sample_value(name) == 0.5

    @in_virtual_time
    async def test_not_about_mailboxes_of_other_scripts(self) -> None:
        """The question is without SMTPUTF8; the delivery tells, if somebody is there to deliver."""
        bench = Bench()
        bench.oracle.answer = lambda _: UNKNOWN
        for who in (STRANGER, TRUSTED):
            assert await bench.rcpt(who, "jürgen@example.net") == (None, 0.0)
        bench.lose_backend()
        ruling, _ = await bench.rcpt(to="jürgen@example.net")
        assert isinstance(ruling, Defer)
        assert await bench.rcpt(TRUSTED, "jürgen@example.net") == (None, 0.0)
        assert bench.oracle.asked == []

    @in_virtual_time
    async def test_a_no_is_the_backends_reply_for_ten_minutes(self) -> None:
        bench = Bench()
        bench.oracle.answer = lambda _: UNKNOWN
        for who in (STRANGER, TRUSTED):
            assert await bench.rcpt(who) == (REFUSAL, 0.0)
        assert len(bench.oracle.asked) == 1
        assert (bench.count("unknown"), bench.count("cached_unknown")) == (1, 1)
        await asyncio.sleep(600.0)
        bench.oracle.answer = lambda _: KNOWN
        assert await bench.rcpt() == (None, 0.0)

    @in_virtual_time
    async def test_many_who_ask_at_once_share_one_question(self) -> None:
        bench = Bench()
        bench.oracle.seconds = 1.0
        bench.oracle.answer = lambda _: UNKNOWN
        asking = [bench.rcpt(client(f"192.0.2.{number}")) for number in range(1, 30)]
        assert set(await asyncio.gather(*asking)) == {(REFUSAL, 1.0)}
        assert len(bench.oracle.asked) == 1

    @in_virtual_time
    async def test_one_who_leaves_takes_nothing_from_the_others(self) -> None:
        bench = Bench()
        bench.oracle.seconds = 1.0
        async with asyncio.TaskGroup() as group:
            leaving = group.create_task(bench.rcpt())
            staying = group.create_task(bench.rcpt())
            await asyncio.sleep(0.5)
            leaving.cancel()
        assert staying.result() == (None, 1.0)
        assert len(bench.oracle.asked) == 1
        assert await bench.rcpt() == (None, 0.0)

    @in_virtual_time
    async def test_a_refusal_for_another_reason_lets_the_message_come(self) -> None:
        bench = Bench()
        bench.oracle.answer = lambda _: Known(is_taken=False)
        assert await bench.rcpt() == (None, 0.0)

    @in_virtual_time
    async def test_the_sender_of_questions_follows_the_policy(self) -> None:
        bench = Bench(sender=b"a@example.org")
        assert bench.oracle.sender == b"a@example.org"
        bench.verifier.policy = verification_policy(sender=b"b@example.org", entries_max=500)
        assert bench.oracle.sender == b"b@example.org"
        assert bench.verifier.cached == (0, 500)


class TestNotAsked:
    @in_virtual_time
    @pytest.mark.parametrize("address", ["bob@elsewhere.example", "bob@sub.example.net"])
    async def test_about_mailboxes_of_others(self, address: str) -> None:
        bench = Bench()
        assert bench.verifier.check(TRUSTED, mailbox(address)) is None
        assert bench.oracle.asked == []

    @in_virtual_time
    async def test_without_a_server_to_ask_or_when_switched_off(self) -> None:
        for bench in (Bench(has_backend=False), Bench(is_calling=False)):
            assert bench.verifier.check(STRANGER, mailbox("x@example.net")) is None
            bench.verifier.learn(
                outbound(), TransactionResult(recipients=(Bounced(Stage.RCPT, REFUSED),))
            )
            assert bench.verifier.cached[0] == 0
            bench.verifier.stop()
            await bench.verifier.close()
            assert bench.oracle.asked == []


class TestSilence:
    @in_virtual_time
    async def test_a_trusted_client_is_believed_after_a_moment(self) -> None:
        bench = Bench()
        bench.oracle.answer = lambda _: None
        assert await bench.rcpt(TRUSTED) == (None, 2.0)
        assert bench.count("unverified_taken") == 1

    @in_virtual_time
    async def test_a_stranger_waits_longer_and_comes_back(self) -> None:
        bench = Bench()
        bench.oracle.answer = lambda _: None
        assert await bench.rcpt() == (COME_BACK, 5.0)
        assert bench.count("unverified_deferred") == 1

    @in_virtual_time
    async def test_a_clinical_network_is_treated_as_a_trusted_one(self) -> None:
        """Its mail never gets an early 4xx."""
        bench = Bench(clinical_networks=NetworkSet([ip_network("203.0.113.0/24")]))
        bench.oracle.answer = lambda _: None
        assert await bench.rcpt(WARD) == (None, 2.0)

    @in_virtual_time
    async def test_recipients_of_one_transaction_share_the_time(self) -> None:
        bench = Bench()
        bench.oracle.seconds = 1.5
        assert await bench.rcpt(TRUSTED, "a@example.net") == (None, 1.5)
        assert await bench.rcpt(TRUSTED, "b@example.net", waited=1.5) == (None, 0.5)
        assert await bench.rcpt(TRUSTED, "c@example.net", waited=2.0) == (None, 0.0)
        assert bench.count("unverified_taken") == 2
        await asyncio.sleep(10.0)
        assert await bench.rcpt(TRUSTED, "b@example.net") == (None, 0.0)
        assert bench.count("cached_known") == 1, "the answer came late, and was not lost"

    @in_virtual_time
    async def test_nobody_else_waits_until_a_question_is_answered(self) -> None:
        """One at a time finds out, after 1, 2, 4 ... 30 seconds; everyone else goes on at once."""
        bench = Bench()
        bench.oracle.answer = lambda _: None
        await bench.rcpt(TRUSTED, "0@example.net")
        began = bench.clock.monotonic()
        waits: list[tuple[float, float]] = []
        for number in range(1, 1200):
            _, seconds = await bench.rcpt(TRUSTED, f"{number}@example.net")
            if seconds:
                waits.append((bench.clock.monotonic() - seconds - began, seconds))
            await asyncio.sleep(0.1)
        starts = [at for at, _ in waits]
        pauses = [later - at - 2.0 for at, later in pairwise(starts)]
        assert {seconds for _, seconds in waits} == {2.0}
        expected = [2.0, 4.0, 8.0, 16.0, 30.0]
        assert starts[0] == pytest.approx(1.0, rel=0.35)
        assert pauses[: len(expected)] == pytest.approx(expected, rel=0.25)
        assert len(bench.oracle.asked) == len(waits) + 1
        assert (await bench.rcpt(STRANGER, "x@example.net"))[0] == COME_BACK

        bench.oracle.answer = lambda _: KNOWN
        await asyncio.sleep(40.0)
        assert await bench.rcpt(STRANGER, "y@example.net") == (None, 0.0)
        assert await bench.rcpt(STRANGER, "z@example.net") == (None, 0.0)

    @in_virtual_time
    async def test_while_one_finds_out_the_others_do_not_wait(self) -> None:
        bench = Bench()
        bench.oracle.answer = lambda _: None
        await bench.rcpt(TRUSTED, "0@example.net")
        await asyncio.sleep(1.5)
        asking = [bench.rcpt(TRUSTED, f"{number}@example.net") for number in range(1, 10)]
        assert [seconds for _, seconds in await asyncio.gather(*asking)] == [2.0] + 8 * [0.0]

    @in_virtual_time
    async def test_an_answer_at_once_that_there_is_none_is_silence_too(self) -> None:
        bench = Bench()
        bench.oracle.answer = lambda _: SILENT
        assert await bench.rcpt() == (COME_BACK, 0.0)
        assert await bench.rcpt(to="b@example.net") == (COME_BACK, 0.0)
        assert len(bench.oracle.asked) == 1

    @in_virtual_time
    async def test_it_is_told_once_when_it_lasts_and_once_when_it_ends(self) -> None:
        bench = Bench()
        bench.oracle.answer = lambda _: SILENT
        for number in range(200):
            await bench.rcpt(to=f"{number}@example.net")
            assert (len(bench.events) == 1) == (len(bench.oracle.asked) >= SILENCES_TO_TELL)
            await asyncio.sleep(1.0)
        bench.oracle.answer = lambda _: KNOWN
        await asyncio.sleep(40.0)
        await bench.rcpt(to="z@example.net")
        failing, works = bench.events
        assert (failing["event"], failing["detail"]) == ("call_ahead_failing", "no greeting")
        assert works["event"] == "call_ahead_works"
        assert works["failed"] == pytest.approx(240.0, abs=1.0)

    @in_virtual_time
    async def test_a_single_slow_answer_is_not_worth_a_line(self) -> None:
        bench = Bench()
        bench.oracle.seconds = 3.0
        await bench.rcpt(TRUSTED)
        await asyncio.sleep(60.0)
        assert bench.events == []

    @in_virtual_time
    async def test_a_4xx_is_passed_on_and_not_asked_for_again_at_once(self) -> None:
        bench = Bench()
        bench.oracle.answer = lambda _: Unsure(BUSY)
        mine = Defer(Reason.UNVERIFIED_RECIPIENT, BUSY)
        for _ in range(3):
            assert await bench.rcpt() == (mine, 0.0)
            assert await bench.rcpt(TRUSTED) == (None, 0.0)
        assert len(bench.oracle.asked) == 1
        bench.oracle.answer = lambda _: KNOWN
        assert await bench.rcpt(to="b@example.net") == (None, 0.0), "it is about one mailbox"
        await asyncio.sleep(UNSURE_SECONDS)
        assert await bench.rcpt() == (None, 0.0)

    @in_virtual_time
    async def test_an_old_yes_counts_while_nobody_can_be_asked(self) -> None:
        bench = Bench()
        await bench.rcpt()
        await asyncio.sleep(2 * 86400.0)
        bench.oracle.answer = lambda _: SILENT
        assert await bench.rcpt() == (None, 0.0)
        assert await bench.rcpt() == (None, 0.0)
        bench.oracle.answer = lambda _: UNKNOWN
        await asyncio.sleep(40.0)
        assert (await bench.rcpt())[0] == REFUSAL


class TestBackend:
    @in_virtual_time
    async def test_that_is_away_is_not_asked(self) -> None:
        bench = Bench()
        bench.lose_backend()
        assert await bench.rcpt() == (COME_BACK, 0.0)
        assert await bench.rcpt(TRUSTED) == (None, 0.0)
        assert bench.oracle.asked == []

    @in_virtual_time
    async def test_that_is_away_is_no_news_from_here(self) -> None:
        bench = Bench()
        bench.oracle.answer = lambda _: SILENT
        await bench.rcpt()
        bench.lose_backend()
        await asyncio.sleep(100.0)
        await bench.rcpt()
        assert bench.events == []

    @in_virtual_time
    async def test_short_of_room_is_not_asked_for_trusted_clients(self) -> None:
        bench = Bench(slots=2, clinical_networks=NetworkSet([ip_network("203.0.113.0/24")]))
        bench.occupy(2)
        assert is_pressed(bench.gate)
        assert await bench.rcpt(TRUSTED) == (None, 0.0)
        assert await bench.rcpt(WARD) == (None, 0.0)
        assert bench.oracle.asked == []
        assert await bench.rcpt(STRANGER) == (None, 0.0)
        assert bench.oracle.asked == [b"alice@example.net"]
        assert (bench.count("unverified_taken"), bench.count("known")) == (2, 1)

    @in_virtual_time
    async def test_that_runs_short_is_not_asked_for_who_has_gone_on(self) -> None:
        bench = Bench(slots=2)
        bench.oracle.answer = lambda _: None
        asking = [bench.rcpt(TRUSTED, f"{number}@example.net") for number in range(3)]
        waiting = asyncio.gather(*asking, bench.rcpt(STRANGER, "0@example.net"))
        await asyncio.sleep(1.0)
        bench.occupy(2)
        await asyncio.sleep(1.5)
        assert sorted(bench.oracle.settled) == [b"1@example.net", b"2@example.net"]
        *trusted, stranger = await waiting
        assert trusted == [(None, 2.0)] * 3
        assert stranger == (COME_BACK, 5.0)

    @in_virtual_time
    async def test_is_not_asked_while_the_service_stops(self) -> None:
        bench = Bench()
        bench.gate.close()
        assert await bench.rcpt() == (COME_BACK, 0.0)
        assert await bench.rcpt(TRUSTED) == (None, 0.0)
        bench.verifier.stop()
        assert bench.oracle.is_stopped

    @in_virtual_time
    async def test_its_gate_hears_nothing_of_questions(self) -> None:
        bench = Bench()
        bench.oracle.answer = lambda _: SILENT
        for number in range(100):
            await bench.rcpt(to=f"{number}@example.net")
            await asyncio.sleep(1.0)
        assert bench.gate.is_up
        assert bench.gate.in_flight == 0


class TestCatchAll:
    @in_virtual_time
    async def test_a_domain_that_takes_any_address_is_not_asked_about(self) -> None:
        bench = Bench()
        bench.oracle.random_address = KNOWN
        bench.oracle.seconds = 1.0
        await bench.rcpt(to="a@example.net")
        await settle_down()
        for number in range(10):
            assert await bench.rcpt(to=f"{number}@example.net") == (None, 0.0)
        assert bench.oracle.asked == [b"a@example.net"]
        assert len(bench.oracle.trials) == 1
        assert bench.count("accepts_all") == 10
        (event,) = bench.events
        assert (event["event"], event["domain"]) == ("catch_all_found", "example.net")

    @in_virtual_time
    async def test_nobody_waits_for_an_answer_that_is_clear(self) -> None:
        bench = Bench()
        bench.oracle.answer = lambda _: None
        bench.oracle.random_address, bench.oracle.seconds = KNOWN, 0.5
        there = [bench.rcpt(to=f"{number}@example.net") for number in range(10)]
        found = await asyncio.gather(*there)
        assert found == [(None, 0.5)] * 10
        assert bench.oracle.settled == [b"%d@example.net" % number for number in range(10)]

    @in_virtual_time
    async def test_it_is_found_out_again_every_hour(self) -> None:
        bench = Bench()
        bench.oracle.random_address = KNOWN
        await bench.rcpt(to="a@example.net")
        await asyncio.sleep(CATCH_ALL_SECONDS + 1)
        bench.oracle.random_address, bench.oracle.answer = UNKNOWN, lambda _: UNKNOWN
        assert await bench.rcpt(to="b@example.net") == (None, 0.0), "found out meanwhile"
        await settle_down()
        await asyncio.sleep(0.1)
        assert (await bench.rcpt(to="c@example.net"))[0] == REFUSAL
        assert len(set(bench.oracle.trials)) == 2, "another random address each time"
        assert [event["event"] for event in bench.events] == ["catch_all_found", "catch_all_gone"]

    @in_virtual_time
    async def test_each_domain_is_tried_once(self) -> None:
        bench = Bench()
        bench.verifier.policy = verification_policy("example.net", "example.org")
        for number in range(5):
            await bench.rcpt(to=f"{number}@example.net")
            await bench.rcpt(to=f"{number}@example.org")
        assert [path.partition(b"@")[2] for path in bench.oracle.trials] == [
            b"example.net",
            b"example.org",
        ]
        assert bench.events == []

    @in_virtual_time
    async def test_a_refusal_that_a_delivery_met_counts_all_the_same(self) -> None:
        bench = Bench()
        bench.oracle.random_address = KNOWN
        await bench.rcpt()
        bench.verifier.learn(
            outbound(recipients=((b"gone@example.net", ()),)),
            TransactionResult(recipients=(Bounced(Stage.RCPT, REFUSED),)),
        )
        assert (await bench.rcpt(to="gone@example.net"))[0] == REFUSAL


class TestHarvest:
    @in_virtual_time
    async def test_a_stranger_is_slowed_down_and_then_shown_out(self) -> None:
        bench = Bench(unknown_max=3)
        bench.oracle.answer = lambda _: UNKNOWN
        rulings = [await bench.rcpt(to=f"{number}@example.net") for number in range(8)]
        assert [seconds for _, seconds in rulings] == [0.0] * 3 + [1.0] * 3 + [0.0] * 2
        assert [ruling for ruling, _ in rulings[:6]] == [REFUSAL] * 6
        last = Defer(Reason.UNKNOWN_RECIPIENT, reply.TOO_MANY_UNKNOWN)
        assert [ruling for ruling, _ in rulings[6:]] == [last] * 2
        assert await bench.rcpt(client("192.0.2.77"), "0@example.net") == (REFUSAL, 0.0)

    @in_virtual_time
    async def test_known_answers_are_slow_for_a_harvester_too(self) -> None:
        bench = Bench(unknown_max=1)
        bench.oracle.answer = lambda _: UNKNOWN
        assert [await bench.rcpt() for _ in range(2)] == [(REFUSAL, 0.0), (REFUSAL, 1.0)]

    @in_virtual_time
    async def test_good_recipients_of_a_harvester_pass(self) -> None:
        bench = Bench(unknown_max=1)
        bench.oracle.answer = lambda path: KNOWN if path.startswith(b"alice") else UNKNOWN
        for number in range(5):
            await bench.rcpt(to=f"{number}@example.net")
        assert await bench.rcpt() == (None, 0.0)

    @in_virtual_time
    async def test_trusted_and_clinical_clients_are_exempt(self) -> None:
        bench = Bench(unknown_max=1, clinical_networks=NetworkSet([ip_network("203.0.113.0/24")]))
        bench.oracle.answer = lambda _: UNKNOWN
        for who in (TRUSTED, WARD):
            for _ in range(5):
                assert await bench.rcpt(who) == (REFUSAL, 0.0)


class TestLearning:
    def learn(
        self, bench: Bench, *fared: DeliveryResult, to: tuple[bytes, ...] = (b"alice@example.net",)
    ) -> None:
        bench.verifier.learn(
            outbound(recipients=tuple((path, ()) for path in to)),
            TransactionResult(recipients=fared),
        )

    @in_virtual_time
    async def test_deliveries_answer_for_free(self) -> None:
        bench = Bench()
        to = (b"alice@example.net", b"Bob@EXAMPLE.net", b"eve@example.net")
        self.learn(
            bench, Delivered(OK), Bounced(Stage.RCPT, REFUSED), Deferred(Stage.RCPT, BUSY), to=to
        )
        assert await bench.rcpt(to="alice@example.net") == (None, 0.0)
        assert await bench.rcpt(to="Bob@example.net") == (REFUSAL, 0.0)
        assert bench.oracle.asked == []
        assert bench.verifier.cached[0] == 2

    @in_virtual_time
    async def test_mailboxes_of_others_are_not_remembered(self) -> None:
        bench = Bench()
        self.learn(bench, Delivered(OK), Delivered(OK), to=(b"x@elsewhere.example", b"Postmaster"))
        assert bench.verifier.cached[0] == 0

    @in_virtual_time
    async def test_deliveries_keep_a_mailbox_known(self) -> None:
        bench = Bench()
        for _ in range(20):
            self.learn(bench, Delivered(OK))
            await asyncio.sleep(40_000.0)
        assert await bench.rcpt() == (None, 0.0)
        assert bench.oracle.asked == []

    @in_virtual_time
    async def test_a_delivery_corrects_what_was_known(self) -> None:
        bench = Bench()
        bench.oracle.answer = lambda _: UNKNOWN
        await bench.rcpt()
        self.learn(bench, Delivered(OK))
        assert await bench.rcpt() == (None, 0.0)


class TestList:
    LIST = parse_recipients("alice@example.net\n@example.org\n")[0]

    @in_virtual_time
    async def test_nobody_is_asked_where_there_is_a_list(self) -> None:
        bench = Bench()
        bench.verifier.policy = verification_policy(
            "example.net", "example.org", is_calling=False, recipients=self.LIST
        )
        for to in ("Alice@Example.net", "who@example.org", "PostMaster@example.net"):
            assert await bench.rcpt(to=to) == (None, 0.0)
        assert await bench.rcpt(TRUSTED, "bob@elsewhere.example") == (None, 0.0)
        mine = Reject(Reason.UNKNOWN_RECIPIENT, reply.UNKNOWN_RECIPIENT)
        for who in (STRANGER, TRUSTED):
            assert await bench.rcpt(who, "bob@example.net") == (mine, 0.0)
        assert (bench.count("listed"), bench.count("unlisted")) == (3, 2)
        assert bench.oracle.asked == []

    @in_virtual_time
    async def test_a_list_works_for_a_maildir_too(self) -> None:
        bench = Bench(has_backend=False, is_calling=False, recipients=self.LIST)
        assert (await bench.rcpt(to="bob@example.net"))[0] is not None

    @in_virtual_time
    async def test_harvesting_is_slowed_down(self) -> None:
        bench = Bench(is_calling=False, recipients=self.LIST, unknown_max=1)
        rulings = [await bench.rcpt(to="bob@example.net") for _ in range(3)]
        assert [seconds for _, seconds in rulings] == [0.0, 1.0, 0.0]


@in_virtual_time
async def test_pressed_is_a_gate_without_a_free_slot() -> None:
    bench = Bench(slots=2)
    bench.occupy(1)
    assert not is_pressed(bench.gate)
    bench.occupy(1)
    assert is_pressed(bench.gate)
