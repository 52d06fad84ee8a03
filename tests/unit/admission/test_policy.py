"""The ladder of answers, and who may send where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.admission.decision import Decision, Reject, Relay, Spool, Wait
from mailshed.admission.policy import BackendState, decide, decide_recipient
from mailshed.admission.scheduler import has_room
from mailshed.mail import reply
from mailshed.mail.address import parse_rcpt_argument
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


def state(
    in_flight: int = 0, limit: int = 20, waiting: int = 0, is_away: bool = False
) -> BackendState:
    return BackendState(in_flight=in_flight, limit=limit, waiting=waiting, is_away=is_away)


@pytest.mark.parametrize(
    ("traffic_class", "kind", "backend", "decision"),
    [
        # Room for all.
        (CLINICAL, ClientKind.MTA, state(), Relay()),
        (BULK, ClientKind.MTA, state(), Relay()),
        # Bulk stops at 0.6 of the limit, and waits for nobody.
        (BULK, ClientKind.MTA, state(in_flight=11), Relay()),
        (BULK, ClientKind.MTA, state(in_flight=12), Spool(Reason.SATURATED)),
        # The others wait, a user agent less long.
        (TELEWORK, ClientKind.MTA, state(in_flight=16), Wait(5.0)),
        (TELEWORK, ClientKind.USER_AGENT, state(in_flight=16), Wait(3.0)),
        (TELEWORK, ClientKind.DEVICE, state(in_flight=16), Wait(3.0)),
        (PERSONAL, ClientKind.MTA, state(in_flight=18), Relay()),
        (PERSONAL, ClientKind.MTA, state(in_flight=19), Wait(10.0)),
        # Clinical mail starts up to the limit itself, and waits beyond it.
        (CLINICAL, ClientKind.MTA, state(in_flight=19), Relay()),
        (CLINICAL, ClientKind.MTA, state(in_flight=20), Wait(2.0)),
        # Nobody overtakes those of the same or a better rank.
        (CLINICAL, ClientKind.MTA, state(waiting=1), Wait(2.0)),
        (BULK, ClientKind.MTA, state(waiting=1), Spool(Reason.SATURATED)),
        # A backend that is away is not waited for, by anyone.
        (CLINICAL, ClientKind.MTA, state(is_away=True), Spool(Reason.BACKEND_AWAY)),
        (BULK, ClientKind.DEVICE, state(is_away=True), Spool(Reason.BACKEND_AWAY)),
    ],
)
def test_the_ladder(
    traffic_class: TrafficClass, kind: ClientKind, backend: BackendState, decision: Decision
) -> None:
    assert decide(traffic_class, kind, backend) == decision


states = st.builds(
    BackendState,
    in_flight=st.integers(0, 100),
    limit=st.integers(1, 100),
    waiting=st.integers(0, 3),
    is_away=st.booleans(),
)


@given(st.sampled_from(CLASSES), st.sampled_from(ClientKind), states)
def test_load_never_refuses_mail(
    traffic_class: TrafficClass, kind: ClientKind, backend: BackendState
) -> None:
    """Whatever the pressure: relay, wait or spool, and relay only where there is room."""
    decision = decide(traffic_class, kind, backend)
    assert isinstance(decision, Relay | Wait | Spool)
    if isinstance(decision, Relay):
        assert not backend.is_away
        assert has_room(traffic_class, backend.in_flight, backend.limit)
    if isinstance(decision, Wait):
        assert 0 < decision.seconds <= traffic_class.wait_max_mta


@given(st.sampled_from(ClientKind), states)
def test_a_better_class_never_fares_worse_than_a_lower_one(
    kind: ClientKind, backend: BackendState
) -> None:
    order = {Relay: 0, Wait: 1, Spool: 2}
    fared = [order[type(decide(each, kind, backend))] for each in CLASSES]
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
