"""What is counted as mail passes: one method for each thing that happens.

The methods take plain values and cost a dictionary look-up and an addition (`cells`), and what
every relayed message is counted by is looked up once. Each metric is written by one thread: all by
the main loop, `spool_sync` by the spool's writer.

What a configuration makes possible exists from the start with the value 0 (`declare`), so that
the first event is visible as an increase; rare combinations of closed labels appear with their
first event. Gauges are not here: `collector` exports them from the snapshot.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import NamedTuple, get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from mailshed.admission.decision import Action
from mailshed.mail.delivery import StageTimes
from mailshed.metrics.cells import Counter, Histogram
from mailshed.metrics.labels import (
    CODE_CLASSES,
    CODES,
    STAGE_TIMES,
    TLS_VERSIONS,
    VERBS,
    Authentication,
    Disposition,
    Downgrade,
    Fate,
    Outcome,
    Overdue,
    PostponedLabel,
    ReportLabel,
    Result,
    Shut,
    Source,
    Timeliness,
    TlsResult,
    Verification,
)
from mailshed.terms import Reason, Stage

# What every class and listener will meet sooner or later, from the start with the value 0.
_OUTCOMES: tuple[Outcome, ...] = ("delivered", "spooled", "deferred")
_FATES: tuple[Fate, ...] = ("delivered", "deferred", "bounced", "in_doubt")
_REPORTS: tuple[ReportLabel, ...] = ("failed", "delayed")
_CAUSES: tuple[PostponedLabel, ...] = ("mailbox", "retry_budget")
_DECISIONS: tuple[tuple[Action, Reason], ...] = (
    ("relay", Reason.ROOM),
    ("spool", Reason.SATURATED),
    ("spool", Reason.DIVERTED),
    ("spool", Reason.BACKEND_AWAY),
    ("spool", Reason.BACKEND_DEFERRED),
    ("defer", Reason.BACKEND_DEFERRED),
    ("defer", Reason.SPOOL_FILLING),
    ("defer", Reason.SPOOL_FULL),
    ("defer", Reason.SPOOL_SICK),
    ("reject", Reason.BACKEND_REFUSED),
)
_REPLIES = (
    *(("connect", "220"), ("connect", "421"), ("ehlo", "250"), ("mail", "250")),
    *(("rcpt", "250"), ("rcpt", "554"), ("data", "354"), ("quit", "221")),
    *(("dot", "250"), ("dot", "451"), ("dot", "452"), ("dot", "550"), ("dot", "554")),
)
_STAGES = (Stage.CONNECT, Stage.EHLO, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT)
_VERBS = frozenset(VERBS)
# 354 is the good answer to DATA; other 1xx and 3xx do not exist in SMTP.
_CODE_CLASSES = {2: "2xx", 3: "2xx", 4: "4xx", 5: "5xx"}


class _Relayed(NamedTuple):
    """The cells and rows that a relayed message of one class is counted in."""

    messages: list[int]
    recipients: list[int]
    decisions: list[int]
    on_time: list[int]
    late: list[int]
    octets: list[int]
    sizes: list[float]
    took: list[float]


class Metrics(Collector):
    """All counters and histograms, exported through the registry that is passed in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._connections = Counter("smtp_connections_total")
        self._shut = Counter("smtp_connections_refused_total")
        self._overdue = Counter("smtp_sessions_overdue_total")
        self._replies = Counter("smtp_replies_total")
        self._messages = Counter("messages_accepted_total")
        self._recipients = Counter("recipients_accepted_total")
        self._decisions = Counter("decisions_total")
        self._verifications = Counter("recipient_verifications_total")
        self._authentications = Counter("authentications_total")
        self._tls_handshakes = Counter("tls_handshakes_total")
        self._tls_sessions = Counter("tls_sessions_total")
        self._sizes = Histogram("message_size_bytes")
        self._transactions = Histogram("transaction_duration_seconds")
        self._stages = Histogram("delivery_stage_seconds")
        self._call_ahead = Histogram("call_ahead_seconds")
        self._would = Counter("would_decisions_total")
        self._over_quota = Counter("over_quota_total")
        self._slot_waits = Histogram("slot_wait_seconds")
        self._queue_waits = Histogram("queue_wait_seconds")
        self._spool_sync = Histogram("spool_sync_seconds")
        self._loop_lag = Histogram("event_loop_lag_seconds")
        self._backend_replies = Counter("backend_replies_total")
        self._deliveries = Counter("deliveries_total")
        self._delivered = Counter("delivered_messages_total")
        self._delivered_bytes = Counter("delivered_bytes_total")
        self._in_doubt = Counter("in_doubt_total")
        self._reports = Counter("reports_total")
        self._postponed = Counter("messages_postponed_total")
        self._reports_limited = Counter("reports_limited_total")
        self._downgrades = Counter("downgrades_total")
        self._reports_limited.cell()
        for downgrade in get_args(Downgrade):
            self._downgrades.cell(downgrade)
        for verification in get_args(Verification):
            self._verifications.cell(verification)
        for authentication in get_args(Authentication):
            self._authentications.cell(authentication)
        for shut in get_args(Shut):
            self._shut.cell(shut)
        for ending in get_args(TlsResult):
            self._tls_handshakes.cell(ending)
        for version in TLS_VERSIONS:
            self._tls_sessions.cell(version)
        for overdue in get_args(Overdue):
            self._overdue.cell(overdue)
        self._call_ahead.declare()
        self._relayed: dict[str, _Relayed] = {}
        self._stage_rows: dict[str, list[list[float]]] = {}
        self._objectives: Mapping[str, float] = {}
        self._default_objective = inf
        self._spool_sync.declare()
        self._loop_lag.declare()
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The families as they are now."""
        for part in list(vars(self).values()):
            if isinstance(part, Counter | Histogram):
                yield part.export()

    def declare(
        self, classes: Sequence[str], listeners: Sequence[str], backends: Sequence[str]
    ) -> None:
        """Create what these names make possible, with the value 0; again after a reload."""
        for listener in listeners:
            for result in ("accepted", "refused"):
                self._connections.cell(listener, result)
            for verb, code in _REPLIES:
                self._replies.cell(listener, verb, code)
        for name in classes:
            self._declare_class(name)
        for backend in backends:
            for stage_time in STAGE_TIMES:
                self._stages.declare(backend, stage_time)
            for stage in _STAGES:
                for code_class in CODE_CLASSES:
                    self._backend_replies.cell(backend, stage.value, code_class)

    def promise(self, objectives: Mapping[str, float], default: float) -> None:
        """Set the seconds from arrival to delivery that each class is promised from now on.

        `default` is for mail of a class that the configuration has lost.
        """
        self._objectives, self._default_objective = dict(objectives), default

    def _declare_class(self, name: str) -> None:
        for disposition in ("relayed", "spooled"):
            self._messages.cell(name, disposition)
        self._recipients.cell(name)
        self._in_doubt.cell(name)
        for cause in _CAUSES:
            self._postponed.cell(name, cause)
        for kind in _REPORTS:
            self._reports.cell(name, kind)
        self._delivered_bytes.cell(name)
        for timeliness in get_args(Timeliness):
            self._delivered.cell(name, timeliness)
        for action, reason in _DECISIONS:
            self._decisions.cell(name, action, reason.value)
        for source in ("live", "spool"):
            for fate in _FATES:
                self._deliveries.cell(name, source, fate)
        for outcome in _OUTCOMES:
            self._transactions.declare(name, outcome)
        self._sizes.declare(name)
        self._slot_waits.declare(name)
        self._queue_waits.declare(name)

    # The listener.

    def connection(self, listener: str, result: Result) -> None:
        """A client connected."""
        self._connections.add((listener, result))

    def shut_out(self, cause: Shut) -> None:
        """A connection got no session."""
        self._shut.add((cause,))

    def session_overdue(self, phase: Overdue) -> None:
        """A session was ended, since the client was too slow."""
        self._overdue.add((phase,))

    def reply(self, listener: str, verb: str, code: int) -> None:
        """A reply to a command was sent.

        `verb` in lower case; `dot` is the end of mail data, `connect` the greeting. What is not
        a command or a code of ours counts as `other`: a client must not choose labels.
        """
        verb_label = verb if verb in _VERBS else "other"
        code_label = str(code)
        if code_label not in CODES:
            code_label = "other"
        self._replies.add((listener, verb_label, code_label))

    def tls_handshake(self, result: TlsResult, version: str | None = None) -> None:
        """A TLS handshake with a client has ended; `version` is what was agreed on."""
        self._tls_handshakes.add((result,))
        if version in TLS_VERSIONS:
            self._tls_sessions.add((version,))

    def verification(self, result: Verification) -> None:
        """A recipient was looked up at RCPT."""
        self._verifications.add((result,))

    def authentication(self, result: Authentication) -> None:
        """A client tried to authenticate."""
        self._authentications.add((result,))

    def call_ahead(self, seconds: float) -> None:
        """The backend said after `seconds` whether it has a mailbox."""
        self._call_ahead.observe((), seconds)

    # The path of a message.

    def decision(self, traffic_class: str, action: Action, reason: Reason) -> None:
        """It was decided what happens to a message."""
        self._decisions.add((traffic_class, action, reason.value))

    def would(self, traffic_class: str, action: Action, reason: Reason) -> None:
        """While observing, it was found what would have been decided."""
        self._would.add((traffic_class, action, reason.value))

    def over_quota(self, traffic_class: str, quota: str, level: str) -> None:
        """A message exceeds a quota."""
        self._over_quota.add((traffic_class, quota, level))

    def accepted(
        self, traffic_class: str, disposition: Disposition, *, size: int, recipients: int
    ) -> None:
        """A message got our 250."""
        self._messages.add((traffic_class, disposition))
        self._recipients.add((traffic_class,), recipients)
        self._sizes.observe((traffic_class,), size)

    def relayed(
        self, traffic_class: str, *, size: int, recipients: int, delay: float, seconds: float
    ) -> None:
        """The backend took a message while its client waited.

        In one step what is `decision`, `accepted`, `delivered` after `delay` seconds, and
        `transaction` of so many `seconds`.
        """
        cells = self._relayed.get(traffic_class)
        if cells is None:
            cells = self._relayed[traffic_class] = self._cells_of_relayed(traffic_class)
        cells.messages[0] += 1
        cells.recipients[0] += recipients
        cells.decisions[0] += 1
        is_late = delay > self._objectives.get(traffic_class, self._default_objective)
        (cells.late if is_late else cells.on_time)[0] += 1
        cells.octets[0] += size
        self._sizes.note(cells.sizes, size)
        self._transactions.note(cells.took, seconds)

    def _cells_of_relayed(self, name: str) -> _Relayed:
        return _Relayed(
            messages=self._messages.cell(name, "relayed"),
            recipients=self._recipients.cell(name),
            decisions=self._decisions.cell(name, "relay", Reason.ROOM.value),
            on_time=self._delivered.cell(name, "on_time"),
            late=self._delivered.cell(name, "late"),
            octets=self._delivered_bytes.cell(name),
            sizes=self._sizes.declare(name),
            took=self._transactions.declare(name, "delivered"),
        )

    def transaction(self, traffic_class: str, outcome: Outcome, seconds: float) -> None:
        """A mail transaction ended `seconds` after its MAIL command."""
        self._transactions.observe((traffic_class, outcome), seconds)

    def slot_wait(self, traffic_class: str, seconds: float) -> None:
        """A live message waited so long for a slot, and got it or was spooled."""
        self._slot_waits.observe((traffic_class,), max(0.0, seconds))

    def decided(self, traffic_class: str, action: Action, reason: Reason | None = None) -> int:
        """How often it was decided so about messages of this class; None: for any reason."""
        reasons = Reason if reason is None else (reason,)
        return sum(self._decisions.value(traffic_class, action, each.value) for each in reasons)

    # The backend.

    def delivered(self, traffic_class: str, seconds: float, size: int) -> None:
        """The backend took a message of `size` octets, `seconds` after its arrival."""
        objective = self._objectives.get(traffic_class, self._default_objective)
        timeliness: Timeliness = "late" if seconds > objective else "on_time"
        self._delivered.add((traffic_class, timeliness))
        self._delivered_bytes.add((traffic_class,), size)

    def late(self, traffic_class: str) -> int:
        """How many messages of this class were delivered too late for its objective."""
        return self._delivered.value(traffic_class, "late")

    def backend_reply(self, backend: str, stage: Stage, code: int | None) -> None:
        """The backend replied with `code`, or did not in time (None)."""
        code_class = "none" if code is None else _CODE_CLASSES.get(code // 100, "none")
        self._backend_replies.add((backend, stage.value, code_class))

    def stage_times(self, backend: str, times: StageTimes) -> None:
        """A transaction with the backend ended; a stage that was not reached has no time."""
        rows = self._stage_rows.get(backend)
        if rows is None:
            rows = [self._stages.declare(backend, stage) for stage in STAGE_TIMES]
            self._stage_rows[backend] = rows
        connect, envelope, content, service = rows
        note = self._stages.note
        if times.connect > 0.0:
            note(connect, times.connect)
        if times.envelope > 0.0:
            note(envelope, times.envelope)
        if times.content > 0.0:
            note(content, times.content)
        if times.service > 0.0:
            note(service, times.service)

    def deliveries(self, traffic_class: str, source: Source, fate: Fate, recipients: int) -> None:
        """An attempt ended in this way for so many recipients."""
        self._deliveries.add((traffic_class, source, fate), recipients)

    def in_doubt(self, traffic_class: str) -> None:
        """A message's final dot got no answer."""
        self._in_doubt.add((traffic_class,))

    # The spool and the loop.

    def postponed(self, traffic_class: str, cause: PostponedLabel) -> None:
        """A due message was not tried."""
        self._postponed.add((traffic_class, cause))

    def report(self, traffic_class: str, kind: ReportLabel) -> None:
        """A report about a message of this class has entered the spool."""
        self._reports.add((traffic_class, kind))

    def reports_limited(self, recipients: int) -> None:
        """So many recipients were not reported when they should have been."""
        self._reports_limited.add((), recipients)

    def downgrade(self, kind: Downgrade) -> None:
        """The backend lacks what a message would have needed."""
        self._downgrades.add((kind,))

    def queue_wait(self, traffic_class: str, seconds: float) -> None:
        """A message was delivered after `seconds` in the spool."""
        self._queue_waits.observe((traffic_class,), max(0.0, seconds))

    def spool_sync(self, seconds: float) -> None:
        """The spool committed, durably; only from the spool's one writer."""
        self._spool_sync.observe((), seconds)

    def loop_lag(self, seconds: float) -> None:
        """A timer of the event loop was this late."""
        self._loop_lag.observe((), max(0.0, seconds))
