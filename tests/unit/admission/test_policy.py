"""The ladder of answers, and who may send where."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.admission.decision import Decision, Defer, Reject, Relay, Spool, Wait
from mailshed.admission.policy import (
    BackendState,
    Sender,
    decide,
    decide_recipient,
    in_terms_of,
    shed,
)
from mailshed.admission.quota import Level
from mailshed.mail import reply
from mailshed.mail.address import parse_rcpt_argument
from mailshed.mail.reply import Reply, make
from mailshed.terms import ClientKind, Reason, TrafficClass
from tests.support.builders import (
    BULK,
    CLASSES,
    CLINICAL,
    PERSONAL,
    TELEWORK,
    mailbox,
    relay_policy,
)

MTA, USER_AGENT, DEVICE = (Sender(kind) for kind in ClientKind)
ROOM = BackendState(may_start=True)
BUSY = BackendState(may_start=False, is_pressed=True)
PACKED = BUSY._replace(has_place_to_wait=False)
KEPT = ROOM._replace(kept_back=Reason.DIVERTED)
AWAY = BackendState(may_start=False, is_away=True)
BUSY_REPLY = make(450, "4.2.0 Mailbox busy")
FILLING = Defer(Reason.SPOOL_FILLING, reply.SPOOL_FILLING)
EXCESS = Defer(Reason.OVER_QUOTA, reply.OVER_QUOTA)


def over(sender: Sender, level: Level = Level.HARD) -> Sender:
    return sender._replace(level=level)


@pytest.mark.parametrize(
    ("made", "sender", "backend", "fill", "decision"),
    [
        # Room, whatever the spool holds.
        (CLINICAL, MTA, ROOM, 0.0, Relay()),
        (BULK, MTA, ROOM, 0.99, Relay()),
        # No room: a class waits as its clients may, bulk does not.
        (CLINICAL, MTA, BUSY, 0.0, Wait(2.0)),
        (PERSONAL, MTA, BUSY, 0.0, Wait(10.0)),
        (PERSONAL, USER_AGENT, BUSY, 0.0, Wait(5.0)),
        (TELEWORK, DEVICE, BUSY, 0.0, Wait(3.0)),
        (BULK, MTA, BUSY, 0.0, Spool(Reason.SATURATED)),
        # No place to wait, but for clinical mail.
        (PERSONAL, MTA, PACKED, 0.0, Spool(Reason.SATURATED)),
        (CLINICAL, MTA, PACKED, 0.0, Wait(2.0)),
        # A backend that is away is not waited for, by anyone.
        (CLINICAL, MTA, AWAY, 0.0, Spool(Reason.BACKEND_AWAY)),
        (BULK, DEVICE, AWAY, 0.0, Spool(Reason.BACKEND_AWAY)),
        # The ladder by how full the spool is: what would be spooled stays with mail servers.
        (BULK, MTA, BUSY, 0.49, Spool(Reason.SATURATED)),
        (BULK, MTA, BUSY, 0.5, FILLING),
        (BULK, USER_AGENT, BUSY, 0.96, Spool(Reason.SATURATED)),
        (BULK, DEVICE, BUSY, 0.96, Spool(Reason.SATURATED)),
        (TELEWORK, MTA, PACKED, 0.69, Spool(Reason.SATURATED)),
        (TELEWORK, MTA, PACKED, 0.7, FILLING),
        (PERSONAL, MTA, AWAY, 0.9, FILLING),
        (PERSONAL, MTA, BUSY, 0.9, Wait(10.0)),
        (CLINICAL, MTA, AWAY, 1.0, Spool(Reason.BACKEND_AWAY)),
        # A class that is kept back does not enter, whatever room there is; clinical mail is not.
        (BULK, MTA, KEPT, 0.0, Spool(Reason.DIVERTED)),
        (PERSONAL, USER_AGENT, KEPT, 0.0, Spool(Reason.DIVERTED)),
        (PERSONAL, MTA, KEPT._replace(kept_back=Reason.OVERRIDE), 0.0, Spool(Reason.OVERRIDE)),
        (BULK, MTA, KEPT, 0.5, FILLING),
        (TELEWORK, MTA, KEPT._replace(is_away=True), 0.0, Spool(Reason.BACKEND_AWAY)),
        (CLINICAL, MTA, KEPT, 0.0, Relay()),
        # Over a soft quota nothing changes here.
        (BULK, over(MTA, Level.SOFT), ROOM, 0.0, Relay()),
        (TELEWORK, over(MTA, Level.SOFT), BUSY, 0.0, Wait(5.0)),
        # Over a hard one neither, without pressure.
        (BULK, over(MTA), ROOM, 0.0, Relay()),
        # Under pressure it is not relayed, though there be room, and some senders keep it.
        (BULK, over(MTA), ROOM._replace(is_pressed=True), 0.0, EXCESS),
        (TELEWORK, over(MTA), BUSY, 0.0, EXCESS),
        (TELEWORK, over(USER_AGENT), BUSY, 0.99, Spool(Reason.OVER_QUOTA)),
        (PERSONAL, over(MTA), BUSY, 0.0, Spool(Reason.OVER_QUOTA)),
        (PERSONAL, over(MTA), BUSY, 0.9, FILLING),
        # A device that has gone mad is told so where the spool fills.
        (BULK, over(DEVICE), BUSY, 0.49, Spool(Reason.OVER_QUOTA)),
        (BULK, over(DEVICE), BUSY, 0.5, EXCESS),
        (PERSONAL, over(DEVICE), BUSY, 0.96, Spool(Reason.OVER_QUOTA)),
        # Clinical mail has no quota.
        (CLINICAL, over(MTA), ROOM._replace(is_pressed=True), 0.0, Relay()),
        (CLINICAL, over(DEVICE), BUSY, 1.0, Wait(2.0)),
    ],
)
def test_the_ladder(
    made: TrafficClass, sender: Sender, backend: BackendState, fill: float, decision: Decision
) -> None:
    assert decide(made, sender, backend, fill) == decision


def test_a_class_without_a_mark_is_never_left_with_its_sender_for_a_full_spool() -> None:
    made = replace(BULK, defer_fill=None)
    assert shed(made, MTA, 1.0, Reason.SATURATED) == Spool(Reason.SATURATED)
    assert shed(made, MTA, 0.0, Reason.OVER_QUOTA) == EXCESS


senders = st.builds(Sender, st.sampled_from(ClientKind), st.sampled_from((None, *Level)))
backends = st.builds(BackendState, *[st.booleans()] * 4)
fills = st.floats(0.0, 1.2)


@given(senders, backends, fills)
def test_clinical_mail_is_never_told_to_come_back(
    sender: Sender, backend: BackendState, fill: float
) -> None:
    assert isinstance(decide(CLINICAL, sender, backend, fill), Relay | Wait | Spool)


@given(st.sampled_from(CLASSES), senders, backends, fills)
def test_what_is_decided_can_be_done(
    made: TrafficClass, sender: Sender, backend: BackendState, fill: float
) -> None:
    decision = decide(made, sender, backend, fill)
    if isinstance(decision, Relay):
        assert backend.may_start
        assert not backend.is_away
    if isinstance(decision, Wait):
        assert not backend.is_away
        assert 0 < decision.seconds <= made.wait_max_mta
    if isinstance(decision, Defer):
        assert decision.reply.is_transient
        assert sender.kind is not ClientKind.USER_AGENT, "a person would see an error"


@given(senders, backends, fills)
def test_a_better_class_never_fares_worse_than_a_lower_one(
    sender: Sender, backend: BackendState, fill: float
) -> None:
    order = {Relay: 0, Wait: 1, Spool: 2, Defer: 3}
    fared = [order[type(decide(each, sender, backend, fill))] for each in CLASSES]
    assert fared == sorted(fared)


POLICY = relay_policy("example.net", ".clinic.example")


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("<a@example.net>", None),
        ("<a@EXAMPLE.NET>", None),
        ("<a@x.clinic.example>", None),
        ("<postmaster>", None),
        ("<@route.example:a@example.net>", None),  # the route is dropped
        ("<a@clinic.example>", reply.RELAY_DENIED),
        ("<a@example.org>", reply.RELAY_DENIED),
        ("<a@sub.example.net>", reply.RELAY_DENIED),
        ("<@example.net:a@example.org>", reply.RELAY_DENIED),
        ("<a@[127.0.0.1]>", reply.RELAY_DENIED),
        ("<a%example.org@example.net>", reply.ROUTED_ADDRESS),
        ("<example.org!a@example.net>", reply.ROUTED_ADDRESS),
        ('<"a@example.org"@example.net>', reply.ROUTED_ADDRESS),
        ('<"@example.org:a"@example.net>', reply.ROUTED_ADDRESS),
    ],
)
def test_a_stranger_reaches_our_domains_and_nothing_beyond(
    path: str, refusal: reply.Reply | None
) -> None:
    target = parse_rcpt_argument(f"TO:{path}".encode()).mailbox
    assert target is not None
    decision = decide_recipient(target, is_trusted=False, policy=POLICY)
    expected = None if refusal is None else Reject(Reason.RELAY_DENIED, refusal)
    assert decision == expected


@pytest.mark.parametrize(
    "address", ["a@example.net", "a@example.org", "a%b@example.org", "a@[192.0.2.1]"]
)
def test_a_trusted_client_may_send_to_anyone(address: str) -> None:
    assert decide_recipient(mailbox(address), is_trusted=True, policy=POLICY) is None


@pytest.mark.parametrize(
    ("reason", "said", "told"),
    [
        (Reason.SPOOL_FILLING, reply.SPOOL_FILLING, reply.PRIORITY_TOO_LOW),
        (Reason.OVER_QUOTA, reply.OVER_QUOTA, reply.PRIORITY_TOO_LOW),
        (Reason.SPOOL_FULL, reply.SPOOL_FULL, reply.TOO_BIG_FOR_PRIORITY),
        (Reason.SPOOL_SICK, reply.INTERNAL, reply.INTERNAL),
        (Reason.BACKEND_DEFERRED, BUSY_REPLY, BUSY_REPLY),
        (Reason.LOOP, reply.LOOP, reply.LOOP),
    ],
)
def test_a_deferral_for_load_is_told_in_the_terms_of_the_client(
    reason: Reason, said: Reply, told: Reply
) -> None:
    """RFC 6710: whoever names a priority hears of it; a fault of ours is none of its business."""
    assert in_terms_of(None, reason, said) is said
    for priority in (-9, 0, 9):
        assert in_terms_of(priority, reason, said) is told
    assert reply.PRIORITY_TOO_LOW.wire.startswith(b"450 4.7.15 ")
    assert reply.TOO_BIG_FOR_PRIORITY.wire.startswith(b"450 4.7.16 ")
