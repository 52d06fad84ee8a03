"""The mail server as one of its clients sees it: connections, replies, and what goes wrong.

Around the service, which does the work, lies what a client meets before and beside it: a cap on
connections (421), a tarpit at MAIL, 452 when the server has too much to do, mailboxes that are full
or in a slow database, and a schedule of changes: fewer servers, slower ones, a stall, connections
refused. All of it is one `BackendModel`, so anything can be combined with anything.

A transaction ends by a call of `done`, at some later event. Our final dot goes out when MAIL, RCPT
and DATA are answered, which takes a part of the base work, or not at all while the server stalls.
Where the service makes a message wait, it does so after the dot: a mail server queues what it has.

The model knows its own capacity, which a real one does not: work in seconds of one server that it
can do in a second, and the fewest messages in flight with which it does.
"""

from collections.abc import Callable
from dataclasses import replace
from math import ceil, inf

from mailshed.control.breaker import Step
from mailshed.control.limit import SlotEnding
from mailshed.mail.delivery import Deferred, Delivered, DeliveryResult, StageTimes, everyone
from mailshed.mail.reply import make
from mailshed.simulation.agenda import MONOTONIC_START, Agenda
from mailshed.simulation.mail import Answer, Job
from mailshed.simulation.scenario import BackendModel, Change, Server
from mailshed.simulation.service import FifoServers, Service, SharedServer, contended, sharing
from mailshed.terms import Stage

CONNECT_SECONDS = 0.002
"""A greeting or a refusal takes so long."""
QUESTION_TIMEOUT = 10.0
"""So long we wait for the answer to a question, as in `mailshed.relay.call_ahead`."""

_TAKEN = Delivered(make(250, "2.0.0 Ok"))
_FULL = Deferred(Stage.RCPT, make(452, "4.2.2 Mailbox full"))
_OTHERS_REFUSED = Deferred(Stage.RCPT, None, "other recipients were refused")
_TOO_MANY = Deferred(Stage.CONNECT, make(421, "4.3.2 Too many connections"))
_NO_CONNECTION = Deferred(Stage.CONNECT, None, "connection refused")
_TOO_BUSY = Deferred(Stage.MAIL, make(452, "4.3.1 Insufficient system resources"))

Done = Callable[[Job, Answer], None]


