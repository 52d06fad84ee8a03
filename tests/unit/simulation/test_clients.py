"""When clients come again, as Postfix does."""

from random import Random

import pytest

from mailshed.simulation.clients import senders
from mailshed.simulation.scenario import ClientBehaviour
from mailshed.terms import ClientKind
from tests.support.simulated import DEVICE, USER_AGENT, stream


def sender(**changes: float | bool) -> ClientBehaviour:
    return ClientBehaviour(**changes)  # type: ignore[arg-type]


def test_the_pause_doubles_up_to_its_maximum() -> None:
    made = stream(client=sender(retry_min=300.0, retry_max=4000.0, queue_run=0.0))
    (client,) = senders(made, 0, Random(1))
    pauses = [client.next_try(1000.0, tries) - 1000.0 for tries in (1, 2, 3, 4, 5, 100)]
    assert pauses == [300.0, 600.0, 1200.0, 2400.0, 4000.0, 4000.0]


def test_a_queue_is_looked_at_now_and_then_only() -> None:
    made = stream(client=sender(queue_run=300.0))
    (client,) = senders(made, 0, Random(1))
    first = client.next_try(1000.0, 1)
    assert 1300.0 <= first < 1600.0
    looks = (client.next_try(5000.0, 1) - first) / 300.0
    assert looks == pytest.approx(round(looks))


def test_hosts_look_at_moments_of_their_own_unless_they_are_synchronised() -> None:
    apart = senders(stream(hosts=20), 0, Random(1))
    assert len({each.next_try(1000.0, 1) for each in apart}) == 20
    together = senders(stream(hosts=20, client=sender(is_synchronised=True)), 0, Random(1))
    assert len({each.next_try(1000.0, 1) for each in together}) == 1


def test_only_mail_servers_come_again() -> None:
    for behaviour, retries in ((ClientBehaviour(), True), (USER_AGENT, False), (DEVICE, False)):
        (client,) = senders(stream(client=behaviour), 0, Random(1))
        assert client.retries is retries
        assert client.client.kind is behaviour.kind


def test_hosts_of_all_streams_have_addresses_of_their_own() -> None:
    made = [senders(stream(hosts=5), number, Random(1)) for number in range(3)]
    addresses = {each.client.address for hosts in made for each in hosts}
    assert len(addresses) == 15
    assert all(each.client.kind is ClientKind.MTA for hosts in made for each in hosts)
