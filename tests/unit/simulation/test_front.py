"""The path of live mail: what its client hears, and where it ends, step by step."""

from dataclasses import replace
from typing import Any

import pytest

from mailshed.config.policy import AdmissionPolicy, Quota, QuotaPolicy
from mailshed.simulation.engine import Simulation, fixed
from mailshed.simulation.ledger import Account
from mailshed.simulation.mail import Place
from mailshed.simulation.scenario import ClientBehaviour, SpoolModel, Stream
from mailshed.terms import ClientKind
from tests.support.builders import BULK, CLINICAL, PERSONAL, TELEWORK
from tests.support.simulated import (
    DEVICE,
    SECOND,
    USER_AGENT,
    scenario,
    simulate,
    stream,
    with_change,
)

TINY = SpoolModel(messages_max=20)
"""A spool that is soon full."""


def account(simulation: Simulation, name: str) -> Account:
    return next(each for each in simulation.ledger.accounts if each.stream.name == name)


def test_who_waits_is_served_or_spooled_when_its_wait_is_over() -> None:
    simulation = simulate(stream(PERSONAL, rate=6.0), duration=30.0)
    found = account(simulation, "personal")
    assert found.waited > 0
    assert found.spooled > 0
    assert found.relayed + found.spooled == found.messages
    assert found.wait.quantile(0.2) < 5.0


def test_a_filling_spool_defers_bulk_to_servers_and_none_to_people() -> None:
    bulk = stream(BULK, rate=6.0)
    people = stream(PERSONAL, name="people", rate=6.0, client=USER_AGENT)
    simulation = simulate(bulk, people, spool=SpoolModel(messages_max=600), duration=60.0)
    assert account(simulation, "bulk").deferred > 0
    assert account(simulation, "people").deferred == 0
    assert (
        account(simulation, "bulk").places[Place.DELIVERED] == account(simulation, "bulk").offered
    )


def test_a_full_spool_tells_people_4xx_and_clinical_mail_never() -> None:
    people = stream(PERSONAL, name="people", rate=12.0, client=USER_AGENT)
    simulation = simulate(people, stream(CLINICAL, rate=2.0), spool=TINY, duration=60.0)
    found = account(simulation, "people")
    assert found.errors == found.deferred == found.places[Place.REFUSED] > 0
    assert account(simulation, "clinical").deferred == 0


def test_a_device_forgets_what_it_was_told_4xx_about() -> None:
    found = account(simulate(stream(rate=12.0, client=DEVICE), spool=TINY), "personal")
    assert found.lost == found.places[Place.REFUSED] > 0
    assert found.errors == 0


def test_servers_come_again_until_their_mail_is_taken() -> None:
    impatient = ClientBehaviour(retry_min=10.0, retry_max=40.0, queue_run=5.0)
    found = account(simulate(stream(BULK, rate=12.0, client=impatient), spool=TINY), "bulk")
    assert found.deferred > 0
    assert found.places[Place.DELIVERED] == found.offered


def test_synchronised_servers_come_back_as_a_wave() -> None:
    wave = ClientBehaviour(is_synchronised=True)
    made = scenario(stream(BULK, rate=12.0, client=wave, hosts=50), spool=TINY)
    simulation = Simulation(made, 1, fixed(4))
    instants: list[float] = []
    submit = simulation.front.submit

    def note(mail: Any) -> None:
        if mail.tries:
            instants.append(round(simulation.agenda.now, 6))
        submit(mail)

    simulation.front.submit = note  # type: ignore[method-assign]
    simulation.run()
    assert len(instants) > 100
    assert len(set(instants)) < 15


def test_what_exceeds_a_hard_quota_gives_way_under_pressure_only() -> None:
    quotas = QuotaPolicy(burst=5.0, per_class={"telework": Quota(hard=0.5)})
    admission = AdmissionPolicy(quotas=quotas)
    calm = simulate(stream(TELEWORK, rate=1.0), admission=admission)
    assert account(calm, "telework").deferred == 0
    pressed = simulate(stream(TELEWORK, rate=8.0), admission=admission)
    assert account(pressed, "telework").deferred > 0


@pytest.mark.parametrize("kind", [ClientKind.MTA, ClientKind.USER_AGENT])
def test_the_servers_own_4xx_is_passed_on_to_those_that_come_again(kind: ClientKind) -> None:
    made = stream(rate=3.0, client=ClientBehaviour(kind=kind))
    backend = replace(SECOND, full_share=0.3)
    found = account(simulate(made, backend=backend, settle=0.0), "personal")
    if kind is ClientKind.MTA:
        assert found.deferred > 0
        assert found.spooled < found.deferred
    else:
        assert (found.deferred, found.errors) == (0, 0)
        assert found.spooled > 0


def test_a_mixed_message_goes_to_the_spool_and_those_who_can_have_it() -> None:
    backend = replace(SECOND, full_share=0.5, mailboxes=10)
    made = stream(rate=0.5, recipients=2)
    found = account(simulate(made, backend=backend, settle=600.0), "personal")
    assert found.spooled > 0
    assert 0 < found.places[Place.DELIVERED] < found.offered
    assert found.duplicates == 0


def test_while_the_server_is_away_all_mail_is_spooled_and_none_is_turned_away() -> None:
    backend = with_change(20.0, 60.0, is_refusing=True)
    simulation = simulate(stream(rate=2.0), stream(CLINICAL, rate=1.0), backend=backend)
    for name in ("personal", "clinical"):
        found = account(simulation, name)
        assert found.spooled > 20
        assert found.deferred == 0
        assert found.places[Place.DELIVERED] == found.offered


def test_a_reply_that_takes_too_long_is_given_from_a_copy_and_sent_once() -> None:
    slow = replace(SECOND, base=100.0, envelope=0.01)
    simulation = simulate(stream(rate=0.02), backend=slow, duration=200.0)
    found = account(simulation, "personal")
    assert found.adopted == found.messages > 0
    assert (found.duplicates, found.sent_again, found.in_doubt) == (0, 0, 0)
    assert found.places[Place.DELIVERED] == found.offered


def test_before_our_dot_a_slow_transaction_is_broken_off_and_spooled() -> None:
    stalled = with_change(0.0, 100.0, speed=0.0)
    made = stream(rate=0.2, client=USER_AGENT, ends=30.0)
    found = account(simulate(made, backend=stalled), "personal")
    assert found.adopted == 0
    assert found.spooled == found.messages > 0
    assert found.places[Place.DELIVERED] == found.offered


def test_where_nothing_can_be_stored_a_client_gives_up_some_day() -> None:
    full = SpoolModel(messages_max=1)
    slow = replace(SECOND, base=300.0, envelope=0.001)
    made = Stream(name="personal", traffic_class="personal", rate=0.02, client=USER_AGENT)
    found = account(simulate(made, backend=slow, spool=full, duration=400.0), "personal")
    assert found.gave_up > 0
    assert found.errors >= found.gave_up
    assert found.duplicates == 0  # people do not send it again
