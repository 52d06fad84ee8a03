"""What goes wrong with a mail server, one failure after the other, and what we make of it.

Each runs the service's own decisions with three seeds; the invariants of a run are checked at every
step of it (`mailshed.simulation.invariants`). Rates are a tenth of a real server's, and less where
hours have to pass. Where the trouble ends, the recovery invariant is asked for
(`Watched.assert_recovers`).
"""

from dataclasses import replace

import pytest

from mailshed.simulation.engine import Simulation
from mailshed.simulation.scenario import (
    MIB,
    Change,
    ClientBehaviour,
    Factor,
    Sizes,
    SpoolModel,
    Stream,
)
from mailshed.simulation.theory import first_wait
from tests.simulation.watching import LOWEST, oracle, watch
from tests.simulation.worlds import CLASSES, backend, capacity, phases, with_larger_mail, world

SEEDS = pytest.mark.parametrize("seed", [1, 2, 3])
CALM = 120.0
"""Seconds of little mail at the beginning, in which the service gets to know its server."""
QUEUE = 6.0
"""Messages that may queue inside the mail server, by the limit's own targets."""


def _after_calm(*steps: tuple[float, float, float]) -> tuple[Factor, ...]:
    """Half of the capacity first, then as `steps` say."""
    return phases((0.0, CALM, 0.5), *steps)


@SEEDS
def test_six_hours_of_too_much_mail_do_not_move_the_limit(seed: int) -> None:
    slow = backend(servers=3, base=3.0)
    run = watch(world("six hours", load=1.5, duration=6 * 3600.0, model=slow), seed, every=10.0)
    # The slow loop needs 48 windows for a step, of 10 s here, so the first hour is its own.
    hours = [run.mean_limit(3600.0 * hour, 3600.0 * (hour + 1)) for hour in range(1, 6)]
    assert hours[-1] == pytest.approx(sum(hours) / len(hours), rel=0.1)
    # With slots as slow as these some are kept free for better classes, and most of them idle.
    assert run.result.work_ratio_between(600.0, 6 * 3600.0) >= 0.95


@SEEDS
def test_mail_that_is_twenty_times_as_large_is_no_congestion(seed: int) -> None:
    shift = 360.0
    small = world("larger", load=2.0, duration=600.0, factors=phases((0.0, CALM, 0.25)))
    run = watch(with_larger_mail(small, shift), seed)
    before, after = run.mean_limit(200.0, shift), run.mean_limit(shift + 60, 600.0)
    assert after == pytest.approx(before, rel=0.2)
    # Twice the server is looked at unloaded meanwhile, which takes six seconds at this rate.
    assert run.result.work_ratio_between(CALM + 30, 600.0) >= 0.96


