"""The middle of the service without its ends: gate, pipeline, drain and journal, in virtual time.

In front stands the test, which submits messages as the listener would; behind stand a
`FakeBackend` and a `MemorySpool`. Log lines are kept as dictionaries, metrics are the real ones.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from mailshed.admission.entrance import Entrance
from mailshed.admission.routing import Routes
from mailshed.classification.classifier import Classifier
from mailshed.clock import Clock
from mailshed.config.policy import AdmissionPolicy, ClassificationPolicy
from mailshed.control.fallback import FallbackRule, Fallbacks
from mailshed.control.limit import FixedLimit
from mailshed.drain.drainer import Drainer
from mailshed.drain.journal import DrainJournal
from mailshed.drain.matter import ReportPolicy
from mailshed.drain.policy import DrainPolicy
from mailshed.drain.retry import RetryPolicy
from mailshed.journal import Journal
from mailshed.livepolicies import LivePolicies
from mailshed.mail.content import Content
from mailshed.mail.envelope import Envelope
from mailshed.mail.networks import NetworkSet
from mailshed.mail.reply import Reply
from mailshed.maillog import MailLog
from mailshed.metrics import Metrics
from mailshed.pipeline import Pipeline
from mailshed.relay.destination import Destination, Destinations
from mailshed.relay.gate import Gate
from mailshed.screening import Screening
from mailshed.spool.store import SpoolRecord
from mailshed.supervisor import Supervisor
from mailshed.terms import QueueId, SpoolState
from tests.support.builders import (
    CLASSES,
    OK,
    WALL,
    classification_policy,
    client,
    content_store,
    envelope,
    relay_policy,
    rule,
    wire,
)
from tests.support.fake_backend import FakeBackend
from tests.support.memory_spool import MemorySpool
from tests.support.virtual_time import LoopClock

HOSTNAME = "mx.example.org"
LIFETIME = 4 * 86400.0
BY_HEADER = tuple(
    rule(f"by-{each.name}", each, headers=(("x-class", (each.name,)),)) for each in CLASSES
)
"""Rules that believe a header field `X-Class`, so that a test names the class of a message."""


class LogLines:
    """A sink that understands what it is told."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, line: str, /) -> None:
        self.lines.append(json.loads(line))

    @property
    def events(self) -> list[str]:
        """Names of all events, in order."""
        return [line["event"] for line in self.lines]

    def of(self, event: str) -> list[dict[str, Any]]:
        """The lines of one event."""
        return [line for line in self.lines if line["event"] == event]

    def one(self, event: str) -> dict[str, Any]:
        """The only line of one event."""
        (line,) = self.of(event)
        return line


def drain_policy(
    *, classification: ClassificationPolicy | None = None, retry: RetryPolicy | None = None
) -> DrainPolicy:
    """What the drain reads: retries after 30 s to 15 min."""
    return DrainPolicy(
        classification=classification or classification_policy(*BY_HEADER),
        retry=retry or RetryPolicy(delay_min=30.0, delay_max=900.0),
        reports=ReportPolicy(
            hostname=HOSTNAME, postmaster=f"postmaster@{HOSTNAME}", lifetime=LIFETIME
        ),
    )


class JournalBook:
    """The journals, and what has been written and counted by them."""

    def __init__(self, clock: Clock) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.log = LogLines()
        self.faults: list[tuple[str, BaseException]] = []
        maillog = MailLog(self.log, "json", "debug", wall=lambda: WALL)
        self.journal = Journal(
            maillog=maillog,
            metrics=self.metrics,
            clock=clock,
            on_failure=self.note_fault,
        )
        self.drain_journal = DrainJournal(
            maillog=maillog,
            metrics=self.metrics,
            clock=clock,
            on_failure=self.note_fault,
        )

    def note_fault(self, name: str, error: BaseException) -> None:
        """Remember a fault of our own, as the service would log it."""
        self.faults.append((name, error))

    def count(self, metric: str, **labels: str) -> float:
        """The value of a metric with these labels, 0 if there is none."""
        return self.registry.get_sample_value(f"mailshed_{metric}", labels) or 0.0


