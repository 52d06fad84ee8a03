"""The path of a live message in this process: real handler, pipeline, gate and journal.

Only the two ends are not real: the spool is the reference model, and the backend does what the
test says. `LivePath` goes in front of a `Front` as its handler.
"""

import asyncio
import io
import random
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mailshed.admission.entrance import Entrance
from mailshed.classification.classifier import Classifier
from mailshed.clock import Clock, SystemClock
from mailshed.config.policy import RelayPolicy, VerificationPolicy
from mailshed.control.limit import FixedLimit
from mailshed.errors import ClientGone
from mailshed.journal import Journal
from mailshed.listener.handler import Handler
from mailshed.livepolicies import LivePolicies
from mailshed.mail.content import ContentStore
from mailshed.mail.delivery import TransactionResult
from mailshed.mail.networks import NetworkSet
from mailshed.maillog import MailLog
from mailshed.message import Message
from mailshed.metrics import Metrics, new_registry
from mailshed.pipeline import Pipeline
from mailshed.relay.backend import Backend, BackendConnections, OutboundMessage
from mailshed.relay.call_ahead import CallAhead, question_timeouts
from mailshed.relay.connection import Address, open_connection
from mailshed.relay.destination import Destination, Destinations
from mailshed.relay.gate import Gate
from mailshed.relay.verify import RecipientVerifier, is_pressed
from mailshed.screening import Screening
from mailshed.spool.store import SpoolRecord
from mailshed.supervisor import Supervisor
from mailshed.terms import ClientKind, QueueId, TrafficClass
from tests.support.builders import classification_policy, content_store, delivered, relay_policy
from tests.support.front import DEADLINE, HOSTNAME
from tests.support.memory_spool import MemorySpool


@dataclass(eq=False, slots=True)
class HeldBackend:
    """A backend that takes everything, when and unless the test says otherwise."""

    name: str = "exch01"
    answers_each_recipient: bool = False
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared, transactions wait for it."""
    before_dot: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared, transactions wait for it before they look at the client."""
    results: deque[TransactionResult | Exception] = field(default_factory=deque)
    """Of the next transactions, in order."""
    asked: list[OutboundMessage] = field(default_factory=list)
    taken: list[bytes] = field(default_factory=list)
    """What was handed over, our trace line included."""
    in_transaction: int = 0

    def __post_init__(self) -> None:
        self.may_answer.set()
        self.before_dot.set()

    async def deliver(self, message: OutboundMessage) -> TransactionResult:
        """Look at the client before the dot, then wait, then answer."""
        self.asked.append(message)
        data = b"".join([chunk async for chunk in message.stream()])
        await self.before_dot.wait()
        if not message.may_send_dot():
            raise ClientGone
        self.in_transaction += 1
        try:
            await self.may_answer.wait()
        finally:
            self.in_transaction -= 1
        result = self.results.popleft() if self.results else delivered(len(message.recipients))
        if isinstance(result, Exception):
            raise result
        self.taken.append(data)
        return result

    def abandon(self) -> None:
        """Let what is held come to its end."""
        self.may_answer.set()

    def connections(self) -> BackendConnections:
        """None are counted."""
        return BackendConnections()

    async def close(self) -> None:
        """Nothing to close."""


@dataclass(eq=False, slots=True)
class Custodian:
    """Has adopted messages in hand, and writes down how they ended."""

    in_hand: dict[QueueId, str] = field(default_factory=dict)
    settled: list[tuple[SpoolRecord, TransactionResult]] = field(default_factory=list)
    successes: list[tuple[Message, TransactionResult]] = field(default_factory=list)

    def adopt(self, queue_id: QueueId, traffic_class: str, route: str, taker: str) -> None:
        """Take it in hand."""
        self.in_hand[queue_id] = traffic_class

    def disown(self, queue_id: QueueId) -> None:
        """Let go of it."""
        del self.in_hand[queue_id]

    async def tell_of_success(self, message: Message, result: TransactionResult) -> None:
        """Note what a sender wanted to hear."""
        self.successes.append((message, result))

    async def settle_adopted(self, record: SpoolRecord, result: TransactionResult) -> None:
        """Note how it ended."""
        self.settled.append((record, result))
        del self.in_hand[record.queue_id]


