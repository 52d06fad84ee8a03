"""The parts of the service: builds every object and says who knows whom. `app` brings them to life.

The constructor reads from top to bottom: first what every part uses (log, metrics, supervisor),
then the path of a message from its far end to its near one, since the near part hands on to the far
one, and last what only looks on, keeps or steers. Building does no I/O and starts nothing, so a
configuration can be built and thrown away.

A part knows those built before it. The few that have to reach a later one get a function, which
looks it up when it is called; nothing calls one before all parts are there.

What the configuration chooses between is chosen here, for passwords in `authentication.build`, and
for each backend in `backends`: a mail server or a Maildir, a fixed limit or one that adapts
(`policies.limit_for`), acting or only observing. What holds the dialogs is given (`engine`).
"""

import math
import os
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from mailshed.admin.audit import AuditLog
from mailshed.admin.explain import Explainer
from mailshed.admin.keeper import FILE_NAME as OVERRIDES_FILE
from mailshed.admin.keeper import OverrideKeeper
from mailshed.admin.operations import OperationsThread
from mailshed.admin.service import Commands
from mailshed.admission.entrance import Entrance
from mailshed.authentication.authenticator import Authenticator
from mailshed.authentication.build import authenticator_for
from mailshed.backends import Backends, Common
from mailshed.clock import SystemClock
from mailshed.config.certificate import date_of
from mailshed.config.policy import Quota
from mailshed.config.schema import Config
from mailshed.config.surge import surge_policy
from mailshed.config.tls import tls_policy
from mailshed.control.loop import ControlLoop
from mailshed.control.overrides import Overrides
from mailshed.control.signals.process import ProcessMeter
from mailshed.drain.drainer import Drainer
from mailshed.drain.journal import DrainJournal
from mailshed.engine import OWN, Engine
from mailshed.journal import Journal
from mailshed.linewriter import LineWriter
from mailshed.listener.handler import Handler
from mailshed.listener.handshakes import Handshakes, recorder
from mailshed.listener.slow import SlowReplies
from mailshed.listener.tls import Certificates, Loaded
from mailshed.livepolicies import LivePolicies
from mailshed.mail.content import Budget, ContentStore
from mailshed.mail.envelope import Client
from mailshed.maillog import MailLog, is_journal
from mailshed.metrics import (
    Metrics,
    SnapshotCollector,
    SnapshotHolder,
    Totals,
    Usage,
    new_registry,
)
from mailshed.picture import Painter, Status
from mailshed.pipeline import Pipeline
from mailshed.policies import drain_policy, fingerprint, helpers_of, live_policies
from mailshed.relay.capabilities import FILE_NAME as CAPABILITIES_FILE
from mailshed.relay.capabilities import Capabilities
from mailshed.relay.destination import Destination
from mailshed.screening import Screening
from mailshed.spool.reader import count_messages, find_ids, list_messages, show_messages
from mailshed.spool.sqlite import SqliteSpool
from mailshed.statefile import StateFile
from mailshed.steering import Steering
from mailshed.supervisor import Supervisor
from mailshed.surgewatch import FILE_NAME as SURGE_FILE
from mailshed.surgewatch import SurgeWatch
from mailshed.systemd import Notifier
from mailshed.terms import ClientKind, Reason

STDERR = 2
"""The file descriptor that the log goes to."""

LOAD = (Reason.SATURATED, Reason.DIVERTED, Reason.OVERRIDE)
"""Why a message is spooled though the backend is there and has nothing against it."""


