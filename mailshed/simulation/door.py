"""The door to the mail server on the virtual clock: what `mailshed.relay.gate` is in the service.

The station inside is the very object that the service runs. Here is what the event loop does for
it there: those who wait are served when a slot is free, live mail gives up after a while, and a
server that is away is probed when it is time.
"""

from collections.abc import Callable
from functools import partial
from math import inf
from random import Random

from mailshed.control.breaker import BreakerState, Question, Step
from mailshed.control.limit import Limit, SlotEnding
from mailshed.mail.delivery import StageTimes
from mailshed.simulation.agenda import Agenda
from mailshed.simulation.mail import Mail
from mailshed.station import Station
from mailshed.work import Slot, Work

NO_TIMES = StageTimes()


class Door:
    """`on_slot` gets whoever is served after a wait, `on_none` live mail that is not.

    `ask` puts a question to a mail server that is away, and calls back with how it ended.
    """

    def __init__(
        self,
        agenda: Agenda,
        limit: Limit,
        rng: Random,
        *,
        on_slot: Callable[[Mail, Slot], None],
        on_none: Callable[[Mail], None],
        ask: Callable[[Step, Callable[[SlotEnding], None]], None],
    ) -> None:
        self.station: Station[Mail] = Station(limit)
        self.station.breaker.can_ask = True
        self._agenda = agenda
        self._rng = rng
        self._on_slot = on_slot
        self._on_none = on_none
        self._ask = ask
        self._waiting: dict[Mail, float] = {}
        """Until when live mail waits."""
        self._is_serving = False
        self._is_asked = False
        self._wake_at = inf

    def wait(self, mail: Mail, work: Work, seconds: float | None) -> None:
        """Let a message wait for which there is no slot; None: without bound."""
        agenda = self._agenda
        self.station.offer(mail, work, agenda.now, agenda.wall)
        if seconds is not None:
            until = self._waiting[mail] = agenda.now + seconds
            agenda.at(until, self._give_up, mail)
        if self.station.breaker.state is not BreakerState.CLOSED:
            self.serve()  # a probe may be due; otherwise nobody has a better claim than before

    def release(self, slot: Slot, ending: SlotEnding, times: StageTimes) -> None:
        """Take a slot back, and hand it on."""
        jitter = 0.0 if ending is SlotEnding.COMPLETED else self._rng.random()
        self.station.release(slot, ending, times, self._agenda.now, jitter)
        if self.station.waiting or ending is not SlotEnding.COMPLETED:
            self.serve()

    def tick(self, *, has_spooled: bool) -> None:
        """Let the station see that time passes."""
        self.station.tick(self._agenda.now, has_spooled=has_spooled)
        self.serve()

    def serve(self, _: object = None) -> None:
        """Hand free slots to those who are next."""
        self._is_asked = True
        if self._is_serving:
            return  # whoever is at it looks once more
        self._is_serving = True
        station, agenda = self.station, self._agenda
        now, wall = agenda.now, agenda.wall
        while self._is_asked:
            self._is_asked = False
            while served := station.next(now, wall):
                mail, slot = served
                self._waiting.pop(mail, None)
                self._on_slot(mail, slot)
            for mail in station.send_away(now):
                self._waiting.pop(mail, None)
                self._on_none(mail)
        self._is_serving = False
        question = station.breaker.try_ask(now)
        if question is not None:
            self._ask(question.step, partial(self._on_answer, question))
        wake_at = station.wake_at(now)
        if wake_at is not None and not now < self._wake_at <= wake_at:
            self._wake_at = wake_at
            agenda.at(wake_at, self.serve, None)

    def _on_answer(self, question: Question, ending: SlotEnding) -> None:
        self.station.breaker.on_answer(self._agenda.now, question, ending, self._rng.random())
        self.serve()

    def _give_up(self, mail: Mail) -> None:
        if self._waiting.get(mail) != self._agenda.now:
            return  # it was served, and waits perhaps for something else by now
        del self._waiting[mail]
        self.station.withdraw(mail)
        self._on_none(mail)
        self.serve()  # it may have stood in the way of others
