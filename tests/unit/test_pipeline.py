"""The path of one message: every row of 'what happens after the client's final dot'."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from mailshed.classification.classifier import Classifier
from mailshed.config.policy import Quota, QuotaPolicy, SenderRate
from mailshed.control.breaker import FAILURES_TO_OPEN, BreakerState
from mailshed.control.divert import Situation
from mailshed.control.fallback import FallbackRule
from mailshed.errors import ClientGone, SpoolFull, SpoolSick
from mailshed.mail import reply
from mailshed.mail.delivery import (
    Deferred,
)
from mailshed.mail.envelope import Client
from mailshed.mail.networks import NetworkSet
from mailshed.mail.reply import Reply, make
from mailshed.spool.store import SpoolRecord
from mailshed.terms import ClientKind, Reason, Stage, TrafficClass
from mailshed.work import Work
from tests.support.builders import (
    BULK,
    BUSY,
    CLASSES,
    CLINICAL,
    OK,
    REFUSED,
    TELEWORK,
    classification_policy,
    client,
    delivered,
    mailbox,
    rule,
    wire,
)
from tests.support.fake_backend import (
    be_away,
    defer,
    fail,
    refuse,
    sort_out,
)
from tests.support.middle import TRUSTED, Middle, break_spool, hold_slots, is_queued
from tests.support.overrides import hold, in_force, limit
from tests.support.virtual_time import in_virtual_time, settle_down, until

USER_AGENT = client(kind=ClientKind.USER_AGENT, is_trusted=True)
DEVICE = client(kind=ClientKind.DEVICE, is_trusted=True)
LATER = make(421, "4.3.2 mail.example.net: too many connections")


@pytest.fixture
def middle(tmp_path: Path) -> Middle:
    return Middle(tmp_path)


@in_virtual_time
async def test_each_message_that_has_its_class_is_counted_once(middle: Middle) -> None:
    counted: list[tuple[Client, str, int, int]] = []
    middle.pipeline._count = lambda *message: counted.append(message)

    await middle.submit(names="bulk")

    ((who, name, size, recipients),) = counted
    assert who.session_id == client().session_id
    assert (name, recipients) == ("bulk", 1)
    assert size > 0


class TestSlotFree:
    @in_virtual_time
    async def test_the_message_is_relayed_and_the_reply_passed_on_as_it_came(
        self, middle: Middle
    ) -> None:
        answer = make(250, "2.6.0 <x@y> [InternalId=4711] Queued mail", "for delivery")
        middle.backend.always(lambda _: delivered(2, answer))
        assert await middle.submit("bob@example.net", "eve@example.net") == answer
        (sent,) = middle.backend.asked
        assert [path for path, _ in sent.recipients] == [b"bob@example.net", b"eve@example.net"]
        assert not sent.partial_ok
        assert middle.spool.added == []
        assert middle.gate.in_flight == 0

    @in_virtual_time
    async def test_the_content_is_our_one_line_and_what_came(self, middle: Middle) -> None:
        data = wire("..dots and all", X_Class="personal")
        await middle.submit(data=data)
        (handed,) = middle.backend.handed
        assert handed.content.startswith(b"Received: from client.example.org ([192.0.2.1])\r\n")
        assert handed.content.endswith(data)
        assert handed.content.count(b"Received:") == 1

    @in_virtual_time
    async def test_it_is_logged_and_counted_as_relayed(self, middle: Middle) -> None:
        middle.backend.seconds = 2.0
        await middle.submit("bob@example.net", "eve@example.net", names="clinical")
        line = middle.log.one("delivered")
        assert (line["class"], line["backend"], line["reply"]) == ("clinical", "fake", OK.text)
        assert line["delays"] == "0.00/0.00/0.00/2.00"
        labels = {"class": "clinical"}
        count = middle.book.count("messages_accepted_total", disposition="relayed", **labels)
        assert count == 1
        assert middle.book.count("recipients_accepted_total", **labels) == 2
        delivered = {"source": "live", "result": "delivered"}
        assert middle.book.count("deliveries_total", **labels, **delivered) == 2
        assert middle.journal.relayed == {"clinical": 1}


class TestClientGoneBeforeOurDot:
    @in_virtual_time
    async def test_nothing_is_promised_and_the_slot_comes_back(self, middle: Middle) -> None:
        with pytest.raises(ClientGone):
            await middle.submit(is_client_gone=lambda: True)
        assert middle.backend.handed == []
        assert middle.spool.added == []
        assert middle.gate.in_flight == 0
        assert middle.log.events == ["aborted"]
        labels = {"class": "personal", "outcome": "aborted"}
        assert middle.book.count("transaction_duration_seconds_count", **labels) == 1

    @in_virtual_time
    async def test_it_says_nothing_about_the_backend(self, middle: Middle) -> None:
        for _ in range(3):
            with pytest.raises(ClientGone):
                await middle.submit(is_client_gone=lambda: True)
        assert middle.gate.is_up

    @in_virtual_time
    async def test_nothing_is_committed_for_it_either(self, middle: Middle) -> None:
        middle.backend.always(be_away)
        with pytest.raises(ClientGone):
            await middle.submit(is_client_gone=lambda: True)
        assert middle.spool.added == []
        assert middle.log.events == ["aborted"]

    @in_virtual_time
    async def test_while_it_waits_for_a_slot_its_turn_is_not_lost_for_others(
        self, middle: Middle
    ) -> None:
        holders = await hold_slots(middle, 4)
        gone = middle.supervisor.spawn(middle.submit(is_client_gone=lambda: True), "gone")
        stays = middle.supervisor.spawn(middle.submit(), "stays")
        await settle_down()
        middle.backend.before_dot.set()
        assert await stays == OK
        with pytest.raises(ClientGone):
            await gone
        await asyncio.gather(*holders)
        assert middle.gate.in_flight == 0


class TestOverride:
    """What an operator keeps back."""

    @in_virtual_time
    async def test_is_spooled_at_once_though_there_is_room(self, middle: Middle) -> None:
        middle.gate.set_overrides(in_force(hold("personal")))

        assert is_queued(await middle.submit())
        assert middle.backend.asked == []
        assert middle.log.one("spooled")["reason"] == "override"
        assert await middle.submit(names="telework") == OK
        middle.gate.set_overrides(in_force())
        assert await middle.submit() == OK

    @in_virtual_time
    async def test_does_not_wait_on_for_a_slot(self, middle: Middle) -> None:
        holders = await hold_slots(middle, 4)
        began = middle.clock.monotonic()
        waits = middle.supervisor.spawn(middle.submit(), "waits")
        await until(lambda: middle.gate.waiting)
        middle.gate.set_overrides(in_force(hold("personal")))

        assert is_queued(await waits)
        assert middle.clock.monotonic() - began < 1
        assert middle.log.one("spooled")["reason"] == "override"
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)

    @in_virtual_time
    async def test_is_left_with_a_server_that_comes_back_if_the_spool_fills(
        self, middle: Middle
    ) -> None:
        middle.gate.set_overrides(in_force(hold("bulk")))
        middle.spool_fill = 0.95

        assert (await middle.submit(names="bulk")).code == 451
        assert middle.spool.added == []

    @in_virtual_time
    async def test_beyond_its_slots_is_spooled(self, middle: Middle) -> None:
        middle.gate.set_overrides(in_force(limit("personal", 1)))
        middle.backend.before_dot.clear()
        first = middle.supervisor.spawn(middle.submit(), "first")
        await until(lambda: middle.gate.in_flight)

        assert is_queued(await middle.submit())
        assert middle.log.one("spooled")["reason"] == "override"
        middle.backend.before_dot.set()
        assert await first == OK
        assert await middle.submit() == OK

    @in_virtual_time
    async def test_passes_while_observing_and_is_counted(self, middle: Middle) -> None:
        middle.set_admission(is_observing=True)
        middle.gate.set_overrides(in_force(hold("personal")))

        assert await middle.submit() == OK
        would = {"class": "personal", "action": "spool", "reason": "override"}
        assert middle.book.count("would_decisions_total", **would) == 1


class TestPatienceOver:
    @in_virtual_time
    async def test_a_durable_commit_comes_first_and_then_250(
        self, middle: Middle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The commit is held back, and as long as it is there is no reply."""
        committed = asyncio.Event()
        add = middle.spool.add

        async def slow_add(record: SpoolRecord, content: AsyncIterable[bytes]) -> None:
            await committed.wait()
            await add(record, content)

        monkeypatch.setattr(middle.spool, "add", slow_add)
        holders = await hold_slots(middle, 4)
        began = middle.clock.monotonic()
        waits = middle.supervisor.spawn(middle.submit(), "waits")
        await until(lambda: middle.clock.monotonic() >= began + 30)
        assert not waits.done()
        assert middle.log.of("spooled") == []
        committed.set()
        assert is_queued(await waits)
        assert len(middle.spool.added) == 1
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)

    @pytest.mark.parametrize(("kind", "seconds"), [("MTA", 10.0), ("USER_AGENT", 5.0)])
    @in_virtual_time
    async def test_a_client_waits_as_long_as_its_class_allows(
        self, middle: Middle, kind: str, seconds: float
    ) -> None:
        holders = await hold_slots(middle, 4)
        began = middle.clock.monotonic()
        answer = await middle.submit(client=client(kind=ClientKind[kind]))
        assert is_queued(answer)
        assert middle.clock.monotonic() - began == pytest.approx(seconds)
        line = middle.log.one("spooled")
        assert line["reason"] == Reason.SATURATED.value
        assert line["delays"] == f"0.00/{seconds:.2f}/0.00/0.00"
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)

    @in_virtual_time
    async def test_a_class_that_does_not_wait_is_spooled_at_once(self, middle: Middle) -> None:
        holders = await hold_slots(middle, 3)
        began = middle.clock.monotonic()
        assert is_queued(await middle.submit(names="bulk"))
        assert middle.clock.monotonic() == began
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)

    @in_virtual_time
    async def test_a_slot_in_time_relays_it_after_all(self, middle: Middle) -> None:
        holders = await hold_slots(middle, 4)
        waits = middle.supervisor.spawn(middle.submit(), "waits")
        await asyncio.sleep(3)
        middle.backend.before_dot.set()
        assert await waits == OK
        assert middle.spool.added == []
        assert middle.log.of("delivered")[-1]["delays"] == "0.00/3.00/0.00/0.00"
        await asyncio.gather(*holders)

    @in_virtual_time
    async def test_what_is_kept_is_what_came(self, middle: Middle) -> None:
        middle.backend.always(be_away)
        data = wire("..dots", X_Class="telework")
        answer = await middle.submit("bob@example.net", "eve@example.net", data=data)
        (queue_id,) = middle.spool.added
        record = middle.spool.record(queue_id)
        assert queue_id in answer.text
        assert [each.address for each in record.recipients] == [
            b"bob@example.net",
            b"eve@example.net",
        ]
        assert (record.traffic_class, record.rank) == ("telework", 4)
        assert record.reverse_path == b"alice@example.org"
        stored = middle.spool.raw_content(queue_id)
        assert stored.endswith(data)
        assert stored.startswith(b"Received:")
        assert record.size == len(stored)


