"""The routes of the operations thread, as two aiohttp applications.

The *public* one, on the metrics port, only reads: `/metrics`, `/healthz`, `/readyz`. The *admin*
one, on the Unix socket, has these and the `/v1` routes for the command line. Whoever connects to
the socket must be root, the service's own user, or in the group that owns the socket, as the kernel
tells (SO_PEERCRED, SO_PEERGROUPS); the port gives no commands, so a browser can be tricked into
nothing.

Everything is answered from the current snapshot, but for the queue listing (two callables that
read the spool, run in the thread's own executor) and the reload, which is run on the main loop;
both have a deadline, after which the answer is 503. Patients' addresses leave here masked. Errors
are JSON objects with `error`.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from mailshed.admin.status import Document, as_json, status_document
from mailshed.errors import ConfigError, SpoolError
from mailshed.metrics import Metrics, Snapshot, SnapshotHolder, render

ALIVE_SECONDS = 5.0
"""Age of the snapshot after which the service counts as hanging."""
QUEUE_DEADLINE = 5.0
RELOAD_DEADLINE = 20.0
QUEUE_LIMIT = 100
QUEUE_LIMIT_MAX = 10_000
_NAME_MAX = 64
# No route reads a body; this is what may be sent anyway.
_BODY_OCTETS_MAX = 4096
# linux/socket.h; the socket module does not have it.
_SO_PEERGROUPS = 59
_GROUPS_OCTETS = 1024  # the most that socket.getsockopt takes: 256 groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """What the admin interface can ask of the rest of the service.

    The two listings are plain functions that may block; they run outside the main loop and open
    their own read-only view of the spool. `reload` runs on the main loop, returns a line for
    people, and raises ConfigError if the file is faulty.
    """

    list_messages: Callable[[str | None, int], list[Document]]
    """Messages of one class, or of all, oldest first, at most so many."""
    count_messages: Callable[[], list[Document]]
    """Totals per class and state."""
    reload: Callable[[], Awaitable[str]]
    explain: Callable[[str], Document] = lambda queue_id: {"queue_id": queue_id, "known": False}
    """Why a message is of its class, by queue id; may block like the listings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the routes know: the snapshot, the registry, the clock, and how to run commands."""

    metrics: Metrics
    holder: SnapshotHolder
    now: Callable[[], float]
    commands: Commands
    executor: Executor
    run_on_main: Callable[[Callable[[], Awaitable[str]]], Awaitable[str]]
    """Run a command on the main loop; TimeoutError if there is none any more."""
    on_failure: Callable[[str, BaseException], None]
    admin_group: int
    """Group id that owns the admin socket."""


SERVICE = web.AppKey("service", Service)


def public_app(service: Service) -> web.Application:
    """What the metrics port serves: reading only, nothing personal."""
    app = web.Application(middlewares=[_errors_as_json], client_max_size=_BODY_OCTETS_MAX)
    app[SERVICE] = service
    for path, handler in (
        ("/", _index),
        ("/metrics", _metrics),
        ("/healthz", _healthz),
        ("/readyz", _readyz),
    ):
        app.router.add_get(path, handler, allow_head=False)
    return app


def admin_app(service: Service) -> web.Application:
    """What the Unix socket serves, to those who may."""
    app = public_app(service)
    app.middlewares.append(_only_permitted_peers)
    app.router.add_get("/v1/status", _status, allow_head=False)
    app.router.add_get("/v1/queue", _queue, allow_head=False)
    app.router.add_get("/v1/queue/count", _queue_count, allow_head=False)
    app.router.add_get("/v1/explain/{queue_id:[0-9A-Z]{1,32}}", _explain, allow_head=False)
    app.router.add_post("/v1/reload", _reload)
    return app


def health(snapshot: Snapshot | None, now: float) -> tuple[bool, str]:
    """Liveness: whether the main loop still runs, and why not."""
    if snapshot is None:
        return False, "starting: no snapshot yet"
    if (age := snapshot.age(now)) > ALIVE_SECONDS:
        return False, f"the main loop has not run for {age:.1f} s"
    return True, "ok"


def readiness(snapshot: Snapshot | None, now: float) -> tuple[bool, str]:
    """Whether new mail should be sent here, and in which mode it is taken."""
    is_alive, text = health(snapshot, now)
    if snapshot is None or not is_alive:
        return False, text
    if snapshot.is_stopping:
        return False, "stopping"
    is_ready, text = _mail_readiness(snapshot)
    return is_ready, f"{text} (observing: nothing is shed)" if snapshot.is_observing else text


def _mail_readiness(snapshot: Snapshot) -> tuple[bool, str]:
    """Whether mail has somewhere to go: the backend, or the spool."""
    spool, is_up = snapshot.spool, any(backend.is_up for backend in snapshot.backends)
    if not spool.is_healthy and not is_up:
        return False, "the spool is sick and no backend is up: all mail would get 4xx"
    if not spool.is_healthy:
        return True, f"ready in relay-only mode: the spool is sick: {spool.sick_reason}"
    if spool.full_reason and not is_up and not spool.has_clinical_room:
        return False, "the spool is full and no backend is up: all mail would get 4xx"
    return (
        True,
        f"ready, but the spool is full: {spool.full_reason}" if spool.full_reason else "ready",
    )


def may_administer(uid: int, groups: set[int], admin_group: int) -> bool:
    """Whether a peer of this user and these groups may use the socket that `admin_group` owns."""
    return uid in {0, os.geteuid()} or admin_group in groups


async def _index(request: web.Request) -> web.Response:
    paths = sorted({resource.canonical for resource in request.app.router.resources()})
    return web.Response(text="\n".join(["mailshed", *paths, ""]))


async def _metrics(request: web.Request) -> web.Response:
    accept = ",".join(request.headers.getall("Accept", []))
    content_type, page = render(request.app[SERVICE].metrics.registry, accept)
    return web.Response(body=page, headers={"Content-Type": content_type})


async def _healthz(request: web.Request) -> web.Response:
    return _verdict(*health(*_picture(request)))


async def _readyz(request: web.Request) -> web.Response:
    return _verdict(*readiness(*_picture(request)))


async def _status(request: web.Request) -> web.Response:
    snapshot, now = _picture(request)
    if snapshot is None:
        raise web.HTTPServiceUnavailable(text="starting: no snapshot yet")
    return web.json_response(status_document(snapshot, now))


async def _queue(request: web.Request) -> web.Response:
    traffic_class = request.query.get("class")
    if traffic_class is not None and len(traffic_class) > _NAME_MAX:
        raise web.HTTPBadRequest(text="no class has a name that long")
    text = request.query.get("limit", str(QUEUE_LIMIT))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= QUEUE_LIMIT_MAX):
        raise web.HTTPBadRequest(text=f"limit must be a number from 1 to {QUEUE_LIMIT_MAX}")
    commands = request.app[SERVICE].commands
    messages = await _in_executor(request, lambda: commands.list_messages(traffic_class, int(text)))
    return web.json_response({"schema": "mailshed.queue/1", "messages": messages})


async def _queue_count(request: web.Request) -> web.Response:
    counts = await _in_executor(request, request.app[SERVICE].commands.count_messages)
    return web.json_response({"schema": "mailshed.queue-count/1", "classes": counts})


async def _explain(request: web.Request) -> web.Response:
    queue_id, commands = request.match_info["queue_id"], request.app[SERVICE].commands
    (document,) = await _in_executor(request, lambda: [commands.explain(queue_id)])
    return web.json_response(document)


async def _reload(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    try:
        async with asyncio.timeout(RELOAD_DEADLINE):
            result = await service.run_on_main(service.commands.reload)
    except ConfigError as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from error
    except TimeoutError:
        raise web.HTTPServiceUnavailable(
            text=f"the service did not reload within {RELOAD_DEADLINE:.0f} s; see the log"
        ) from None
    return web.json_response({"schema": "mailshed.reload/1", "result": result})


async def _in_executor(request: web.Request, call: Callable[[], list[Document]]) -> list[Document]:
    executor = request.app[SERVICE].executor
    try:
        async with asyncio.timeout(QUEUE_DEADLINE):
            return await asyncio.get_running_loop().run_in_executor(
                executor, lambda: [as_json(entry) for entry in call()]
            )
    except TimeoutError:
        raise web.HTTPServiceUnavailable(text="the spool does not answer") from None
    except SpoolError as error:
        raise web.HTTPServiceUnavailable(text=f"the spool cannot be read: {error}") from error


def _picture(request: web.Request) -> tuple[Snapshot | None, float]:
    service = request.app[SERVICE]
    return service.holder.current, service.now()


def _verdict(is_good: bool, text: str) -> web.Response:
    return web.Response(status=200 if is_good else 503, text=text + "\n")


@web.middleware
async def _errors_as_json(request: web.Request, handler: Any) -> web.StreamResponse:
    """No HTML, no traceback: an object with `error`, and the fault in the log."""
    if (request.content_length or 0) > _BODY_OCTETS_MAX:
        return _error(413, "no request needs a body")
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPException as error:
        return _error(error.status, error.text or error.reason)
    except Exception as error:  # noqa: BLE001 - the boundary of this thread's work
        request.app[SERVICE].on_failure("operations", error)
        return _error(500, "internal error, see the log")
    return response


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


@web.middleware
async def _only_permitted_peers(request: web.Request, handler: Any) -> web.StreamResponse:
    """Ask the kernel who is at the other end of the Unix socket."""
    peer = None if request.transport is None else request.transport.get_extra_info("socket")
    if peer is None:
        raise web.HTTPForbidden(text="the peer has left")
    uid, groups = _peer(peer)
    if not may_administer(uid, groups, request.app[SERVICE].admin_group):
        raise web.HTTPForbidden(text="not permitted: be root, or in the group of the socket")
    response: web.StreamResponse = await handler(request)
    return response


def _peer(peer: Any) -> tuple[int, set[int]]:
    """The peer's user and all its groups, as they were when it connected."""
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, gid = struct.unpack("3i", raw)
    try:
        raw = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_OCTETS)
    except OSError:  # more groups than fit: the primary one still counts
        return uid, {gid}
    return uid, {gid, *struct.unpack(f"{len(raw) // 4}i", raw)}