@SEEDS
def test_one_sender_of_30_mib_messages_does_not_keep_clinical_mail_waiting(seed: int) -> None:
    scenario = world("elephants", load=0.8, duration=400.0, stream={"sizes": Sizes(largest=MIB)})
    elephant = Stream(
        name="elephant",
        traffic_class="personal",
        rate=1.0,
        begins=CALM,
        sizes=Sizes(smallest=30 * MIB, largest=30 * MIB),
        senders=1,
    )
    scenario = replace(scenario, streams=(*scenario.streams, elephant))
    run = watch(scenario, seed)
    most = 0
    for moment in run.moments:
        most = max(most, moment.limit)
        assert moment.elephants <= max(1, most // 4)
    clinical = run.result.of_stream("clinical")
    rate = capacity(scenario.backend) * 0.8 * 0.05
    bound = first_wait(6, 0.52, rate)  # six servers at least are free of elephants
    assert clinical.wait.quantile(0.99) <= 2 * bound.percentile(0.99)
    best = oracle(scenario, seed).of_stream("clinical")
    assert clinical.sojourn.quantile(0.99) <= 2 * best.sojourn.quantile(0.99)


@SEEDS
def test_the_limit_follows_a_capacity_that_comes_and_goes(seed: int) -> None:
    steps = ((CALM, 300.0, 8), (300.0, 500.0, 4), (500.0, 800.0, 1), (800.0, 1000.0, 8))
    run = watch(
        world(
            "steps",
            load=1.2,
            duration=1000.0,
            settle=7200.0,
            factors=_after_calm((800.0, 1e9, 0.4)),
            changes=(
                Change(start=300.0, end=500.0, servers=0.5),
                Change(start=500.0, end=800.0, servers=0.125),
            ),
        ),
        seed,
    )
    for start, end, servers in steps:
        settled = start + 10 * max(1.0, 30 / (2 * servers))  # ten windows of thirty messages
        limit = run.mean_limit(settled, end)
        assert servers <= limit <= 1.5 * (servers + QUEUE), (start, limit)
        assert run.result.work_ratio_between(settled, end) >= 0.95, start
    run.assert_recovers(800.0)
    run.assert_nobody_loses()


@SEEDS
@pytest.mark.parametrize("seconds", [60.0, 600.0])
def test_a_stall_is_seen_without_an_answer_and_nothing_is_sent_twice(
    seed: int, seconds: float
) -> None:
    stall, healed = 240.0, 240.0 + seconds
    run = watch(
        world(
            "stall",
            load=0.9,
            duration=healed + 60.0,
            settle=7200.0,
            factors=phases((healed, healed + 60.0, 0.5)),
            changes=(Change(start=stall, end=healed, speed=0.0),),
        ),
        seed,
    )
    assert min(moment.limit for moment in run.between(stall, stall + 15)) <= LOWEST
    result = run.result
    if seconds < run.scenario.dot_timeout:
        assert sum(part.sent_again + part.duplicates for part in result.classes) == 0
    drained = {part.name: part.drained_at or 0.0 for part in result.classes}
    assert drained["clinical"] == min(drained.values())
    run.assert_recovers(healed)
    run.assert_nobody_loses()


@SEEDS
def test_a_server_that_refuses_is_probed_and_comes_back_to_one_message_at_a_time(
    seed: int,
) -> None:
    away, back = 180.0, 780.0
    run = watch(
        world(
            "refusing",
            load=0.6,
            duration=back + 120.0,
            settle=7200.0,
            changes=(Change(start=away, end=back, is_refusing=True),),
        ),
        seed,
    )
    # A probe every 30 s, 24 s by jitter; 1, 2, 4, 8 and 16 s at the beginning.
    assert run.counted("attempts", away + 5, back) <= (back - away) / 24 + 5
    found = next(moment for moment in run.moments if moment.time > back and moment.in_flight)
    assert found.in_flight <= LOWEST
    most = LOWEST + 2.0  # and from here half as much again in a second, at most
    for moment in run.between(found.time + 1, found.time + 10):
        most *= 1.5
        assert moment.in_flight <= most, moment.time
    run.assert_recovers(found.time)
    run.assert_nobody_loses()


@SEEDS
def test_a_cap_of_ten_connections_is_kept_to_and_its_doubling_found(seed: int) -> None:
    raised, end = 700.0, 2700.0
    model = backend(servers=32, base=1.0, connections_max=10)
    run = watch(
        world(
            "capped",
            load=1.2,
            duration=end,
            model=model,
            factors=(*_after_calm(), *phases((raised, end, 1.5))),
            changes=(Change(start=raised, connections_max=20),),
        ),
        seed,
    )
    result = run.result
    assert result.refused_ratio < 0.001, f"{result.refused} of {result.attempts}"
    # Later than the first looks at the unloaded server, which come soon after one another.
    assert result.work_ratio_between(600.0, raised) >= 0.97
    assert max(moment.limit for moment in run.between(raised, end)) >= 20


@SEEDS
def test_full_mailboxes_are_their_owners_trouble_and_not_the_servers(seed: int) -> None:
    full, end = 300.0, 600.0
    run = watch(
        world(
            "full mailboxes",
            load=1.2,
            duration=end,
            settle=3600.0,
            factors=_after_calm(),
            changes=(Change(start=full, end=end, full_share=0.3),),
        ),
        seed,
    )
    before, during = run.mean_limit(180.0, full), run.mean_limit(full + 30, end)
    assert during >= 0.8 * before
    result = run.result
    # 30 s after each failure at least, a tenth of the attempts at most, and the last round.
    assert result.retries <= 0.1 * result.attempts + sum(p.messages for p in result.classes) * 0.3
    for part in result.classes:
        assert part.delivered + part.bounced + part.in_spool == part.offered, part


@SEEDS
def test_one_slow_database_of_five_starves_nobody(seed: int) -> None:
    model = backend(base=0.2, slow_share=0.2, slow_factor=10.0)
    scenario = world("slow database", load=0.55, duration=600.0, model=model, factors=_after_calm())
    run = watch(scenario, seed)
    assert run.result.work_ratio_between(CALM + 60, 600.0) >= 0.90
    clinical = run.result.of_stream("clinical")
    objective = next(each.objective for each in CLASSES if each.rank == 0)
    assert clinical.sojourn.quantile(1.0) <= objective


@SEEDS
def test_a_server_that_is_slower_for_good_gets_its_share_back_in_two_epochs(seed: int) -> None:
    slower, end = 480.0, 1980.0
    changes = (Change(start=slower, speed=1 / 1.3),)
    scenario = world(
        "slower",
        load=1.5,
        duration=end,
        model=backend(base=1.0),
        factors=_after_calm(),
        changes=changes,
    )
    run = watch(scenario, seed, controller="mailshed-inner")  # the slow loop has its own way down
    before, after = run.mean_limit(240.0, slower), run.mean_limit(slower + 1200, end)
    assert after >= 0.8 * before
    assert run.result.work_ratio_between(slower + 300, end) >= 0.95


@SEEDS
def test_mail_that_was_turned_away_comes_back_as_a_wave_that_breaks(seed: int) -> None:
    healed = 600.0
    herd = ClientBehaviour(retry_min=300.0, retry_max=300.0, is_synchronised=True)
    scenario = world(
        "wave",
        load=0.6,
        duration=healed + 60.0,
        settle=14400.0,
        factors=phases((CALM, healed, 3.0)),
        stream={"client": herd},
        spool=SpoolModel(messages_max=3000),
    )
    run = watch(scenario, seed)
    deferred = sum(part.deferred for part in run.result.classes)
    assert deferred > 1000, "there was no wave"
    assert run.result.of_class("clinical").deferred == 0
    run.assert_nobody_loses()
    run.assert_recovers(healed, pause=herd.retry_max)  # whoever is turned away last rests so long


@SEEDS
def test_a_flood_of_clinical_mail_from_one_sender_stops_nobody_elses(seed: int) -> None:
    scenario = world("flood", load=0.6, duration=300.0, settle=3600.0)
    flood = Stream(
        name="flood",
        traffic_class="clinical",
        rate=100 * scenario.streams[0].rate,
        begins=CALM,
        ends=240.0,
        senders=1,
    )
    run = watch(replace(scenario, streams=(*scenario.streams, flood)), seed)
    clinical = run.result.of_stream("clinical")
    assert clinical.sojourn.quantile(0.99) <= 10.0
    run.assert_nobody_loses()


@SEEDS
def test_a_wall_clock_that_jumps_changes_no_decision_about_load(seed: int) -> None:
    def prepare(simulation: Simulation) -> None:
        agenda = simulation.agenda

        def jump(seconds: float) -> None:
            agenda._wall_offset += seconds

        agenda.after(200.0, jump, 300.0)
        agenda.after(260.0, jump, -600.0)

    # What is to be tried again has its time by the wall clock, and waits as long as that went back.
    scenario = world("clock", load=1.5, duration=330.0, settle=1500.0, factors=_after_calm())
    still, run = watch(scenario, seed), watch(scenario, seed, prepare=prepare)
    as_usual = still.result.work_ratio_between(CALM, 330.0)
    assert run.result.work_ratio_between(CALM, 330.0) == pytest.approx(as_usual, abs=0.03)
    assert run.mean_limit(CALM, 330.0) == pytest.approx(still.mean_limit(CALM, 330.0), rel=0.1)
    run.assert_nobody_loses()


@SEEDS
def test_a_quiet_night_leaves_the_limit_ready_for_the_morning(seed: int) -> None:
    morning = 2 * 3600.0
    day = capacity(backend())
    night = 0.05 / (2 * day)
    run = watch(
        world(
            "night",
            load=2.0,
            duration=morning + 120.0,
            factors=phases((200.0, morning, night)),
        ),
        seed,
    )
    dark = run.between(1800.0, morning)
    assert min(moment.limit for moment in dark) >= LOWEST
    assert max(moment.backlog for moment in dark) == 0
    result = run.result
    assert result.work_ratio_between(morning + 10, morning + 120) >= 0.98
