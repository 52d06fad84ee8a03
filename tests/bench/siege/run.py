"""One scenario: the mail of a usual hour before the attack, during it and after it."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.siege.attackers import Tally, attackers
from tests.bench.siege.favour import favour
from tests.bench.siege.figures import Figures, Stretch, figures
from tests.bench.siege.scenarios import Scenario
from tests.bench.siege.site import site
from tests.bench.siege.watch import Watch
from tests.support.processes import resident_octets, resident_peak_octets


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """How long each is, in seconds; that of the attack is the scenario's."""

    warm_up: float = 5.0
    before: float = 30.0
    after: float = 15.0


def measure(
    scenario: Scenario, phases: Phases, folder: Path, *, is_favoured: bool = False
) -> Figures:
    """Run it; favoured, before other work of the machine."""
    limits, tls = (
        {"sessions_max": scenario.sessions_max},
        {"handshakes_max": scenario.handshakes_max},
    )
    with site(folder, limits, tls) as place:
        if is_favoured:
            favour(os.getpid(), place.daemon.pid, place.sink_pid)
        at_rest = resident_octets(place.daemon.pid)
        seconds = phases.warm_up + phases.before + scenario.seconds + phases.after
        began = time.time()
        load = place.load(seconds)
        watch = Watch(place.daemon).start()
        try:
            _sleep_until(began + phases.warm_up + phases.before)
            attacked = time.time()
            with attackers(
                scenario, place.daemon.port, place.tls_port, scenario.seconds, folder
            ) as crowd:
                if is_favoured:
                    favour(crowd.process.pid)
                _sleep_until(attacked + scenario.seconds)
                left = time.time()
                crowd.process.wait()
            tallies: dict[str, Tally] = dict(crowd.tallies())
            outcomes = load.join()
        finally:
            looks = watch.stop()
        peak = resident_peak_octets(place.daemon.pid)
        assert place.daemon.terminate() == 0
    return figures(
        scenario,
        outcomes,
        looks,
        before=Stretch(began + phases.warm_up, attacked),
        attack=Stretch(attacked, left),
        after=Stretch(left, began + seconds),
        tallies=tallies,
        at_rest=at_rest,
        peak=peak,
    )


def _sleep_until(when: float) -> None:
    time.sleep(max(0.0, when - time.time()))
