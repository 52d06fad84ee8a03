"""Spooled mail for several backends: each by its own way, and none in the way of another."""

import asyncio
from pathlib import Path

import pytest

from mailshed.control.breaker import BreakerState
from mailshed.control.fallback import FallbackRule
from mailshed.drain.drainer import OFFERS_BEYOND_LIMIT, STRAY_BATCH
from mailshed.mail.delivery import Deferred
from mailshed.mail.reply import make
from mailshed.spool.store import SpoolRecord
from mailshed.terms import QueueId, Stage
from tests.support.builders import PERSONAL, REFUSED, WALL, spool_record
from tests.support.fake_backend import be_away, refuse, sort_out, take
from tests.support.middle import Middle
from tests.support.virtual_time import in_virtual_time, settle_down, until

FULL = Deferred(Stage.RCPT, make(452, "4.2.2 Mailbox full"))


@pytest.fixture
def middle(tmp_path: Path) -> Middle:
    """The default backend, one for the north, and a neighbour that helps the north out."""
    others = {"north": ("north.example", ".north.example"), "spare": ()}
    help_out = {"north": FallbackRule(fallback="spare", after=60.0)}
    return Middle(tmp_path, slots=2, others=others, fallbacks=help_out)


def record(backend: str, to: str = "bob@example.net", **changes: object) -> SpoolRecord:
    return spool_record(to, backend=backend, **changes)  # type: ignore[arg-type]


def be(middle: Middle, name: str, state: BreakerState) -> None:
    """Let a breaker be in this state, and time pass for the fallbacks, as the steering does."""
    breaker, now = middle.destinations.own(name).gate.station.breaker, middle.clock.monotonic()
    if state is BreakerState.CLOSED:
        breaker._half_open(now)  # it has answered
    breaker._state = state
    for change in middle.destinations.tick(now):
        middle.drainer.on_fallback(change.backend)


@in_virtual_time
async def test_each_message_goes_to_its_own_backend(middle: Middle) -> None:
    ids = {name: [await middle.keep(record(name)) for _ in range(5)] for name in middle.backends}
    async with middle.draining():
        await until(lambda: not any(i in middle.spool for each in ids.values() for i in each))
    for name, backend in middle.backends.items():
        assert sorted(backend.handed_ids) == sorted(ids[name])
        assert backend.in_flight_max <= 2
    assert middle.drainer.delivered == {"personal": 15}
    assert {line["backend"] for line in middle.log.of("attempted")} == set(middle.backends)


@in_virtual_time
async def test_a_backlog_of_one_that_is_away_does_not_hide_mail_of_another(middle: Middle) -> None:
    middle.backends["north"].always(be_away)
    for number in range(40):
        await middle.keep(record("north", wall=WALL - 100 + number))
    mine = await middle.keep(record("fake"))
    async with middle.draining():
        await until(lambda: mine not in middle.spool, 1.0)
        waiting = middle.destinations.own("north").gate.waiting
        assert waiting <= 2 + OFFERS_BEYOND_LIMIT


@in_virtual_time
async def test_one_that_hangs_leaves_places_for_the_marks_of_others(middle: Middle) -> None:
    middle.backends["north"].after_dot.clear()
    for _ in range(10):
        await middle.keep(record("north"))
    async with middle.draining():
        await until(lambda: middle.backends["north"].in_flight == 2)
        mine = [await middle.keep(record("fake")) for _ in range(10)]
        middle.drainer.on_spooled(PERSONAL, "fake")
        await until(lambda: not any(each in middle.spool for each in mine), 1.0)


@in_virtual_time
async def test_what_is_known_of_mailboxes_and_retries_is_of_one_backend(middle: Middle) -> None:
    middle.backends["north"].always(sort_out({b"bob@example.net": FULL}))
    await middle.keep(record("north"))
    async with middle.draining():
        await until(lambda: bool(middle.backends["north"].asked))
        await settle_down()
        assert middle.drainer.held_mailboxes.used == 1
        assert middle.drainer.held_mailboxes.limit == 30_000
        mine = await middle.keep(record("fake"))
        middle.drainer.on_spooled(PERSONAL, "fake")
        await until(lambda: mine not in middle.spool, 1.0)


@in_virtual_time
async def test_only_mail_of_one_that_is_away_is_given_up_without_an_attempt(
    middle: Middle,
) -> None:
    middle.backends["north"].always(be_away)
    middle.backends["fake"].before_dot.clear()
    old = [await middle.keep(record(name, expires_wall=WALL + 100)) for name in ("north", "fake")]
    filler = [await middle.keep(record("north", wall=WALL - 5)) for _ in range(3)]
    async with middle.draining():
        await until(lambda: old[0] not in middle.spool, 300)
        assert old[1] in middle.spool, "its backend is there, and it has its last attempt"
        assert all(each in middle.spool for each in filler)
        assert middle.log.one("expired")["id"] == old[0]


