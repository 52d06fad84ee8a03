"""All controllers by name, each with what it needs to be run: `CONTROLLERS`.

`mailshed` is the limit that the service runs. All of them hand out the slots of the same station,
so classes, reserve, thresholds and breaker are alike. `fifo` knows no classes, and the oracle's
classes have no thresholds, so that no slot is ever kept free for mail that does not come.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mailshed.control.adaptive import AdaptiveLimit
from mailshed.control.limit import FixedLimit, Limit
from mailshed.simulation.backends import Backend
from mailshed.simulation.controllers.aimd import AimdLimit
from mailshed.simulation.controllers.gradient2 import Gradient2Limit
from mailshed.simulation.controllers.oracle import OracleLimit
from mailshed.simulation.controllers.postfix import PostfixLimit
from mailshed.simulation.controllers.variants import WithoutOuterLoop, WithoutSizes
from mailshed.simulation.controllers.vegas import VegasLimit
from mailshed.simulation.engine import run
from mailshed.simulation.result import Result
from mailshed.simulation.scenario import Scenario

OURS = "mailshed"
ORACLE = "oracle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """How to make the limit of a run, and what it is, for people."""

    name: str
    explanation: str
    limit: Callable[[Scenario, Backend], Limit]
    is_fifo: bool = False
    is_conserving: bool = False
    """No class is kept from slots that nobody else uses."""

    def scenario(self, scenario: Scenario) -> Scenario:
        """The scenario as this one has it."""
        if not self.is_conserving:
            return scenario
        classes = (replace(each, threshold=1.0) for each in scenario.classes)
        return replace(scenario, classes=tuple(classes))

    def run(self, scenario: Scenario, seed: int) -> Result:
        """Run it."""
        return run(self.scenario(scenario), seed, limit=self.limit, is_fifo=self.is_fifo)


def _fixed(slots: int) -> Controller:
    return Controller(
        name=f"fixed-{slots}",
        explanation=f"{slots} slots",
        limit=lambda _scenario, _backend: FixedLimit(slots),
    )


def _oracle(_: Scenario, backend: Backend) -> Limit:
    return OracleLimit(lambda: backend.best_in_flight)


_ALL = (
    Controller(
        name=OURS,
        explanation="the adaptive limit of the service",
        limit=lambda scenario, _: AdaptiveLimit(highest=scenario.in_flight_max),
    ),
    Controller(
        name="mailshed-inner",
        explanation="the same without its slow loop",
        limit=lambda scenario, _: WithoutOuterLoop(highest=scenario.in_flight_max),
    ),
    Controller(
        name="mailshed-sizeless",
        explanation="the same, all messages expected to take as long",
        limit=lambda scenario, _: WithoutSizes(highest=scenario.in_flight_max),
    ),
    Controller(
        name="gradient2",
        explanation="Netflix's Gradient2",
        limit=lambda scenario, _: Gradient2Limit(ceiling=scenario.in_flight_max),
    ),
    Controller(
        name="vegas",
        explanation="Netflix's Vegas",
        limit=lambda scenario, _: VegasLimit(ceiling=scenario.in_flight_max),
    ),
    Controller(
        name="aimd",
        explanation="Netflix's AIMD, timeout 5 s",
        limit=lambda scenario, _: AimdLimit(ceiling=scenario.in_flight_max),
    ),
    Controller(
        name="postfix",
        explanation="Postfix's queue manager, feedback 1/concurrency",
        limit=lambda _scenario, _backend: PostfixLimit(),
    ),
    _fixed(4),
    _fixed(20),
    _fixed(100),
    Controller(
        name="fifo",
        explanation="first come, first served, by one who knows the server's capacity",
        limit=_oracle,
        is_fifo=True,
    ),
    Controller(
        name=ORACLE,
        explanation="rank 0 first, by one who knows the server's capacity: the bound",
        limit=_oracle,
        is_conserving=True,
    ),
)

CONTROLLERS: Mapping[str, Controller] = {each.name: each for each in _ALL}
