"""The path of a message whose client waits: what `mailshed.pipeline` does, step by step.

Decided is by the service's own objects: the entrance (quotas, who tries again, the ladder of
answers), the station, the patience that is learned. There is no policy in this file either, and
where the pipeline acts, here the ledger is told.
"""

from collections.abc import Callable
from dataclasses import replace

from mailshed.admission.decision import Defer, Relay, Spool, Wait
from mailshed.admission.entrance import Entrance
from mailshed.admission.quota import Sending
from mailshed.control.limit import SlotEnding
from mailshed.control.patience import Patience
from mailshed.mail.delivery import Bounced, Deferred, Delivered, InDoubt
from mailshed.simulation.agenda import Agenda
from mailshed.simulation.door import Door
from mailshed.simulation.invariants import Violated, demand
from mailshed.simulation.ledger import Ledger
from mailshed.simulation.mail import Answer, Job, Mail, Place
from mailshed.simulation.relay import Relay as Transactions
from mailshed.simulation.scenario import Scenario
from mailshed.terms import ClientKind, Reason
from mailshed.work import Slot, Work

_SHEDDABLE = frozenset(
    {
        Reason.SATURATED,
        Reason.DIVERTED,
        Reason.OVERRIDE,
        Reason.BACKEND_AWAY,
        Reason.OVER_QUOTA,
    }
)
"""As in `mailshed.outcome`."""