@in_virtual_time
async def test_a_report_goes_where_its_addressee_is(middle: Middle) -> None:
    middle.backend.always(refuse(REFUSED))
    await middle.keep(record("fake", reverse_path=b"eve@ward.north.example"))
    async with middle.draining():
        await until(lambda: bool(middle.backends["north"].handed))
    (report,) = middle.backends["north"].handed
    assert report.recipients == (b"eve@ward.north.example",)
    assert not middle.backend.handed


class TestFallback:
    @in_virtual_time
    async def test_mail_that_waits_goes_aside_and_later_back(self, middle: Middle) -> None:
        north, spare = middle.backends["north"], middle.backends["spare"]
        north.always(be_away)
        ids = [await middle.keep(record("north")) for _ in range(6)]
        async with middle.draining():
            await until(lambda: not middle.destinations.own("north").gate.is_up)
            be(middle, "north", BreakerState.OPEN)
            await asyncio.sleep(61)
            assert not spare.asked
            be(middle, "north", BreakerState.OPEN)
            await until(lambda: not any(each in middle.spool for each in ids), 5.0)
            assert sorted(spare.handed_ids) == sorted(ids)
            assert not north.handed
            north.always(take)
            be(middle, "north", BreakerState.CLOSED)
            again = await middle.keep(record("north"))
            middle.drainer.on_spooled(PERSONAL, "north")
            await until(lambda: again not in middle.spool)
        assert north.handed_ids == [again]
        assert again not in spare.asked_ids

    @in_virtual_time
    async def test_nothing_is_with_both_at_once(self, middle: Middle) -> None:
        """What the backend has when it goes away for long stays with it until it has ended."""
        north, spare = middle.backends["north"], middle.backends["spare"]
        north.after_dot.clear()
        queue_id = await middle.keep(record("north"))
        async with middle.draining():
            await until(lambda: bool(north.asked))
            await settle_down()
            be(middle, "north", BreakerState.OPEN)
            await asyncio.sleep(61)
            be(middle, "north", BreakerState.OPEN)
            await asyncio.sleep(120)
            assert spare.asked_ids == []
            north.after_dot.set()
            await until(lambda: queue_id not in middle.spool)
        assert north.handed_ids == [queue_id]
        assert spare.asked_ids == []


class TestMailOfABackendThatIsGone:
    @in_virtual_time
    async def test_goes_by_its_recipients_and_is_told(self, middle: Middle) -> None:
        north = await middle.keep(record("gone", "a@ward.north.example"))
        mixed = await middle.keep(spool_record("a@north.example", "b@example.net", backend="gone"))
        early = await middle.keep(record("", "c@north.example"))
        async with middle.draining():
            await until(lambda: not any(i in middle.spool for i in (north, mixed, early)))
        assert sorted(middle.backends["north"].handed_ids) == sorted([north, early])
        assert middle.backend.handed_ids == [mixed]
        line = middle.log.one("mail_rerouted")
        assert (line["backend"], line["messages"]) == ("gone", 2)

    @in_virtual_time
    async def test_is_told_once_however_much_it_is(self, middle: Middle) -> None:
        count = STRAY_BATCH + 10
        for _ in range(count):
            await middle.keep(record("gone", "a@north.example", next_attempt_wall=WALL + 300))
        async with middle.draining():
            await until(lambda: bool(middle.log.of("mail_rerouted")))
        assert middle.log.one("mail_rerouted")["messages"] == count
        totals = await middle.spool.totals()
        assert {each.backend for each in totals.by_backend} == {"north"}

    @in_virtual_time
    async def test_gets_its_place_before_it_is_tried_however_much_is_due(
        self, middle: Middle
    ) -> None:
        count = STRAY_BATCH + 40
        ids = [await middle.keep(record("gone", "a@north.example")) for _ in range(count)]
        async with middle.draining():
            await until(lambda: not any(each in middle.spool for each in ids))
        assert middle.backend.asked_ids == []
        assert sorted(middle.backends["north"].handed_ids) == sorted(ids)

    @in_virtual_time
    async def test_with_one_backend_left_simply_goes_there(self, tmp_path: Path) -> None:
        middle = Middle(tmp_path)
        ids: list[QueueId] = [await middle.keep(record(name)) for name in ("gone", "", "fake")]
        async with middle.draining():
            await until(lambda: not any(each in middle.spool for each in ids))
        assert sorted(middle.backend.handed_ids) == sorted(ids)
        assert middle.log.of("mail_rerouted") == []
