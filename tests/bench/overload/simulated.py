"""The same scenario in the simulator, to be set beside the sockets.

The simulated mailshed has the configuration of the real one, read by the same code, in front of a
model of the same server, and gets the very messages of the run at their times. So a gap is neither
chance nor another policy: it is what the simulator leaves out (the dialog, the way of a slot from
one message to the next, commits, the machine) or what the daemon does wrong.

A gap is the socket's figure over the simulator's, less one. One of more than a fifth is marked and
has to be explained.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from mailshed.config.load import load
from mailshed.config.schema import Config
from mailshed.policies import drain_policy, limit_for, live_policies
from mailshed.simulation.arrivals import Arrivals, Letter
from mailshed.simulation.clients import senders
from mailshed.simulation.engine import LimitFactory, Simulation
from mailshed.simulation.histogram import Histogram
from mailshed.simulation.scenario import (
    BackendModel,
    Change,
    ClientBehaviour,
    Scenario,
    Sizes,
    SpoolModel,
    Stream,
)
from mailshed.terms import ClientKind
from tests.bench.overload import bounds
from tests.bench.overload.backends import Kind
from tests.bench.overload.figures import Figures, ratio, sent_in
from tests.bench.overload.peers import LIMITS, mailshed
from tests.bench.overload.plan import CLIENT_PATIENCE, FULL, HALF, MIX, TOP, Plan
from tests.support.load import Message

if TYPE_CHECKING:
    from mailshed.simulation.ledger import Account

WIDE = 0.2
SETTLE = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One figure of one peer, simulated and measured."""

    backend: str
    peer: str
    name: str
    simulated: float
    measured: float

    @property
    def share(self) -> float:
        """How much more was measured than simulated."""
        return ratio(self.measured, self.simulated) - 1

    @property
    def is_wide(self) -> bool:
        """Whether the two disagree by more than can be left unexplained."""
        return not abs(self.share) <= WIDE


class _Given(Arrivals):
    """Messages that are given rather than drawn."""

    def __init__(self, messages: Sequence[Message], stream: Stream, scenario: Scenario) -> None:
        super().__init__(stream, scenario.backend, Random(0), scenario.start_wall)
        self._messages = messages
        self._next = 0

    def next_time(self) -> float:
        if self._next == len(self._messages):
            return float("inf")
        return self._messages[self._next].due

    def letter(self) -> Letter:
        message = self._messages[self._next]
        self._next += 1
        return Letter(len(message.wire), message.sender.encode(), 0, self._next, 1.0)


class _Replay(Simulation):
    """A run with given messages, by the names of the streams."""

    def __init__(
        self,
        scenario: Scenario,
        limit: LimitFactory,
        messages: Mapping[str, Sequence[Message]],
    ) -> None:
        self._messages = messages
        super().__init__(scenario, 1, limit)

    def _open_stream(self, number: int, account: "Account") -> None:
        stream = account.stream
        arrivals = _Given(self._messages[stream.name], stream, self.scenario)
        self._plan(arrivals, account, senders(stream, number, Random(number)))


def model_of(kind: Kind, plan: Plan) -> BackendModel:
    """The server as the simulator has it: constant service, weaker in the middle third.

    The Postfix makes messages wait before it greets, which no model of the simulator does; there
    they wait after the dot.
    """
    change = Change(
        start=plan.lead + plan.weak_from,
        end=plan.lead + plan.weak_until,
        servers=kind.weak.count / kind.normal.count,
        speed=kind.normal.service / kind.weak.service,
    )
    return BackendModel(
        servers=kind.normal.count,
        base=kind.normal.service,
        per_mib=0.0,
        per_recipient=0.0,
        noise=0.0,
        envelope=0.0,
        changes=(change,),
    )


