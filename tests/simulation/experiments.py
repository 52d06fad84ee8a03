"""What the controllers are compared by: ten experiments, on six kinds of mail servers.

The whole product would take days, so each experiment names the controllers that it can tell apart,
and the servers: the step to twice the capacity is tried on all kinds of them, the rest on eight
processes in line. `matrix` is what is run.

Each begins with a calm in which whoever learns can learn. `span` is the time in which work and
limit are measured.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from mailshed.simulation.controllers.registry import CONTROLLERS
from mailshed.simulation.scenario import (
    BackendModel,
    Change,
    ClientBehaviour,
    Scenario,
    SpoolModel,
)
from tests.simulation.worlds import MODELS, backend, phases, with_larger_mail, world

CALM = 180.0
HERD = ClientBehaviour(retry_min=300.0, retry_max=300.0, is_synchronised=True)
# Of a calm of 0.6: telework is a third of it, and doubles beside all other mail.
COVID_MIX = {
    "clinical": 0.06,
    "personal": 0.34,
    "application": 0.10,
    "telework": 0.33,
    "bulk": 0.17,
}
# 0.6 * (0.67 * 2.506 + 0.33 * 5.013) = 2.
COVID_OTHERS, COVID_TELEWORK = 2.506, 5.013


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One of them. `scenario` is made for a mail server."""

    name: str
    title: str
    scenario: Callable[[BackendModel], Scenario]
    span: tuple[float, float]
    controllers: tuple[str, ...]
    models: tuple[str, ...] = ("servers",)
    seeds_max: int = 1000
    """More seeds would cost more than they show."""
    healed: float | None = None
    """When the trouble is over and the backlog falls; None: not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run."""

    experiment: str
    model: str
    controller: str
    seed: int


_ALL = tuple(CONTROLLERS)
_USUAL = ("mailshed", "gradient2", "vegas", "aimd", "postfix", "oracle")
"""Postfix's feedback finds nothing to object to and stays at 20, so this is 20 slots as well."""


def _covid(model: BackendModel, *, step: float, after: float) -> Scenario:
    """A step to twice the capacity, in which telework has doubled beside all other mail."""
    end = CALM + step
    calm = world(
        "covid",
        load=0.6,
        duration=end + after,
        settle=3600.0 if after else 0.0,
        model=model,
        mix=COVID_MIX,
        stream={"senders": 10},
    )
    streams = []
    for stream in calm.streams:
        grown = COVID_TELEWORK if stream.name == "telework" else COVID_OTHERS
        factors = phases((CALM, end, grown), (end, 1e9, 2 / 3))
        streams.append(replace(stream, factors=factors))
    return replace(calm, streams=tuple(streams))


def _sizes(model: BackendModel) -> Scenario:
    small = world(
        "size shift",
        load=2.0,
        duration=660.0,
        model=model,
        factors=phases((0.0, CALM, 0.3)),
    )
    return with_larger_mail(small, 420.0)


def _steps(model: BackendModel) -> Scenario:
    return world(
        "capacity steps",
        load=1.2,
        duration=1180.0,
        model=model,
        factors=phases((0.0, CALM, 0.5)),
        changes=(
            Change(start=480.0, end=680.0, servers=0.5),
            Change(start=680.0, end=880.0, servers=0.125),
        ),
    )


def _stall(model: BackendModel) -> Scenario:
    return world(
        "stall",
        load=0.9,
        duration=600.0,
        settle=3600.0,
        model=model,
        factors=phases((0.0, CALM, 0.6), (360.0, 1e9, 0.6)),
        changes=(Change(start=300.0, end=360.0, speed=0.0),),
    )


def _refusals(model: BackendModel) -> Scenario:
    return world(
        "refusals",
        load=0.6,
        duration=1500.0,
        settle=7200.0,
        model=model,
        factors=phases((780.0, 1e9, 0.6)),
        changes=(Change(start=CALM, end=780.0, is_refusing=True),),
    )


def _cap(model: BackendModel) -> Scenario:
    return world(
        "cap",
        load=1.2,
        duration=4000.0,
        model=model,
        factors=phases((0.0, CALM, 0.5), (2000.0, 4000.0, 1.5)),
        changes=(Change(start=2000.0, connections_max=20),),
    )


def _mailboxes(model: BackendModel) -> Scenario:
    return world(
        "full mailboxes",
        load=1.2,
        duration=660.0,
        model=model,
        factors=phases((0.0, CALM, 0.5)),
        changes=(Change(start=360.0, full_share=0.3),),
    )


def _drain(model: BackendModel) -> Scenario:
    return world(
        "drain",
        load=2.0,
        duration=1300.0,
        settle=3600.0,
        model=model,
        factors=phases((0.0, CALM, 0.3), (480.0, 1e9, 0.3)),
    )


