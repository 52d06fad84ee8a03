"""What keeps mail back at one station: load, an operator, the share of the drain, the pressure."""

from collections.abc import Iterable
from math import inf

import pytest

from mailshed.control.limit import Reading
from mailshed.control.overrides import Override, OverrideKind, Overrides
from mailshed.control.pressure import SLOW_MAX
from mailshed.shedding import Shedding, Standing
from mailshed.terms import Reason, ShedLevel, TrafficClass
from tests.support.builders import traffic_class

CLINICAL = traffic_class("clinical", 0)
CONTINUITY = traffic_class("continuity", 1)
PERSONAL = traffic_class("personal", 1, wait_target=0.5, waits_at_level=4)
TELEWORK = traffic_class("telework", 4, waits_at_level=3, defers_over_quota=True)
BULK = traffic_class("bulk", 5, waits_at_level=2, defers_over_quota=True)
CLASSES = (CLINICAL, CONTINUITY, PERSONAL, TELEWORK, BULK)
KNOWN = Reading(capacity=8.0, queue=2.0, queue_low=3.0, queue_high=6.0, windows=1)


def override(kind: OverrideKind, traffic_class: str = "", value: int = 0) -> Override:
    return Override(
        number=1,
        kind=kind,
        traffic_class=traffic_class,
        value=value,
        user="eve",
        reason="a test",
        since_wall=0.0,
        seconds=60.0,
    )


class Bench:
    """Shedding as a station uses it, with time that passes in ticks."""

    def __init__(self) -> None:
        self.shedding = Shedding()
        self.shedding.classes = CLASSES
        self.now = 50.0
        self.reading = KNOWN
        self.in_flight = 10
        self.is_away = False
        self.is_draining = False
        self.waits: dict[str, tuple[int, float]] = {}

    def tick(self, seconds: float = 0.25) -> None:
        for _ in range(round(seconds / 0.25)):
            self.now += 0.25
            standing = Standing(
                limit=10,
                reserve=0,
                in_flight=self.in_flight,
                reading=self.reading,
                is_away=self.is_away,
                is_draining=self.is_draining,
                waiting=frozenset(),
                lanes=frozenset(),
                live_waits=lambda made: self.waits.get(made.name, (0, 0.0)),
            )
            self.shedding.tick(self.now, standing)

    def flood(self, made: TrafficClass, rate: float, seconds: float) -> None:
        for _ in range(round(seconds / 0.25)):
            self.shedding.divert.offered.note(made.name, rate * 0.25, self.now)
            self.tick()

    def override(self, *overrides: Override) -> None:
        self.shedding.overrides = Overrides(overrides)

    def level(self) -> ShedLevel:
        return self.shedding.level

    def kept_back(self) -> dict[str, Reason]:
        found = {each.name: self.shedding.keeps_back(each) for each in CLASSES}
        return {name: reason for name, reason in found.items() if reason is not None}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_nothing_is_kept_back_without_load_or_operator(bench: Bench) -> None:
    bench.tick(60)
    assert bench.kept_back() == {}


def test_load_diverts_what_does_not_fit(bench: Bench) -> None:
    bench.flood(BULK, 40.0, 60)
    assert bench.kept_back() == {"bulk": Reason.DIVERTED}
    load = bench.shedding.loads(bench.now)["bulk"]
    assert load.sigma == pytest.approx(40 / 8, rel=0.2)
    assert load.saturation == 1.0


def test_a_limit_that_is_not_in_use_diverts_nobody(bench: Bench) -> None:
    bench.in_flight = 8
    bench.flood(BULK, 40.0, 60)
    assert bench.kept_back() == {}
    assert bench.shedding.use == pytest.approx(0.8)


def test_no_time_counts_while_the_backend_is_away(bench: Bench) -> None:
    bench.is_away = True
    bench.flood(BULK, 40.0, 60)
    assert bench.kept_back() == {}


def test_a_standing_queue_diverts_where_the_capacity_is_not_known(bench: Bench) -> None:
    bench.reading = Reading()
    bench.waits = {"personal": (5, 3.0)}
    bench.tick(12)
    assert bench.kept_back() == {"personal": Reason.DIVERTED}


def test_a_forced_level_takes_the_place_of_what_is_derived_exactly(bench: Bench) -> None:
    bench.flood(PERSONAL, 40.0, 60)
    assert set(bench.kept_back()) == {"continuity", "personal", "telework", "bulk"}
    bench.override(override(OverrideKind.LEVEL, value=3))
    assert bench.kept_back() == {"telework": Reason.OVERRIDE, "bulk": Reason.OVERRIDE}
    assert bench.level() is ShedLevel.WORK_WAITS
    bench.override(override(OverrideKind.LEVEL, value=0))
    assert bench.kept_back() == {}
    assert bench.level() is ShedLevel.NORMAL


def test_a_class_that_is_held_is_kept_back_and_closed_and_one_released_is_neither(
    bench: Bench,
) -> None:
    bench.flood(PERSONAL, 40.0, 60)
    bench.override(override(OverrideKind.HOLD, "bulk"), override(OverrideKind.RELEASE, "telework"))
    kept = bench.kept_back()
    assert kept["bulk"] is Reason.OVERRIDE
    assert kept["personal"] is Reason.DIVERTED
    assert "telework" not in kept
    assert bench.shedding.is_closed(BULK, 0)
    assert not bench.shedding.is_closed(TELEWORK, 100)