class Front:
    """The path of live messages. `keep` has a message spooled: why, and after what pause to try.

    `door` is set once it is there.
    """

    door: Door

    def __init__(
        self,
        scenario: Scenario,
        agenda: Agenda,
        ledger: Ledger,
        relay: Transactions,
        *,
        keep: Callable[[Mail, Reason, float], None],
    ) -> None:
        self._scenario = scenario
        self._agenda = agenda
        self._ledger = ledger
        self._relay = relay
        self._keep_durably = keep
        self._patience = Patience()
        quotas = scenario.admission.quotas
        self._has_quotas = bool(quotas.per_sender or quotas.per_network or quotas.per_class)
        self.entrance = Entrance(self.spool_fill)

    def spool_fill(self) -> float:
        """How full the spool is, 0 to 1."""
        spool, ledger = self._scenario.spool, self._ledger
        return max(
            ledger.spool_messages / spool.messages_max, ledger.spool_octets / spool.octets_max
        )

    def submit(self, mail: Mail) -> None:
        """A client begins to send a message, perhaps once more."""
        shedding = self.door.station.shedding
        if mail.client.retries and shedding.reply_delay > 0.0:
            delay = shedding.reply_delay
            if (
                shedding.can_wait((mail.traffic_class,))
                and not self._scenario.admission.is_observing
            ):
                self._agenda.after(delay, self._receive, mail)
                return
        self._receive(mail)

    def _receive(self, mail: Mail) -> None:
        """The message is there."""
        now = mail.came = self._agenda.now
        self._ledger.move(mail, Place.HAND)
        mail.is_live = True
        traffic_class, sender = mail.traffic_class, mail.letter.sender
        client, station = mail.client.client, self.door.station
        terms = self._scenario.admission
        if mail.client.retries:
            early = self.entrance.at_rcpt(
                client,
                sender,
                _mailbox(mail),
                terms=terms,
                reachable=lambda: (traffic_class,),
                is_pressed=self._has_quotas and station.quotas_bite(now),
                state_of=lambda each: station.state(each, now),
                now=now,
            )
            if early is not None:
                self._turn_away(mail, is_noted=True)
                return
        work = Work(
            traffic_class=traffic_class,
            size=mail.letter.size,
            recipients=mail.left,
            sender=sender,
            arrived_wall=mail.arrived_wall,
        )
        station.note_arrival(work, now)
        state = station.state(traffic_class, now, mail.letter.size)
        sending = Sending(client, sender, traffic_class, mail.left)
        ruling = self.entrance.decide(sending, state, terms, now)
        decision: Relay | Wait | Spool | Defer = ruling.decision
        if terms.is_observing:
            seconds = self._respond_by(client.kind) / 2
            decision = Spool(Reason.BACKEND_AWAY) if state.is_away else Wait(seconds)
        match decision:
            case Relay():
                self._enter(mail, work, None)
            case Wait(seconds):
                if ruling.penalty != 1.0:
                    work = replace(work, penalty=ruling.penalty)
                self._enter(mail, work, seconds)
            case Spool(reason):
                if reason is not Reason.BACKEND_AWAY and traffic_class.rank == 0:
                    raise Violated(f"{traffic_class.name} is diverted without a wait")
                self._keep(mail, self._current(reason))
            case Defer():
                self._turn_away(mail)

    def on_slot(self, mail: Mail, slot: Slot) -> None:
        """A live message that waited has its slot."""
        self._transmit(mail, slot)

    def on_none(self, mail: Mail) -> None:
        """A live message has waited long enough."""
        self._keep(mail, self._current(Reason.SATURATED))

    def on_left(self, mail: Mail) -> None:
        """A client has given up on our reply: a server comes again, a person sees an error."""
        mail.account.gave_up += 1
        self._leave(mail)

    def on_end(self, job: Job, answer: Answer) -> None:
        """The transaction of a live message has ended: what that means for its client."""
        mail = job.mail
        if answer.ending is not SlotEnding.STALLED:
            self._patience.note(answer.times.service)
        first, *others = answer.results
        if any(type(other) is not type(first) for other in others) or _is_mixed(answer):
            self._keep(mail, Reason.MIXED_RECIPIENTS)
            return
        match first:
            case Delivered():
                self._delivered(mail, job)
            case Bounced():
                self._ledger.move(mail, Place.BOUNCED)
            case InDoubt():
                mail.in_doubt += 1
                mail.account.in_doubt += 1
                self._keep(mail, Reason.IN_DOUBT)
            case Deferred(_, reply) if reply is None or reply.code == 421:
                self._keep(mail, Reason.BACKEND_AWAY)
            case Deferred():
                kind = self.entrance.kind(mail.client.client, self._agenda.now)
                if kind is ClientKind.MTA:
                    self._turn_away(mail, is_backends=True)
                else:
                    self._keep(mail, Reason.BACKEND_DEFERRED)

    def _enter(self, mail: Mail, work: Work, seconds: float | None) -> None:
        """Get a slot now or, given `seconds`, within them."""
        slot = self.door.station.try_start(work, self._agenda.now)
        if slot is not None:
            self._transmit(mail, slot)
        elif seconds is not None:
            mail.account.waited += 1
            self.door.wait(mail, work, seconds)
        else:
            self._keep(mail, self._current(Reason.SATURATED))

    def _transmit(self, mail: Mail, slot: Slot) -> None:
        waited = self._agenda.now - mail.came
        patience = self._respond_by(mail.client.client.kind) - waited
        first = mail.letter.mailbox
        mailboxes = (first,) if mail.left == 1 else tuple(range(first, first + mail.left))
        self._relay.start(mail, slot, mailboxes, patience=patience)

    def _respond_by(self, kind: ClientKind) -> float:
        scenario, is_mta = self._scenario, kind is ClientKind.MTA
        configured = scenario.respond_by if is_mta else scenario.respond_by_user_agent
        return self._patience.respond_by(kind, configured)

    def _current(self, reason: Reason) -> Reason:
        return Reason.BACKEND_AWAY if self.door.station.breaker.is_open else reason

    def _delivered(self, mail: Mail, job: Job) -> None:
        account, now = mail.account, self._agenda.now
        account.relayed += 1
        account.sojourn.add(now - mail.arrived, mail.left)
        account.wait.add(job.started - mail.came, mail.left)
        account.by_sender[mail.letter.sender] += 1
        account.work_done += job.work
        self._ledger.move(mail, Place.DELIVERED)

    def _keep(self, mail: Mail, reason: Reason) -> None:
        """Spool it, unless the spool fills and its sender can wait."""
        scenario = self._scenario
        if reason in _SHEDDABLE and not scenario.admission.is_observing:
            client, now = mail.client.client, self._agenda.now
            ruling = self.entrance.shed(client, mail.traffic_class, reason, now)
            if isinstance(ruling, Defer):
                self._turn_away(mail)
                return
        if self.spool_fill() >= 1.0 and mail.traffic_class.rank > 0:
            self._turn_away(mail)
            return
        rests = reason in (Reason.IN_DOUBT, Reason.BACKEND_DEFERRED)
        self._keep_durably(mail, reason, scenario.spool.retry.delay_min if rests else 0.0)

    def _turn_away(self, mail: Mail, *, is_noted: bool = False, is_backends: bool = False) -> None:
        """4xx: its client keeps it, or does not."""
        account, now = mail.account, self._agenda.now
        demand(is_backends or mail.traffic_class.rank > 0, f"{mail.traffic_class.name} is told 4xx")
        account.deferred += 1
        client = mail.client.client
        if not is_noted:
            self.entrance.note_deferral(client, mail.letter.sender, _mailbox(mail), now)
        self._leave(mail)

    def _leave(self, mail: Mail) -> None:
        """The client has no promise from us."""
        mail.tries += 1
        if mail.client.retries:
            self._ledger.move(mail, Place.SENDER)
            due = mail.client.next_try(self._agenda.now, mail.tries)
            self._agenda.at(due, self.submit, mail)
            return
        kind = mail.client.client.kind
        mail.account.errors += kind is ClientKind.USER_AGENT
        mail.account.lost += kind is ClientKind.DEVICE
        self._ledger.move(mail, Place.REFUSED)


def _mailbox(mail: Mail) -> bytes:
    return b"%d@hospital.example" % mail.letter.mailbox


def _is_mixed(answer: Answer) -> bool:
    """Whether some recipients were deferred in words, and others for their sake."""
    replies = [each.reply is None for each in answer.results if isinstance(each, Deferred)]
    return any(replies) and not all(replies)