def simulate(kind: Kind, plan: Plan, peer: str) -> dict[str, float]:
    """The figures of one mailshed, by the names that `measured` gives them."""
    messages: dict[str, list[Message]] = defaultdict(list)
    stretches = plan.stretches(kind.normal, kind.weak)
    for message in plan.warm_messages(kind.normal.rate):
        messages[f"{message.traffic_class}-warm"].append(message)
    for message in plan.messages(kind.normal.rate):
        name = f"{message.traffic_class}-{sent_in(message, stretches)}"
        messages[name].append(replace(message, due=message.due + plan.lead))
    with tempfile.TemporaryDirectory(prefix="mailshed-bench-") as folder:
        config = _configuration(kind, peer, Path(folder))
    scenario = _scenario(kind, plan, config, list(messages))
    section = config.backends[0]
    simulation = _Replay(scenario, lambda *_: limit_for(section), messages)
    simulation.run()
    accounts = simulation.ledger.accounts

    def sojourns(*names: str) -> Histogram:
        return Histogram.merged(each.sojourn for each in accounts if each.stream.name in names)

    figures = {}
    for name in MIX:
        times = sojourns(f"{name}-{FULL}", f"{name}-{HALF}")
        figures[f"{name} p50, s"] = times.quantile(0.5)
        figures[f"{name} p99, s"] = times.quantile(0.99)
    for stretch in (FULL, HALF):
        figures[f"{TOP} p99 at {stretch}, s"] = sojourns(f"{TOP}-{stretch}").quantile(0.99)
    last = max((each.drained_at or 0.0 for each in accounts), default=0.0) - plan.lead
    figures["goodput"] = len(plan.messages(kind.normal.rate)) / bounds.work_between(
        stretches, 0.0, last
    )
    figures["drain, s"] = last - plan.seconds
    return figures


def _configuration(kind: Kind, peer: str, folder: Path) -> Config:
    daemon = mailshed(LIMITS[peer], folder, 25, kind.normal.count)
    daemon.write_configuration()
    return load(daemon.configuration_file)


def _scenario(kind: Kind, plan: Plan, config: Config, names: Sequence[str]) -> Scenario:
    policies, drain = live_policies(config), drain_policy(config)
    section = config.backends[0]
    client = ClientBehaviour(kind=ClientKind.USER_AGENT, patience=CLIENT_PATIENCE)
    size = len(plan.messages(1.0)[0].wire)
    return Scenario(
        name=kind.name,
        duration=plan.lead + plan.seconds,
        settle=SETTLE,
        classes=drain.classification.classes,
        streams=tuple(
            Stream(
                name=name,
                traffic_class=name.partition("-")[0],
                rate=1.0,
                sizes=Sizes(smallest=size, largest=size),
                senders=1,
                client=client,
            )
            for name in names
        ),
        backend=model_of(kind, plan),
        spool=SpoolModel(retry=drain.retry),
        admission=policies.admission,
        in_flight_max=section.in_flight_max,
        respond_by=policies.respond_by,
        respond_by_user_agent=policies.respond_by_user_agent,
        command_timeout=section.command_timeout,
        dot_timeout=section.dot_timeout,
    )


def measured(figures: Figures) -> dict[str, float]:
    """The figures of a run that the simulator has as well."""
    found = {}
    for name, row in figures.classes.items():
        found[f"{name} p50, s"] = row.delays.p50
        found[f"{name} p99, s"] = row.delays.p99
    for stretch in (FULL, HALF):
        found[f"{TOP} p99 at {stretch}, s"] = figures.top.by_stretch[stretch].p99
    return found | {"goodput": figures.goodput, "drain, s": figures.drain}


def compare(kind: Kind, plan: Plan, results: Sequence[Figures]) -> Iterator[Gap]:
    """All gaps of the runs of mailshed before one kind of server."""
    for figures in results:
        if figures.peer in LIMITS:
            sockets = measured(figures)
            for name, value in simulate(kind, plan, figures.peer).items():
                yield Gap(
                    backend=kind.name,
                    peer=figures.peer,
                    name=name,
                    simulated=value,
                    measured=sockets[name],
                )
