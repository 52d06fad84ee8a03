"""Rates and bursts, whose they are, and that nobody's are remembered without bound."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.admission.quota import (
    Excess,
    Layer,
    Level,
    Quotas,
    Sending,
    network_of,
    sender_key,
)
from mailshed.config.policy import Quota, QuotaPolicy
from tests.support.builders import BULK, CLINICAL, PERSONAL, client

RELAY = client("10.0.0.1", is_trusted=True)
STRANGER = client("192.0.2.1")
SOFT = Excess(Layer.SENDER, Level.SOFT)
HARD = Excess(Layer.SENDER, Level.HARD)


def policy(**changes: Any) -> QuotaPolicy:
    """A recipient a second is right, two are too many; ten seconds' worth may come at once."""
    made = QuotaPolicy(burst=10.0, per_sender=Quota(soft=1.0, hard=2.0))
    return replace(made, **changes)


def mail(sender: bytes = b"a@example.org", **changes: Any) -> Sending:
    return Sending(RELAY, sender, PERSONAL)._replace(**changes)


def test_a_burst_is_within_the_quota_and_what_follows_at_once_is_not() -> None:
    quotas, terms = Quotas(), policy()
    found = [quotas.charge(terms, mail(), 0.0) for _ in range(25)]
    assert found == [None] * 10 + [SOFT] * 10 + [HARD] * 5


def test_the_bucket_empties_at_its_rate() -> None:
    quotas, terms = Quotas(), policy()
    for _ in range(10):
        quotas.charge(terms, mail(), 0.0)
    assert quotas.charge(terms, mail(), 0.5) == SOFT
    assert quotas.charge(terms, mail(), 1.0) is None
    assert quotas.charge(terms, mail(), 1.0) == SOFT
    assert [quotas.charge(terms, mail(), 60.0) for _ in range(11)] == [None] * 10 + [SOFT]


def test_a_sender_at_twice_its_rate_has_every_other_message_within_it() -> None:
    quotas, terms = Quotas(), policy(per_sender=Quota(soft=1.0))
    found = [quotas.charge(terms, mail(), number / 2) for number in range(200)]
    assert found[40:].count(None) == pytest.approx(80, abs=1)


def test_the_cost_of_a_message_is_its_recipients() -> None:
    quotas, terms = Quotas(), policy()
    assert quotas.charge(terms, mail(recipients=10), 0.0) is None
    assert quotas.charge(terms, mail(recipients=10), 0.0) == SOFT
    assert quotas.charge(terms, mail(recipients=1), 0.0) == HARD


def test_an_empty_bucket_takes_any_message_and_needs_its_time_then() -> None:
    quotas, terms = Quotas(), policy(per_sender=Quota(soft=1.0))
    assert quotas.charge(terms, mail(recipients=100), 0.0) is None
    assert quotas.charge(terms, mail(), 89.0) == SOFT
    assert quotas.charge(terms, mail(), 91.0) is None


def test_looking_charges_nothing() -> None:
    quotas, terms = Quotas(), policy()
    assert [quotas.look(terms, mail(), 0.0) for _ in range(50)] == [None] * 50
    assert len(quotas) == 0
    for _ in range(10):
        quotas.charge(terms, mail(), 0.0)
    assert [quotas.look(terms, mail(), 0.0) for _ in range(50)] == [SOFT] * 50


def test_whether_anything_is_exhausted_can_be_asked_without_a_class() -> None:
    quotas = Quotas()
    terms = policy(per_network=Quota(soft=0.1), per_class={"bulk": Quota(hard=1.0)})

    def is_any_exhausted(sender: bytes = b"a@example.org") -> bool:
        return quotas.is_any_exhausted(terms, RELAY, sender, 0.0)

    for _ in range(19):
        quotas.charge(terms, mail(), 0.0)
    assert not is_any_exhausted(), "soft ones do not count"
    quotas.charge(terms, mail(), 0.0)
    assert is_any_exhausted()
    assert not is_any_exhausted(b"b@example.org")
    for _ in range(11):
        quotas.charge(terms, mail(b"c@example.org", traffic_class=BULK), 0.0)
    assert is_any_exhausted(b"b@example.org"), "it may be bulk, which is over its quota"


def test_clinical_mail_is_measured_too() -> None:
    """What follows from it is not decided here."""
    quotas, terms = Quotas(), policy()
    found = [quotas.charge(terms, mail(traffic_class=CLINICAL), 0.0) for _ in range(11)]
    assert found[-1] == SOFT


# Whose.


def test_senders_do_not_use_each_other_s_quota() -> None:
    quotas, terms = Quotas(), policy()
    for _ in range(30):
        quotas.charge(terms, mail(b"a@example.org"), 0.0)
    assert quotas.charge(terms, mail(b"b@example.org"), 0.0) is None


def test_a_stranger_cannot_use_up_the_quota_of_one_of_ours() -> None:
    quotas, terms = Quotas(), policy()
    for _ in range(30):
        quotas.charge(terms, mail(client=STRANGER), 0.0)
    assert quotas.charge(terms, mail(client=RELAY), 0.0) is None


def test_what_a_sender_is_known_by() -> None:
    bob = replace(RELAY, user="bob")
    elsewhere = replace(client("10.9.9.9", is_trusted=True), user="bob")
    assert sender_key(bob, b"a@example.org") == sender_key(elsewhere, b"b@example.org")
    assert sender_key(RELAY, b"a@example.org") == sender_key(
        client("10.9.9.9", is_trusted=True), b"a@example.org"
    )
    assert sender_key(RELAY, b"") != sender_key(client("10.9.9.9", is_trusted=True), b"")


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("0.0.1.1", "::1:0:0:0:1", False),
    ],
)
def test_a_network_is_a_site(one: str, other: str, is_same: bool) -> None:
    assert (network_of(client(one)) == network_of(client(other))) is is_same


