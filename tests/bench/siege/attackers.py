"""The slow clients: the C program, started and listened to."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.siege.scenarios import Scenario
from tests.bench.tools import build
from tests.support.processes import Process

PROGRAM = "slow_clients"


@dataclass(frozen=True, slots=True)
class Tally:
    """What has become of the clients of one kind so far."""

    connected: int
    let_in: int
    turned_away: int
    thrown_out: int
    longest: float
    """Seconds that one had lasted which was thrown out."""


@dataclass(frozen=True, slots=True)
class Attackers:
    """The clients while they run."""

    process: Process

    def tallies(self) -> Mapping[str, Tally]:
        """How the kinds stand, by letter; empty in the first second."""
        lines = self.process.log_text.splitlines(keepends=True)
        whole = [line for line in lines if line.startswith("{") and line.endswith("}\n")]
        if not whole:
            return {}
        kinds: Mapping[str, Any] = json.loads(whole[-1])["kinds"]
        return {kind: Tally(**numbers) for kind, numbers in kinds.items()}


@contextmanager
def attackers(
    scenario: Scenario, port: int, tls_port: int, seconds: float, folder: Path
) -> Iterator[Attackers]:
    """Let them come for so many seconds; at the end they all go at once."""
    words = (port, tls_port, scenario.sessions, scenario.rate, seconds, scenario.pace * 1000)
    arguments = [*map(str, words), scenario.places, scenario.kinds]
    with Process([build(PROGRAM), *arguments], folder / "attackers.log") as process:
        yield Attackers(process)
