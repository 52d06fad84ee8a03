"""A run: `run(scenario, seed, limit=...)` gives a `Result`, the same for the same three.

    result = run(scenario, seed=1, limit=fixed(20))
    result.of_class("clinical").sojourn.quantile(0.99)
    result.work_ratio            # done, of what an ideal mail server would have done

The messages of all streams meet the service's own objects in front of a model of a mail server
(`backends`), on a clock that events move (`agenda`). `front` is the path of live messages, `drain`
the way out of the spool, `door` the gate, `relay` the transactions. Four times a second of virtual
time the station is told that time passes, as the control loop does it.

The limit is made for each run by a `LimitFactory`, which is shown the scenario and the model of the
mail server, so that an oracle can be made that knows its capacity. With `is_fifo` all mail waits in
one class, first come, first served, as in a relay that knows of no classes; the books still tell
the classes apart.

Invariants are checked at every step (`invariants`); a violation raises `Violated`.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import inf
from random import Random

from mailshed.control.limit import FixedLimit, Limit
from mailshed.outlook import load_ratios
from mailshed.simulation.agenda import MONOTONIC_START, Agenda
from mailshed.simulation.arrivals import Arrivals
from mailshed.simulation.backends import Backend
from mailshed.simulation.clients import Sender, senders
from mailshed.simulation.door import Door
from mailshed.simulation.drain import Drain
from mailshed.simulation.front import Front
from mailshed.simulation.invariants import AUDIT_EVERY, Violated, Where, demand
from mailshed.simulation.ledger import Account, Ledger
from mailshed.simulation.mail import Answer, Job, Mail, Place
from mailshed.simulation.relay import Relay
from mailshed.simulation.result import Result, Trace, result_of
from mailshed.simulation.scenario import Scenario
from mailshed.terms import TrafficClass
from mailshed.work import Slot

TICK = 0.25
"""Seconds between two ticks, as in the service."""
IDLE_TICK = 1.0
"""The same while there is no mail at all: nights are long."""
PROGRESS_EVERY = 1000
"""Events between two reports of progress."""
PRESSURE_EVERY = 1.0
"""Seconds between two pictures of how full the service is."""
SETTLE_LOOK = 1.0
"""Seconds between two looks whether all mail has arrived."""

LimitFactory = Callable[[Scenario, Backend], Limit]


def fixed(slots: int) -> LimitFactory:
    """A limit that an operator set."""
    return lambda _scenario, _backend: FixedLimit(slots)


def run(
    scenario: Scenario,
    seed: int,
    *,
    limit: LimitFactory | None = None,
    is_fifo: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Result:
    """Run it; `limit` None: as many slots as the scenario allows.

    `progress` is told, now and then, which share of the time has passed.
    """
    simulation = Simulation(scenario, seed, limit or fixed(scenario.in_flight_max), is_fifo=is_fifo)
    return simulation.run(progress)


class Simulation:
    """One run, for those who want to look inside."""

    def __init__(
        self, scenario: Scenario, seed: int, limit: LimitFactory, *, is_fifo: bool = False
    ) -> None:
        self.scenario = scenario
        self.seed = seed
        agenda = self.agenda = Agenda(scenario.start_wall)
        by_name = scenario.by_name
        self.ledger = Ledger(
            Account(stream, by_name[stream.traffic_class]) for stream in scenario.streams
        )
        self.relay = Relay(scenario, agenda)
        self.backend = self.relay.backend
        rng = Random(f"{seed}/station")  # noqa: S311 - chance that can be repeated
        self.drain = Drain(scenario, agenda, self.ledger, self.relay, rng)
        self.front = Front(scenario, agenda, self.ledger, self.relay, keep=self.drain.keep)
        self.limit = limit(scenario, self.backend)
        self.door = Door(
            agenda,
            self.limit,
            rng,
            on_slot=self._on_slot,
            on_none=self.front.on_none,
            ask=self.backend.ask,
        )
        self.front.door = self.drain.door = self.relay.door = self.door
        self.relay.adopt = self._adopt
        self.relay.on_left = self.front.on_left
        self.relay.on_end = self._on_end
        self.station = self.door.station
        self.station.is_observing = scenario.admission.is_observing
        self._one_class = _one_class(scenario) if is_fifo else None
        classes = scenario.classes if self._one_class is None else (self._one_class,)
        self.station.shedding.classes = classes
        self.drain.open_lanes(classes)
        self.station.shedding.classes = scenario.classes
        self.trace = Trace(scenario.sample_every)
        self.events = 0
        self.saturation = 0.0
        """Of the service, as far as it is simulated."""
        self._next_sample = self._next_pressure = 0.0
        self._peak_at = 0.0
        self.empty_at: float | None = 0.0
        """When, after the peak of what is to be done, no mail was in the spool any more, nor with a
        sender that was told 4xx."""
        self._close = MONOTONIC_START + scenario.duration
        for number, account in enumerate(self.ledger.accounts):
            self._open_stream(number, account)
        agenda.after(TICK, self._tick, None)

    def run(self, progress: Callable[[float], None] | None = None) -> Result:
        """Run to the end; see `run`."""
        try:
            with _without_collector():
                self._run(progress)
        except Violated as error:
            where = Where(self.scenario.name, self.seed, self.agenda.elapsed)
            raise Violated(f"{where}: {error}") from error
        return result_of(self)

    def _run(self, progress: Callable[[float], None] | None) -> None:
        agenda, scenario = self.agenda, self.scenario
        longest = scenario.duration + scenario.settle
        self._go_on(self._close, progress, longest)
        self.trace.close(self.ledger, self.backend.done_work)
        end = self._close + scenario.settle
        while self.ledger.open and agenda.now < end:
            self._go_on(min(end, agenda.now + SETTLE_LOOK), progress, longest)
        self.ledger.audit()
        if progress is not None:
            progress(1.0)

    def _go_on(
        self, until: float, progress: Callable[[float], None] | None, longest: float
    ) -> None:
        """Let everything happen until then, and look at each step whether all is well."""
        step, station, under_way = self.agenda.step, self.station, self.relay.under_way
        events, audit_at = self.events, self.events + AUDIT_EVERY
        before = station.in_flight
        while step(until):
            events += 1
            in_flight = station.in_flight
            if in_flight > before or in_flight != len(under_way):
                self._look_again(in_flight)
            before = in_flight
            if events % PROGRESS_EVERY == 0 and progress is not None:
                progress(self.agenda.elapsed / longest)
            if events >= audit_at:
                audit_at += AUDIT_EVERY
                self.ledger.audit()
        self.events = events

    def _look_again(self, in_flight: int) -> None:
        """More is in flight than before; less may still be more than a fallen ceiling."""
        ceiling, under_way = self.limit.ceiling, len(self.relay.under_way)
        demand(in_flight == under_way, f"{in_flight} slots in use, {under_way} transactions")
        demand(in_flight <= ceiling, f"{in_flight} in flight where {ceiling} are allowed")

    # What happens.

    def _open_stream(self, number: int, account: Account) -> None:
        stream, scenario = account.stream, self.scenario
        rng = Random(f"{self.seed}/{stream.name}")  # noqa: S311 - as above
        hosts = senders(stream, number, rng)
        arrivals = Arrivals(stream, scenario.backend, rng, scenario.start_wall)
        self._plan(arrivals, account, hosts)

    def _plan(self, arrivals: Arrivals, account: Account, hosts: tuple[Sender, ...]) -> None:
        """Enter the next message of a stream."""
        when = MONOTONIC_START + arrivals.next_time()
        if when < self._close:
            self.agenda.at(when, partial(self._arrive, arrivals, account), hosts)

    def _arrive(self, arrivals: Arrivals, account: Account, hosts: tuple[Sender, ...]) -> None:
        letter, agenda = arrivals.letter(), self.agenda
        recipients = account.stream.recipients
        traffic_class = self._one_class or account.traffic_class
        mail = Mail(
            account,
            hosts[letter.host],
            traffic_class,
            letter,
            recipients,
            agenda.now,
            agenda.wall,
        )
        work = self.scenario.backend.work(letter.size, recipients) * letter.noise
        self.ledger.arrived(mail, work)
        self.front.submit(mail)
        self._plan(arrivals, account, hosts)

    def _on_slot(self, mail: Mail, slot: Slot) -> None:
        if mail.is_live:
            self.front.on_slot(mail, slot)
        else:
            self.drain.on_slot(mail, slot)

    def _on_end(self, job: Job, answer: Answer) -> None:
        if job.mail.is_live:
            self.front.on_end(job, answer)
        else:
            self.drain.on_end(job, answer)

    def _adopt(self, mail: Mail) -> bool:
        """A client is to have its reply, and our final dot is out; False if there is no room."""
        if self.front.spool_fill() >= 1.0 and mail.traffic_class.rank > 0:
            return False
        self.drain.adopt(mail)
        return True

    def _tick(self, _: None) -> None:
        """Let time be seen to pass."""
        agenda, ledger = self.agenda, self.ledger
        self.relay.look()
        self.door.tick(has_spooled=self.drain.has_due)
        ledger.fluid.update(agenda.elapsed, self.backend.capacity)
        if agenda.elapsed >= self._next_pressure:
            self._next_pressure = agenda.elapsed + PRESSURE_EVERY
            self._note_pressure()
        if ledger.fluid.peak_at != self._peak_at:
            self._peak_at, self.empty_at = ledger.fluid.peak_at, None
        if self.empty_at is None and not (ledger.spool_messages or ledger.total(Place.SENDER)):
            self.empty_at = agenda.elapsed
        if agenda.elapsed >= self._next_sample:
            self._next_sample += self.trace.every
            self.trace.add(self)
        agenda.after(TICK if ledger.open else IDLE_TICK, self._tick, None)

    def _note_pressure(self) -> None:
        """Say how full the service is, as the control loop does it with the latest picture."""
        now, station = self.agenda.now, self.station
        shedding, is_away = station.shedding, station.breaker.is_open
        ratios = load_ratios(
            shedding,
            station.reading(now),
            self.drain.totals(),
            shedding.classes,
            is_away=is_away,
            now=now,
            wall=self.agenda.wall,
        )
        self.saturation = max(*ratios.values(), self.front.spool_fill())
        shedding.note_saturation(self.saturation, now, is_away=is_away)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Spare the search for cyclic garbage: a run makes none, and a backlog is much to search."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _one_class(scenario: Scenario) -> TrafficClass:
    """For all mail, where classes are not told apart; it waits as the first class does not."""
    last = max(scenario.classes, key=lambda each: each.rank)
    return replace(last, name="all", rank=1, threshold=1.0, guarantee=0.0, objective=inf)