def test_the_worst_of_three_quotas_counts() -> None:
    quotas = Quotas()
    terms = policy(
        per_sender=Quota(soft=1.0),
        per_network=Quota(hard=2.0),
        per_class={"bulk": Quota(soft=0.5)},
    )
    found = [quotas.charge(terms, mail(traffic_class=BULK), 0.0) for _ in range(25)]
    assert found[:5] == [None] * 5
    assert found[5:10] == [Excess(Layer.CLASS, Level.SOFT)] * 5
    assert found[10:20] == [SOFT] * 10, "of two soft ones the sender's is named"
    assert found[20:] == [Excess(Layer.NETWORK, Level.HARD)] * 5
    assert quotas.charge(terms, mail(b"b@example.org"), 0.0) == Excess(Layer.NETWORK, Level.HARD)


def test_what_has_no_quota_is_not_remembered() -> None:
    quotas = Quotas()
    assert quotas.charge(QuotaPolicy(), mail(), 0.0) is None
    assert len(quotas) == 0


# Bounds.


def test_the_latest_are_remembered_up_to_the_limit() -> None:
    quotas, terms = Quotas(), policy(entries_max=100)
    for _ in range(10):
        quotas.charge(terms, mail(b"old"), 0.0)
        quotas.charge(terms, mail(b"faithful"), 0.0)
    for number in range(1000):
        quotas.charge(terms, mail(b"%d" % number), 0.0)
        quotas.charge(terms, mail(b"faithful"), 0.0)
    assert len(quotas) == 100
    assert quotas.charge(terms, mail(b"faithful"), 0.0) == HARD
    assert quotas.charge(terms, mail(b"old"), 0.0) is None


def test_those_who_exceed_another_s_hard_quota_are_bounded_too() -> None:
    quotas = Quotas()
    terms = policy(per_network=Quota(hard=1.0), entries_max=100)
    for number in range(1000):
        quotas.charge(terms, mail(b"%d" % number), 0.0)
    assert len(quotas) <= 101


def test_a_smaller_limit_takes_effect_at_once() -> None:
    quotas = Quotas()
    for number in range(1000):
        quotas.charge(policy(), mail(b"%d" % number), 0.0)
    quotas.charge(policy(entries_max=10), mail(), 0.0)
    assert len(quotas) == 10


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(1, 5)), max_size=200))
def test_what_is_within_the_quota_never_passes_rate_times_time_and_a_burst(
    course: list[tuple[float, int]],
) -> None:
    quotas, terms = Quotas(), policy()
    now, within, charged = 0.0, 0, 0
    for pause, recipients in course:
        now += pause
        level = quotas.charge(terms, mail(recipients=recipients), now)
        within += recipients if level is None else 0
        charged += recipients if level != HARD else 0
        assert within <= now * 1.0 + 10.0 + 5
        assert charged <= now * 2.0 + 20.0 + 5


# A surge.

SURGE = Excess(Layer.SURGE, Level.HARD)
FREE = QuotaPolicy()


def test_a_class_in_a_surge_has_a_quota_in_messages() -> None:
    quotas = Quotas()
    quotas.surges = {"personal": Quota(hard=1.0)}
    found = [quotas.charge(FREE, mail(recipients=50), 0.0) for _ in range(70)]
    assert found == [None] * 60 + [SURGE] * 10
    assert quotas.charge(FREE, mail(), 1.0) is None
    assert quotas.charge(FREE, mail(), 1.0) == SURGE


def test_at_twice_its_surge_quota_a_class_has_half_of_its_mail_within_it() -> None:
    quotas = Quotas()
    quotas.surges = {"personal": Quota(hard=1.0)}
    found = [quotas.charge(FREE, mail(b"%d" % number), number / 2) for number in range(1000)]
    assert found[200:].count(None) == pytest.approx(400, abs=2)


def test_a_surge_is_of_one_class() -> None:
    quotas = Quotas()
    quotas.surges = {"personal": Quota(hard=0.01)}
    found = [quotas.charge(FREE, mail(traffic_class=BULK), 0.0) for _ in range(9)]
    assert found == [None] * 9


def test_the_quota_of_a_surge_is_gone_with_it() -> None:
    quotas = Quotas()
    quotas.surges = {"personal": Quota(hard=0.01)}
    for _ in range(3):
        quotas.charge(FREE, mail(), 0.0)
    assert quotas.look(FREE, mail(), 0.0) == SURGE
    assert quotas.is_any_exhausted(FREE, RELAY, b"anybody@example.org", 0.0)

    quotas.surges = {}
    assert quotas.look(FREE, mail(), 0.0) is None
    assert not quotas.is_any_exhausted(FREE, RELAY, b"anybody@example.org", 0.0)


def test_a_sender_over_its_own_quota_uses_up_nothing_of_the_surge() -> None:
    quotas, terms = Quotas(), policy(per_sender=Quota(hard=0.1))
    quotas.surges = {"personal": Quota(hard=0.04)}
    found = [quotas.charge(terms, mail(b"a@example.org"), 0.0) for _ in range(9)]
    assert found[0] is None
    assert set(found[1:]) == {HARD}
    assert quotas.charge(terms, mail(b"b@example.org"), 0.0) is None