def test_waits_end_early_while_a_class_has_a_standing_queue_unless_an_operator_says_otherwise(
    bench: Bench,
) -> None:
    bench.waits = {"personal": (5, 3.0)}
    bench.tick(6)
    assert bench.shedding.patience(PERSONAL) == 1.0
    assert bench.shedding.patience(TELEWORK) == inf
    bench.override(override(OverrideKind.RELEASE, "personal"))
    assert bench.shedding.patience(PERSONAL) == inf
    bench.override(override(OverrideKind.LEVEL, value=0))
    assert bench.shedding.patience(PERSONAL) == inf


def test_a_class_with_so_many_slots_is_closed_at_that_number(bench: Bench) -> None:
    bench.override(override(OverrideKind.LIMIT, "bulk", 2))
    assert [bench.shedding.is_closed(BULK, slots) for slots in (0, 1, 2, 3)] == [
        *(False, False, True, True)
    ]
    assert bench.kept_back() == {}


def test_clinical_mail_is_touched_by_nothing(bench: Bench) -> None:
    bench.flood(CLINICAL, 80.0, 60)
    bench.waits = {"clinical": (50, 30.0)}
    bench.tick(30)
    bench.override(
        override(OverrideKind.LEVEL, value=4),
        override(OverrideKind.HOLD, "clinical"),
        override(OverrideKind.LIMIT, "clinical", 1),
    )
    assert bench.shedding.keeps_back(CLINICAL) is None
    assert not bench.shedding.is_closed(CLINICAL, 10)
    assert not bench.shedding.can_wait([CLINICAL])


def windows(queues: Iterable[float], bench: Bench) -> list[int]:
    slots = []
    for number, queue in enumerate(queues, start=2):
        bench.reading = KNOWN._replace(queue=queue, windows=number)
        bench.tick(1)
        slots.append(bench.shedding.ramp.slots)
    return slots


def test_the_share_of_the_drain_moves_once_a_window_of_the_limit(bench: Bench) -> None:
    bench.is_draining = True
    assert windows([1.0, 2.0, 6.0, 7.0, 12.0, 13.0], bench) == [2, 3, 4, 4, 4, 2]
    bench.tick(30)
    assert bench.shedding.ramp.slots == 2, "no window, no news"


def test_where_nothing_is_measured_it_grows_by_the_second(bench: Bench) -> None:
    bench.is_draining = True
    bench.reading = Reading()
    bench.tick(3)
    assert bench.shedding.ramp.slots == 4


def test_it_begins_anew_after_an_outage(bench: Bench) -> None:
    bench.is_draining = True
    windows([0.0] * 8, bench)
    bench.is_away = True
    bench.tick()
    assert bench.shedding.ramp.slots == 1


def saturate(bench: Bench, saturation: float, seconds: int = 30, *, is_away: bool = False) -> None:
    for _ in range(seconds):
        bench.now += 1.0
        bench.shedding.note_saturation(saturation, bench.now, is_away=is_away)


def test_the_level_follows_the_pressure_as_far_as_it_is_true(bench: Bench) -> None:
    saturate(bench, 1.0)
    assert bench.level() is ShedLevel.BULK_WAITS, "nobody else waits"
    bench.flood(TELEWORK, 40.0, 60)
    saturate(bench, 1.0)
    assert bench.level() is ShedLevel.WORK_WAITS
    saturate(bench, 0.6)
    assert bench.level() is ShedLevel.BULK_WAITS
    saturate(bench, 0.0)
    assert bench.level() is ShedLevel.NORMAL


def test_all_levels_are_true_of_a_backend_that_is_away(bench: Bench) -> None:
    saturate(bench, 1.0, is_away=True)
    assert bench.level() is ShedLevel.MOST_WAITS


def test_a_forced_level_does_not_hide_the_derived_one(bench: Bench) -> None:
    saturate(bench, 1.0)
    bench.override(override(OverrideKind.LEVEL, value=0))
    assert bench.level() is ShedLevel.NORMAL
    assert bench.shedding.derived_level is ShedLevel.BULK_WAITS


def test_replies_are_slow_under_pressure_or_at_a_forced_level(bench: Bench) -> None:
    assert bench.shedding.reply_delay == 0.0
    saturate(bench, 0.7)
    assert bench.shedding.reply_delay == pytest.approx(2.0, rel=0.01)
    bench.override(override(OverrideKind.LEVEL, value=1))
    assert bench.shedding.reply_delay == SLOW_MAX
    bench.override(override(OverrideKind.LEVEL, value=0))
    assert bench.shedding.reply_delay == 0.0


def test_only_mail_that_can_be_nothing_better_is_slowed_down(bench: Bench) -> None:
    can_wait = bench.shedding.can_wait
    assert can_wait([BULK])
    assert can_wait([TELEWORK, BULK])
    assert not can_wait([PERSONAL, BULK])
    assert not can_wait([CLINICAL, TELEWORK, BULK])
    bench.override(override(OverrideKind.RELEASE, "telework"))
    assert not can_wait([TELEWORK, BULK])
