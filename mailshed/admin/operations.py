"""The operations thread: one aiohttp loop beside the main one, for the port and the socket.

Metrics, health and status matter most when the main loop has no time, so they are served by a
thread that shares nothing with it but the current snapshot. `start` binds both addresses in the
calling thread, so that a taken port stops the service with a clear text instead of leaving it
unobserved. The thread gets its turn while the main loop computes, since the interpreter switches
every 5 ms; only a call that holds the interpreter's lock throughout (a pathological regular
expression) silences it too, a documented limit.

A socket file that a dead process left behind is replaced; one that somebody answers is not, nor is
anything that is not a socket. The new socket is made under another name and renamed into place, so
it is never there with the wrong mode.
"""

import asyncio
import contextlib
import errno
import os
import socket
import stat
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from aiohttp import web

from mailshed.admin.api import admin_app, public_app
from mailshed.admin.service import Commands, Service
from mailshed.clock import Clock, SystemClock
from mailshed.errors import StartError
from mailshed.metrics import Metrics, SnapshotHolder

T = TypeVar("T")

SOCKET_MODE = 0o660
_BACKLOG = 64
# Two listings at a time are plenty, and bound what a hanging disk can pile up.
_EXECUTOR_THREADS = 2
_KEEPALIVE_SECONDS = 30.0
_READY_SECONDS = 10.0
# A request line with the longest filter of the queue is shorter, every character of it escaped.
_LINE_OCTETS_MAX = 128 * 1024


class OperationsThread:
    """Server of `/metrics`, `/healthz`, `/readyz` and the admin socket, in a thread of its own.

    Made without I/O; `start` is called on the main loop, whose commands it will run.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        admin_socket: Path,
        metrics: Metrics,
        holder: SnapshotHolder,
        commands: Commands,
        on_failure: Callable[[str, BaseException], None],
        clock: Clock | None = None,
    ) -> None:
        self._host, self._port = host, port
        self._admin_socket = admin_socket
        self._metrics = metrics
        self._holder = holder
        self._commands = commands
        self._on_failure = on_failure
        self._clock = clock or SystemClock()
        self._main: asyncio.AbstractEventLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._serving: Future[None] = Future()

    @property
    def port(self) -> int:
        """The port of the metrics, also where 0 was asked for."""
        return self._port

    def start(self) -> None:
        """Bind the port and the socket and start serving. Raises StartError."""
        assert self._thread is None, "started twice"
        self._main = asyncio.get_running_loop()
        public = _bind_port(self._host, self._port)
        self._port = public.getsockname()[1]
        try:
            admin = _bind_socket(self._admin_socket)
        except StartError:
            public.close()
            raise
        identity = self._admin_socket.lstat()
        self._thread = threading.Thread(
            target=self._run,
            args=(public, admin, identity),
            name="mailshed-operations",
            daemon=True,  # a reader that hangs must not keep a stopped service alive
        )
        self._thread.start()
        try:
            self._serving.result(_READY_SECONDS)
        except Exception as error:
            raise StartError(f"the operations thread did not come up: {error!r}") from error

    def stop(self, timeout: float = 5.0) -> bool:
        """Stop serving and remove the socket; say whether the thread ended within `timeout`."""
        if self._thread is None:
            return True
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self, public: socket.socket, admin: socket.socket, identity: os.stat_result) -> None:
        executor = ThreadPoolExecutor(_EXECUTOR_THREADS, "mailshed-queue-reader")
        try:
            asyncio.run(self._serve(public, admin, identity.st_gid, executor))
        except Exception as error:  # noqa: BLE001 - the end of the thread: nobody above to raise to
            if self._serving.done():
                self._on_failure("operations thread", error)
            else:
                self._serving.set_exception(error)
        finally:
            public.close()
            admin.close()
            _remove_if_ours(self._admin_socket, identity)
            executor.shutdown(wait=False, cancel_futures=True)

    async def _serve(
        self,
        public: socket.socket,
        admin: socket.socket,
        admin_group: int,
        executor: ThreadPoolExecutor,
    ) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        service = Service(
            metrics=self._metrics,
            holder=self._holder,
            now=self._clock.monotonic,
            wall=self._clock.wall,
            commands=self._commands,
            executor=executor,
            run_on_main=self._run_on_main,
            on_failure=self._on_failure,
            admin_group=admin_group,
        )
        async with contextlib.AsyncExitStack() as stack:
            for app, sock in ((public_app(service), public), (admin_app(service), admin)):
                runner = web.AppRunner(
                    app,
                    access_log=None,
                    handle_signals=False,
                    keepalive_timeout=_KEEPALIVE_SECONDS,
                    shutdown_timeout=1.0,
                    max_line_size=_LINE_OCTETS_MAX,
                )
                await runner.setup()
                stack.push_async_callback(runner.cleanup)
                await web.SockSite(runner, sock).start()
            self._serving.set_result(None)
            await self._stop.wait()

    async def _run_on_main(self, command: Callable[[], Awaitable[T]]) -> T:
        """Run `command` on the main loop; giving up here cancels it there."""

        async def run() -> T:
            return await command()

        assert self._main is not None
        work = run()
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._main)
        except RuntimeError:
            work.close()
            raise TimeoutError("the main loop has stopped") from None
        return await asyncio.wrap_future(future)


def _bind_port(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        where = f"[{host}]:{port}" if family is socket.AF_INET6 else f"{host}:{port}"
        raise StartError(f"metrics port {where} {_advice(error)}") from error
    sock.setblocking(False)
    return sock


def _advice(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                "is taken: stop the other process (`ss -ltnp` names it), or set metrics.bind to "
                "another port"
            )
        case errno.EADDRNOTAVAIL:
            return (
                f"cannot be bound: {error.strerror}; set metrics.bind to an address of this host "
                "(`ip addr` lists them)"
            )
        case errno.EACCES:
            return (
                f"cannot be bound: {error.strerror}; a port below 1024 needs root or "
                "CAP_NET_BIND_SERVICE, so set metrics.bind to a higher one"
            )
        case _:
            return f"cannot be bound: {error.strerror}; see metrics.bind"


def _bind_socket(path: Path) -> socket.socket:
    _refuse_living(path)
    fresh = path.with_name(path.name + ".new")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        fresh.unlink(missing_ok=True)
        sock.bind(str(fresh))
        fresh.chmod(SOCKET_MODE)
        sock.listen(_BACKLOG)
        fresh.rename(path)
    except OSError as error:
        sock.close()
        raise StartError(
            f"admin socket {path} cannot be made: {error.strerror or error}; "
            "set admin.socket to a short path in a folder that the service may write"
        ) from error
    sock.setblocking(False)
    return sock


def _refuse_living(path: Path) -> None:
    """Raise StartError unless `path` is free or a socket whose owner is dead."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # nothing there, or binding will say what is wrong
    if not stat.S_ISSOCK(mode):
        raise StartError(f"admin socket {path}: something that is not a socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError:  # whatever else it says (a full backlog, no permission), it lives
            pass
    raise StartError(
        f"admin socket {path} is in use: another mailshed runs here; stop it, or give this one "
        "its own admin.socket"
    )


def _remove_if_ours(path: Path, identity: os.stat_result) -> None:
    with contextlib.suppress(OSError):
        now = path.lstat()
        if (now.st_dev, now.st_ino) == (identity.st_dev, identity.st_ino):
            path.unlink()
