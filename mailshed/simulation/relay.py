"""Transactions that are under way: begun with a slot, ended by the mail server or by our patience.

What times out is looked for at each tick, four times a second, among the few that are in flight:

- no answer before our final dot within the command timeout: broken off, nothing was handed over;
- no answer to the final dot within its timeout: in doubt. The mail server may take it after all;
- a client that is to have its reply now: broken off before our dot, adopted after it. Where the
  spool is full it goes on waiting, until it gives up.

The slot comes back with the ending, as the service has it.
"""

from collections.abc import Callable
from math import inf

from mailshed.control.limit import SlotEnding
from mailshed.mail.delivery import (
    Deferred,
    Delivered,
    DeliveryResult,
    InDoubt,
    NoReply,
    everyone,
)
from mailshed.simulation.agenda import Agenda
from mailshed.simulation.backends import Backend
from mailshed.simulation.door import NO_TIMES, Door
from mailshed.simulation.invariants import demand
from mailshed.simulation.mail import Answer, Job, Mail
from mailshed.simulation.scenario import Scenario
from mailshed.spool.store import SpoolRecord
from mailshed.terms import Stage
from mailshed.work import Slot

_NO_ANSWER = Deferred(Stage.MAIL, None, "timed out", NoReply.TIMED_OUT)
_TOO_SLOW = Deferred(
    Stage.DATA, None, "too slow for the client, before our final dot", NoReply.OUR_CHOICE
)
_IN_DOUBT = InDoubt("timed out")


class Relay:
    """All transactions. `on_end` gets what was answered.

    `adopt` asks for a durable copy, and says whether there is one; `on_left` is told of a client
    that has given up.

    `door` and the handlers are set once all parts are there.
    """

    door: Door
    on_end: Callable[[Job, Answer], None]
    adopt: Callable[[Mail], bool]
    on_left: Callable[[Mail], None]
    refused = 0
    """Transactions that ended with 421 or without a connection."""

    def __init__(self, scenario: Scenario, agenda: Agenda) -> None:
        self._scenario = scenario
        self._agenda = agenda
        self.backend = Backend(scenario.backend, agenda, self._answered)
        self.under_way: dict[Job, float] = {}
        """Until when the client waits: inf if there is none."""

    def start(
        self,
        mail: Mail,
        slot: Slot,
        mailboxes: tuple[int, ...],
        *,
        patience: float = inf,
        tried: SpoolRecord | None = None,
    ) -> None:
        """Begin a transaction; after `patience` seconds a client is to have its reply."""
        demand(mail.job is None, "a message is sent twice at the same time")
        if mail.unanswered:
            demand(mail.in_doubt > 0, "a message is sent again that may have been delivered")
            mail.account.sent_again += 1
        now = self._agenda.now
        letter = mail.letter
        job = Job(mail, slot, letter.size, mailboxes, letter.noise, tried is not None, now, tried)
        mail.job = job
        self.under_way[job] = now + patience
        self.backend.start(job)

    def look(self) -> None:
        """End what takes too long, and adopt what its client cannot wait for."""
        now, scenario = self._agenda.now, self._scenario
        for job, patience in list(self.under_way.items()):
            if job.dot_at <= now:
                if now - job.dot_at > scenario.dot_timeout:
                    job.is_stray = True
                    job.mail.unanswered += 1
                    self._end(job, SlotEnding.IN_DOUBT, everyone(_IN_DOUBT, job.recipients))
                elif now >= patience:
                    self._answer_client(job)
            elif now - job.started > scenario.command_timeout:
                self.backend.abort(job)
                self._end(job, SlotEnding.STALLED, everyone(_NO_ANSWER, job.recipients))
            elif now >= patience:
                self.backend.abort(job)
                self._end(job, SlotEnding.STALLED, everyone(_TOO_SLOW, job.recipients))

    def _answer_client(self, job: Job) -> None:
        """The client is to have its reply: from a copy, or it gives up some day."""
        mail = job.mail
        if self.adopt(mail):
            self.under_way[job] = inf
        elif self._agenda.now - mail.came >= mail.client.behaviour.patience:
            self.under_way[job] = inf
            job.is_orphan = True
            mail.job = None
            mail.unanswered += 1
            mail.in_doubt += 1  # it will be sent again, by whoever has it
            self.on_left(mail)

    def _end(self, job: Job, ending: SlotEnding, results: tuple[DeliveryResult, ...]) -> None:
        took = self._agenda.now - job.started
        self._finish(job, Answer(ending, results), took)

    def _answered(self, job: Job, answer: Answer) -> None:
        if job.is_stray:
            _count_copies(job.mail, answer)
            return
        if answer.ending is SlotEnding.COMPLETED:
            _count_copies(job.mail, answer)
        elif answer.ending is SlotEnding.REFUSED:
            self.refused += 1
        self._finish(job, answer, 0.0)

    def _finish(self, job: Job, answer: Answer, took: float) -> None:
        del self.under_way[job]
        times = answer.times if took == 0.0 else NO_TIMES
        if not job.is_orphan:
            job.mail.job = None
        self.door.release(job.slot, answer.ending, times)
        if not job.is_orphan:
            self.on_end(job, answer)


def _count_copies(mail: Mail, answer: Answer) -> None:
    """Note to how many recipients the mail server has delivered it, perhaps once more."""
    taken = sum(isinstance(each, Delivered) for each in answer.results)
    mail.copies += taken
    surplus = mail.copies - mail.account.stream.recipients
    if surplus > 0:
        mail.account.duplicates += min(taken, surplus)