def _wave(model: BackendModel) -> Scenario:
    return world(
        "retry wave",
        load=0.6,
        duration=1500.0,
        settle=14400.0,
        model=model,
        factors=phases((CALM, 600.0, 4.0), (600.0, 1e9, 0.6)),
        stream={"client": HERD},
        spool=SpoolModel(messages_max=1500),
    )


EXPERIMENTS = {
    each.name: each
    for each in (
        Experiment(
            name="E1",
            title="ten minutes of twice the capacity, telework doubled, and back",
            scenario=lambda model: _covid(model, step=600.0, after=1400.0),
            span=(CALM, CALM + 600.0),
            controllers=_ALL,
            healed=CALM + 600.0,
        ),
        Experiment(
            name="E1m",
            title="the same step on other kinds of mail servers",
            scenario=lambda model: _covid(model, step=420.0, after=0.0),
            span=(CALM, CALM + 420.0),
            controllers=(
                "mailshed",
                "mailshed-inner",
                "mailshed-sizeless",
                "gradient2",
                "vegas",
                "postfix",
                "oracle",
            ),
            models=("sharing", "contended", "disk", "capped", "tarpit"),
        ),
        Experiment(
            name="E2",
            title="six hours of 1.5 times the capacity",
            scenario=lambda model: world("six hours", load=1.5, duration=21600.0, model=model),
            span=(3600.0, 21600.0),
            controllers=("mailshed", "mailshed-inner", "gradient2", "vegas", "oracle"),
            models=("slow",),
            seeds_max=4,
        ),
        Experiment(
            name="E3",
            title="twice the capacity, and mail becomes twenty times as large",
            scenario=_sizes,
            span=(CALM + 30, 660.0),
            controllers=(
                "mailshed",
                "mailshed-sizeless",
                "gradient2",
                "vegas",
                "oracle",
            ),
        ),
        Experiment(
            name="E4",
            title="eight servers, four, one, eight",
            scenario=_steps,
            span=(CALM + 30, 1180.0),
            controllers=("mailshed", "mailshed-inner", *_USUAL[1:]),
        ),
        Experiment(
            name="E5",
            title="a stall of a minute",
            scenario=_stall,
            span=(300.0, 600.0),
            controllers=_USUAL,
            healed=360.0,
        ),
        Experiment(
            name="E6",
            title="ten minutes without a connection",
            scenario=_refusals,
            span=(780.0, 1500.0),
            controllers=_USUAL,
            healed=780.0,
        ),
        Experiment(
            name="E7",
            title="ten connections at most, then twenty",
            scenario=_cap,
            span=(CALM + 60, 2000.0),
            controllers=("mailshed", "aimd", "postfix", "oracle"),
            models=("capped-slow",),
            seeds_max=5,
        ),
        Experiment(
            name="E8",
            title="three of ten mailboxes are full",
            scenario=_mailboxes,
            span=(390.0, 660.0),
            controllers=("mailshed", "gradient2", "vegas", "postfix", "oracle"),
        ),
        Experiment(
            name="E9",
            title="five minutes of twice the capacity, then the drain",
            scenario=_drain,
            span=(CALM + 30, 480.0),
            controllers=(
                "mailshed",
                "gradient2",
                "postfix",
                "fixed-4",
                "fifo",
                "oracle",
            ),
            healed=480.0,
        ),
        Experiment(
            name="E10",
            title="a full spool, and all that was turned away comes back every five minutes",
            scenario=_wave,
            span=(CALM + 30, 600.0),
            controllers=("mailshed", "gradient2", "vegas", "postfix", "oracle"),
        ),
    )
}

KINDS = {
    **MODELS,
    "slow": backend(base=4.0, per_mib=1.0),
    "capped-slow": backend(servers=32, base=1.0, connections_max=10),
}
"""The mail servers by name; two of them are slow, so that hours can pass."""


def matrix(seeds: int) -> Iterator[Cell]:
    """All runs, the long ones first."""
    names = sorted(EXPERIMENTS, key=lambda name: -_length(EXPERIMENTS[name]))
    for name in names:
        experiment = EXPERIMENTS[name]
        for seed in range(1, min(seeds, experiment.seeds_max) + 1):
            for model in experiment.models:
                for controller in experiment.controllers:
                    yield Cell(experiment=name, model=model, controller=controller, seed=seed)


def _length(experiment: Experiment) -> float:
    """About how many messages a run has."""
    scenario = experiment.scenario(KINDS[experiment.models[0]])
    return scenario.duration * sum(stream.rate for stream in scenario.streams)
