"""Each recipient's own backend is asked, and what is known is known to all."""

import random
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from mailshed.admission.decision import Defer, Reject
from mailshed.admission.routing import Routes
from mailshed.mail.delivery import Bounced, Delivered, DeliveryResult, TransactionResult
from mailshed.mail.domains import DomainSet
from mailshed.maillog import MailLog
from mailshed.metrics import Metrics, new_registry
from mailshed.relay.call_ahead import CallAhead
from mailshed.relay.verifiers import Ruling, Verifiers
from mailshed.relay.verify import Knowledge, RecipientVerifier
from mailshed.terms import Stage
from mailshed.work import Work
from tests.support.builders import (
    OK,
    REFUSED,
    away,
    client,
    mailbox,
    outbound,
    verification_policy,
)
from tests.support.middle import LogLines, Middle
from tests.support.virtual_time import in_virtual_time
from tests.unit.relay.test_verify import UNKNOWN, Oracle

NORTH, SOUTH = "alice@north.example", "alice@example.net"


class Bench:
    """Two backends, and the oracle of each."""

    def __init__(self, folder: Path) -> None:
        middle = self.middle = Middle(folder, others={"north": ["north.example"]})
        self.oracles = {name: Oracle() for name in ("fake", "north")}
        self.routes = Routes("fake", {"north": ["north.example"]})
        self.policy = verification_policy(domains=DomainSet(["example.net", "north.example"]))
        knowledge = Knowledge(self.policy.entries_max)
        self.verifiers = Verifiers(
            {
                name: RecipientVerifier(
                    self.policy,
                    call_ahead=cast("CallAhead", oracle),
                    gate=middle.destinations.own(name).gate,
                    metrics=Metrics(new_registry()),
                    maillog=MailLog(LogLines()),
                    clock=middle.clock,
                    rng=random.Random(1),
                    knowledge=knowledge,
                    serves=self._serves(name),
                )
                for name, oracle in self.oracles.items()
            },
            self.routes,
        )

    def _serves(self, name: str) -> "_Serves":
        return _Serves(self.routes, name)

    async def rcpt(self, to: str) -> Ruling:
        ruling = self.verifiers.check(client(), mailbox(to))
        return await ruling() if callable(ruling) else ruling

    def learn(self, name: str, to: str, fared: DeliveryResult) -> None:
        message = replace(outbound(), recipients=((to.encode(), ()),))
        self.verifiers.learner(name)(message, TransactionResult(recipients=(fared,)))

    @property
    def asked(self) -> dict[str, list[bytes]]:
        return {name: oracle.asked for name, oracle in self.oracles.items()}


class _Serves:
    def __init__(self, routes: Routes, name: str) -> None:
        self.routes, self.name = routes, name

    def __call__(self, domain: str) -> bool:
        return self.routes.of(domain) == self.name


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@in_virtual_time
async def test_the_recipients_own_backend_is_asked(bench: Bench) -> None:
    bench.oracles["north"].answer = lambda _path: UNKNOWN
    assert isinstance(await bench.rcpt(NORTH), Reject)
    assert await bench.rcpt(SOUTH) is None
    assert bench.asked == {"fake": [SOUTH.encode()], "north": [NORTH.encode()]}
    assert bench.verifiers.cached[0] == 2


@in_virtual_time
async def test_while_it_is_away_nobody_else_is(bench: Bench) -> None:
    gate = bench.middle.destinations.own("north").gate
    for _ in range(3):
        slot = gate.try_acquire(Work(bench.middle.gate.station.shedding.classes[0]))
        assert slot is not None
        gate.release(slot, away())
    assert not gate.is_up
    assert isinstance(await bench.rcpt(NORTH), Defer)
    assert bench.asked == {"fake": [], "north": []}


@in_virtual_time
async def test_a_neighbour_teaches_nothing_about_mailboxes_that_are_not_its_own(
    bench: Bench,
) -> None:
    bench.learn("fake", NORTH, Bounced(Stage.RCPT, REFUSED))
    bench.learn("fake", "bob@north.example", Delivered(OK))
    assert bench.verifiers.cached[0] == 0
    assert await bench.rcpt(NORTH) is None
    assert bench.asked["north"] == [NORTH.encode()]
    bench.learn("north", "bob@north.example", Delivered(OK))
    assert await bench.rcpt("bob@north.example") is None
    assert len(bench.asked["north"]) == 1


@in_virtual_time
async def test_policy_and_end_are_those_of_all(bench: Bench) -> None:
    changed = replace(bench.policy, sender=b"check@example.org")
    bench.verifiers.policy = changed
    assert bench.verifiers.policy is changed
    assert {each.sender for each in bench.oracles.values()} == {b"check@example.org"}
    bench.verifiers.stop()
    assert all(each.is_stopped for each in bench.oracles.values())
    await bench.verifiers.close()