class Parts:
    """Everything that one service is made of.

    `sink` takes the log's lines, `notifier` tells systemd. `reload` is what the admin interface's
    verb does, see `Commands`.
    """

    def __init__(
        self,
        config: Config,
        *,
        reload: Callable[[], Awaitable[str]],
        sink: LineWriter,
        notifier: Notifier,
        engine: Engine = OWN,
    ) -> None:
        # What is built from; a reload gives the parts new policies and leaves this as it is.
        self._config = config
        self.engine = engine
        # What every part uses.
        self.clock, self._rng = SystemClock(), random.Random()  # noqa: S311 - jitter, no secrets
        self.maillog = self._build_maillog(sink)
        self.status = self._build_status()
        self.metrics, self.holder = Metrics(new_registry()), SnapshotHolder()
        self.metrics.registry.register(SnapshotCollector(self.holder, self.clock.monotonic))
        self.declare_metrics(config)
        self.supervisor = Supervisor(self.task_failed)
        # The path of a message, from its far end to its near one.
        self.spool = self._build_spool()
        self.capabilities = self._build_capabilities()
        self.backends = self._build_backends()
        self.destinations = self.backends.destinations
        self.verifier = self.backends.verifiers
        self.journal = Journal(
            maillog=self.maillog,
            metrics=self.metrics,
            clock=self.clock,
            on_failure=self.task_failed,
        )
        self.drainer = self._build_drainer()
        self.surges = self._build_surges()
        self.entrance = Entrance(lambda: self.status.spool_fill)
        policies = live_policies(config)
        self.pipeline = self._build_pipeline(policies)
        self.screening = self._build_screening(policies)
        for each in self.destinations:
            each.gate.is_observing = config.is_observing
            each.gate.station.shedding.classes = policies.classifier.policy.classes
        self.contents = self._build_contents()
        self.authenticator = self._build_authenticator()
        self.handler = self._build_handler()
        self.handshakes = self._build_handshakes()
        # What looks on, keeps and steers.
        self.audit = AuditLog(config.spool.path)
        self.overrides = self._build_overrides()
        self.operations = self._build_operations(reload)
        self.control = self._build_control(sink, notifier)

    def declare_metrics(self, config: Config) -> None:
        """Let all series of this configuration exist before anything is counted."""
        self.metrics.declare(
            [each.name for each in config.classes],
            [each.name for each in config.listeners],
            [each.name for each in config.backends],
        )
        objectives = {each.name: each.objective for each in config.classes}
        self.metrics.promise(objectives, objectives[config.classification.default])

    def task_failed(self, name: str, error: BaseException) -> None:
        """Note that a task ended with an exception nobody expected."""
        self.status.tasks_failed += 1
        self.maillog.task_failed(name, error)

    # What every part uses.

    def _build_maillog(self, sink: LineWriter) -> MailLog:
        log = self._config.log
        has_priorities = is_journal(STDERR, os.environ.get("JOURNAL_STREAM", ""))
        maillog = MailLog(sink, log.format, log.level, has_priorities=has_priorities)
        sink.on_recovered = maillog.lines_dropped
        return maillog

    def _build_status(self) -> Status:
        config, wall = self._config, self.clock.wall()
        return Status(
            hostname=config.hostname,
            config_hash=fingerprint(config),
            config_loaded_wall=wall,
            started_wall=wall,
            sessions_max=config.limits.sessions_max,
            quota_keys_max=config.quotas.entries_max,
        )

    # The path of a message.

    def _build_spool(self) -> SqliteSpool:
        section = self._config.spool
        return SqliteSpool(
            section.path,
            octets_max=section.octets_max,
            messages_max=section.messages_max,
            disk_reserve=section.disk_reserve,
            allow_network_filesystem=section.allow_network_filesystem,
            clock=self.clock,
            on_sync=self.metrics.spool_sync,
        )

    def _build_capabilities(self) -> Capabilities:
        config = self._config
        return Capabilities(
            [each.name for each in config.backends if each.maildir is None],
            helpers=helpers_of(config),
            file=StateFile(config.spool.path, CAPABILITIES_FILE),
            maillog=self.maillog,
            on_failure=self.task_failed,
        )

    def _build_backends(self) -> Backends:
        common = Common(
            clock=self.clock,
            rng=self._rng,
            metrics=self.metrics,
            maillog=self.maillog,
            capabilities=self.capabilities,
            on_failure=self.task_failed,
            engine=self.engine,
        )
        return Backends(self._config, common)

    def _build_drainer(self) -> Drainer:
        return Drainer(
            policy=drain_policy(self._config),
            destinations=self.destinations,
            spool=self.spool,
            supervisor=self.supervisor,
            journal=DrainJournal(
                maillog=self.maillog,
                metrics=self.metrics,
                clock=self.clock,
                on_failure=self.task_failed,
            ),
            clock=self.clock,
            rng=self._rng,
        )

    def _build_surges(self) -> SurgeWatch:
        return SurgeWatch(
            surge_policy(self._config),
            file=StateFile(self._config.spool.path, SURGE_FILE),
            on_quotas=self._limit_surges,
            seconds_of=self._expected_seconds,
            maillog=self.maillog,
            clock=self.clock,
            on_failure=self.task_failed,
        )

    def _build_pipeline(self, policies: LivePolicies) -> Pipeline:
        return Pipeline(
            policies=policies,
            entrance=self.entrance,
            destinations=self.destinations,
            spool=self.spool,
            on_spooled=self.drainer.on_spooled,
            custody=self.drainer,
            supervisor=self.supervisor,
            journal=self.journal,
            clock=self.clock,
            count=self.surges.note,
        )

    def _build_screening(self, policies: LivePolicies) -> Screening:
        return Screening(
            policies=policies,
            entrance=self.entrance,
            destinations=self.destinations,
            journal=self.journal,
            clock=self.clock,
            verifier=self.verifier,
        )

    def _build_contents(self) -> ContentStore:
        limits = self._config.limits
        return ContentStore(
            memory=Budget(limits.content_memory_max),
            disk=Budget(limits.content_disk_max),
            memory_per_message=limits.content_memory_per_message,
            folder=self._config.spool.path,
        )

    def _build_authenticator(self) -> Authenticator:
        return authenticator_for(
            self._config,
            metrics=self.metrics,
            maillog=self.maillog,
            clock=self.clock,
            on_failure=self.task_failed,
        )

    def _build_handler(self) -> Handler:
        config = self._config
        return Handler(
            screening=self.screening,
            pipeline=self.pipeline,
            contents=self.contents,
            supervisor=self.supervisor,
            metrics=self.metrics,
            maillog=self.maillog,
            clock=self.clock,
            rng=self._rng,
            client_kinds={each.name: ClientKind(each.clients) for each in config.listeners},
            slow_replies=SlowReplies(config.limits.slow_replies_max),
            offered_behind=lambda keyword: self.capabilities.offers(keyword) is True,
            authenticator=self.authenticator,
        )

    def _build_handshakes(self) -> Handshakes | None:
        policy = tls_policy(self._config.tls)
        if policy is None:
            return None
        return Handshakes(
            Certificates(self._announce_certificate),
            policy,
            is_clinical=self._is_clinical,
            note=recorder(self.metrics, self.maillog),
        )

    # What looks on, keeps and steers.

    def _build_overrides(self) -> OverrideKeeper:
        return OverrideKeeper(
            file=StateFile(self._config.spool.path, OVERRIDES_FILE),
            classes=lambda: self.pipeline.policies.classifier.policy.classes,
            note=self.audit.append,
            on_change=self._obey,
            maillog=self.maillog,
            clock=self.clock,
            supervisor=self.supervisor,
            on_failure=self.task_failed,
        )

    def _build_operations(self, reload: Callable[[], Awaitable[str]]) -> OperationsThread:
        config, path = self._config, self._config.spool.path
        explainer = Explainer(
            self.journal.decisions, lambda: self.pipeline.policies.classifier, path
        )
        return OperationsThread(
            host=config.metrics.bind.host,
            port=config.metrics.bind.port,
            admin_socket=config.admin_socket,
            metrics=self.metrics,
            holder=self.holder,
            commands=Commands(
                list_messages=partial(list_messages, path),
                count_messages=partial(count_messages, path),
                show_messages=partial(show_messages, path),
                find_ids=partial(find_ids, path),
                amend=self.drainer.amend,
                audit=self.audit,
                announce=self.maillog.operator,
                reload=reload,
                adopt_surge=self.surges.adopt,
                explain=explainer.explain,
                overrides=self.overrides,
            ),
            on_failure=self.task_failed,
        )

    def _build_control(self, sink: LineWriter, notifier: Notifier) -> ControlLoop:
        steering = Steering(
            destinations=self.destinations,
            holder=self.holder,
            maillog=self.maillog,
            clock=self.clock,
            has_due_mail=self._has_due_mail,
            on_fallback=self.drainer.on_fallback,
        )
        return ControlLoop(
            take_snapshot=self._build_painter(sink).take,
            steer=steering.tick,
            holder=self.holder,
            spool=self.spool,
            metrics=self.metrics,
            maillog=self.maillog,
            clock=self.clock,
            feed_watchdog=notifier.watchdog,
            show_status=notifier.status,
            on_failure=self.task_failed,
        )

    def _build_painter(self, sink: LineWriter) -> Painter:
        return Painter(
            status=self.status,
            destinations=self.destinations,
            entrance=self.entrance,
            spool=self.spool,
            contents=self.contents,
            classification=lambda: self.pipeline.policies.classifier.policy,
            sessions=lambda: self.handler.caps.open,
            is_stressed=lambda: self.handler.caps.is_stressed,
            limit_picture=self.backends.limit_picture,
            extensions=self.capabilities.lines_of,
            overrides=self.overrides.snapshots,
            lines_dropped=lambda: sink.dropped_total,
            message_totals=self._message_totals,
            cached_recipients=self._cached_recipients,
            remembered_logins=self._remembered_logins,
            logins_failing=lambda: self.authenticator.failing,
            held_mailboxes=lambda: self.drainer.held_mailboxes,
            retry_tokens=lambda: self.drainer.retry_tokens,
            surges=self.surges.snapshots,
            slow_replies=self._slow_replies,
            tls=self._tls,
            process=ProcessMeter().look,
            clock=self.clock,
        )

    # How one part reaches another.

    def _limit_surges(self, quotas: Mapping[str, Quota]) -> None:
        self.entrance.quotas.surges = quotas

    def _obey(self, overrides: Overrides) -> None:
        """Let mail go by these overrides from now on."""
        for each in self.destinations:
            each.gate.set_overrides(overrides)
        self.drainer.on_overrides()

    def _has_due_mail(self, destination: Destination) -> bool:
        held = () if destination.gate.is_observing else self.overrides.current.held
        if self.destinations.is_single:
            return self.status.has_due_mail(held)
        return self.status.has_due_mail(held, self.destinations.taken_by(destination))

    def _expected_seconds(self, size: int, recipients: int) -> float | None:
        """What a message costs a backend: the default one, or the first that has learned it."""
        stations = [self.destinations.default.gate.station]
        stations += [each.gate.station for each in self.destinations]
        found = (each.expected(size, recipients) for each in stations)
        return next((seconds for seconds in found if seconds is not None), None)

    def _cached_recipients(self) -> Usage:
        used, limit = self.verifier.cached
        return Usage(used=used, limit=limit)

    def _remembered_logins(self) -> Usage:
        used, limit = self.authenticator.remembered
        return Usage(used=used, limit=limit)

    def _slow_replies(self) -> tuple[Usage, int]:
        slow = self.handler.slow_replies
        return Usage(used=slow.sleeping, limit=slow.limit), slow.total

    def _is_clinical(self, client: Client) -> bool:
        return self.pipeline.policies.is_clinical(client)

    def _announce_certificate(self, loaded: Loaded) -> None:
        ends = loaded.certificate.ends
        self.maillog.certificate_loaded(
            file=str(loaded.policy.certificate),
            serial=loaded.certificate.serial,
            ends=date_of(ends),
            days=math.floor((ends - self.clock.wall()) / 86400),
        )

    def _tls(self) -> tuple[Usage, float] | None:
        handshakes = self.handshakes
        if handshakes is None or (shown := handshakes.certificates.current) is None:
            return None
        usage = Usage(used=handshakes.under_way, limit=handshakes.policy.handshakes_max)
        return usage, shown.certificate.ends

    def _message_totals(self, name: str) -> Totals:
        journal, metrics = self.journal, self.metrics
        return Totals(
            relayed=journal.relayed[name],
            spooled=journal.spooled_count[name],
            shed=sum(metrics.decided(name, "spool", reason) for reason in LOAD),
            deferred=metrics.decided(name, "defer"),
            drained=self.drainer.delivered[name],
            late=metrics.late(name),
        )