TO = ("good@example.net", "busy@example.net", "bad@example.net")


class TestBackendThatAnswersEachRecipient:
    """LMTP: after the dot it may be too late to tell the client that one mailbox is full."""

    @pytest.fixture
    def middle(self, tmp_path: Path) -> Middle:
        made = Middle(tmp_path)
        made.backend.answers_each_recipient = True
        return made

    @in_virtual_time
    async def test_one_recipient_hears_it(self, middle: Middle) -> None:
        assert await middle.submit("good@example.net") == OK
        assert middle.spool.added == []

    @pytest.mark.parametrize("who", [client(), TRUSTED])
    @in_virtual_time
    async def test_several_are_stored_first_and_drained_at_once(
        self, middle: Middle, who: Client
    ) -> None:
        middle.backend.always(sort_out({b"busy@example.net": Deferred(Stage.DOT, BUSY)}))
        async with middle.draining():
            assert is_queued(await middle.submit(*TO, client=who))
            assert middle.log.one("spooled")["reason"] == "per_recipient"
            (queue_id,) = middle.spool.added
            await until(lambda: len(middle.backend.handed) == 1)
            assert middle.backend.asked[0].partial_ok
            await until(lambda: len(middle.spool.record(queue_id).recipients) == 1)
        assert middle.backend.handed[0].recipients == (b"good@example.net", b"bad@example.net")

    @in_virtual_time
    async def test_no_slot_is_held_for_them(self, middle: Middle) -> None:
        """So they do not wait for one, either."""
        holders = await hold_slots(middle, 4)
        began = asyncio.get_running_loop().time()
        assert is_queued(await middle.submit(*TO, client=TRUSTED))
        assert asyncio.get_running_loop().time() == began
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)

    @in_virtual_time
    async def test_a_backend_that_is_away_is_why(self, middle: Middle) -> None:
        middle.backend.always(be_away)
        for _ in range(FAILURES_TO_OPEN):
            await middle.submit(client=TRUSTED)
        assert is_queued(await middle.submit(*TO, client=TRUSTED))
        assert middle.log.of("spooled")[-1]["reason"] == "backend_away"

    @in_virtual_time
    async def test_a_spool_that_is_sick_leaves_them_with_the_client(
        self, middle: Middle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        break_spool(middle, monkeypatch, SpoolSick("disk I/O error"))
        assert (await middle.submit(*TO, client=TRUSTED)).code == 451
        assert await middle.submit("good@example.net", client=TRUSTED) == OK


class TestGateCloses:
    @in_virtual_time
    async def test_who_waits_is_spooled(self, middle: Middle) -> None:
        holders = await hold_slots(middle, 4)
        waiting = [middle.supervisor.spawn(middle.submit(), f"w{n}") for n in range(3)]
        await settle_down()
        began = middle.clock.monotonic()
        middle.gate.close()
        assert all(map(is_queued, await asyncio.gather(*waiting)))
        assert middle.clock.monotonic() == began
        assert {line["reason"] for line in middle.log.of("spooled")} == {"shutdown"}
        middle.backend.before_dot.set()
        assert await asyncio.gather(*holders) == [OK] * 4, "those with the backend finish"

    @in_virtual_time
    async def test_who_comes_later_is_spooled_too(self, middle: Middle) -> None:
        middle.gate.close()
        assert is_queued(await middle.submit())
        assert middle.backend.asked == []
        assert middle.log.one("spooled")["reason"] == "shutdown"


class TestPolicy:
    @in_virtual_time
    async def test_a_loop_is_refused_before_anything_else(self, middle: Middle) -> None:
        hop = f"from x by {middle.policies.hostname} (mailshed) with SMTP id 1; now"
        data = f"Received: {hop}\r\nReceived: {hop}\r\nSubject: round\r\n\r\n".encode()
        assert await middle.submit(data=data) == reply.LOOP
        assert middle.backend.asked == []
        assert middle.log.one("refused")["reason"] == "loop"

    @in_virtual_time
    async def test_a_message_sees_one_configuration(self, middle: Middle) -> None:
        """A reload in the middle of a message changes nothing for it."""
        holders = await hold_slots(middle, 4)
        waits = middle.supervisor.spawn(middle.submit(names="telework"), "waits")
        await settle_down()
        middle.policies = replace(middle.policies, hostname="other.example.org")
        middle.backend.before_dot.set()
        await waits
        (handed,) = [each for each in middle.backend.handed if b"telework" in each.content]
        assert b"by mx.example.org (mailshed)" in handed.content
        await asyncio.gather(*holders)

    @in_virtual_time
    async def test_better_classes_have_room_when_others_have_not(self, middle: Middle) -> None:
        """Of four slots bulk may use two, telework three."""
        middle.backend.before_dot.clear()
        first = [middle.supervisor.spawn(middle.submit(names="bulk"), f"b{n}") for n in range(3)]
        await settle_down()
        assert middle.gate.in_flight == 3, "0.6 of four slots: started below 2.4"
        assert is_queued(await middle.submit(names="bulk"))
        clinical = middle.supervisor.spawn(middle.submit(names="clinical"), "clinical")
        await settle_down()
        assert middle.gate.in_flight == 4
        middle.backend.before_dot.set()
        assert await clinical == OK
        await asyncio.gather(*first)


class TestFewPlacesToWait:
    @in_virtual_time
    async def test_more_live_mail_than_may_wait_is_spooled_at_once(self, middle: Middle) -> None:
        holders = await hold_slots(middle, 4)
        began = middle.clock.monotonic()
        waiting = [middle.supervisor.spawn(middle.submit(), f"w{n}") for n in range(4)]
        await settle_down()
        assert is_queued(await middle.submit())
        assert middle.clock.monotonic() == began
        clinical = middle.supervisor.spawn(middle.submit(names="clinical"), "clinical")
        await settle_down()
        assert not clinical.done(), "it has a place in any case"
        middle.backend.before_dot.set()
        assert await asyncio.gather(clinical, *waiting) == [OK] * 5
        await asyncio.gather(*holders)


class TestOverload:
    @in_virtual_time
    async def test_at_three_times_the_capacity_clinical_mail_passes_and_nothing_is_lost(
        self, tmp_path: Path
    ) -> None:
        """24 messages a second for 8 slots of a second each, spool and drain included."""
        middle = Middle(tmp_path, slots=8)
        middle.backend.seconds = 1.0
        rng = random.Random(1)
        waits: defaultdict[str, list[float]] = defaultdict(list)
        answers: list[Reply] = []

        async def send(names: str, number: int) -> None:
            began = middle.clock.monotonic()
            sender = mailbox(f"{names}{number % 20}@example.org")
            answers.append(await middle.submit(names=names, reverse_path=sender))
            waits[names].append(middle.clock.monotonic() - began)

        async with middle.draining():
            sent = 0
            while middle.clock.monotonic() < 20:
                await asyncio.sleep(rng.expovariate(24))
                names = rng.choices(["clinical", "personal", "telework", "bulk"], [3, 15, 15, 15])
                middle.supervisor.spawn(send(names[0], sent), f"{sent}")
                sent += 1
            await until(lambda: len(middle.backend.handed) == sent)
        assert len(answers) == sent
        assert all(answer.code == 250 for answer in answers)
        assert middle.spool.balance() == 0
        assert max(waits["clinical"]) < 3.0, "two seconds in line at most, and one with the backend"
        labels = {"class": "clinical", "disposition": "relayed"}
        assert middle.book.count("messages_accepted_total", **labels) == len(waits["clinical"])
        relayed = [
            middle.journal.relayed[each] / len(waits[each])
            for each in ("clinical", "personal", "telework", "bulk")
        ]
        assert relayed == sorted(relayed, reverse=True), "the lower a class, the more is spooled"


class TestQuotas:
    """A burst of two recipients is right; four are too many."""

    QUOTAS = QuotaPolicy(burst=2.0, per_sender=Quota(soft=1.0, hard=2.0))

    @in_virtual_time
    async def test_they_bite_only_under_pressure(self, middle: Middle) -> None:
        middle.set_admission(quotas=self.QUOTAS)
        assert [await middle.submit(names="bulk") for _ in range(8)] == [OK] * 8
        holders = await hold_slots(middle, 3)
        assert await middle.submit(names="bulk") == reply.OVER_QUOTA
        assert is_queued(await middle.submit(names="personal")), "this class does not allow it"
        person = client(kind=ClientKind.USER_AGENT)
        assert is_queued(await middle.submit(names="bulk", client=person))
        assert {line["reason"] for line in middle.log.of("spooled")} == {"over_quota"}
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)

    @in_virtual_time
    async def test_of_clinical_mail_they_are_only_counted(self, middle: Middle) -> None:
        middle.set_admission(quotas=self.QUOTAS)
        holders = await hold_slots(middle, 3)
        middle.backend.before_dot.set()
        assert [await middle.submit(names="clinical") for _ in range(8)] == [OK] * 8
        labels = {"class": "clinical", "quota": "sender"}
        assert middle.book.count("over_quota_total", level="soft", **labels) > 0
        assert middle.book.count("over_quota_total", level="hard", **labels) > 0
        await asyncio.gather(*holders)

    @in_virtual_time
    async def test_over_a_soft_one_a_sender_has_half_its_share(self, tmp_path: Path) -> None:
        middle = Middle(tmp_path, slots=1)
        middle.set_admission(quotas=QuotaPolicy(burst=1.0, per_sender=Quota(soft=1 / 3600)))
        order: list[str] = []

        async def send(who: str) -> None:
            sender = mailbox(f"{who}@example.org")
            assert await middle.submit(reverse_path=sender, client=TRUSTED) == OK
            order.append(who)

        await send("much")
        holders = await hold_slots(middle, 1)
        names = ["much", "much", "one", "one"]
        tasks = [middle.supervisor.spawn(send(who), f"{n}") for n, who in enumerate(names)]
        await settle_down()
        middle.backend.before_dot.set()
        await asyncio.gather(*holders, *tasks)
        assert order[1:] == ["much", "one", "one", "much"]


