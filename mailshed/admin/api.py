"""The routes of the operations thread, as two aiohttp applications.

The *public* one, on the metrics port, only reads: `/metrics`, `/healthz`, `/readyz`. The *admin*
one, on the Unix socket, has these and the `/v1` routes for the command line. Whoever connects to
the socket must be root, the service's own user, or in the group that owns the socket, as the kernel
tells (SO_PEERCRED, SO_PEERGROUPS); the port gives no commands, so a browser can be tricked into
nothing.

Everything is answered from the current snapshot, but for the queue (`queue` reads the spool,
`actions` changes it), the overrides and the reload, which are run on the main loop; all have a
deadline, after which the answer is 503. Patients' addresses leave here masked. Errors are JSON
objects with `error`.
"""

import asyncio
from typing import Any

from aiohttp import web

from mailshed.admin.actions import add_action_routes
from mailshed.admin.overrides import add_override_routes
from mailshed.admin.peer import may_administer, peer_of
from mailshed.admin.queue import add_queue_routes
from mailshed.admin.service import SERVICE, Service, read_spool
from mailshed.admin.status import as_json, status_document
from mailshed.admin.surges import add_surge_routes
from mailshed.errors import ConfigError, RequestError
from mailshed.metrics import Snapshot, render

ALIVE_SECONDS = 5.0
"""Age of the snapshot after which the service counts as hanging."""
RELOAD_DEADLINE = 20.0
# A request with the longest filter is shorter.
_BODY_OCTETS_MAX = 128 * 1024


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
    app.router.add_get("/v1/explain/{queue_id:[0-9A-Z]{1,32}}", _explain, allow_head=False)
    app.router.add_post("/v1/reload", _reload)
    add_queue_routes(app)
    add_action_routes(app)
    add_override_routes(app)
    add_surge_routes(app)
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


async def _explain(request: web.Request) -> web.Response:
    queue_id, commands = request.match_info["queue_id"], request.app[SERVICE].commands
    document = await read_spool(request, lambda: as_json(commands.explain(queue_id)))
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


def _picture(request: web.Request) -> tuple[Snapshot | None, float]:
    service = request.app[SERVICE]
    return service.holder.current, service.now()


def _verdict(is_good: bool, text: str) -> web.Response:
    return web.Response(status=200 if is_good else 503, text=text + "\n")


@web.middleware
async def _errors_as_json(request: web.Request, handler: Any) -> web.StreamResponse:
    """No HTML, no traceback: an object with `error`, and the fault in the log."""
    if (request.content_length or 0) > _BODY_OCTETS_MAX:
        return _error(413, f"no request needs more than {_BODY_OCTETS_MAX} octets")
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPException as error:
        return _error(error.status, error.text or error.reason)
    except RequestError as error:
        return _error(400, str(error))
    except Exception as error:  # noqa: BLE001 - the boundary of this thread's work
        request.app[SERVICE].on_failure("operations", error)
        return _error(500, "internal error, see the log")
    return response


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


@web.middleware
async def _only_permitted_peers(request: web.Request, handler: Any) -> web.StreamResponse:
    """Ask the kernel who is at the other end of the Unix socket."""
    if not may_administer(peer_of(request), request.app[SERVICE].admin_group):
        raise web.HTTPForbidden(text="not permitted: be root, or in the group of the socket")
    response: web.StreamResponse = await handler(request)
    return response
