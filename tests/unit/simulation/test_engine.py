"""Whole runs: nothing is lost, the same seed gives the same bytes, and a fault does not pass."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailshed.control.adaptive import AdaptiveLimit
from mailshed.control.limit import FixedLimit, Limit, SlotEnding
from mailshed.simulation.backends import Backend
from mailshed.simulation.engine import Simulation, fixed, run
from mailshed.simulation.invariants import Violated
from mailshed.simulation.mail import Place
from mailshed.simulation.scenario import Scenario
from tests.support.builders import BULK, CLINICAL, PERSONAL
from tests.support.simulated import SECOND, mixed, places, scenario, simulate, stream, total

ROOT = Path(__file__).parents[3]


def adaptive(made: Scenario, _: Backend) -> Limit:
    return AdaptiveLimit(highest=made.in_flight_max)


def test_all_mail_of_a_quiet_day_is_relayed_at_once() -> None:
    result = run(scenario(*mixed(0.5)), 1, limit=fixed(8))
    assert result.is_drained
    for part in result.classes:
        assert part.delivered == part.offered > 0
    clinical = result.of_class("clinical")
    assert clinical.relayed == clinical.messages
    assert clinical.sojourn.quantile(0.5) == pytest.approx(1.0, rel=0.02)


def test_twice_too_much_mail_is_spooled_delivered_and_never_refused() -> None:
    faster = replace(SECOND, servers=8, base=0.5)
    result = run(scenario(*mixed(8.0), duration=60.0, backend=faster), 1, limit=fixed(8))
    assert result.is_drained
    assert total(result, "deferred") == total(result, "errors") == 0
    assert total(result, "spooled") > 0.3 * total(result, "messages")
    assert result.work_ratio > 0.97
    clinical, bulk = result.of_class("clinical"), result.of_class("bulk")
    assert clinical.sojourn.quantile(0.99) < 5.0 < bulk.sojourn.quantile(0.5)
    for part in result.classes:
        assert part.delivered == part.offered
        assert part.duplicates == part.sent_again == 0


def test_a_run_that_ends_early_still_knows_where_everything_is() -> None:
    result = run(scenario(*mixed(3.0), settle=0.0), 1, limit=fixed(4))
    assert not result.is_drained
    assert result.drain_time == float("inf")
    for part in result.classes:
        assert places(part) == part.offered
    assert total(result, "in_spool") > 0


def test_the_same_seed_gives_the_same_bytes() -> None:
    made = scenario(*mixed(1.5), duration=50.0)
    one, same, other = (run(made, seed, limit=adaptive).to_json() for seed in (3, 3, 4))
    assert one == same
    assert one != other


_PRINT_A_RUN = """
from mailshed.simulation.engine import run
from tests.unit.simulation.test_engine import adaptive, mixed, scenario
print(run(scenario(*mixed(1.5), duration=30.0), 3, limit=adaptive).to_json())
"""


def test_the_bytes_do_not_depend_on_how_the_process_hashes() -> None:
    outputs = set()
    for hash_seed in ("0", "4242"):
        environment = dict(os.environ, PYTHONHASHSEED=hash_seed)
        done = subprocess.run(
            [sys.executable, "-c", _PRINT_A_RUN],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            check=True,
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_controllers_are_compared_on_the_same_mail() -> None:
    made = scenario(*mixed(1.5))
    few, many = run(made, 1, limit=fixed(2)), run(made, 1, limit=fixed(8))
    for one, other in zip(few.classes, many.classes, strict=True):
        assert (one.offered, one.work_offered) == (other.offered, other.work_offered)


def test_a_limit_sees_the_model_and_the_scenario() -> None:
    seen: list[tuple[Scenario, float]] = []

    def look(made: Scenario, backend: Backend) -> Limit:
        seen.append((made, backend.capacity))
        return FixedLimit(backend.best_in_flight)

    made = scenario(stream())
    assert run(made, 1, limit=look).limits() == (4, 4.0, 4)
    assert seen == [(made, 4.0)]


def test_without_a_limit_there_are_as_many_slots_as_the_scenario_allows() -> None:
    assert run(scenario(stream(), in_flight_max=5), 1).limits() == (5, 5.0, 5)


def test_fifo_knows_no_classes_and_its_books_do() -> None:
    made = scenario(*mixed(2.0))
    fifo = run(made, 1, limit=fixed(4), is_fifo=True)
    classes = run(made, 1, limit=fixed(4))
    slowest = classes.of_class("clinical").sojourn.quantile(0.5)
    assert fifo.of_class("clinical").sojourn.quantile(0.5) > 5 * slowest
    assert fifo.is_drained
    # First come, first served: by then, all classes have waited alike.
    clinical, bulk = fifo.of_class("clinical"), fifo.of_class("bulk")
    assert clinical.sojourn.mean == pytest.approx(bulk.sojourn.mean, rel=0.2)


def test_progress_is_told_up_to_the_end() -> None:
    told: list[float] = []
    run(scenario(*mixed(1.5)), 1, limit=fixed(4), progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) > 1


def test_more_in_flight_than_the_ceiling_is_a_violation_that_names_the_run() -> None:
    simulation = Simulation(scenario(stream(rate=8.0)), 9, fixed(4))
    simulation.limit = FixedLimit(1)  # not the one that the station goes by
    with pytest.raises(Violated, match=r"test, seed 9, after \d+\.\d+ s: 2 in flight where 1"):
        simulation.run()


def test_a_message_that_vanishes_is_a_violation() -> None:
    simulation = Simulation(scenario(*mixed(3.0)), 1, fixed(2))
    honest = simulation.front.on_none

    def forget(mail: Any) -> None:
        honest(mail)
        simulation.ledger.open.pop(mail)

    simulation.door._on_none = forget
    with pytest.raises(Violated, match="seed 1, after"):
        simulation.run()


def test_a_slot_that_is_never_given_back_is_a_violation() -> None:
    simulation = Simulation(scenario(stream(rate=2.0)), 1, fixed(4))
    release = simulation.station.release
    calls = iter(range(1000))

    def leak(slot: Any, ending: SlotEnding, *rest: Any) -> None:
        if next(calls) != 5:
            release(slot, ending, *rest)

    simulation.station.release = leak  # type: ignore[method-assign,assignment]
    with pytest.raises(Violated, match=r"\d+ slots in use, \d+ transactions"):
        simulation.run()


def test_clinical_mail_that_is_turned_away_is_a_violation() -> None:
    strange = replace(CLINICAL, rank=1, defer_fill=0.0, wait_max_mta=0.0)
    made = scenario(stream(CLINICAL, rate=9.0), classes=(strange, PERSONAL, BULK), duration=20.0)
    result = run(replace(made, settle=0.0), 1, limit=fixed(1))
    assert result.of_class("clinical").deferred > 0  # of rank 1, it may be
    simulation = Simulation(scenario(stream(CLINICAL, rate=9.0)), 1, fixed(1))
    mail = next(iter(_waiting(simulation)))
    with pytest.raises(Violated, match="clinical is told 4xx"):
        simulation.front._turn_away(mail)


def _waiting(simulation: Simulation) -> list[Any]:
    """Let time pass until somebody waits."""
    while not simulation.ledger.total(Place.HAND):
        simulation.agenda.step(float("inf"))
    return list(simulation.ledger.open)


def test_observing_relays_everything_in_turn() -> None:
    made = scenario(*mixed(1.2))
    observing = replace(made, admission=replace(made.admission, is_observing=True))
    result = run(observing, 1, limit=fixed(4))
    assert result.is_drained
    assert total(result, "deferred") == 0
    relayed = total(result, "relayed") / total(result, "messages")
    assert relayed > total(run(made, 1, limit=fixed(4)), "relayed") / total(result, "messages")


def test_an_idle_backend_is_looked_at_less_often() -> None:
    busy = simulate(stream(rate=4.0), duration=100.0)
    idle = simulate(stream(rate=0.0), duration=100.0)
    assert idle.events < 110 < busy.events
    assert SECOND.servers == 4