class TestKeptBack:
    """A class that diverts, or that an operator keeps back, is spooled though there is room."""

    def divert(self, middle: Middle, traffic_class: TrafficClass) -> None:
        """Let the class have had a standing queue for long enough."""
        shedding = middle.gate.station.shedding
        for second in range(10):
            shedding.divert.tick(
                float(second), Situation(CLASSES, None, 0.0, (), (), {traffic_class.name})
            )

    @in_virtual_time
    async def test_a_class_that_diverts_is_spooled_at_once(self, middle: Middle) -> None:
        self.divert(middle, TELEWORK)
        assert is_queued(await middle.submit(names="telework"))
        assert await middle.submit(names="bulk") == await middle.submit(names="clinical") == OK
        assert middle.log.one("spooled")["reason"] == "diverted"
        labels = {"class": "telework", "action": "spool", "reason": "diverted"}
        assert middle.book.count("decisions_total", **labels) == 1

    @in_virtual_time
    async def test_where_the_spool_fills_its_senders_keep_it(self, middle: Middle) -> None:
        self.divert(middle, TELEWORK)
        middle.spool_fill = 0.8
        assert await middle.submit(names="telework") == reply.SPOOL_FILLING

    @in_virtual_time
    async def test_while_observing_it_is_only_counted(self, middle: Middle) -> None:
        middle.set_admission(is_observing=True)
        self.divert(middle, TELEWORK)
        assert await middle.submit(names="telework") == OK
        labels = {"class": "telework", "action": "spool", "reason": "diverted"}
        assert middle.book.count("would_decisions_total", **labels) == 1

    @in_virtual_time
    async def test_what_waits_too_long_in_a_standing_queue_is_spooled_early(
        self, middle: Middle
    ) -> None:
        """It would wait for ten seconds."""
        shedding = middle.gate.station.shedding
        shedding.classes = tuple(
            replace(each, wait_target=0.5) if each.name == "personal" else each for each in CLASSES
        )
        holders = await hold_slots(middle, 4)
        classifier = Classifier(
            replace(classification_policy(), classes=shedding.classes, default=shedding.classes[1])
        )
        middle.policies = replace(middle.policies, classifier=classifier)
        waiting = [middle.supervisor.spawn(middle.submit(), f"w{n}") for n in range(4)]
        began = middle.clock.monotonic()
        while not all(each.done() for each in waiting):
            await asyncio.sleep(0.25)
            middle.gate.tick(has_spooled=False)
        assert middle.clock.monotonic() - began < 7.0
        assert all(is_queued(each.result()) for each in waiting)
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)

    @in_virtual_time
    async def test_all_mail_that_arrives_is_offered_whatever_is_decided(
        self, middle: Middle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        noted: list[tuple[str, int]] = []

        def note(work: Work, now: float) -> None:
            noted.append((work.traffic_class.name, work.recipients))

        monkeypatch.setattr(middle.gate.station, "note_arrival", note)
        self.divert(middle, TELEWORK)
        await middle.submit(names="telework")
        await middle.submit("a@example.net", "b@example.net", names="bulk")
        assert noted == [("telework", 1), ("bulk", 2)]


class TestClientsThatForget:
    @in_virtual_time
    async def test_are_spooled_for_instead(self, middle: Middle) -> None:
        """Three 4xx, none of which brought it back, and an hour later it gets no more of them."""
        middle.backend.always(defer(BUSY, Stage.DOT))
        for number in range(3):
            assert await middle.submit(f"{number}@example.net") is BUSY
        await asyncio.sleep(3600)
        assert is_queued(await middle.submit())

    @in_virtual_time
    async def test_whoever_comes_again_is_told_as_before(self, middle: Middle) -> None:
        middle.backend.always(defer(BUSY, Stage.DOT))
        for number in range(3):
            assert await middle.submit(f"{number}@example.net") is BUSY
        await asyncio.sleep(3600)
        sender = middle.envelope().reverse_path
        assert sender is not None
        again = mailbox("1@example.net")
        assert middle.screening.on_rcpt(client(), again, sender=sender.raw) is None
        assert await middle.submit() is BUSY


class TestPriority:
    """MT-PRIORITY (RFC 6710), of a peer whose word counts: a fact for rules, and for replies."""

    RULES = (
        rule("urgent", CLINICAL, priority_min=5),
        rule("no-hurry", BULK, priority_max=-1),
    )

    @pytest.fixture
    def middle(self, tmp_path: Path) -> Middle:
        made = Middle(tmp_path)
        classifier = Classifier(classification_policy(*self.RULES))
        made.policies = replace(made.policies, classifier=classifier)
        return made

    def believe_header(self, middle: Middle) -> None:
        policies = replace(middle.policies, reads_priority_header=True)
        middle.policies = policies

    @in_virtual_time
    async def test_names_the_class(self, middle: Middle) -> None:
        for priority in (9, None, -1):
            await middle.submit(priority=priority, client=TRUSTED)
        classes = [line["class"] for line in middle.log.of("delivered")]
        assert classes == ["clinical", "personal", "bulk"]

    @in_virtual_time
    async def test_what_is_shed_hears_that_its_level_is_too_low(self, middle: Middle) -> None:
        middle.spool_fill = 0.7
        middle.backend.always(be_away)
        assert await middle.submit(priority=-4, client=TRUSTED) == reply.PRIORITY_TOO_LOW
        assert (await middle.submit(priority=5, client=TRUSTED)).is_success
        line = middle.log.one("deferred")
        assert (line["reason"], line["reply"]) == (
            "spool_filling",
            "450 4.7.15 Priority level is too low for now, try again later",
        )

    @in_virtual_time
    async def test_without_a_slot_too(self, middle: Middle) -> None:
        middle.spool_fill = 0.6
        holders = await hold_slots(middle, 4, priority=9)
        assert await middle.submit(priority=-4) == reply.PRIORITY_TOO_LOW
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)

    @in_virtual_time
    async def test_a_spool_without_room_for_it_says_that_it_is_too_big(
        self, middle: Middle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        break_spool(middle, monkeypatch, SpoolFull("full"))
        middle.backend.always(be_away)
        assert await middle.submit(priority=5) == reply.TOO_BIG_FOR_PRIORITY
        assert await middle.submit() == reply.SPOOL_FULL

    @in_virtual_time
    async def test_may_stand_in_the_header_if_the_site_says_so(self, middle: Middle) -> None:
        """RFC 6758; of trusted clients, and the parameter counts before the field."""
        data = wire(MT_Priority="9")
        await middle.submit(data=data, client=TRUSTED)
        self.believe_header(middle)
        await middle.submit(data=data, client=TRUSTED)
        await middle.submit(data=data, client=TRUSTED, priority=-1)
        await middle.submit(data=data)
        classes = [line["class"] for line in middle.log.of("delivered")]
        assert classes == ["personal", "clinical", "bulk", "personal"]


class TestObserving:
    """Everything is decided and counted, and nothing is done about it."""

    @pytest.fixture
    def middle(self, tmp_path: Path) -> Middle:
        made = Middle(tmp_path)
        made.set_admission(
            is_observing=True, quotas=QuotaPolicy(burst=1.0, per_sender=Quota(hard=0.001))
        )
        made.spool_fill = 1.0
        return made

    def would(self, middle: Middle, names: str, action: str, reason: str) -> float:
        labels = {"class": names, "action": action, "reason": reason}
        return middle.book.count("would_decisions_total", **labels)

    @in_virtual_time
    async def test_what_would_be_turned_away_is_relayed(self, middle: Middle) -> None:
        """The spool is full, the quota exceeded, and bulk beyond its share of the slots."""
        middle.backend.before_dot.clear()
        tasks = [middle.supervisor.spawn(middle.submit(names="bulk"), f"{n}") for n in range(4)]
        await settle_down()
        assert middle.gate.in_flight == 4
        middle.backend.before_dot.set()
        assert await asyncio.gather(*tasks) == [OK] * 4
        assert self.would(middle, "bulk", "relay", "room") == 3
        assert self.would(middle, "bulk", "defer", "over_quota") == 1
        assert (
            middle.book.count(
                "decisions_total", **{"class": "bulk", "action": "relay", "reason": "room"}
            )
            == 4
        )

    @in_virtual_time
    async def test_a_backend_with_no_slot_left_is_waited_for_by_all_alike(
        self, middle: Middle
    ) -> None:
        holders = await hold_slots(middle, 4)
        tasks = [
            middle.supervisor.spawn(middle.submit(names=names), names)
            for names in ("bulk", "clinical")
        ]
        await asyncio.sleep(20)
        assert [task.done() for task in tasks] == [False, False], "longer than a class would"
        middle.backend.before_dot.set()
        assert await asyncio.gather(*tasks) == [OK, OK]
        await asyncio.gather(*holders)
        assert self.would(middle, "clinical", "wait", "saturated") == 1

    @in_virtual_time
    async def test_who_gets_no_slot_in_half_its_time_is_spooled_and_not_refused(
        self, middle: Middle
    ) -> None:
        holders = await hold_slots(middle, 4)
        began = middle.clock.monotonic()
        assert is_queued(await middle.submit(names="bulk"))
        assert middle.clock.monotonic() - began == pytest.approx(30.0)
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)

    @in_virtual_time
    async def test_a_backend_that_is_away_is_no_reason_to_refuse(self, middle: Middle) -> None:
        middle.backend.always(be_away)
        for _ in range(FAILURES_TO_OPEN + 1):
            assert is_queued(await middle.submit(names="bulk"))
        assert self.would(middle, "bulk", "defer", "spool_filling") == 1, "when it was known"

    @pytest.mark.parametrize(("network", "action"), [((), "reject"), (("192.0.2.0/24",), "relay")])
    @in_virtual_time
    async def test_a_bare_line_ending_is_counted_unless_it_would_be_normalised_anyway(
        self, middle: Middle, network: tuple[str, ...], action: str
    ) -> None:
        middle.set_admission(normalize_networks=NetworkSet(map(ip_network, network)))
        content = middle.content(wire(X_Class="personal"))
        content.is_normalised = True
        assert await middle.hand_over(middle.envelope(), content) == OK
        reason = "content" if action == "reject" else "room"
        assert self.would(middle, "personal", action, reason) == 1

    @in_virtual_time
    async def test_open_relays_and_loops_are_refused_all_the_same(self, middle: Middle) -> None:
        elsewhere = mailbox("bob@elsewhere.example")
        refused = middle.screening.on_rcpt(client(), elsewhere, sender=b"a@example.org")
        assert refused == reply.RELAY_DENIED
        hop = f"from x by {middle.policies.hostname} (mailshed) with SMTP id 1; now"
        data = f"Received: {hop}\r\nReceived: {hop}\r\nSubject: round\r\n\r\n".encode()
        assert await middle.submit(data=data) == reply.LOOP