class LivePath:
    """Everything between the sessions and the two ends, as the service builds it."""

    def __init__(
        self,
        folder: Path,
        *,
        slots: int = 10,
        relay: RelayPolicy | None = None,
        contents: ContentStore | None = None,
        kind: ClientKind = ClientKind.MTA,
        verification: VerificationPolicy | None = None,
        asked: Address | None = None,
        behind: Backend | None = None,
    ) -> None:
        """Make it; with `verification`, the server at `asked` is who knows the recipients.

        `behind` takes the place of the backend that does as it is told.
        """
        clock, rng = SystemClock(), random.Random(1)
        self.backend = HeldBackend()
        self.spool = MemorySpool()
        self.contents = contents or content_store(folder)
        self.failures: list[tuple[str, BaseException]] = []
        self.supervisor = Supervisor(lambda name, error: self.failures.append((name, error)))
        self.metrics = Metrics(new_registry())
        self.log = io.StringIO()
        self.spooled: list[TrafficClass] = []
        self.custody = Custodian()
        self.gate = Gate(limit=FixedLimit(slots), clock=clock, rng=rng)
        self.verifier: RecipientVerifier | None = None
        if verification is not None:
            self.verifier = self._verifier(verification, asked, clock, rng)
        policies = LivePolicies(
            hostname=HOSTNAME,
            classifier=Classifier(classification_policy()),
            relay=relay or relay_policy(),
            clinical_networks=NetworkSet(),
            lifetime=4 * 86400.0,
            retry_pause=30.0,
            respond_by=60.0,
            respond_by_user_agent=20.0,
        )
        self.spool_fill = 0.0
        entrance = Entrance(lambda: self.spool_fill)
        destinations = Destinations([Destination(gate=self.gate, backend=behind or self.backend)])
        journal = Journal(
            maillog=MailLog(self.log),
            metrics=self.metrics,
            clock=clock,
            on_failure=lambda name, error: self.failures.append((name, error)),
        )
        self.screening = Screening(
            policies=policies,
            entrance=entrance,
            destinations=destinations,
            journal=journal,
            clock=clock,
            verifier=self.verifier,
        )
        self.pipeline = Pipeline(
            policies=policies,
            entrance=entrance,
            destinations=destinations,
            spool=self.spool,
            on_spooled=lambda traffic_class, _: self.spooled.append(traffic_class),
            custody=self.custody,
            supervisor=self.supervisor,
            journal=journal,
            clock=clock,
        )
        self.handler = Handler(
            screening=self.screening,
            pipeline=self.pipeline,
            contents=self.contents,
            supervisor=self.supervisor,
            metrics=self.metrics,
            maillog=MailLog(self.log),
            clock=clock,
            rng=rng,
            client_kinds={"smtp": kind},
        )

    @property
    def policies(self) -> LivePolicies:
        """What live mail goes by."""
        return self.pipeline.policies

    @policies.setter
    def policies(self, policies: LivePolicies) -> None:
        self.screening.policies = self.pipeline.policies = policies

    def _verifier(
        self,
        policy: VerificationPolicy,
        asked: Address | None,
        clock: Clock,
        rng: random.Random,
    ) -> RecipientVerifier:
        assert asked is not None
        call_ahead = CallAhead(
            partial(open_connection, asked, question_timeouts(DEADLINE)),
            is_pressed=partial(is_pressed, self.gate),
            clock=clock,
            on_failure=lambda name, error: self.failures.append((name, error)),
        )
        return RecipientVerifier(
            policy,
            call_ahead=call_ahead,
            gate=self.gate,
            metrics=self.metrics,
            maillog=MailLog(self.log),
            clock=clock,
            rng=rng,
        )

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is held: no session, no task, no slot, no octet of any budget."""
        held = self.contents.memory.used + self.contents.disk.used
        open_sessions = len(self.handler.open_sessions)
        return (held, open_sessions, len(self.supervisor), self.gate.in_flight) == (0, 0, 0, 0)
