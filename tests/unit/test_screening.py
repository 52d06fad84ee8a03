"""What is said to MAIL and RCPT: who may send where, who is asked to come later or more slowly."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from mailshed.admission.decision import Defer, Reject
from mailshed.classification.classifier import Classifier
from mailshed.config.policy import Quota, QuotaPolicy, RelayPolicy, Rule
from mailshed.mail import reply
from mailshed.mail.address import Mailbox
from mailshed.mail.domains import DomainSet
from mailshed.mail.envelope import Client
from mailshed.mail.networks import NetworkSet
from mailshed.mail.reply import Reply, make
from mailshed.relay.verify import RecipientVerifier
from mailshed.terms import ClientKind, Reason, Stage
from tests.support.builders import (
    BULK,
    CLINICAL,
    REFUSED,
    classification_policy,
    client,
    mailbox,
    rule,
)
from tests.support.middle import TRUSTED, Middle, hold_slots
from tests.support.virtual_time import in_virtual_time, settle_down

USER_AGENT = client(kind=ClientKind.USER_AGENT, is_trusted=True)
DEVICE = client(kind=ClientKind.DEVICE, is_trusted=True)
LATER = make(421, "4.3.2 mail.example.net: too many connections")


@pytest.fixture
def middle(tmp_path: Path) -> Middle:
    return Middle(tmp_path)


class TestRecipient:
    @in_virtual_time
    async def test_of_our_domains_may_be_sent_to_by_anyone(self, middle: Middle) -> None:
        bob = mailbox("bob@example.net")
        assert middle.screening.on_rcpt(client(), bob, sender=b"alice@example.org") is None
        assert middle.log.lines == []

    @in_virtual_time
    async def test_elsewhere_is_for_trusted_clients(self, middle: Middle) -> None:
        elsewhere = mailbox("bob@elsewhere.example")
        sender = b"alice@example.org"
        refused = middle.screening.on_rcpt(client(), elsewhere, sender=sender)
        assert refused == reply.RELAY_DENIED
        assert middle.screening.on_rcpt(TRUSTED, elsewhere, sender=sender) is None
        line = middle.log.one("rejected")
        assert (line["stage"], line["reason"]) == ("rcpt", Reason.RELAY_DENIED.value)
        assert (line["from"], line["to"]) == ("<alice@example.org>", "<bob@elsewhere.example>")
        assert (line["listener"], line["id"]) == (client().listener, client().session_id)


class Verifier:
    """In place of `RecipientVerifier`: rules as the test says, at once or later."""

    def __init__(self, ruling: Reject | Defer | None, *, is_slow: bool) -> None:
        self.ruling, self.is_slow = ruling, is_slow
        self.asked: list[tuple[bytes, float]] = []

    def check(self, client: Client, mailbox: Mailbox, waited: float) -> Any:
        self.asked.append((mailbox.raw, waited))
        return self._later if self.is_slow else self.ruling

    async def _later(self) -> Reject | Defer | None:
        return self.ruling


@pytest.mark.parametrize("is_slow", [False, True])
class TestVerifiedRecipient:
    async def rcpt(
        self, middle: Middle, verifier: Verifier, to: str = "bob@example.net"
    ) -> Reply | None:
        middle.screening._verifier = cast("RecipientVerifier", verifier)
        said = middle.screening.on_rcpt(client(), mailbox(to), sender=b"a@example.org", waited=1.5)
        assert callable(said) == (verifier.is_slow and bool(verifier.asked))
        return await said() if callable(said) else said

    async def test_that_is_known_is_accepted(self, middle: Middle, *, is_slow: bool) -> None:
        verifier = Verifier(None, is_slow=is_slow)
        assert await self.rcpt(middle, verifier) is None
        assert verifier.asked == [(b"bob@example.net", 1.5)]
        assert middle.log.lines == []

    async def test_that_is_not_is_refused_and_logged(
        self, middle: Middle, *, is_slow: bool
    ) -> None:
        verifier = Verifier(Reject(Reason.UNKNOWN_RECIPIENT, REFUSED), is_slow=is_slow)
        assert await self.rcpt(middle, verifier) == REFUSED
        line = middle.log.one("rejected")
        assert (line["stage"], line["reason"]) == ("rcpt", "unknown_recipient")
        assert (line["to"], line["reply"]) == ("<bob@example.net>", REFUSED.text)

    async def test_that_may_not_be_sent_to_is_not_looked_for(
        self, middle: Middle, *, is_slow: bool
    ) -> None:
        verifier = Verifier(None, is_slow=is_slow)
        refused = await self.rcpt(middle, verifier, "bob@elsewhere.example")
        assert refused == reply.RELAY_DENIED
        assert verifier.asked == []


class TestSlowReplies:
    NEWS = b"x@news.example.org"

    @pytest.fixture
    def middle(self, tmp_path: Path) -> Middle:
        made = Middle(tmp_path)
        rules = (rule("news", BULK, sender_domains=("news.example.org",)),)
        classifier = Classifier(classification_policy(*rules))
        made.policies = replace(made.policies, classifier=classifier)
        return made

    def press(self, middle: Middle, saturation: float = 1.0) -> None:
        for second in range(60):
            middle.gate.station.shedding.note_saturation(saturation, float(second), is_away=False)

    def test_come_to_mail_servers_under_pressure(self, middle: Middle) -> None:
        assert middle.screening.on_mail(client(), sender=self.NEWS) == 0.0
        self.press(middle, 0.7)
        assert middle.screening.on_mail(client(), sender=self.NEWS) == pytest.approx(2.0)
        self.press(middle)
        assert middle.screening.on_mail(client(), sender=self.NEWS) == pytest.approx(5.0)

    @pytest.mark.parametrize("sender", [b"alice@example.org", b""])
    def test_not_to_what_may_still_be_better(self, middle: Middle, sender: bytes) -> None:
        self.press(middle)
        assert middle.screening.on_mail(client(), sender=sender) == 0.0

    @pytest.mark.parametrize("who", [USER_AGENT, DEVICE])
    def test_not_to_who_does_not_try_again(self, middle: Middle, who: Client) -> None:
        self.press(middle)
        assert middle.screening.on_mail(who, sender=self.NEWS) == 0.0

    def test_not_while_observing(self, middle: Middle) -> None:
        self.press(middle)
        middle.set_admission(is_observing=True)
        assert middle.screening.on_mail(client(), sender=self.NEWS) == 0.0


class TestEarlyReply:
    BULK_BY_SENDER = rule("news", BULK, sender_domains=("news.example.org",))
    LABORATORY = rule("lab", CLINICAL, headers=(("x-lab", ()),))

    def classify_by(self, middle: Middle, *rules: Rule) -> None:
        classifier = Classifier(classification_policy(*rules))
        middle.policies = replace(middle.policies, classifier=classifier)

    def at_rcpt(self, middle: Middle, sender: bytes = b"x@news.example.org") -> Reply | None:
        answer = middle.screening.on_rcpt(client(), mailbox("bob@example.net"), sender=sender)
        assert not callable(answer)
        return answer

    @in_virtual_time
    async def test_saves_the_upload_of_what_would_be_deferred_anyway(self, middle: Middle) -> None:
        self.classify_by(middle, self.BULK_BY_SENDER)
        middle.spool_fill = 0.6
        assert self.at_rcpt(middle) is None, "there is a slot"
        holders = await hold_slots(middle, 4)
        assert self.at_rcpt(middle) == reply.SPOOL_FILLING
        assert self.at_rcpt(middle, b"alice@example.org") is None
        assert self.at_rcpt(middle, b"") is None
        line = middle.log.one("rejected")
        assert (line["stage"], line["reason"]) == ("rcpt", "spool_filling")
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)

    @in_virtual_time
    async def test_is_not_for_what_may_be_clinical(self, middle: Middle) -> None:
        self.classify_by(middle, self.LABORATORY, self.BULK_BY_SENDER)
        middle.spool_fill = 1.0
        holders = await hold_slots(middle, 4)
        assert self.at_rcpt(middle) is None
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)

    @in_virtual_time
    async def test_is_for_nobody_while_observing(self, middle: Middle) -> None:
        middle.set_admission(is_observing=True)
        middle.spool_fill = 1.0
        holders = await hold_slots(middle, 4)
        bob = mailbox("bob@example.net")
        assert middle.screening.on_rcpt(client(), bob, sender=b"a@example.org") is None
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)


class TestPriority:
    """MT-PRIORITY (RFC 6710), before the header may say it (RFC 6758)."""

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
    async def test_is_heard_at_rcpt_already(self, middle: Middle) -> None:
        middle.spool_fill = 0.6
        holders = await hold_slots(middle, 4, priority=9)

        def at_rcpt(priority: int | None) -> object:
            return middle.screening.on_rcpt(
                TRUSTED, mailbox("bob@example.net"), sender=b"a@b.example", priority=priority
            )

        assert at_rcpt(-4) == reply.PRIORITY_TOO_LOW
        assert at_rcpt(5) is None, "it will be clinical"
        assert at_rcpt(None) is None, "personal mail has room left"
        self.believe_header(middle)
        assert at_rcpt(-4) == reply.PRIORITY_TOO_LOW
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)

    def test_nobody_is_slowed_down_whose_header_may_still_say_it(self, middle: Middle) -> None:
        news = rule("news", BULK, sender_domains=("b.example",))
        classifier = Classifier(classification_policy(*self.RULES, news))
        middle.policies = replace(middle.policies, classifier=classifier)
        shedding = middle.gate.station.shedding
        for second in range(60):
            shedding.note_saturation(1.0, float(second), is_away=False)

        def delay(priority: int | None) -> float:
            return middle.screening.on_mail(TRUSTED, sender=b"a@b.example", priority=priority)

        assert (delay(9), delay(None) > 0.0, delay(-1) > 0.0) == (0.0, True, True)
        self.believe_header(middle)
        assert (delay(9), delay(None), delay(-1) > 0.0) == (0.0, 0.0, True)

    @in_virtual_time
    async def test_what_may_still_be_clinical_by_its_header_hears_no_early_4xx(
        self, middle: Middle
    ) -> None:
        news = rule("news", BULK, sender_domains=("b.example",))
        classifier = Classifier(classification_policy(*self.RULES, news))
        middle.policies = replace(middle.policies, classifier=classifier)
        middle.spool_fill = 0.6
        holders = await hold_slots(middle, 4, priority=9)

        def at_rcpt() -> object:
            return middle.screening.on_rcpt(
                TRUSTED, mailbox("bob@example.net"), sender=b"a@b.example"
            )

        assert at_rcpt() == reply.SPOOL_FILLING
        self.believe_header(middle)
        assert at_rcpt() is None
        middle.backend.before_dot.set()
        await asyncio.gather(*holders)


class TestSeveralBackends:
    NORTH = "bob@north.example"

    @pytest.fixture
    def routed(self, tmp_path: Path) -> Middle:
        return Middle(tmp_path, slots=2, others={"north": ("north.example",), "spare": ()})

    @in_virtual_time
    async def test_over_its_quota_it_gives_way_where_there_is_no_room(self, routed: Middle) -> None:
        quotas = QuotaPolicy(burst=1.0, per_sender=Quota(hard=0.001))
        routed.set_admission(quotas=quotas)
        rules = classification_policy(rule("bulk", BULK, listeners=("smtp",)))
        routed.policies = replace(
            routed.policies,
            classifier=Classifier(rules),
            relay=RelayPolicy(
                domains=DomainSet(["north.example", "example.net"]), trusted_networks=NetworkSet()
            ),
        )
        routed.backends["north"].before_dot.clear()
        stuck = [routed.supervisor.spawn(routed.submit(self.NORTH), "stuck") for _ in range(2)]
        await settle_down()

        def at_rcpt(to: str) -> Any:
            return routed.screening.on_rcpt(client(), mailbox(to), sender=b"alice@example.org")

        assert at_rcpt("carol@example.net") is None
        assert at_rcpt(self.NORTH) == reply.OVER_QUOTA
        routed.backends["north"].before_dot.set()
        await asyncio.gather(*stuck)

    def test_a_slow_reply_to_mail_takes_all_of_them_to_be_pressed(self, routed: Middle) -> None:
        rules = classification_policy(rule("bulk", BULK, listeners=("smtp",)))
        routed.policies = replace(routed.policies, classifier=Classifier(rules))
        sheddings = [each.gate.station.shedding for each in routed.destinations]
        for shedding in sheddings[:2]:
            for second in range(60):
                shedding.note_saturation(1.0, float(second), is_away=False)
        assert routed.screening.on_mail(client(), sender=b"list@example.org") == 0.0
        for second in range(60):
            sheddings[2].note_saturation(1.0, float(second), is_away=False)
        assert routed.screening.on_mail(client(), sender=b"list@example.org") > 0.0


class TestBeforeThereIsAMessage:
    def test_what_is_wrong_with_a_command_is_noted(self, middle: Middle) -> None:
        answer = make(555, "5.5.4 MAIL parameter not recognized")
        middle.screening.on_rejected(client(), Stage.MAIL, answer, sender=b"a@b", recipient=None)
        line = middle.log.one("rejected")
        assert (line["stage"], line["from"], line["reply"]) == ("mail", "<a@b>", answer.text)

    @in_virtual_time
    async def test_what_became_of_mail_data_is_noted(self, middle: Middle) -> None:
        middle.screening.on_discarded(middle.envelope(), 7, reply.BARE_LINE_ENDING)
        assert middle.log.one("refused")["reason"] == "content"