class TestFaults:
    @in_virtual_time
    async def test_a_backend_that_breaks_its_contract_costs_no_slot(self, middle: Middle) -> None:
        middle.backend.once(fail(RuntimeError("bug")))
        with pytest.raises(RuntimeError, match="bug"):
            await middle.submit()
        assert middle.gate.in_flight == 0
        assert await middle.submit() == OK

    @in_virtual_time
    async def test_a_failure_is_reported_under_the_queue_id(self, middle: Middle) -> None:
        made = middle.envelope()
        error = RuntimeError("bug")
        middle.pipeline.on_failure(made, error)
        assert middle.faults == [(f"message {made.queue_id}", error)]


class TestClassification:
    """What the rules see of a message, and what is kept of it for whoever asks why."""

    @in_virtual_time
    async def test_a_sender_of_very_much_mail_is_noticed(self, middle: Middle) -> None:
        rate = SenderRate(recipients=3, messages=3, within=600.0)
        by_rate = rule("much", BULK, sender_rate=rate)
        classifier = Classifier(classification_policy(by_rate))
        middle.policies = replace(middle.policies, classifier=classifier)
        for _ in range(4):
            await middle.submit()
        assert [line["rule"] for line in middle.log.of("delivered")] == ["default"] * 3 + ["much"]
        await asyncio.sleep(1200)
        await middle.submit()
        assert middle.log.of("delivered")[-1]["rule"] == "default"

    @in_virtual_time
    async def test_the_size_is_that_of_the_mail_data(self, middle: Middle) -> None:
        large = rule("large", BULK, size_min=5000)
        classifier = Classifier(classification_policy(large))
        middle.policies = replace(middle.policies, classifier=classifier)
        await middle.submit(data=wire("x" * 4000))
        await middle.submit(data=wire("x" * 5000))
        assert [line["rule"] for line in middle.log.of("delivered")] == ["default", "large"]

    @in_virtual_time
    async def test_a_decision_is_kept_with_the_reply(self, middle: Middle) -> None:
        answer = await middle.submit()
        queue_id = middle.log.one("delivered")["id"]
        decision = middle.journal.decisions.get(queue_id)
        assert decision is not None
        assert (decision.action, decision.reply) == ("delivered", answer.text)
        assert decision.verdict.rule == middle.log.one("delivered")["rule"]


