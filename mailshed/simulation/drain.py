"""The way out of the spool: what `mailshed.drain` does, on the virtual clock.

Of each class the messages that have been due for longest are taken in hand, as many as there are
slots and two more, and wait for a slot without bound. What holds them back, what an attempt
changes and when the next one is due is said by the service's own objects (`restraint`, `retry`).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from heapq import heappop, heappush
from itertools import count
from random import Random

from mailshed.control.limit import SlotEnding
from mailshed.drain.matter import ReportPolicy
from mailshed.drain.notify import ReportContext
from mailshed.drain.restraint import Permit, Postponed, Restraint
from mailshed.drain.retry import settle_attempt
from mailshed.mail.delivery import Delivered, TransactionResult
from mailshed.simulation.agenda import Agenda
from mailshed.simulation.door import NO_TIMES, Door
from mailshed.simulation.ledger import Ledger
from mailshed.simulation.mail import Answer, Job, Mail, Place
from mailshed.simulation.relay import Relay
from mailshed.simulation.scenario import Scenario
from mailshed.spool.store import ClassTotals, SpoolRecipient, SpoolRecord, SpoolTotals
from mailshed.terms import Ending, QueueId, Reason, SpoolState, TrafficClass
from mailshed.work import Slot, Work

OFFERS_BEYOND_LIMIT = 2
"""As in `mailshed.drain.drainer`."""


class Drain:
    """The spool and its way out. `door` is set once it is there."""

    door: Door

    def __init__(
        self, scenario: Scenario, agenda: Agenda, ledger: Ledger, relay: Relay, rng: Random
    ) -> None:
        self._spool = scenario.spool
        self._agenda = agenda
        self._ledger = ledger
        self._relay = relay
        self._rng = rng
        self.restraint = Restraint(lambda: scenario.spool.retry)
        self._lanes: dict[str, list[tuple[float, int, Mail]]] = {}
        """For each class: when a message is next due (Unix time), and which, as they came."""
        self._in_hand: Counter[str] = Counter()
        self._wake_at: dict[str, float] = {}
        self._ties = count()
        self.postponed = 0
        self.attempts = 0
        self.retries = 0
        """Attempts at messages that the mail server had failed before."""

    @property
    def has_due(self) -> bool:
        """Whether the spool holds mail that is due."""
        wall = self._agenda.wall
        return bool(self._in_hand.total()) or any(
            lane and lane[0][0] <= wall for lane in self._lanes.values()
        )

    def open_lanes(self, classes: Iterable[TrafficClass]) -> None:
        """Make room for these classes."""
        for each in sorted(classes, key=lambda each: each.rank):
            self._lanes[each.name] = []

    def totals(self) -> SpoolTotals:
        """What the spool holds that was never tried: how much of each class, and since when."""
        parts = []
        for name, lane in self._lanes.items():
            if lane and (record := self._record(lane[0][2])).attempts == 0:
                spooled = self._ledger.spooled(name)
                parts.append(
                    ClassTotals(
                        traffic_class=name,
                        state=SpoolState.QUEUED,
                        messages=spooled,
                        recipients=spooled,
                        octets=0,
                        oldest_wall=record.received_wall,
                    )
                )
        return SpoolTotals(by_class=tuple(parts))

    def keep(self, mail: Mail, reason: Reason, pause: float) -> None:
        """Spool a message: its client has its 250."""
        mail.account.spooled += 1
        self._commit(mail, reason)
        self._put(mail, self._agenda.wall + pause)

    def adopt(self, mail: Mail) -> None:
        """Keep a copy of a message that the mail server may have already."""
        assert mail.job is not None
        mail.account.adopted += 1
        self._commit(mail, Reason.ADOPTED)
        mail.permit = Permit(record=self._record(mail))
        self._in_hand[mail.traffic_class.name] += 1

    def on_slot(self, mail: Mail, slot: Slot) -> None:
        """A spooled message has its slot."""
        assert mail.permit is not None
        agenda = self._agenda
        ready = self.restraint.begin(mail.permit, agenda.now, self._rng.random())
        if isinstance(ready, Postponed):
            self.door.release(slot, SlotEnding.UNUSED, NO_TIMES)
            self._postpone(mail, ready)
            return
        record = self._record(mail)
        self.attempts += 1
        self.retries += record.attempts > 0
        mailboxes = tuple(_mailbox_of(each) for each in ready.recipients)
        self._relay.start(mail, slot, mailboxes, tried=ready)

    def on_end(self, job: Job, answer: Answer) -> None:
        """The transaction of a spooled message has ended: write its mark."""
        mail, agenda = job.mail, self._agenda
        record, permit = self._record(mail), mail.permit
        assert permit is not None, "it is in hand"
        tried = record if job.tried is None else job.tried  # an adopted one was tried whole
        result = TransactionResult(recipients=answer.results, is_backend_away=answer.is_away)
        now = agenda.now
        pause = self.restraint.end(permit, tried, result, now, self._rng.random())
        mail.permit = None
        self._in_hand[mail.traffic_class.name] -= 1
        if tried.recipients is record.recipients and all(
            isinstance(each, Delivered) for each in answer.results
        ):
            self._delivered(mail, job, job.recipients)
            self._gone(mail)
        else:
            self._settle(mail, job, tried, result, pause)
        self.fill(mail.traffic_class.name)

    def fill(self, name: str) -> None:
        """Take due messages of a class in hand."""
        lane = self._lanes[name]
        if not lane:
            return
        agenda, in_hand, wall = self._agenda, self._in_hand, self._agenda.wall
        wanted = self.door.station.limit(agenda.now) + OFFERS_BEYOND_LIMIT
        while lane and in_hand[name] < wanted:
            due, _, mail = lane[0]
            if due > wall:
                self._wake(name, agenda.now + due - wall)
                return
            heappop(lane)
            self._take(mail)

    def _take(self, mail: Mail) -> None:
        """Give a message its turn."""
        agenda, record = self._agenda, self._record(mail)
        is_free = record.expires_wall <= agenda.wall
        permit = self.restraint.admit(record, agenda.now, self._rng.random(), is_free=is_free)
        self._in_hand[mail.traffic_class.name] += 1
        if isinstance(permit, Postponed):
            self._postpone(mail, permit)
            return
        mail.permit = permit
        work = Work(
            traffic_class=mail.traffic_class,
            size=mail.letter.size,
            recipients=mail.left,
            sender=mail.letter.sender,
            arrived_wall=mail.arrived_wall,
            is_live=False,
        )
        slot = self.door.station.try_start(work, agenda.now)
        if slot is not None:
            self.on_slot(mail, slot)
        else:
            self.door.wait(mail, work, None)

    def _settle(
        self,
        mail: Mail,
        job: Job,
        tried: SpoolRecord,
        result: TransactionResult,
        pause: float | None,
    ) -> None:
        """Say what an attempt changed that was not simply a success."""
        wall = self._agenda.wall
        settlement = settle_attempt(
            tried,
            result,
            wall=wall,
            left=tried.expires_wall - wall,
            random_unit=self._rng.random(),
            retry=self._spool.retry,
            report=_REPORT,
            pause=pause,
        )
        if result.is_backend_away and not settlement.endings:
            self._put(mail, mail_due(mail))  # the breaker paces the attempts
            return
        mail.account.in_doubt += settlement.in_doubt - tried.in_doubt
        mail.in_doubt = settlement.in_doubt
        delivered = sum(each is Ending.DELIVERED for each in settlement.endings.values())
        if delivered:
            self._delivered(mail, job, delivered)
        if failed := len(settlement.endings) - delivered:
            self._ledger.end(mail, failed, Place.BOUNCED)
        if not mail.left:
            self._gone(mail)
            return
        record = self._record(mail)
        mail.record = replace(
            record,
            recipients=tuple(
                replace(each, state=SpoolState.DEFERRED)
                for each in record.recipients
                if each.index not in settlement.endings
            ),
            attempts=settlement.attempts,
            next_attempt_wall=settlement.next_attempt_wall,
            in_doubt=settlement.in_doubt,
        )
        if settlement.state is SpoolState.HOLD:
            mail.is_held = True
        else:
            self._put(mail, settlement.next_attempt_wall)

    def _delivered(self, mail: Mail, job: Job, recipients: int) -> None:
        account, agenda = mail.account, self._agenda
        account.sojourn.add(agenda.now - mail.arrived, recipients)
        account.wait.add(job.started - mail.came, recipients)
        account.by_sender[mail.letter.sender] += 1
        account.work_done += job.work
        self._ledger.end(mail, recipients, Place.DELIVERED)

    def _postpone(self, mail: Mail, postponed: Postponed) -> None:
        """Let it wait without an attempt."""
        self.postponed += 1
        mail.permit = None
        self._in_hand[mail.traffic_class.name] -= 1
        self._put(mail, self._agenda.wall + postponed.seconds)

    def _commit(self, mail: Mail, reason: Reason) -> None:
        self._ledger.move(mail, Place.SPOOL)
        self._ledger.enters_spool(mail)
        mail.is_live = False
        letter = mail.letter
        wall = self._agenda.wall
        mail.record = SpoolRecord(
            queue_id=QueueId(""),
            traffic_class=mail.traffic_class.name,
            rank=mail.traffic_class.rank,
            reverse_path=letter.sender,
            recipients=tuple(
                SpoolRecipient(index=at, address=b"%d@hospital.example" % (letter.mailbox + at))
                for at in range(mail.left)
            ),
            received_wall=wall,
            expires_wall=wall + self._spool.lifetime,
            next_attempt_wall=wall,
            reason=reason,
            client_address="",
            is_trusted=False,
            in_doubt=mail.in_doubt,
        )

    def _put(self, mail: Mail, due: float) -> None:
        """Let it be due at `due` (Unix time)."""
        name = mail.traffic_class.name
        heappush(self._lanes[name], (due, next(self._ties), mail))
        agenda = self._agenda
        if due > agenda.wall:
            self._wake(name, agenda.now + due - agenda.wall)
        else:
            self.fill(name)

    def _wake(self, name: str, when: float) -> None:
        """Look at a class at `when`."""
        agenda = self._agenda
        pending = self._wake_at.get(name, -1.0)
        if not agenda.now <= pending <= when:
            self._wake_at[name] = when
            agenda.at(when, self._woken, name)

    def _woken(self, name: str) -> None:
        if self._wake_at.get(name) == self._agenda.now:
            del self._wake_at[name]
        self.fill(name)

    def _gone(self, mail: Mail) -> None:
        """Nothing is left of it in the spool."""
        mail.record = None
        self._ledger.leaves_spool(mail, self._agenda.elapsed)

    @staticmethod
    def _record(mail: Mail) -> SpoolRecord:
        assert mail.record is not None, "it is in the spool"
        return mail.record


_REPORT = ReportContext(
    policy=ReportPolicy(
        hostname="relay.hospital.example",
        postmaster="postmaster@hospital.example",
        lifetime=4 * 86400.0,
    ),
    report_id=QueueId(""),
    success_id=QueueId(""),
    content=b"",
)
"""Nobody is told: reports are mail of another stream."""


def mail_due(mail: Mail) -> float:
    """When a message was due that was not really tried (Unix time)."""
    assert mail.record is not None
    return mail.record.next_attempt_wall


def _mailbox_of(recipient: SpoolRecipient) -> int:
    return int(recipient.address.split(b"@")[0])
