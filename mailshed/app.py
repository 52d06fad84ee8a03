"""The composition root: builds every object in the order of a message's path, runs, stops.

Building does no I/O; `run` does, and undoes what it did if a later step fails. Order of start:
the listeners' sockets are bound first (a taken port is found before anything else happens), then
the spool opens (its lock tells a second instance apart, before the admin socket would), then come
the operations thread and the drain, and the listeners accept last, when all that a message needs
is there. The order of a stop is that of a message's path: no new connections, open transactions
finish, the drain's transactions finish, the spool closes; nothing acknowledged is ever in memory
only.

SIGTERM and SIGINT stop, SIGHUP reloads, as does a change of a list that the configuration names.
A reload replaces the policies as a whole or, if the file
is faulty or asks for what needs a restart, not at all.
"""

import asyncio
import os
import random
import signal
from collections.abc import Callable, Mapping
from functools import partial

import uvloop

from mailshed import __version__
from mailshed.admin.audit import AuditLog
from mailshed.admin.explain import Explainer
from mailshed.admin.keeper import FILE_NAME as OVERRIDES
from mailshed.admin.keeper import OverrideKeeper
from mailshed.admin.operations import OperationsThread
from mailshed.admin.service import Commands
from mailshed.clock import SystemClock
from mailshed.config.load import session_limits, verification_policy
from mailshed.config.policy import Quota
from mailshed.config.schema import Config
from mailshed.config.sections import Backend as BackendSection
from mailshed.config.sections import Listener
from mailshed.config.surge import surge_policy
from mailshed.config.watch import INTERVAL as LISTS_INTERVAL
from mailshed.config.watch import ListWatch
from mailshed.control.loop import ControlLoop
from mailshed.control.overrides import Overrides
from mailshed.control.signals.process import ProcessMeter
from mailshed.drain.drainer import Drainer
from mailshed.errors import ConfigError, SpoolError, SpoolLocked, SpoolSick, StartError
from mailshed.journal import Journal
from mailshed.limitmemory import FILE_NAME as LIMIT_FILE
from mailshed.limitmemory import LimitMemory
from mailshed.limits import raise_file_limit
from mailshed.linewriter import LineWriter
from mailshed.listener.handler import Handler
from mailshed.listener.server import SessionFactory, SmtpServer, bind, finish_sessions
from mailshed.listener.slow import SlowReplies
from mailshed.mail.content import Budget, ContentStore
from mailshed.maillog import MailLog, configure_logging, is_journal
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
from mailshed.policies import (
    drain_policy,
    fingerprint,
    limit_for,
    pipeline_policies,
)
from mailshed.relay.backend import Backend
from mailshed.relay.call_ahead import CallAhead, question_timeouts
from mailshed.relay.connection import Address, open_connection
from mailshed.relay.gate import Gate
from mailshed.relay.maildir import MaildirBackend
from mailshed.relay.presets import PRESETS
from mailshed.relay.probe import Prober
from mailshed.relay.smtp import SmtpBackend
from mailshed.relay.verify import RecipientVerifier, is_pressed
from mailshed.reload import Reloader, in_short
from mailshed.spool.accounts import free_space
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

# At a stop, how much of the time is left for the drain's transactions after the sessions are done
# (seconds): those with a connected client come first.
DRAIN_SHARE = 10.0
# And of that, for writing down what is in doubt when the backend does not answer in time.
LAST_WORDS = 5.0