NORTH = "bob@north.example"


@pytest.fixture
def routed(tmp_path: Path) -> Middle:
    """The default backend, one for the north, and a neighbour that helps the north out."""
    others = {"north": ("north.example",), "spare": ()}
    help_out = {"north": FallbackRule(fallback="spare", after=60.0)}
    return Middle(tmp_path, slots=2, others=others, fallbacks=help_out)


def take_over(middle: Middle) -> None:
    """The north has been away for long."""
    north = middle.destinations.own("north")
    north.gate.station.breaker._state = BreakerState.OPEN
    middle.destinations.tick(0.0)
    assert middle.destinations.tick(60.0)


class TestSeveralBackends:
    @in_virtual_time
    async def test_each_recipient_has_his_own(self, routed: Middle) -> None:
        assert await routed.submit(NORTH) == OK
        assert await routed.submit("carol@example.net") == OK
        assert [m.recipients[0][0] for m in routed.backends["north"].asked] == [NORTH.encode()]
        assert [m.recipients[0][0] for m in routed.backend.asked] == [b"carol@example.net"]
        assert [line["backend"] for line in routed.log.of("delivered")] == ["north", "fake"]

    @in_virtual_time
    async def test_one_that_hangs_or_is_away_costs_the_others_nothing(self, routed: Middle) -> None:
        north = routed.backends["north"]
        north.before_dot.clear()
        stuck = [routed.supervisor.spawn(routed.submit(NORTH), "stuck") for _ in range(5)]
        await settle_down()
        began = routed.clock.monotonic()
        assert await routed.submit() == OK
        assert routed.clock.monotonic() == began
        assert routed.destinations.own("north").gate.waiting > 0
        north.always(be_away)
        north.before_dot.set()
        await asyncio.gather(*stuck)
        assert not routed.destinations.own("north").gate.is_up
        assert routed.gate.is_up
        assert await routed.submit() == OK

    @in_virtual_time
    async def test_what_cannot_be_relayed_is_spooled_for_its_own(self, routed: Middle) -> None:
        routed.backends["north"].always(be_away)
        assert is_queued(await routed.submit(NORTH))
        (queue_id,) = routed.spool.added
        assert routed.spool.record(queue_id).backend == "north"


