"""The life of the service: start, serve, reload, stop. Its parts are built in `parts`.

Order of start: the listeners' sockets are bound first (a taken port is found before anything else
happens), then the spool opens (its lock tells a second instance apart, before the admin socket
would), then come the operations thread and the drain, and the listeners accept last, when all that
a message needs is there. If a step fails, what was done before it is undone.

The order of a stop is that of a message's path: no new connections, open transactions finish, the
drain's transactions finish, the spool closes; nothing acknowledged is ever in memory only.

SIGTERM and SIGINT stop, SIGHUP reloads (`renewal`).
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable

import uvloop

from mailshed import __version__, allocator, garbage
from mailshed.config.certificate import date_of
from mailshed.config.front import Listener
from mailshed.config.load import (
    listener_policy,
    session_limits,
)
from mailshed.config.schema import Config
from mailshed.engine import OWN, Engine, choose
from mailshed.errors import ConfigError, SpoolError, SpoolLocked, SpoolSick, StartError
from mailshed.limits import make_room_for_files, raise_file_limit
from mailshed.linewriter import LineWriter
from mailshed.listener.server import SmtpServer, bind, finish_sessions
from mailshed.maillog import configure_logging
from mailshed.parts import STDERR, Parts
from mailshed.relay.build import host_port
from mailshed.relay.security import read_all
from mailshed.renewal import Renewal, read_certificate
from mailshed.spool.accounts import free_space
from mailshed.systemd import Notifier

# At a stop, how much of the time is left for the drain's transactions after the sessions are done
# (seconds): those with a connected client come first.
DRAIN_SHARE = 10.0
# And of that, for writing down what is in doubt when the backend does not answer in time.
LAST_WORDS = 5.0

# Seconds after which a thread that computes lets another one have the interpreter. The loop takes
# it anew after each wait for the kernel, many times a turn, and behind each thread that has
# something to do: a listing of the queue, the spool's writer, a scrape. With the interpreter's own
# 5 ms that was up to 25 ms for one turn.
SWITCH_INTERVAL = 0.001


class Service:
    """One running mailshed."""

    def __init__(
        self,
        config: Config,
        *,
        reload: Callable[[], Config],
        sink: LineWriter,
        notifier: Notifier,
        engine: Engine = OWN,
    ) -> None:
        self._notifier = notifier
        self.parts = Parts(config, reload=self.reload, sink=sink, notifier=notifier, engine=engine)
        configure_logging(self.parts.maillog)
        self._servers: list[SmtpServer] = []
        self._renewal = Renewal(
            config, read_file=reload, parts=self.parts, servers=self._servers, notifier=notifier
        )
        self._stopping_since = self.parts.clock.monotonic()

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._renewal.config

    async def reload(self) -> str:
        """Read the configuration again; see `Renewal.reload`."""
        return await self._renewal.reload()

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
        parts.capabilities.on_change = self._renewal.renew_limits
        await parts.capabilities.load()
        for memory in parts.backends.memories:
            await memory.load()
        await parts.surges.load()
        await parts.overrides.load()
        self._warn_of_observing()
        if parts.engine.warning:
            parts.maillog.start_warning(detail=parts.engine.warning)
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
            loaded = await read_certificate(self.config)
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

    def _warn_of_observing(self) -> None:
        if self.config.is_observing:
            self.parts.maillog.start_warning(
                detail="mode is observe: decisions are counted and not acted on, so nothing"
                " protects the backend; set mode: enforce and reload when you trust them"
            )

    def _bind(self, section: Listener) -> None:
        listening = bind(section.name, section.bind.host, section.bind.port)
        factory = self.parts.engine.new_factory(
            policy=listener_policy(section, self.config.authentication),
            hostname=self.config.hostname,
            handler=self.parts.handler,
            limits=session_limits(self.config),
            handshakes=self.parts.handshakes,
        )
        self._servers.append(SmtpServer(factory, listening, handler=self.parts.handler))

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
                group.create_task(self._renewal.reload_on(hangup), name="reload"),
                group.create_task(self._renewal.watch_lists(hangup), name="lists"),
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


def run(config: Config, *, reload: Callable[[], Config], engine: str = "own") -> int:
    """Run the service in this process until SIGTERM or SIGINT; return the exit status.

    `reload` reads the configuration again; `engine` is a name of `mailshed.engine`. Raises
    StartError if the service cannot start.
    """
    make_room_for_files(raise_file_limit())
    allocator.begin()
    sys.setswitchinterval(SWITCH_INTERVAL)
    return uvloop.run(_main(config, reload, choose(engine, config)))


async def _main(config: Config, reload: Callable[[], Config], engine: Engine) -> int:
    stop, hangup = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    sink = LineWriter(STDERR)
    service = Service(
        config, reload=reload, sink=sink, notifier=Notifier(os.environ), engine=engine
    )
    garbage.begin()
    try:
        unfinished = await service.run(stop, hangup)
    finally:
        sink.flush()
    return 75 if unfinished else 0
