"""Who takes the mail of which route, and what a neighbour's refusal is worth."""

from pathlib import Path

import pytest

from mailshed.control.breaker import BreakerState
from mailshed.control.fallback import FallbackRule
from mailshed.mail.delivery import Bounced, Deferred, Delivered, NoReply, TransactionResult
from mailshed.relay.destination import as_of_neighbour
from mailshed.terms import Stage
from tests.support.builders import BUSY, OK, REFUSED
from tests.support.middle import Middle

OTHERS = {"north": (".north.example",), "spare": ()}
HELP = {"north": FallbackRule(fallback="spare", after=60.0)}


@pytest.fixture
def middle(tmp_path: Path) -> Middle:
    return Middle(tmp_path, others=OTHERS, fallbacks=HELP)


def test_with_one_backend_there_is_one_answer(tmp_path: Path) -> None:
    destinations = Middle(tmp_path).destinations
    assert destinations.is_single
    assert destinations.taker("gone") is destinations.default
    assert destinations.taker_of("a.north.example") is destinations.default
    assert destinations.route_of([b"a@b.example", b"postmaster"]) == "fake"
    assert destinations.tick(0.0) == []


def test_a_domain_leads_to_the_backend_that_serves_it(middle: Middle) -> None:
    destinations = middle.destinations
    assert destinations.taker_of("a.north.example").name == "north"
    assert destinations.taker_of("south.example").name == "fake"
    assert [each.name for each in destinations] == ["fake", "north", "spare"]
    assert destinations.knows("north")
    assert not destinations.knows("")


def test_the_calmest_is_the_one_that_asks_for_the_least_patience(middle: Middle) -> None:
    destinations = middle.destinations
    assert destinations.calmest is destinations.default
    for destination in destinations.all[:2]:
        for second in range(60):
            destination.gate.station.shedding.note_saturation(1.0, float(second), is_away=False)
    assert destinations.calmest.name == "spare"


def test_a_route_that_is_gone_is_the_default(middle: Middle) -> None:
    assert middle.destinations.own("gone") is middle.destinations.default


@pytest.mark.parametrize(
    ("paths", "route"),
    [
        ([b"a@x.north.example", b"B@Y.NORTH.example"], "north"),
        ([b"a@x.north.example", b"b@south.example"], "fake"),
        ([b"Postmaster"], "fake"),
        ([b""], "fake"),
    ],
)
def test_recipients_of_several_routes_go_to_the_default(
    middle: Middle, paths: list[bytes], route: str
) -> None:
    assert middle.destinations.route_of(paths) == route


def test_a_fallback_takes_the_mail_and_asking_stays_with_the_own_one(middle: Middle) -> None:
    destinations = middle.destinations
    north, spare = destinations.own("north"), destinations.own("spare")
    north.gate.station.breaker._state = BreakerState.OPEN
    destinations.tick(0.0)
    assert destinations.taker("north") is north
    (change,) = destinations.tick(60.0)
    assert (change.backend, change.fallback) == ("north", "spare")
    assert destinations.taker("north") is spare
    assert destinations.taker_of("a.north.example") is spare
    assert destinations.own("north") is north
    assert destinations.taken_by(spare) == ["north", "spare"]
    assert destinations.taken_by(north) == []


def test_whom_a_neighbour_refuses_waits_for_his_own_server() -> None:
    result = TransactionResult(
        recipients=(
            Delivered(OK),
            Bounced(Stage.RCPT, REFUSED),
            Deferred(Stage.RCPT, BUSY),
        )
    )
    taken, waits, busy = as_of_neighbour(result, "spare").recipients
    assert isinstance(taken, Delivered)
    assert busy == Deferred(Stage.RCPT, BUSY)
    assert isinstance(waits, Deferred)
    assert waits.reply is None
    assert waits.detail == f"spare, which takes its mail meanwhile, refused it: {REFUSED.text}"


def test_what_a_neighbour_cannot_do_its_own_server_may() -> None:
    """Or mail would come back after a day without having been offered to it."""
    lacks = Deferred(Stage.MAIL, None, "no SMTPUTF8", NoReply.UNSUPPORTED)
    (waits,) = as_of_neighbour(TransactionResult(recipients=(lacks,)), "spare").recipients
    assert waits == Deferred(Stage.MAIL, None, "spare: no SMTPUTF8", NoReply.OUR_CHOICE)


def test_what_a_neighbour_takes_stays_as_it_is() -> None:
    result = TransactionResult(recipients=(Delivered(OK),))
    assert as_of_neighbour(result, "spare") is result
