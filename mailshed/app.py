"""The life of the service: start, serve, reload, stop. Its parts are built in `parts`.

Order of start: the listeners' sockets are bound first (a taken port is found before anything else
happens), then the spool opens (its lock tells a second instance apart, before the admin socket
would), then come the operations thread and the drain, and the listeners accept last, when all that
a message needs is there. If a step fails, what was done before it is undone.

The order of a stop is that of a message's path: no new connections, open transactions finish, the
drain's transactions finish, the spool closes; nothing acknowledged is ever in memory only.

SIGTERM and SIGINT stop, SIGHUP reloads, as does a change of a list that the configuration names.
A reload replaces the policies as a whole or, if the file is faulty or asks for what needs a
restart, not at all.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace

import uvloop

from mailshed import __version__, garbage
from mailshed.config.certificate import date_of
from mailshed.config.front import Listener
from mailshed.config.load import (
    authentication_policy,
    listener_policy,
    session_limits,
    verification_policy,
)
from mailshed.config.schema import Config
from mailshed.config.surge import surge_policy
from mailshed.config.tls import tls_policy
from mailshed.config.watch import INTERVAL as LISTS_INTERVAL
from mailshed.config.watch import ListWatch
from mailshed.errors import ConfigError, SpoolError, SpoolLocked, SpoolSick, StartError
from mailshed.limits import raise_file_limit
from mailshed.linewriter import LineWriter
from mailshed.listener.server import SessionFactory, SmtpServer, bind, finish_sessions
from mailshed.listener.tls import Loaded
from mailshed.listener.tls import load as load_certificate
from mailshed.maillog import configure_logging
from mailshed.parts import STDERR, Parts
from mailshed.policies import drain_policy, fingerprint, live_policies
from mailshed.relay.build import host_port
from mailshed.relay.security import read_all
from mailshed.reload import Reloader, in_short
from mailshed.spool.accounts import free_space
from mailshed.systemd import Notifier

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
        self.parts = Parts(config, reload=self.reload, sink=sink, notifier=notifier)
        configure_logging(self.parts.maillog)
        self._reloader = Reloader(reload, self.parts.spool)
        self._servers: list[SmtpServer] = []
        self._stopping_since = self.parts.clock.monotonic()

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
        seconds = self.parts.clock.monotonic() - self._stopping_since
        self.parts.maillog.stopped(seconds=seconds, unfinished=unfinished)
        return unfinished

    # Start.

    async def _start(self) -> None:
        parts = self.parts
        for section in self.config.listeners:
            self._bind(section)
        await self._open_spool()
        await self._read_secrets()
        await self._load_certificate()
        parts.capabilities.on_change = self._renew_limits
        await parts.capabilities.load()
        for memory in parts.backends.memories:
            await memory.load()
        await parts.surges.load()
        await parts.overrides.load()
        self._warn_of_observing()
        self._make_socket_folder()
        parts.operations.start()
        for server in self._servers:
            await server.start()
        parts.status.listeners = tuple(
            f"{section.name} {host_port(section.bind.host, server.port)}"
            for section, server in zip(self.config.listeners, self._servers, strict=True)
        )
        await parts.control.tick()
        parts.maillog.started(
            version=__version__,
            config=parts.status.config_hash,
            listeners=parts.status.listeners,
            backends=[f"{each.name} {each.target}" for each in parts.destinations],
            metrics=host_port(self.config.metrics.bind.host, parts.operations.port),
            admin=str(self.config.admin_socket),
        )

    async def _read_secrets(self) -> None:
        """Certificates and logins for the backends, without which no connection can be opened."""
        try:
            found = await asyncio.to_thread(read_all, self.parts.backends.securities)
        except ConfigError as error:
            raise StartError(str(error)) from error
        for name, material in found.items():
            self.parts.backends.securities[name].use(material)
        try:
            await self.parts.authenticator.refresh()
        except ConfigError as error:
            raise StartError(str(error)) from error

    async def _load_certificate(self) -> None:
        """Ours, without which no client can begin TLS; one that has expired is better than none."""
        try:
            loaded = await self._read_certificate(self.config)
        except ConfigError as error:
            raise StartError(str(error)) from error
        if loaded is None or self.parts.handshakes is None:
            return
        self.parts.handshakes.certificates.use(loaded)
        if (ends := loaded.certificate.ends) < self.parts.clock.wall():
            self.parts.maillog.start_warning(
                detail=f"the certificate in {loaded.policy.certificate} ended on {date_of(ends)},"
                " so clients refuse it; a new one is taken up as soon as it is in the file"
            )

    async def _read_certificate(self, config: Config) -> Loaded | None:
        """What `config` says that clients are to be shown; None without TLS."""
        policy = tls_policy(config.tls)
        return None if policy is None else await asyncio.to_thread(load_certificate, policy)

    def _unless_worse(self, loaded: Loaded | None) -> Loaded | None:
        """Raise ConfigError if it has expired and the one that is shown now has not."""
        handshakes = self.parts.handshakes
        shown = handshakes.certificates.current if handshakes is not None else None
        if loaded is not None and shown is not None:
            ends = loaded.certificate.ends
            if ends < self.parts.clock.wall() < shown.certificate.ends:
                raise ConfigError(
                    f"tls.certificate: {loaded.policy.certificate} ended on {date_of(ends)}, and"
                    " the one that clients are shown is still good: put a new one there"
                )
        return loaded

    def _warn_of_observing(self) -> None:
        if self.config.is_observing:
            self.parts.maillog.start_warning(
                detail="mode is observe: decisions are counted and not acted on, so nothing"
                " protects the backend; set mode: enforce and reload when you trust them"
            )

    def _bind(self, section: Listener) -> None:
        listening = bind(section.name, section.bind.host, section.bind.port)
        factory = SessionFactory(
            policy=listener_policy(section, self.config.authentication),
            hostname=self.config.hostname,
            handler=self.parts.handler,
            limits=session_limits(self.config),
            handshakes=self.parts.handshakes,
        )
        self._servers.append(SmtpServer(factory, listening, handler=self.parts.handler))

    def _renew_limits(self) -> None:
        """Give new sessions the limits of now: no larger messages than all backends take."""
        limits = session_limits(self.config)
        behind = self.parts.capabilities.message_size_max
        if behind is not None and behind < limits.message_size_max:
            limits = replace(limits, message_size_max=behind)
        for server in self._servers:
            server.factory.limits = limits

    async def _open_spool(self) -> None:
        section = self.config.spool
        try:
            await self.parts.spool.open()
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
            self.parts.maillog.start_warning(
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

    # Serve and stop.

    async def _serve(self, stop: asyncio.Event, hangup: asyncio.Event) -> int:
        parts = self.parts
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(parts.drainer.run(), name="drain"),
                group.create_task(parts.control.run(), name="control"),
                group.create_task(parts.overrides.run(), name="overrides"),
                group.create_task(self._reload_on(hangup), name="reload"),
                group.create_task(self._watch_lists(hangup), name="lists"),
                *(
                    group.create_task(each.run(), name="limit memory")
                    for each in parts.backends.memories
                ),
                group.create_task(parts.capabilities.run(), name="capabilities"),
                group.create_task(parts.surges.run(), name="surges"),
                group.create_task(self._collect_garbage(), name="garbage"),
            ]
            await stop.wait()
            unfinished = await self._finish()
            # Before the spool closes, or the control loop would call it sick.
            for task in tasks:
                task.cancel()
        return unfinished

    async def _finish(self) -> int:
        """Let what is open end by itself, within the configured time; return how much did not."""
        parts, self._stopping_since = self.parts, self.parts.clock.monotonic()
        deadline = self._stopping_since + self.config.limits.shutdown_timeout
        parts.status.is_stopping = True
        self._notifier.stopping()
        sessions = parts.handler.open_sessions
        in_flight = sum(each.gate.in_flight for each in parts.destinations)
        parts.maillog.stopping(cause="signal", sessions=len(sessions), in_flight=in_flight)
        for server in self._servers:
            server.stop_accepting()
        parts.drainer.stop()
        for each in parts.destinations:
            each.gate.close()
        parts.handler.slow_replies.end()
        parts.verifier.stop()
        for_sessions = deadline - DRAIN_SHARE - parts.clock.monotonic()
        await finish_sessions(sessions, max(0.0, for_sessions))
        left = deadline - LAST_WORDS - parts.clock.monotonic()
        if await parts.supervisor.join(max(0.0, left)):
            # Whatever is past its final dot is in doubt now, and kept; the spool is still open.
            for each in parts.destinations:
                each.backend.abandon()
        return await parts.supervisor.join(LAST_WORDS)

    async def _close(self) -> None:
        """Give back whatever was opened, in the order of a message's path."""
        parts = self.parts
        for server in self._servers:
            server.stop_accepting()
        for each in parts.destinations:
            each.gate.close()
        await finish_sessions(parts.handler.open_sessions, 0.0)
        await parts.supervisor.cancel_all()
        for each in parts.destinations:
            if each.prober is not None:
                await each.prober.stop()
        await parts.verifier.close()
        await parts.authenticator.close()
        for each in parts.destinations:
            await each.backend.close()
        await parts.surges.close()
        for memory in parts.backends.memories:
            await memory.close()
        await parts.capabilities.close()
        await parts.spool.close()
        parts.operations.stop()

    async def _collect_garbage(self) -> None:
        parts = self.parts
        rounds = garbage.Rounds(parts.clock.monotonic())
        while True:
            await asyncio.sleep(garbage.YOUNG_INTERVAL)
            rounds.collect(parts.clock.monotonic(), len(parts.handler.open_sessions))

    # Reload.

    async def _reload_on(self, hangup: asyncio.Event) -> None:
        while True:
            await hangup.wait()
            hangup.clear()
            self._notifier.reloading(int(self.parts.clock.monotonic() * 1_000_000))
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
            self.parts.status.reload_ok = False
            self.parts.task_failed("reload", error)

    async def reload(self) -> str:
        """Read the configuration again; raises ConfigError and changes nothing if it is not fit."""
        parts = self.parts
        try:
            config = await self._reloader.read(self.config)
            # In a thread, since a list of recipients may be long.
            for_verifier = await asyncio.to_thread(verification_policy, config)
            for_backends = await asyncio.to_thread(read_all, parts.backends.securities)
            await parts.authenticator.refresh()
            for_handshakes = self._unless_worse(await self._read_certificate(config))
        except ConfigError as error:
            parts.status.reload_ok = False
            parts.maillog.reload_refused(error=in_short(error))
            raise
        for_live, for_drain = live_policies(config), drain_policy(config)
        for_surges = surge_policy(config)
        # From here on nothing fails and nothing waits, so there is no half of a configuration.
        self.config = config
        parts.declare_metrics(config)
        parts.screening.policies = parts.pipeline.policies = for_live
        for each in parts.destinations:
            each.gate.station.shedding.classes = for_live.classifier.policy.classes
            each.gate.is_observing = config.is_observing
        parts.handler.slow_replies.limit = config.limits.slow_replies_max
        parts.drainer.policy = for_drain
        parts.verifier.policy = for_verifier
        for name, material in for_backends.items():
            parts.backends.securities[name].use(material)
        parts.authenticator.set_policy(authentication_policy(config))
        parts.surges.policy = for_surges
        if parts.handshakes is not None and for_handshakes is not None:
            parts.handshakes.policy = for_handshakes.policy
            parts.handshakes.certificates.use(for_handshakes)
        self._renew_limits()
        status = parts.status
        status.config_hash = fingerprint(config)
        status.config_loaded_wall = parts.clock.wall()
        status.sessions_max = config.limits.sessions_max
        status.quota_keys_max = config.quotas.entries_max
        status.reload_ok = True
        parts.maillog.reloaded(config=status.config_hash)
        await parts.overrides.fit()
        parts.overrides.renew()  # if `mode` has changed they act again, or no more
        return f"reloaded configuration {status.config_hash}"


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
    garbage.begin()
    try:
        unfinished = await service.run(stop, hangup)
    finally:
        sink.flush()
    return 75 if unfinished else 0
