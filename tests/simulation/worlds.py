"""Scenarios: mail of a hospital in front of a mail server of eight processes.

Rates are a tenth of what such a server takes: half a second a message instead of 50 ms, so that an
hour of overload is a matter of seconds. What is measured in seconds by the service itself (probes,
breaker, patience) is not scaled.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mailshed.config.classes import classification_policy
from mailshed.config.shipped import shipped_configuration
from mailshed.simulation.agenda import Agenda
from mailshed.simulation.arrivals import mean_size
from mailshed.simulation.backends import Backend
from mailshed.simulation.scenario import (
    MONDAY,
    BackendModel,
    Change,
    ClientBehaviour,
    Factor,
    Scenario,
    Server,
    Sizes,
    Stream,
)
from mailshed.terms import ClientKind, TrafficClass

SERVERS = 8
SERVICE = 0.5
PER_MIB = 0.4
SIZES = Sizes()
MTA = ClientBehaviour()
USER_AGENT = ClientBehaviour(kind=ClientKind.USER_AGENT)

CLASSES: tuple[TrafficClass, ...] = classification_policy(shipped_configuration()).classes
"""As shipped."""
KINDS: Mapping[str, ClientBehaviour] = {
    "clinical": MTA,
    "personal": USER_AGENT,
    "application": MTA,
    "telework": USER_AGENT,
    "bulk": MTA,
}
MIX: Mapping[str, float] = {
    "clinical": 0.05,
    "personal": 0.25,
    "application": 0.10,
    "telework": 0.40,
    "bulk": 0.20,
}
"""The parts of the mail by class, where nothing else is said."""


def backend(**changes: Any) -> BackendModel:
    """The mail server: eight processes, each message in one of them, in the order of arrival."""
    model = BackendModel(servers=SERVERS, base=SERVICE, per_mib=PER_MIB)
    return replace(model, **changes)


def capacity(model: BackendModel, sizes: Sizes = SIZES) -> float:
    """Messages of these sizes that the server takes in a second, at its best."""
    at_best = Backend(model, Agenda(MONDAY), lambda _job, _answer: None).capacity
    return at_best / model.work(round(mean_size(sizes)), 1)


def streams(
    rate: float,
    mix: Mapping[str, float] = MIX,
    factors: Mapping[str, tuple[Factor, ...]] | None = None,
    **changes: Any,
) -> tuple[Stream, ...]:
    """A stream for each class of `mix`, `rate` messages a second in all."""
    return tuple(
        replace(
            Stream(
                name=name,
                traffic_class=name,
                rate=rate * share,
                client=KINDS[name],
                factors=() if factors is None else factors.get(name, ()),
            ),
            **changes,
        )
        for name, share in mix.items()
    )


def phases(*steps: tuple[float, float, float]) -> tuple[Factor, ...]:
    """From, until, so many times as much; each a piece of its own."""
    return tuple(Factor(start=start, end=end, factor=factor) for start, end, factor in steps)


def world(  # the one place where scenarios are made
    name: str,
    *,
    load: float,
    duration: float,
    settle: float = 0.0,
    model: BackendModel | None = None,
    mix: Mapping[str, float] = MIX,
    factors: tuple[Factor, ...] = (),
    changes: tuple[Change, ...] = (),
    stream: Mapping[str, Any] | None = None,
    **others: Any,
) -> Scenario:
    """Mail of `load` times what the server takes for `duration` seconds, times `factors`."""
    server = backend() if model is None else model
    return Scenario(
        name=name,
        duration=duration,
        settle=settle,
        classes=CLASSES,
        streams=streams(
            load * capacity(server),
            mix,
            dict.fromkeys(mix, factors),
            **(stream or {}),
        ),
        backend=replace(server, changes=changes),
        **others,
    )


MODELS: Mapping[str, BackendModel] = {
    "servers": backend(),
    "sharing": backend(server=Server.SHARING),
    "contended": backend(server=Server.CONTENDED),
    "disk": backend(servers=4, base=0.1, per_mib=2.0),
    "capped": backend(servers=32, connections_max=10),
    "tarpit": backend(tarpit_above=12, tarpit_seconds=5.0),
}
"""Kinds of mail servers: processes in line; cores shared by all; locks and a database; four disks
that are bound by octets; a cap on connections, answered 421; a tarpit at MAIL under load."""


def with_larger_mail(scenario: Scenario, since: float) -> Scenario:
    """The same, but from a moment on the smallest messages are twenty times as large.

    The largest stay: no server takes more. The mean is ten times what it was.
    """
    larger = Sizes(smallest=20 * SIZES.smallest, largest=SIZES.largest, shape=SIZES.shape)
    before = (replace(each, ends=since) for each in scenario.streams)
    after = (
        replace(each, name=f"{each.name}-large", begins=since, sizes=larger)
        for each in scenario.streams
    )
    return replace(scenario, streams=(*before, *after))