class Service:
    """One running mailshed."""

    def __init__(
        self, config: Config, *, reload: Callable[[], Config], sink: LineWriter, notifier: Notifier
    ) -> None:
        self.config = config
        self._notifier = notifier
        clock, rng = SystemClock(), random.Random()  # noqa: S311 - jitter and ids, not secrets
        self._clock = clock
        self.maillog = MailLog(
            sink,
            config.log.format,
            config.log.level,
            has_priorities=is_journal(STDERR, os.environ.get("JOURNAL_STREAM", "")),
        )
        sink.on_recovered = self.maillog.lines_dropped
        configure_logging(self.maillog)
        self._status = Status(
            hostname=config.hostname,
            target=_target(config.backends[0]),
            config_hash=fingerprint(config),
            config_loaded_wall=clock.wall(),
            started_wall=clock.wall(),
            sessions_max=config.limits.sessions_max,
            quota_keys_max=config.quotas.entries_max,
        )
        self._holder = SnapshotHolder()
        registry = new_registry()
        self.metrics = Metrics(registry)
        registry.register(SnapshotCollector(self._holder, clock.monotonic))
        self._declare_metrics(config)
        self._supervisor = Supervisor(self._task_failed)

        # The path of a message, from its far end to its near one.
        section = config.backends[0]
        self._spool = SqliteSpool(
            config.spool.path,
            octets_max=config.spool.octets_max,
            messages_max=config.spool.messages_max,
            disk_reserve=config.spool.disk_reserve,
            allow_network_filesystem=config.spool.allow_network_filesystem,
            clock=clock,
            on_sync=self.metrics.spool_sync,
        )
        self._reloader = Reloader(reload, self._spool)
        self._prober = self._build_prober(section, config.hostname)
        limit = limit_for(section)
        self._limit_memory = LimitMemory(
            limit,
            section.name,
            file=StateFile(config.spool.path, LIMIT_FILE),
            maillog=self.maillog,
            clock=clock,
            on_failure=self._task_failed,
        )
        self._gate = Gate(
            limit=limit,
            clock=clock,
            rng=rng,
            preset=PRESETS[section.preset],
            prober=self._prober,
        )
        self._gate.is_observing = config.is_observing
        self._verifier = RecipientVerifier(
            verification_policy(config),
            call_ahead=self._build_call_ahead(section, config.hostname, clock),
            gate=self._gate,
            metrics=self.metrics,
            maillog=self.maillog,
            clock=clock,
            rng=rng,
        )
        self._backend = _build_backend(
            section, config.hostname, clock, self._verifier, self._gate.note_crowded
        )
        self._journal = Journal(
            maillog=self.maillog,
            metrics=self.metrics,
            backend=section.name,
            clock=clock,
            on_failure=self._task_failed,
        )
        self._drainer = Drainer(
            policy=drain_policy(config),
            gate=self._gate,
            backend=self._backend,
            spool=self._spool,
            supervisor=self._supervisor,
            journal=self._journal,
            clock=clock,
            rng=rng,
        )
        self._surges = self._build_surges(config)
        self._pipeline = Pipeline(
            policies=pipeline_policies(config),
            gate=self._gate,
            backend=self._backend,
            spool=self._spool,
            on_spooled=self._drainer.on_spooled,
            custody=self._drainer,
            supervisor=self._supervisor,
            journal=self._journal,
            clock=clock,
            verifier=self._verifier,
            spool_fill=lambda: self._status.spool_fill,
            count=self._surges.note,
        )
        self._gate.station.shedding.classes = self._pipeline.policies.classifier.policy.classes
        limits = config.limits
        self._contents = ContentStore(
            memory=Budget(limits.content_memory_max),
            disk=Budget(limits.content_disk_max),
            memory_per_message=limits.content_memory_per_message,
            folder=config.spool.path,
        )
        self._handler = Handler(
            pipeline=self._pipeline,
            contents=self._contents,
            supervisor=self._supervisor,
            metrics=self.metrics,
            clock=clock,
            rng=rng,
            client_kinds={each.name: ClientKind(each.clients) for each in config.listeners},
            slow_replies=SlowReplies(limits.slow_replies_max),
        )
        self._audit = AuditLog(config.spool.path)
        self._overrides = OverrideKeeper(
            file=StateFile(config.spool.path, OVERRIDES),
            classes=lambda: self._pipeline.policies.classifier.policy.classes,
            note=self._audit.append,
            on_change=self._obey,
            maillog=self.maillog,
            clock=clock,
            supervisor=self._supervisor,
            on_failure=self._task_failed,
        )
        self._servers: list[SmtpServer] = []
        self._stopping_since = clock.monotonic()
        self.operations = self._build_operations()
        self._control = self._build_control(sink)

    # Life.

    async def run(self, stop: asyncio.Event, hangup: asyncio.Event) -> int:
        """Start, serve until `stop` is set, stop; return how much work was cut off.

        Whatever goes wrong, at the start or later: what was opened is closed.
        """
        try:
            await self._start()
            self._notifier.ready()
            unfinished = await self._serve(stop, hangup)
        finally:
            await self._close()
        seconds = self._clock.monotonic() - self._stopping_since
        self.maillog.stopped(seconds=seconds, unfinished=unfinished)
        return unfinished

    async def _start(self) -> None:
        for section in self.config.listeners:
            self._bind(section)
        await self._open_spool()
        await self._limit_memory.load()
        await self._surges.load()
        await self._overrides.load()
        self._warn_of_observing()
        self._make_socket_folder()
        self.operations.start()
        for server in self._servers:
            await server.start()
        self._status.listeners = tuple(
            f"{section.name} {_host_port(section.bind.host, server.port)}"
            for section, server in zip(self.config.listeners, self._servers, strict=True)
        )
        await self._control.tick()
        self.maillog.started(
            version=__version__,
            config=self._status.config_hash,
            listeners=self._status.listeners,
            backends=(f"{self._backend.name} {self._status.target}",),
            metrics=_host_port(self.config.metrics.bind.host, self.operations.port),
            admin=str(self.config.admin_socket),
        )

    def _warn_of_observing(self) -> None:
        if self.config.is_observing:
            self.maillog.start_warning(
                detail="mode is observe: decisions are counted and not acted on, so nothing"
                " protects the backend; set mode: enforce and reload when you trust them"
            )

    def _bind(self, section: Listener) -> None:
        listening = bind(section.name, section.bind.host, section.bind.port)
        factory = SessionFactory(
            listener=section.name,
            hostname=self.config.hostname,
            handler=self._handler,
            limits=session_limits(self.config),
        )
        self._servers.append(SmtpServer(factory, listening, handler=self._handler))

    async def _open_spool(self) -> None:
        section = self.config.spool
        try:
            await self._spool.open()
        except SpoolLocked as error:
            raise StartError(
                f"spool: {error}: another mailshed runs on it; stop that one, or give this one its"
                " own spool.path"
            ) from error
        except SpoolSick:
            return  # mail is relayed meanwhile; the control loop tells, and tries again
        except SpoolError as error:
            raise StartError(f"spool: {error}") from error
        free = free_space(section.path)
        if free < section.disk_reserve:
            self.maillog.start_warning(
                detail=f"{free} octets of disk are free at {section.path}, and"
                f" spool.disk_reserve is {section.disk_reserve}: no mail is spooled until more is"
            )

    def _make_socket_folder(self) -> None:
        folder = self.config.admin_socket.parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(
                f"cannot create {folder} for the admin socket: {error.strerror}; set admin.socket "
                "to a place where the service may write"
            ) from error

    async def _serve(self, stop: asyncio.Event, hangup: asyncio.Event) -> int:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._drainer.run(), name="drain"),
                group.create_task(self._control.run(), name="control"),
                group.create_task(self._overrides.run(), name="overrides"),
                group.create_task(self._reload_on(hangup), name="reload"),
                group.create_task(self._watch_lists(hangup), name="lists"),
                group.create_task(self._limit_memory.run(), name="limit memory"),
                group.create_task(self._surges.run(), name="surges"),
            ]
            await stop.wait()
            unfinished = await self._finish()
            # Before the spool closes, or the control loop would call it sick.
            for task in tasks:
                task.cancel()
        return unfinished

    async def _finish(self) -> int:
        """Let what is open end by itself, within the configured time; return how much did not."""
        self._stopping_since = self._clock.monotonic()
        deadline = self._stopping_since + self.config.limits.shutdown_timeout
        self._status.is_stopping = True
        self._notifier.stopping()
        sessions = self._handler.open_sessions
        self.maillog.stopping(
            cause="signal", sessions=len(sessions), in_flight=self._gate.in_flight
        )
        for server in self._servers:
            server.stop_accepting()
        self._drainer.stop()
        self._gate.close()
        self._handler.slow_replies.end()
        self._verifier.stop()
        for_sessions = deadline - DRAIN_SHARE - self._clock.monotonic()
        await finish_sessions(sessions, max(0.0, for_sessions))
        left = deadline - LAST_WORDS - self._clock.monotonic()
        if await self._supervisor.join(max(0.0, left)):
            # Whatever is past its final dot is in doubt now, and kept; the spool is still open.
            self._backend.abandon()
        return await self._supervisor.join(LAST_WORDS)

    async def _close(self) -> None:
        """Give back whatever was opened, in the order of a message's path."""
        for server in self._servers:
            server.stop_accepting()
        self._gate.close()
        await finish_sessions(self._handler.open_sessions, 0.0)
        await self._supervisor.cancel_all()
        if self._prober is not None:
            await self._prober.stop()
        await self._verifier.close()
        await self._backend.close()
        await self._surges.close()
        await self._limit_memory.close()
        await self._spool.close()
        self.operations.stop()

    # Reload.

    async def _reload_on(self, hangup: asyncio.Event) -> None:
        while True:
            await hangup.wait()
            hangup.clear()
            self._notifier.reloading(int(self._clock.monotonic() * 1_000_000))
            await self._try_reload()
            self._notifier.ready()

    async def _watch_lists(self, hangup: asyncio.Event) -> None:
        """Ask for a reload when a list that the configuration names has changed."""
        watch = ListWatch()
        while True:
            await asyncio.sleep(LISTS_INTERVAL)
            if await asyncio.to_thread(watch.changed, self.config):
                hangup.set()

    async def _try_reload(self) -> None:
        try:
            await self.reload()
        except ConfigError:
            pass  # it has been logged
        except Exception as error:  # noqa: BLE001 - no reload may end the service
            self._status.reload_ok = False
            self._task_failed("reload", error)

    async def reload(self) -> str:
        """Read the configuration again; raises ConfigError and changes nothing if it is not fit."""
        try:
            config = await self._reloader.read(self.config)
            # In a thread, since a list of recipients may be long.
            for_verifier = await asyncio.to_thread(verification_policy, config)
        except ConfigError as error:
            self._status.reload_ok = False
            self.maillog.reload_refused(error=in_short(error))
            raise
        for_pipeline, for_drain = pipeline_policies(config), drain_policy(config)
        for_surges = surge_policy(config)
        limits = session_limits(config)
        # From here on nothing fails and nothing waits, so there is no half of a configuration.
        self.config = config
        self._declare_metrics(config)
        self._pipeline.policies = for_pipeline
        self._gate.station.shedding.classes = for_pipeline.classifier.policy.classes
        self._handler.slow_replies.limit = config.limits.slow_replies_max
        self._drainer.policy = for_drain
        self._verifier.policy = for_verifier
        self._surges.policy = for_surges
        self._gate.is_observing = config.is_observing
        for server in self._servers:
            server.factory.limits = limits
        self._status.config_hash = fingerprint(config)
        self._status.config_loaded_wall = self._clock.wall()
        self._status.sessions_max = config.limits.sessions_max
        self._status.quota_keys_max = config.quotas.entries_max
        self._status.reload_ok = True
        self.maillog.reloaded(config=self._status.config_hash)
        await self._overrides.fit()
        self._overrides.renew()  # if `mode` has changed they act again, or no more
        return f"reloaded configuration {self._status.config_hash}"

    def _build_surges(self, config: Config) -> SurgeWatch:
        return SurgeWatch(
            surge_policy(config),
            file=StateFile(config.spool.path, SURGE_FILE),
            on_quotas=self._limit_surges,
            seconds_of=self._gate.station.expected,
            maillog=self.maillog,
            clock=self._clock,
            on_failure=self._task_failed,
        )

    def _limit_surges(self, quotas: Mapping[str, Quota]) -> None:
        self._pipeline.entrance.quotas.surges = quotas

    def _obey(self, overrides: Overrides) -> None:
        """Let mail go by these overrides from now on."""
        self._gate.set_overrides(overrides)
        self._drainer.on_overrides()

    # Parts that are only about seeing.

    def _build_operations(self) -> OperationsThread:
        config = self.config
        return OperationsThread(
            host=config.metrics.bind.host,
            port=config.metrics.bind.port,
            admin_socket=config.admin_socket,
            metrics=self.metrics,
            holder=self._holder,
            commands=Commands(
                list_messages=partial(list_messages, config.spool.path),
                count_messages=partial(count_messages, config.spool.path),
                show_messages=partial(show_messages, config.spool.path),
                find_ids=partial(find_ids, config.spool.path),
                amend=self._drainer.amend,
                audit=self._audit,
                announce=self.maillog.operator,
                reload=self.reload,
                adopt_surge=self._surges.adopt,
                explain=Explainer(
                    self._journal.decisions,
                    lambda: self._pipeline.policies.classifier,
                    config.spool.path,
                ).explain,
                overrides=self._overrides,
            ),
            on_failure=self._task_failed,
        )

    def _build_control(self, sink: LineWriter) -> ControlLoop:
        painter = Painter(
            status=self._status,
            gate=self._gate,
            entrance=self._pipeline.entrance,
            backend=self._backend,
            spool=self._spool,
            contents=self._contents,
            classification=lambda: self._pipeline.policies.classifier.policy,
            sessions=lambda: len(self._handler.open_sessions),
            limit_picture=self._limit_memory.picture,
            overrides=self._overrides.snapshots,
            lines_dropped=lambda: sink.dropped_total,
            message_totals=self._message_totals,
            cached_recipients=self._cached_recipients,
            held_mailboxes=lambda: self._drainer.held_mailboxes,
            retry_tokens=lambda: self._drainer.retry_tokens,
            surges=self._surges.snapshots,
            slow_replies=self._slow_replies,
            process=ProcessMeter().look,
            clock=self._clock,
        )
        steering = Steering(
            gate=self._gate,
            holder=self._holder,
            maillog=self.maillog,
            clock=self._clock,
            has_due_mail=self._has_due_mail,
        )
        return ControlLoop(
            take_snapshot=painter.take,
            steer=steering.tick,
            holder=self._holder,
            spool=self._spool,
            metrics=self.metrics,
            maillog=self.maillog,
            clock=self._clock,
            feed_watchdog=self._notifier.watchdog,
            show_status=self._notifier.status,
            on_failure=self._task_failed,
        )

    def _has_due_mail(self) -> bool:
        held = () if self._gate.is_observing else self._overrides.current.held
        return self._status.has_due_mail(held)

    def _build_call_ahead(
        self, section: BackendSection, hostname: str, clock: SystemClock
    ) -> CallAhead | None:
        """What asks the backend about recipients; a Maildir has them all."""
        if section.host is None:
            return None
        address = Address(host=section.host, port=section.port, hostname=hostname)
        return CallAhead(
            partial(open_connection, address, question_timeouts(section.command_timeout)),
            is_pressed=partial(is_pressed, self._gate),
            clock=clock,
            on_failure=self._task_failed,
        )

    def _build_prober(self, section: BackendSection, hostname: str) -> Prober | None:
        """What asks a backend that is away; a Maildir has nobody to answer."""
        if section.host is None:
            return None
        address = Address(host=section.host, port=section.port, hostname=hostname)
        return Prober(
            partial(open_connection, address, question_timeouts(section.command_timeout)),
            on_failure=self._task_failed,
            preset=PRESETS[section.preset],
        )

    def _cached_recipients(self) -> Usage:
        used, limit = self._verifier.cached
        return Usage(used=used, limit=limit)

    def _slow_replies(self) -> tuple[Usage, int]:
        slow = self._handler.slow_replies
        return Usage(used=slow.sleeping, limit=slow.limit), slow.total

    def _message_totals(self, name: str) -> Totals:
        journal, metrics = self._journal, self.metrics
        return Totals(
            relayed=journal.relayed[name],
            spooled=journal.spooled_count[name],
            shed=sum(metrics.decided(name, "spool", reason) for reason in LOAD),
            deferred=metrics.decided(name, "defer"),
            drained=self._drainer.delivered[name],
            late=metrics.late(name),
        )

    def _declare_metrics(self, config: Config) -> None:
        self.metrics.declare(
            [each.name for each in config.classes],
            [each.name for each in config.listeners],
            [each.name for each in config.backends],
        )
        objectives = {each.name: each.objective for each in config.classes}
        self.metrics.promise(objectives, objectives[config.classification.default])

    def _task_failed(self, name: str, error: BaseException) -> None:
        self._status.tasks_failed += 1
        self.maillog.task_failed(name, error)