class TestSeveralRoutes:
    TO = (NORTH, "carol@example.net", "dave@north.example")

    @pytest.mark.parametrize("names", ["clinical", "personal", "bulk"])
    @in_virtual_time
    async def test_one_message_becomes_a_copy_for_each_and_one_250(
        self, routed: Middle, names: str
    ) -> None:
        answer = await routed.submit(*self.TO, names=names)
        first, second = routed.spool.added
        assert second == f"{first}02"
        assert answer == reply.queued(first)
        copies = [routed.spool.record(each) for each in (first, second)]
        assert [(each.backend, [one.index for one in each.recipients]) for each in copies] == [
            ("north", [0, 2]),
            ("fake", [1]),
        ]
        assert routed.spool.raw_content(first) == routed.spool.raw_content(second)
        lines = [
            (line["id"], line["backend"], line.get("copy_of"), line["nrcpt"])
            for line in routed.log.of("spooled")
        ]
        assert lines == [(first, "north", None, 2), (second, "fake", first, 1)]
        assert routed.journal.spooled_count == {names: 1}, "it is one message"
        async with routed.draining():
            await until(lambda: not (first in routed.spool or second in routed.spool))
        assert routed.backends["north"].handed_ids == [first]
        assert routed.backend.handed_ids == [second]
        assert routed.spool.balance() == 0
        ledger = (await routed.spool.totals()).ledger
        assert ledger == {names: {"accepted": 3, "delivered": 3}}

    @in_virtual_time
    async def test_of_one_backend_only_it_is_relayed_as_ever(self, routed: Middle) -> None:
        assert await routed.submit(NORTH, "dave@north.example") == OK
        assert routed.spool.added == []

    @in_virtual_time
    async def test_without_the_spool_the_client_keeps_it(self, routed: Middle) -> None:
        routed.spool.is_full = True
        assert (await routed.submit(*self.TO)).code == 452
        routed.spool.is_full = False
        routed.spool.unhealthy = "disk I/O error"
        assert (await routed.submit(*self.TO)).code == 451
        routed.spool.unhealthy = None
        assert (await routed.spool.totals()).messages == 0
        assert not routed.backend.asked

    @in_virtual_time
    async def test_a_spool_that_fills_leaves_it_with_mail_servers(self, routed: Middle) -> None:
        routed.spool_fill = 0.99
        answer = await routed.submit(*self.TO, names="telework", client=client())
        assert answer.is_transient
        assert is_queued(await routed.submit(*self.TO, names="clinical", client=client()))

    @in_virtual_time
    async def test_while_observing_it_is_split_all_the_same(self, routed: Middle) -> None:
        routed.set_admission(is_observing=True)
        assert is_queued(await routed.submit(*self.TO))
        assert len(routed.spool.added) == 2


