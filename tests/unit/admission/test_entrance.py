"""Deciding with a memory: quotas that bite, clients that forget, and 4xx before the upload."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.admission.decision import Defer, Relay, Spool, Wait
from mailshed.admission.entrance import EXCESS_PENALTY, Entrance, Ruling
from mailshed.admission.learned import DEFERRALS_MIN, PATIENCE_SECONDS
from mailshed.admission.policy import BackendState
from mailshed.admission.quota import Excess, Layer, Level, Sending
from mailshed.classification.classifier import Classifier
from mailshed.classification.subject import Known, Subject, subject_of
from mailshed.config.policy import AdmissionPolicy, Quota, QuotaPolicy, Rule
from mailshed.mail import reply
from mailshed.mail.envelope import Client
from mailshed.mail.header import HeaderView
from mailshed.terms import ClientKind, Reason, TrafficClass
from tests.support.builders import (
    BULK,
    CLASSES,
    CLINICAL,
    PERSONAL,
    TELEWORK,
    classification_policy,
    client,
    envelope,
    mailbox,
    recipient,
    rule,
    wire,
)

SENDER, RECIPIENT = b"a@example.org", b"b@example.net"
SERVER = client("10.0.0.1", is_trusted=True)
ROOM = BackendState(may_start=True)
BUSY = BackendState(may_start=False, is_pressed=True)
AWAY = BackendState(may_start=False, is_away=True)
TERMS = AdmissionPolicy(lowest_defer_fill=0.5)
STRICT = replace(TERMS, quotas=QuotaPolicy(burst=1.0, per_sender=Quota(soft=1.0, hard=2.0)))


class Bench:
    """An entrance before a spool and a backend as a test wants them."""

    def __init__(self) -> None:
        self.fill = 0.0
        self.state = BUSY
        self.entrance = Entrance(lambda: self.fill)
        self.asked = 0

    def decide(
        self,
        made: TrafficClass,
        who: Client = SERVER,
        terms: AdmissionPolicy = TERMS,
        now: float = 0.0,
    ) -> Ruling:
        return self.entrance.decide(Sending(who, SENDER, made), self.state, terms, now)

    def at_rcpt(
        self,
        *reachable: TrafficClass,
        who: Client = SERVER,
        terms: AdmissionPolicy = TERMS,
        recipient: bytes = RECIPIENT,
        now: float = 0.0,
    ) -> Defer | None:
        def ask() -> Sequence[TrafficClass]:
            self.asked += 1
            return reachable

        return self.entrance.at_rcpt(
            who,
            SENDER,
            recipient,
            terms=terms,
            reachable=ask,
            is_pressed=self.state.is_pressed,
            state_of=lambda _: self.state,
            now=now,
        )

    def find_out(self, who: Client) -> float:
        """Let a client forget all that it was told to keep; the time at which that is known."""
        for number in range(DEFERRALS_MIN):
            self.entrance.note_deferral(who, SENDER, b"%d@example.net" % number, 0.0)
        return PATIENCE_SECONDS


@pytest.fixture
def bench() -> Bench:
    return Bench()


# Quotas.


def test_what_exceeds_a_quota_is_told_and_costs_more_under_pressure(bench: Bench) -> None:
    rulings = [bench.decide(PERSONAL, terms=STRICT) for _ in range(4)]
    assert [each.excess for each in rulings] == [
        None,
        Excess(Layer.SENDER, Level.SOFT),
        Excess(Layer.SENDER, Level.HARD),
        Excess(Layer.SENDER, Level.HARD),
    ]
    assert [each.penalty for each in rulings[:2]] == [1.0, EXCESS_PENALTY]
    assert [each.decision for each in rulings] == [Wait(10.0)] * 2 + [Spool(Reason.OVER_QUOTA)] * 2


def test_without_pressure_quotas_are_counted_and_nothing_else(bench: Bench) -> None:
    bench.state = ROOM
    rulings = [bench.decide(BULK, terms=STRICT) for _ in range(4)]
    assert rulings[-1] == Ruling(Relay(), Excess(Layer.SENDER, Level.HARD), 1.0)


def test_clinical_mail_over_its_quota_is_counted_and_nothing_else(bench: Bench) -> None:
    rulings = [bench.decide(CLINICAL, terms=STRICT) for _ in range(4)]
    assert rulings[-1] == Ruling(Wait(2.0), Excess(Layer.SENDER, Level.HARD), 1.0)


@pytest.mark.parametrize(
    ("state", "last"), [(BUSY, Spool(Reason.OVER_QUOTA)), (ROOM, Relay()), (AWAY, None)]
)
def test_what_a_surge_has_too_much_is_held_back_only_under_pressure(
    bench: Bench, state: BackendState, last: Spool | Relay | None
) -> None:
    bench.state = state
    bench.entrance.quotas.surges = {"personal": Quota(hard=1 / 60)}
    rulings = [bench.decide(PERSONAL) for _ in range(3)]
    assert [each.excess for each in rulings] == [
        None,
        Excess(Layer.SURGE, Level.HARD),
        Excess(Layer.SURGE, Level.HARD),
    ]
    assert rulings[-1].decision == (last or Spool(Reason.BACKEND_AWAY))


def test_in_a_surge_a_mail_server_whose_class_allows_it_keeps_what_is_too_much(
    bench: Bench,
) -> None:
    bench.entrance.quotas.surges = {"telework": Quota(hard=1 / 60)}
    first, second = bench.decide(TELEWORK), bench.decide(TELEWORK)
    assert first.decision == Wait(5.0)
    assert isinstance(second.decision, Defer)
    assert second.decision.reason is Reason.OVER_QUOTA


# Clients that forget.


def test_a_client_that_forgets_is_treated_as_a_mail_program(bench: Bench) -> None:
    bench.state, bench.fill = AWAY, 0.6
    now = bench.find_out(SERVER)
    assert bench.entrance.kind(SERVER, now - 1) is ClientKind.MTA
    assert isinstance(bench.decide(BULK, now=now - 1).decision, Defer)
    assert bench.entrance.kind(SERVER, now) is ClientKind.USER_AGENT
    assert bench.decide(BULK, now=now).decision == Spool(Reason.BACKEND_AWAY)
    assert bench.entrance.shed(SERVER, BULK, Reason.SATURATED, now) == Spool(Reason.SATURATED)
    assert bench.at_rcpt(BULK, now=now) is None


def test_one_that_comes_again_is_a_mail_server(bench: Bench) -> None:
    now = bench.find_out(SERVER)
    bench.at_rcpt(BULK, recipient=b"0@example.net", now=now)
    assert bench.entrance.kind(SERVER, now) is ClientKind.MTA


def test_a_trusted_client_is_known_by_its_address_and_a_stranger_by_its_network(
    bench: Bench,
) -> None:
    now = bench.find_out(SERVER)
    assert bench.entrance.kind(client("10.0.0.2", is_trusted=True), now) is ClientKind.MTA
    now = bench.find_out(client("192.0.2.1"))
    assert bench.entrance.kind(client("192.0.2.2"), now) is ClientKind.USER_AGENT
    assert bench.entrance.kind(client("198.51.100.2"), now) is ClientKind.MTA


def test_of_what_is_no_mail_server_nothing_is_learned(bench: Bench) -> None:
    device = client(kind=ClientKind.DEVICE)
    bench.find_out(device)
    assert len(bench.entrance.retries) == 0
    assert bench.entrance.kind(device, 1e6) is ClientKind.DEVICE


# The spool fills.


def test_what_was_not_relayed_after_all_stays_with_its_sender_if_the_spool_fills(
    bench: Bench,
) -> None:
    def shed() -> Spool | Defer:
        return bench.entrance.shed(SERVER, TELEWORK, Reason.SATURATED, 0.0)

    assert shed() == Spool(Reason.SATURATED)
    bench.fill = 0.7
    assert shed() == Defer(Reason.SPOOL_FILLING, reply.SPOOL_FILLING)


# At RCPT.


def test_a_recipient_is_deferred_if_every_class_would_be(bench: Bench) -> None:
    bench.fill = 0.75
    assert bench.at_rcpt(BULK) == Defer(Reason.SPOOL_FILLING, reply.SPOOL_FILLING)
    assert isinstance(bench.at_rcpt(BULK, replace(TELEWORK, wait_max_mta=0.0)), Defer)
    assert bench.at_rcpt(BULK, TELEWORK) is None, "telework may wait for a slot"
    assert bench.at_rcpt(BULK, PERSONAL) is None
    assert bench.at_rcpt() is None


def test_what_may_be_clinical_is_not_deferred(bench: Bench) -> None:
    bench.fill, bench.state = 1.0, AWAY
    assert isinstance(bench.at_rcpt(BULK, PERSONAL), Defer)
    assert bench.at_rcpt(BULK, CLINICAL) is None


def test_over_a_hard_quota_the_upload_is_saved(bench: Bench) -> None:
    for _ in range(3):
        bench.decide(BULK, terms=STRICT)
    assert bench.at_rcpt(BULK, terms=STRICT) == Defer(Reason.OVER_QUOTA, reply.OVER_QUOTA)
    bench.state = ROOM
    assert bench.at_rcpt(BULK, terms=STRICT) is None


@pytest.mark.parametrize("kind", [ClientKind.USER_AGENT, ClientKind.DEVICE])
def test_only_mail_servers_are_deferred_early(bench: Bench, kind: ClientKind) -> None:
    bench.fill = 0.9
    assert bench.at_rcpt(BULK, who=client(kind=kind)) is None


def test_while_observing_nobody_is(bench: Bench) -> None:
    bench.fill = 0.9
    assert bench.at_rcpt(BULK, terms=replace(TERMS, is_observing=True)) is None


def test_where_nobody_would_be_deferred_the_classes_are_not_even_asked_for(bench: Bench) -> None:
    bench.fill = 0.49
    assert bench.at_rcpt(BULK, terms=STRICT) is None
    assert bench.asked == 0


def test_who_is_deferred_early_is_expected_to_come_again(bench: Bench) -> None:
    bench.fill = 0.9
    for number in range(DEFERRALS_MIN):
        assert bench.at_rcpt(BULK, recipient=b"%d@example.net" % number) is not None
    assert bench.entrance.kind(SERVER, PATIENCE_SECONDS) is ClientKind.USER_AGENT


# Any rules, any message: the promise of early replies.

DOMAINS = ("example.org", "example.net", "example.com")
conditions: dict[str, st.SearchStrategy[Any]] = {
    "client_networks": st.sampled_from([("10.0.0.0/8",), ("192.0.2.0/24",)]),
    "sender_domains": st.sampled_from(DOMAINS).map(lambda each: (each,)),
    "recipient_domains": st.sampled_from(DOMAINS).map(lambda each: (each,)),
    "headers": st.just((("x-class", ("special",)),)),
}
rules = st.builds(
    lambda names, given: rule("rule", names, **given),
    st.sampled_from(CLASSES),
    st.fixed_dictionaries({}, optional=conditions).filter(bool),
)


messages = st.fixed_dictionaries(
    {
        "address": st.sampled_from(("10.1.1.1", "192.0.2.1")),
        "sender": st.sampled_from(DOMAINS),
        "recipients": st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=3),
        "fields": st.sampled_from(({}, {"X_Class": "special"})),
    }
)


@given(st.lists(rules, max_size=5), st.sampled_from(CLASSES), messages)
def test_no_clinical_mail_ever_gets_an_early_4xx(
    made: list[Rule], default: TrafficClass, message: dict[str, Any]
) -> None:
    """And what does would have heard the same after its upload."""
    classifier = Classifier(classification_policy(*made, default=default))
    who, sender = client(message["address"]), f"a@{message['sender']}"
    named = [f"b@{domain}" for domain in message["recipients"]]
    header = HeaderView(wire(**message["fields"]))
    whole = subject_of(envelope(*named, sender=sender, client=who), header)
    final = classifier.classify(whole).traffic_class
    bench = Bench()
    bench.fill, bench.state = 1.0, AWAY
    for name in named:
        so_far = Subject(
            client=who,
            reverse_path=mailbox(sender),
            recipients=(recipient(name),),
            known=Known.RCPT,
        )
        if bench.at_rcpt(*classifier.reachable(so_far), who=who) is not None:
            assert final.rank > 0
            assert isinstance(bench.decide(final, who).decision, Defer)