class Backend:
    """The mail server. `done` is told of each transaction's end."""

    def __init__(self, model: BackendModel, agenda: Agenda, done: Done) -> None:
        self.model = model
        self._agenda = agenda
        self._tell = done
        self._service = _service(model, agenda, self._served)
        self._now = model
        """The model as the changes have it at the moment."""
        self._is_refusing = False
        self._speed = 1.0
        self._open: dict[Job, None] = {}
        """Transactions that have a connection, the oldest first; strays until they end."""
        self._in_service: set[Job] = set()
        self.refused = 0
        """Transactions that were told 421 or got no connection."""
        self.attempts = 0
        self.done_work = 0.0
        """Work of what was taken, in seconds of one server."""
        self._capacity = self._measure()
        for change in model.changes:
            for instant in (change.start, change.end):
                if instant < inf:
                    agenda.at(MONOTONIC_START + instant, self._change, instant)
        self._change(0.0)

    # What the oracle knows.

    @property
    def capacity(self) -> float:
        """The most work that it can do in a second now."""
        return self._capacity

    @property
    def best_in_flight(self) -> int:
        """The fewest messages in flight with which it does that much, one at least."""
        model = self._now
        best = ceil(
            self._service.best_in_flight * (1.0 + model.latency / model.work(16384, 1)) - 1e-9
        )
        caps = (model.connections_max, model.tarpit_above, model.busy_above)
        return max(1, min(best, *(cap for cap in caps if cap is not None), best))

    @property
    def in_flight(self) -> int:
        """Transactions that have a connection."""
        return len(self._open)

    # What happens.

    def start(self, job: Job) -> None:
        """Begin a transaction."""
        self.attempts += 1
        model = self._now
        if self._is_refusing:
            self._refuse(job, Answer(SlotEnding.REFUSED, (_NO_CONNECTION,), is_away=True))
            return
        if model.connections_max is not None and len(self._open) >= model.connections_max:
            self._refuse(job, Answer(SlotEnding.REFUSED, (_TOO_MANY,), is_away=True))
            return
        self._open[job] = None
        if model.busy_above is not None and len(self._open) > model.busy_above:
            self._agenda.after(model.base * model.envelope, self._too_busy, job)
            return
        if model.tarpit_above is not None and len(self._open) > model.tarpit_above:
            job.delay = model.tarpit_seconds
            job.dot_at = self._agenda.now + job.delay + model.base * model.envelope
            self._agenda.after(job.delay, self._enter, job)
        elif model.latency > 0:
            job.delay = 0.0
            job.dot_at = self._dot_at()
            self._agenda.after(model.latency, self._enter, job)
        else:
            job.dot_at = self._dot_at()
            self._enter(job)

    def ask(self, step: Step, done: Callable[[SlotEnding], None]) -> None:
        """Answer a question that is no message: EHLO, or MAIL and RSET."""
        cap = self._now.connections_max
        if self._is_refusing or (cap is not None and len(self._open) >= cap):
            self._agenda.after(CONNECT_SECONDS, done, SlotEnding.REFUSED)
        elif self._speed <= 0 and step is Step.MAIL:
            self._agenda.after(QUESTION_TIMEOUT, done, SlotEnding.STALLED)
        else:  # the greeting of a server that has stalled is its kernel's and a waiting process's
            self._agenda.after(CONNECT_SECONDS, done, SlotEnding.COMPLETED)

    def abort(self, job: Job) -> None:
        """We break a transaction off before our final dot: nothing comes of it."""
        job.is_gone = True
        self._open.pop(job, None)
        if job in self._in_service:
            self._in_service.remove(job)
            self._service.cancel(job)

    def _dot_at(self) -> float:
        if self._speed <= 0:
            return inf
        return self._agenda.now + self._now.base * self._now.envelope / self._speed

    def _refuse(self, job: Job, answer: Answer) -> None:
        self.refused += 1
        self._agenda.after(CONNECT_SECONDS, self._say, (job, answer))

    def _say(self, what: tuple[Job, Answer]) -> None:
        job, answer = what
        if not job.is_gone:
            results = answer.results * job.recipients
            self._tell(job, Answer(answer.ending, results, answer.times, answer.is_away))

    def _too_busy(self, job: Job) -> None:
        if not job.is_gone:
            del self._open[job]
            self._say((job, Answer(SlotEnding.BUSY, (_TOO_BUSY,), self._times(job))))

    def _enter(self, job: Job) -> None:
        """MAIL has been answered: RCPT is next, and then the work."""
        if job.is_gone:
            return
        model = self._now
        if model.full_share > 0 and self._speed > 0:
            full = model.full_share * model.mailboxes
            boxes = enumerate(job.mailboxes)
            job.full = tuple(at for at, box in boxes if box % model.mailboxes < full)
            if job.full and (len(job.full) == job.recipients or not job.is_partial_ok):
                job.dot_at = inf
                self._agenda.after(model.base * model.envelope, self._no_room, job)
                return
        job.demand = job.work = self.model.work(job.size, job.recipients) * job.noise
        self._in_service.add(job)
        self._service.start(job)

    def _no_room(self, job: Job) -> None:
        """Some mailboxes are full, so nothing is sent."""
        if job.is_gone:
            return
        del self._open[job]
        results: list[DeliveryResult] = [_OTHERS_REFUSED] * job.recipients
        for place in job.full:
            results[place] = _FULL
        self._tell(job, Answer(SlotEnding.RECIPIENT, tuple(results), self._times(job)))

    def _served(self, job: Job) -> None:
        """The service is done with it: it is delivered."""
        self._in_service.discard(job)
        del self._open[job]
        model = self._now
        self.done_work += job.work
        results: tuple[DeliveryResult, ...] = everyone(_TAKEN, job.recipients)
        if job.full:
            results = tuple(_FULL if at in job.full else _TAKEN for at in range(job.recipients))
        took = self._agenda.now - job.started
        envelope = model.base * model.envelope
        times = StageTimes(
            mail=min(took, job.delay + envelope / 2),  # MAIL is half of it, RCPT and DATA the rest
            envelope=min(took, job.delay + envelope),
            service=took,
        )
        self._tell(job, Answer(SlotEnding.COMPLETED, results, times))

    def _times(self, job: Job) -> StageTimes:
        took = self._agenda.now - job.started
        return StageTimes(mail=job.delay, envelope=took, service=took)

    # What changes.

    def _change(self, _: float) -> None:
        """Be as the changes have it now."""
        time = self._agenda.elapsed
        model, here = self.model, _in_force(self.model.changes, time)
        servers = model.servers
        if here.servers is not None:
            servers = max(1, round(model.servers * here.servers))
        speed = 1.0 if here.speed is None else here.speed
        self._is_refusing = bool(here.is_refusing)
        self._now = _changed(model, here)
        was_stalled, self._speed = self._speed <= 0, speed
        self._service.change(servers=servers, speed=speed)
        self._capacity = self._measure()
        if was_stalled and speed > 0:
            for job in self._open:  # the envelope is answered now
                if job.dot_at == inf and not job.full:
                    job.dot_at = self._dot_at()
        elif speed <= 0:
            for job in self._open:
                if job.dot_at > self._agenda.now:
                    job.dot_at = inf

    def _measure(self) -> float:
        """The most work that is done in a second, under all caps."""
        if self._is_refusing:
            return 0.0
        cap = self._now.connections_max
        share = 1.0 if cap is None else min(1.0, cap / max(1, self._service.best_in_flight))
        return self._service.capacity * share


def _service(model: BackendModel, agenda: Agenda, done: Callable[[Job], None]) -> Service:
    match model.server:
        case Server.FIFO:
            return FifoServers(agenda, done, model.servers)
        case Server.SHARING:
            return SharedServer(agenda, done, sharing, model.servers)
        case Server.CONTENDED:
            part = contended(model.contention, model.coherency)
            return SharedServer(agenda, done, part, model.servers)


def _in_force(changes: tuple[Change, ...], time: float) -> Change:
    """What all changes that hold at `time` make together."""
    merged: dict[str, object] = {}
    for change in changes:
        if change.start <= time + 1e-9 < change.end:
            for name in _NAMED:
                value = getattr(change, name)
                if value is not None:
                    merged[name] = value
    return Change(start=time, **merged)  # type: ignore[arg-type]


_NAMED = ("servers", "speed", "is_refusing", "connections_max", "full_share")


def _changed(model: BackendModel, change: Change) -> BackendModel:
    named = {
        name: value
        for name in ("connections_max", "full_share")
        if (value := getattr(change, name)) is not None
    }
    return replace(model, **named) if named else model