class TestNeighbour:
    @in_virtual_time
    async def test_it_takes_live_mail_of_one_that_is_away_for_long(self, routed: Middle) -> None:
        take_over(routed)
        assert await routed.submit(NORTH) == OK
        assert len(routed.backends["spare"].handed) == 1
        assert routed.log.one("delivered")["backend"] == "spare"

    @pytest.mark.parametrize("stage", [Stage.RCPT, Stage.DOT])
    @in_virtual_time
    async def test_its_refusal_bounces_nothing(self, routed: Middle, stage: Stage) -> None:
        """It does not know the mailboxes, or has not been told to relay for us."""
        take_over(routed)
        routed.backends["spare"].always(refuse(REFUSED, stage))
        assert is_queued(await routed.submit(NORTH))
        (queue_id,) = routed.spool.added
        assert routed.spool.record(queue_id).backend == "north"
        async with routed.draining():
            await until(lambda: len(routed.backends["spare"].asked) >= 3, 7200)
            assert queue_id in routed.spool
        (left,) = routed.spool.record(queue_id).recipients
        assert "spare, which takes its mail meanwhile, refused it" in left.last_reply
        assert routed.spool.generated() == []

    @in_virtual_time
    async def test_what_it_cannot_answer_in_time_is_adopted(self, routed: Middle) -> None:
        take_over(routed)
        spare = routed.backends["spare"]
        spare.after_dot.clear()
        async with routed.draining():
            answer = await routed.submit(NORTH)
            assert is_queued(answer)
            (queue_id,) = routed.spool.added
            spare.after_dot.set()
            await until(lambda: queue_id not in routed.spool)
        assert spare.handed_ids == [queue_id]
        assert routed.backends["north"].asked == []
