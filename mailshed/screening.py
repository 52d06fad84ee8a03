"""What a client hears before its mail data: the replies to MAIL and RCPT, as far as policy decides.

::

    on_mail      is its mail to come more slowly?                shedding
    on_rcpt      may this client send there?                     admission.policy
                 would it be told 4xx in any case?               admission.entrance
                 does the mailbox exist?                         relay.verify

What will be refused in any case is refused here, before the upload: that saves both sides the mail
data, and says which recipient it is about. Only the last question may take time.

The message is not there yet, so only the classes are known that it may still turn out to be of;
what may be clinical is neither slowed down nor deferred. There is no queue id yet either: lines in
the log bear the id of the session.
"""

from collections.abc import Awaitable, Callable
from functools import partial

from mailshed.admission import policy
from mailshed.admission.decision import Defer, Reject
from mailshed.admission.entrance import Entrance
from mailshed.classification.subject import Known, Subject
from mailshed.clock import Clock
from mailshed.journal import Journal
from mailshed.livepolicies import LivePolicies
from mailshed.mail.address import Mailbox, mailbox_of
from mailshed.mail.envelope import Client, Envelope, Recipient
from mailshed.mail.reply import Reply
from mailshed.relay.destination import Destinations
from mailshed.relay.verifiers import Later, Verifier
from mailshed.terms import ClientKind, Stage, TrafficClass


class Screening:
    """The screening of envelopes; without a `verifier`, every mailbox counts as one that exists."""

    def __init__(
        self,
        *,
        policies: LivePolicies,
        entrance: Entrance,
        destinations: Destinations,
        journal: Journal,
        clock: Clock,
        verifier: Verifier | None = None,
    ) -> None:
        self.policies = policies
        self._entrance = entrance
        self._verifier = verifier
        self._destinations = destinations
        self._journal = journal
        self._clock = clock

    def on_mail(self, client: Client, *, sender: bytes, priority: int | None = None) -> float:
        """Seconds by which the reply to MAIL is to be late: under pressure, for bulk mail."""
        policies = self.policies
        shedding = self._destinations.calmest.gate.station.shedding
        delay = shedding.reply_delay
        if delay <= 0.0 or client.kind is not ClientKind.MTA or policies.admission.is_observing:
            return 0.0
        subject = Subject(
            client=client, reverse_path=_mailbox(sender), priority=priority, known=Known.MAIL
        )
        return delay if shedding.can_wait(self._reachable(subject)) else 0.0

    def _reachable(self, subject: Subject) -> tuple[TrafficClass, ...]:
        """The classes that it may still turn out to be of."""
        policies = self.policies
        if policies.may_be_told_later(subject.client, subject.priority):
            return policies.classifier.policy.classes
        return policies.classifier.reachable(subject)

    def on_rcpt(
        self,
        client: Client,
        mailbox: Mailbox,
        *,
        sender: bytes,
        waited: float = 0.0,
        priority: int | None = None,
    ) -> Reply | Callable[[], Awaitable[Reply | None]] | None:
        """Say whether `client` may send to `mailbox` (as `sender`); a reply refuses it.

        A function instead says that it takes some time to know, and is to be called for that.
        `waited` is how many seconds that has taken already in this transaction.
        """
        ruling: Reject | Defer | None = policy.decide_recipient(
            mailbox, is_trusted=client.is_trusted, policy=self.policies.relay
        ) or self._defer_early(client, mailbox, sender, priority)
        if ruling is None and self._verifier is not None:
            verified = self._verifier.check(client, mailbox, waited)
            if callable(verified):
                return partial(self._rcpt_later, client, mailbox, sender, verified)
            ruling = verified
        return None if ruling is None else self._refuse(client, mailbox, sender, ruling)

    async def _rcpt_later(
        self, client: Client, mailbox: Mailbox, sender: bytes, later: Later
    ) -> Reply | None:
        ruling = await later()
        return None if ruling is None else self._refuse(client, mailbox, sender, ruling)

    def _refuse(
        self, client: Client, mailbox: Mailbox, sender: bytes, ruling: Reject | Defer
    ) -> Reply:
        self._journal.rejected(
            client,
            Stage.RCPT,
            ruling.reply,
            sender=sender,
            recipient=mailbox.raw,
            reason=ruling.reason,
        )
        return ruling.reply

    def _defer_early(
        self, client: Client, mailbox: Mailbox, sender: bytes, priority: int | None
    ) -> Defer | None:
        """Say 4xx now if the message would hear it in any case; see `Entrance.at_rcpt`."""
        policies = self.policies

        def reachable() -> tuple[TrafficClass, ...]:
            subject = Subject(
                client=client,
                reverse_path=_mailbox(sender),
                recipients=(Recipient(mailbox=mailbox),),
                priority=priority,
                known=Known.RCPT,
            )
            return self._reachable(subject)

        gate = self._destinations.taker_of(mailbox.domain).gate
        ruling = self._entrance.at_rcpt(
            client,
            sender,
            mailbox.raw,
            terms=policies.admission,
            reachable=reachable,
            is_pressed=gate.quotas_bite,
            state_of=gate.state,
            now=self._clock.monotonic(),
        )
        if ruling is None:
            return None
        told = policy.in_terms_of(priority, ruling.reason, ruling.reply)
        return Defer(ruling.reason, told)

    def on_rejected(
        self, client: Client, stage: Stage, answer: Reply, *, sender: bytes, recipient: bytes | None
    ) -> None:
        """Note that MAIL or RCPT was refused before anyone was asked, for what it says."""
        self._journal.rejected(client, stage, answer, sender=sender, recipient=recipient)

    def on_discarded(self, envelope: Envelope, size: int, answer: Reply | None) -> None:
        """Note that no message came of the mail data; `answer` is what the client was told."""
        self._journal.discarded(envelope, size, answer)


def _mailbox(sender: bytes) -> Mailbox | None:
    """A reverse-path as a mailbox; None for the null one."""
    return mailbox_of(sender) if sender else None
