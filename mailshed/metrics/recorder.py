"""What is counted as mail passes: one method for each thing that happens.

The methods take plain values and cost a dictionary look-up and an addition. They do not use the
library's own counters, whose lock and checks cost 1 to 2 microseconds each, a quarter of the whole
budget of a message: values are kept in dictionaries here, and made into the library's families
when somebody scrapes. What makes this safe is that each metric is written by one thread (all by the
main loop, `spool_sync` by the spool's writer) and read through copies (`_items`).

What a configuration makes possible exists from the start with the value 0 (`declare`), so that
the first event is visible as an increase; rare combinations of closed labels appear with their
first event. Gauges are not here: `collector` exports them from the snapshot.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import TypeVar, get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from mailshed.admission.decision import Action
from mailshed.mail.delivery import StageTimes
from mailshed.metrics.catalog import FAMILIES
from mailshed.metrics.family import Kind
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

Labels = tuple[str, ...]
T = TypeVar("T")


def _items(values: dict[Labels, T]) -> list[tuple[Labels, T]]:
    """What a dictionary holds that another thread is adding to.

    Even this one call is not one step: making a tuple may run the garbage collector, and that may
    let the other thread add a key. Keys are few and soon all there, so trying again ends.
    """
    while True:
        try:
            return list(values.items())
        except RuntimeError:
            continue


class _Counter:
    """The values of one counter by its label values: `values[labels] += 1`."""

    def __init__(self, name: str) -> None:
        self._family = FAMILIES[name]
        assert self._family.kind is Kind.COUNTER
        self.values: defaultdict[Labels, int] = defaultdict(int)

    def export(self) -> Metric:
        family = self._family
        made = CounterMetricFamily(family.full_name, family.help, labels=family.labels)
        for labels, value in _items(self.values):
            made.add_metric(labels, value)
        return made


class _Histogram:
    """One histogram: per label values a row of counts, one a bucket (+Inf last), and the sum."""

    def __init__(self, name: str) -> None:
        self._family = FAMILIES[name]
        assert self._family.kind is Kind.HISTOGRAM
        self._bounds = self._family.buckets
        self._edges = [*map(floatToGoString, self._bounds), "+Inf"]
        self._rows: dict[Labels, list[float]] = {}

    def declare(self, *labels: str) -> list[float]:
        """The row of these labels, made if need be."""
        return self._rows.setdefault(labels, [0.0] * (len(self._edges) + 1))

    def observe(self, labels: Labels, value: float) -> None:
        row = self._rows.get(labels) or self.declare(*labels)
        row[bisect_left(self._bounds, value)] += 1
        row[-1] += value

    def export(self) -> Metric:
        family = self._family
        made = HistogramMetricFamily(family.full_name, family.help, labels=family.labels)
        for labels, row in _items(self._rows):
            *counts, total = row.copy()
            running = 0.0
            buckets: list[tuple[str, float]] = []
            for edge, count in zip(self._edges, counts, strict=True):
                running += count
                buckets.append((edge, running))
            made.add_metric(labels, buckets, total)
        return made


class Metrics(Collector):
    """All counters and histograms, exported through the registry that is passed in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._connections = _Counter("smtp_connections_total")
        self._shut = _Counter("smtp_connections_refused_total")
        self._overdue = _Counter("smtp_sessions_overdue_total")
        self._replies = _Counter("smtp_replies_total")
        self._messages = _Counter("messages_accepted_total")
        self._recipients = _Counter("recipients_accepted_total")
        self._decisions = _Counter("decisions_total")
        self._verifications = _Counter("recipient_verifications_total")
        self._authentications = _Counter("authentications_total")
        self._tls_handshakes = _Counter("tls_handshakes_total")
        self._tls_sessions = _Counter("tls_sessions_total")
        self._sizes = _Histogram("message_size_bytes")
        self._transactions = _Histogram("transaction_duration_seconds")
        self._stages = _Histogram("delivery_stage_seconds")
        self._call_ahead = _Histogram("call_ahead_seconds")
        self._would = _Counter("would_decisions_total")
        self._over_quota = _Counter("over_quota_total")
        self._slot_waits = _Histogram("slot_wait_seconds")
        self._queue_waits = _Histogram("queue_wait_seconds")
        self._spool_sync = _Histogram("spool_sync_seconds")
        self._loop_lag = _Histogram("event_loop_lag_seconds")
        self._backend_replies = _Counter("backend_replies_total")
        self._deliveries = _Counter("deliveries_total")
        self._delivered = _Counter("delivered_messages_total")
        self._delivered_bytes = _Counter("delivered_bytes_total")
        self._in_doubt = _Counter("in_doubt_total")
        self._reports = _Counter("reports_total")
        self._postponed = _Counter("messages_postponed_total")
        self._reports_limited = _Counter("reports_limited_total")
        self._downgrades = _Counter("downgrades_total")
        self._reports_limited.values[()] = 0
        for downgrade in get_args(Downgrade):
            self._downgrades.values[downgrade,] = 0
        for verification in get_args(Verification):
            self._verifications.values[verification,] = 0
        for authentication in get_args(Authentication):
            self._authentications.values[authentication,] = 0
        for shut in get_args(Shut):
            self._shut.values[shut,] = 0
        for ending in get_args(TlsResult):
            self._tls_handshakes.values[ending,] = 0
        for version in TLS_VERSIONS:
            self._tls_sessions.values[version,] = 0
        for overdue in get_args(Overdue):
            self._overdue.values[overdue,] = 0
        self._call_ahead.declare()
        self._objectives: Mapping[str, float] = {}
        self._default_objective = inf
        self._spool_sync.declare()
        self._loop_lag.declare()
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The families as they are now."""
        for part in list(vars(self).values()):
            if isinstance(part, _Counter | _Histogram):
                yield part.export()

    def declare(
        self, classes: Sequence[str], listeners: Sequence[str], backends: Sequence[str]
    ) -> None:
        """Create what these names make possible, with the value 0; again after a reload."""
        for listener in listeners:
            for result in ("accepted", "refused"):
                self._connections.values[listener, result] += 0
            for verb, code in _REPLIES:
                self._replies.values[listener, verb, code] += 0
        for name in classes:
            self._declare_class(name)
        for backend in backends:
            for stage_time in STAGE_TIMES:
                self._stages.declare(backend, stage_time)
            for stage in _STAGES:
                for code_class in CODE_CLASSES:
                    self._backend_replies.values[backend, stage.value, code_class] += 0

    def promise(self, objectives: Mapping[str, float], default: float) -> None:
        """Set the seconds from arrival to delivery that each class is promised from now on.

        `default` is for mail of a class that the configuration has lost.
        """
        self._objectives, self._default_objective = dict(objectives), default

    def _declare_class(self, name: str) -> None:
        for disposition in ("relayed", "spooled"):
            self._messages.values[name, disposition] += 0
        self._recipients.values[name,] += 0
        self._in_doubt.values[name,] += 0
        for cause in _CAUSES:
            self._postponed.values[name, cause] += 0
        for kind in _REPORTS:
            self._reports.values[name, kind] += 0
        self._delivered_bytes.values[name,] += 0
        for timeliness in get_args(Timeliness):
            self._delivered.values[name, timeliness] += 0
        for action, reason in _DECISIONS:
            self._decisions.values[name, action, reason.value] += 0
        for source in ("live", "spool"):
            for fate in _FATES:
                self._deliveries.values[name, source, fate] += 0
        for outcome in _OUTCOMES:
            self._transactions.declare(name, outcome)
        self._sizes.declare(name)
        self._slot_waits.declare(name)
        self._queue_waits.declare(name)

    # The listener.

    def connection(self, listener: str, result: Result) -> None:
        """A client connected."""
        self._connections.values[listener, result] += 1

    def shut_out(self, cause: Shut) -> None:
        """A connection got no session."""
        self._shut.values[cause,] += 1

    def session_overdue(self, phase: Overdue) -> None:
        """A session was ended, since the client was too slow."""
        self._overdue.values[phase,] += 1

    def reply(self, listener: str, verb: str, code: int) -> None:
        """A reply to a command was sent.

        `verb` in lower case; `dot` is the end of mail data, `connect` the greeting. What is not
        a command or a code of ours counts as `other`: a client must not choose labels.
        """
        verb_label = verb if verb in _VERBS else "other"
        code_label = str(code)
        if code_label not in CODES:
            code_label = "other"
        self._replies.values[listener, verb_label, code_label] += 1

    def tls_handshake(self, result: TlsResult, version: str | None = None) -> None:
        """A TLS handshake with a client has ended; `version` is what was agreed on."""
        self._tls_handshakes.values[result,] += 1
        if version in TLS_VERSIONS:
            self._tls_sessions.values[version,] += 1

    def verification(self, result: Verification) -> None:
        """A recipient was looked up at RCPT."""
        self._verifications.values[result,] += 1

    def authentication(self, result: Authentication) -> None:
        """A client tried to authenticate."""
        self._authentications.values[result,] += 1

    def call_ahead(self, seconds: float) -> None:
        """The backend said after `seconds` whether it has a mailbox."""
        self._call_ahead.observe((), seconds)

    # The path of a message.

    def decision(self, traffic_class: str, action: Action, reason: Reason) -> None:
        """It was decided what happens to a message."""
        self._decisions.values[traffic_class, action, reason.value] += 1

    def would(self, traffic_class: str, action: Action, reason: Reason) -> None:
        """While observing, it was found what would have been decided."""
        self._would.values[traffic_class, action, reason.value] += 1

    def over_quota(self, traffic_class: str, quota: str, level: str) -> None:
        """A message exceeds a quota."""
        self._over_quota.values[traffic_class, quota, level] += 1

    def accepted(
        self, traffic_class: str, disposition: Disposition, *, size: int, recipients: int
    ) -> None:
        """A message got our 250."""
        self._messages.values[traffic_class, disposition] += 1
        self._recipients.values[traffic_class,] += recipients
        self._sizes.observe((traffic_class,), size)

    def transaction(self, traffic_class: str, outcome: Outcome, seconds: float) -> None:
        """A mail transaction ended `seconds` after its MAIL command."""
        self._transactions.observe((traffic_class, outcome), seconds)

    def slot_wait(self, traffic_class: str, seconds: float) -> None:
        """A live message waited so long for a slot, and got it or was spooled."""
        self._slot_waits.observe((traffic_class,), max(0.0, seconds))

    def decided(self, traffic_class: str, action: Action, reason: Reason | None = None) -> int:
        """How often it was decided so about messages of this class; None: for any reason."""
        counts = self._decisions.values
        reasons = Reason if reason is None else (reason,)
        return sum(counts.get((traffic_class, action, each.value), 0) for each in reasons)

    # The backend.

    def delivered(self, traffic_class: str, seconds: float, size: int) -> None:
        """The backend took a message of `size` octets, `seconds` after its arrival."""
        objective = self._objectives.get(traffic_class, self._default_objective)
        timeliness: Timeliness = "late" if seconds > objective else "on_time"
        self._delivered.values[traffic_class, timeliness] += 1
        self._delivered_bytes.values[traffic_class,] += size

    def late(self, traffic_class: str) -> int:
        """How many messages of this class were delivered too late for its objective."""
        return self._delivered.values.get((traffic_class, "late"), 0)

    def backend_reply(self, backend: str, stage: Stage, code: int | None) -> None:
        """The backend replied with `code`, or did not in time (None)."""
        code_class = "none" if code is None else _CODE_CLASSES.get(code // 100, "none")
        self._backend_replies.values[backend, stage.value, code_class] += 1

    def stage_times(self, backend: str, times: StageTimes) -> None:
        """A transaction with the backend ended; a stage that was not reached has no time."""
        for stage, seconds in (
            ("connect", times.connect),
            ("envelope", times.envelope),
            ("content", times.content),
            ("service", times.service),
        ):
            if seconds > 0.0:
                self._stages.observe((backend, stage), seconds)

    def deliveries(self, traffic_class: str, source: Source, fate: Fate, recipients: int) -> None:
        """An attempt ended in this way for so many recipients."""
        self._deliveries.values[traffic_class, source, fate] += recipients

    def in_doubt(self, traffic_class: str) -> None:
        """A message's final dot got no answer."""
        self._in_doubt.values[traffic_class,] += 1

    # The spool and the loop.

    def postponed(self, traffic_class: str, cause: PostponedLabel) -> None:
        """A due message was not tried."""
        self._postponed.values[traffic_class, cause] += 1

    def report(self, traffic_class: str, kind: ReportLabel) -> None:
        """A report about a message of this class has entered the spool."""
        self._reports.values[traffic_class, kind] += 1

    def reports_limited(self, recipients: int) -> None:
        """So many recipients were not reported when they should have been."""
        self._reports_limited.values[()] += recipients

    def downgrade(self, kind: Downgrade) -> None:
        """The backend lacks what a message would have needed."""
        self._downgrades.values[kind,] += 1

    def queue_wait(self, traffic_class: str, seconds: float) -> None:
        """A message was delivered after `seconds` in the spool."""
        self._queue_waits.observe((traffic_class,), max(0.0, seconds))

    def spool_sync(self, seconds: float) -> None:
        """The spool committed, durably; only from the spool's one writer."""
        self._spool_sync.observe((), seconds)

    def loop_lag(self, seconds: float) -> None:
        """A timer of the event loop was this late."""
        self._loop_lag.observe((), max(0.0, seconds))
