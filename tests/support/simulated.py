"""Small runs of the simulator: scenarios of a few hundred messages, and transactions by hand."""

from dataclasses import replace
from typing import Any

from mailshed.control.limit import Flight
from mailshed.simulation.agenda import Agenda
from mailshed.simulation.arrivals import Letter
from mailshed.simulation.clients import senders
from mailshed.simulation.engine import LimitFactory, Simulation, fixed
from mailshed.simulation.ledger import Account
from mailshed.simulation.mail import Job, Mail
from mailshed.simulation.result import Part, Result
from mailshed.simulation.scenario import (
    MONDAY,
    BackendModel,
    Change,
    ClientBehaviour,
    Scenario,
    Sizes,
    Stream,
)
from mailshed.terms import ClientKind, TrafficClass
from mailshed.work import Slot
from tests.support.builders import BULK, CLASSES, CLINICAL, PERSONAL, TELEWORK

SMALL = Sizes(smallest=4096, largest=4096)
"""All messages of one size."""
USER_AGENT = ClientBehaviour(kind=ClientKind.USER_AGENT, patience=100.0)
DEVICE = ClientBehaviour(kind=ClientKind.DEVICE)
SECOND = BackendModel(servers=4, base=1.0, per_mib=0.0, noise=0.0)
"""A mail server that takes four messages a second, each in exactly one."""


def stream(traffic_class: TrafficClass = PERSONAL, rate: float = 1.0, **changes: Any) -> Stream:
    """Mail of one size, `rate` messages a second."""
    made = Stream(name=traffic_class.name, traffic_class=traffic_class.name, rate=rate, sizes=SMALL)
    return replace(made, **changes)


def mixed(load: float, **changes: Any) -> tuple[Stream, ...]:
    """Mail of four classes, `load` times what the backend `SECOND` takes."""
    parts = ((CLINICAL, 0.1), (PERSONAL, 0.3), (TELEWORK, 0.3), (BULK, 0.3))
    return tuple(stream(each, 4.0 * load * share, **changes) for each, share in parts)


def scenario(*streams: Stream, duration: float = 100.0, **changes: Any) -> Scenario:
    """A scenario in which all mail has time to arrive."""
    made = Scenario(
        name="test",
        duration=duration,
        settle=3600.0,
        classes=CLASSES,
        streams=streams,
        backend=SECOND,
        in_flight_max=8,
    )
    return replace(made, **changes)


def simulate(
    *streams: Stream, seed: int = 1, limit: LimitFactory | None = None, **changes: Any
) -> Simulation:
    """Run it to its end, and return it to be looked into."""
    made = scenario(*streams, **changes)
    simulation = Simulation(made, seed, limit or fixed(4))
    simulation.run()
    return simulation


def with_change(start: float, end: float, **what: Any) -> BackendModel:
    """`SECOND`, but different for a time."""
    return replace(SECOND, changes=(Change(start=start, end=end, **what),))


def total(result: Result, counter: str) -> int:
    """A counter over all classes."""
    return sum(getattr(part, counter) for part in result.classes)


def places(part: Part) -> int:
    """Recipients of a part, wherever they are."""
    here = part.in_spool + part.in_hand + part.with_sender
    return part.delivered + part.bounced + part.refused + here


def mail(traffic_class: TrafficClass = PERSONAL, *, recipients: int = 1, **changes: Any) -> Mail:
    """A message that has just been sent for the first time."""
    made = stream(traffic_class, recipients=recipients)
    account = Account(made, traffic_class)
    client = senders(made, 0, _Half())[0]  # type: ignore[arg-type]
    letter = Letter(size=4096, sender=b"a@example.org", host=0, mailbox=7, noise=1.0)
    agenda = Agenda(MONDAY)
    message = Mail(account, client, traffic_class, letter, recipients, agenda.now, agenda.wall)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def job(agenda: Agenda, *, demand: float = 1.0, **changes: Any) -> Job:
    """A transaction that has just begun."""
    message = mail()
    flight = Flight(4096, 1, is_first=False, started_at=agenda.now, in_flight=1)
    made = Job(
        message,
        Slot(message.traffic_class, flight),
        4096,
        (7,),
        1.0,
        is_partial_ok=False,
        started=agenda.now,
    )
    made.demand = demand
    for name, value in changes.items():
        setattr(made, name, value)
    return made


class _Half:
    """A generator whose every number is a half."""

    def random(self) -> float:
        """Return a half."""
        return 0.5