def _build_backend(
    section: BackendSection,
    hostname: str,
    clock: SystemClock,
    verifier: RecipientVerifier,
    on_crowded: Callable[[int], None],
) -> Backend:
    if section.maildir is not None:
        return MaildirBackend(section.name, section.maildir, hostname=hostname, clock=clock)
    assert section.host is not None, "the schema asks for a host or a Maildir"
    return SmtpBackend(
        section.name,
        section.host,
        section.port,
        hostname=hostname,
        connect_timeout=section.connect_timeout,
        command_timeout=section.command_timeout,
        dot_timeout=section.dot_timeout,
        idle_timeout=section.idle_timeout,
        messages_per_connection=section.messages_per_connection,
        clock=clock,
        on_result=verifier.learn,
        on_crowded=on_crowded,
    )


def _target(section: BackendSection) -> str:
    if section.maildir is not None:
        return f"Maildir {section.maildir}"
    assert section.host is not None, "the schema asks for a host or a Maildir"
    return _host_port(section.host, section.port)


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def run(config: Config, *, reload: Callable[[], Config]) -> int:
    """Run the service in this process until SIGTERM or SIGINT; return the exit status.

    `reload` reads the configuration again. Raises StartError if the service cannot start.
    """
    raise_file_limit()
    return uvloop.run(_main(config, reload))


async def _main(config: Config, reload: Callable[[], Config]) -> int:
    stop, hangup = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    sink = LineWriter(STDERR)
    service = Service(config, reload=reload, sink=sink, notifier=Notifier(os.environ))
    try:
        unfinished = await service.run(stop, hangup)
    finally:
        sink.flush()
    return 75 if unfinished else 0