class Middle:
    """One gate with both its clients, or several.

    `others` are further backends with their domains; each has a gate with as many slots.
    """

    def __init__(
        self,
        folder: Path,
        *,
        slots: int = 4,
        seed: int = 1,
        spool: MemorySpool | None = None,
        others: Mapping[str, Sequence[str]] | None = None,
        fallbacks: Mapping[str, FallbackRule] | None = None,
    ) -> None:
        self.clock = LoopClock()
        self.backend = FakeBackend()
        self.book = JournalBook(self.clock)
        self.journal, self.log = self.book.journal, self.book.log
        self.faults = self.book.faults
        self.supervisor = Supervisor(self.book.note_fault)
        self.spool = spool or MemorySpool()
        self.contents = content_store(folder)
        self.spool_fill = 0.0
        """How full the spool is said to be."""
        rng = random.Random(seed)
        self.backends = {
            each.name: each for each in (self.backend, *map(FakeBackend, others or ()))
        }
        self.destinations = Destinations(
            [
                Destination(
                    gate=Gate(limit=FixedLimit(slots), clock=self.clock, rng=rng),
                    backend=each,
                    target=f"{name}:25",
                )
                for name, each in self.backends.items()
            ],
            Routes(self.backend.name, others),
            Fallbacks(fallbacks or {}),
        )
        self.gate = self.destinations.default.gate
        for destination in self.destinations:
            destination.gate.station.shedding.classes = CLASSES
        self.drainer = Drainer(
            policy=drain_policy(),
            destinations=self.destinations,
            spool=self.spool,
            supervisor=self.supervisor,
            journal=self.book.drain_journal,
            clock=self.clock,
            rng=rng,
        )
        policies = LivePolicies(
            hostname=HOSTNAME,
            classifier=Classifier(classification_policy(*BY_HEADER)),
            relay=relay_policy(),
            clinical_networks=NetworkSet(),
            lifetime=LIFETIME,
            retry_pause=30.0,
            respond_by=60.0,
            respond_by_user_agent=20.0,
            admission=AdmissionPolicy(lowest_defer_fill=0.5),
        )
        self.entrance = Entrance(lambda: self.spool_fill)
        self.screening = Screening(
            policies=policies,
            entrance=self.entrance,
            destinations=self.destinations,
            journal=self.journal,
            clock=self.clock,
        )
        self.pipeline = Pipeline(
            policies=policies,
            entrance=self.entrance,
            destinations=self.destinations,
            spool=self.spool,
            on_spooled=self.drainer.on_spooled,
            custody=self.drainer,
            supervisor=self.supervisor,
            journal=self.journal,
            clock=self.clock,
        )

    @property
    def policies(self) -> LivePolicies:
        """What live mail goes by."""
        return self.pipeline.policies

    @policies.setter
    def policies(self, policies: LivePolicies) -> None:
        self.screening.policies = self.pipeline.policies = policies

    def set_admission(self, **changes: Any) -> None:
        """Change the terms of admission, as a reload does."""
        terms = replace(self.policies.admission, **changes)
        self.policies = replace(self.policies, admission=terms)
        for each in self.destinations:
            each.gate.is_observing = terms.is_observing

    def content(self, data: bytes) -> Content:
        """Mail data as the listener hands it over."""
        made = self.contents.new()
        assert made.write(data)
        return made

    def envelope(self, *to: str, **changes: Any) -> Envelope:
        """A transaction that arrives now, by default from a mail server in nobody's network."""
        now = self.clock.monotonic()
        return envelope(*to, wall=self.clock.wall(), received_at=now, started_at=now, **changes)

    async def submit(
        self,
        *to: str,
        names: str = "personal",
        is_client_gone: Callable[[], bool] = lambda: False,
        data: bytes | None = None,
        **changes: Any,
    ) -> Reply:
        """Hand a complete message of class `names` to the pipeline, as the listener does."""
        made = self.envelope(*to, **changes)
        with_class = wire(X_Class=names) if data is None else data
        return await self.hand_over(made, self.content(with_class), is_client_gone)

    async def hand_over(
        self,
        envelope: Envelope,
        content: Content,
        is_client_gone: Callable[[], bool] = lambda: False,
    ) -> Reply:
        """Give a message to the pipeline and return the reply; the work may go on after it."""
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        async def work() -> None:
            try:
                await self.pipeline.on_content(
                    envelope, content, is_client_gone=is_client_gone, answer=answered.set_result
                )
                assert answered.done(), "the message ended without an answer"
            except BaseException as error:
                if answered.done():
                    raise
                answered.set_exception(error)
            finally:
                content.close()

        self.supervisor.spawn(work(), f"message {envelope.queue_id}")
        return await asyncio.shield(answered)

    async def keep(self, record: SpoolRecord, data: bytes | None = None) -> QueueId:
        """Put a message into the spool, past the pipeline and without telling the drain."""

        async def pieces() -> AsyncIterator[bytes]:
            yield wire() if data is None else data

        await self.spool.add(record, pieces())
        return record.queue_id

    @asynccontextmanager
    async def draining(self) -> AsyncIterator[None]:
        """Run the drain meanwhile, and stop it as the service does."""
        run = self.supervisor.spawn(self.drainer.run(), "drain")
        try:
            yield
        finally:
            self.drainer.stop()
            for each in self.destinations:
                each.gate.close()
            for backend in self.backends.values():
                backend.before_dot.set()
                backend.after_dot.set()
            assert await self.supervisor.join(3600.0) == 0
            await run


TRUSTED = client(is_trusted=True)
"""A mail server that may send anywhere and may be sent reports."""


def is_queued(answer: Reply) -> bool:
    """Whether it promises that the spool has the message."""
    return answer.code == 250 and b"queued as" in answer.wire and answer != OK


def break_spool(middle: Middle, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let every commit fail."""

    async def add(record: SpoolRecord, content: AsyncIterable[bytes]) -> None:
        raise error

    monkeypatch.setattr(middle.spool, "add", add)


async def hold_slots(
    middle: Middle, count: int, names: str = "clinical", **changes: Any
) -> list["asyncio.Task[Reply]"]:
    """Let messages, clinical ones by default, take `count` slots and stand before their dot."""
    middle.backend.before_dot.clear()
    tasks = [
        middle.supervisor.spawn(middle.submit(names=names, **changes), f"holder {number}")
        for number in range(count)
    ]
    for _ in range(20):
        await asyncio.sleep(0)
    assert middle.gate.in_flight == count
    return tasks


def state_of(middle: Middle, queue_id: QueueId) -> SpoolState:
    """The state of the only recipient of a spooled message."""
    (recipient,) = middle.spool.record(queue_id).recipients
    return recipient.state
