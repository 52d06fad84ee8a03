"""The routes that show the queue: `/v1/queue`, `/v1/queue/count` and `/v1/queue/show`.

The conditions of a filter are query parameters under their own names (`mailshed.spool.filter`).
What cannot be understood is 400, with a text that begins with the name of the parameter.
"""

from aiohttp import web

from mailshed.admin.service import SERVICE, read_spool
from mailshed.admin.status import as_json
from mailshed.errors import RequestError
from mailshed.spool.filter import NAMES, QueueFilter, parse_filter

LIMIT = 100
LIMIT_MAX = 10_000
SHOW_MAX = 100
"""Messages that are shown in full at a time."""


def add_queue_routes(app: web.Application) -> None:
    """Add the routes that read."""
    app.router.add_get("/v1/queue", _list, allow_head=False)
    app.router.add_get("/v1/queue/count", _count, allow_head=False)
    app.router.add_get("/v1/queue/show", _show, allow_head=False)


def require_known_classes(request: web.Request, wanted: QueueFilter) -> None:
    """Raise RequestError if a class is neither configured nor has mail: it is a typing error."""
    snapshot = request.app[SERVICE].holder.current
    if snapshot is None:
        return
    known = {each.name for each in snapshot.classes}
    unknown = [name for name in wanted.classes if name not in known]
    if unknown:
        configured = ", ".join(each.name for each in snapshot.classes if each.is_configured)
        raise RequestError(f"class: no such class: {unknown[0]}; configured: {configured}")


async def _list(request: web.Request) -> web.Response:
    text = request.query.get("limit", str(LIMIT))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= LIMIT_MAX):
        raise RequestError(f"limit must be a number from 1 to {LIMIT_MAX}")
    wanted = _filter(request, "limit")
    commands = request.app[SERVICE].commands
    messages = await read_spool(request, lambda: as_json(commands.list_messages(wanted, int(text))))
    return web.json_response({"schema": "mailshed.queue/1", "messages": messages})


async def _count(request: web.Request) -> web.Response:
    wanted = _filter(request)
    commands = request.app[SERVICE].commands
    counts = await read_spool(request, lambda: as_json(commands.count_messages(wanted)))
    return web.json_response({"schema": "mailshed.queue-count/1", "classes": counts})


async def _show(request: web.Request) -> web.Response:
    wanted = _filter(request, "headers")
    if not wanted.names_messages or len(wanted.ids) > SHOW_MAX:
        raise RequestError(f"id: expected from 1 to {SHOW_MAX} queue ids and nothing else")
    with_headers = request.query.get("headers") == "1"
    commands = request.app[SERVICE].commands
    messages = await read_spool(
        request,
        lambda: as_json(commands.show_messages(wanted.ids, with_headers=with_headers)),
    )
    return web.json_response({"schema": "mailshed.queue-show/1", "messages": messages})


def _filter(request: web.Request, *others: str) -> QueueFilter:
    """The filter of the query; `others` are parameters that the caller reads."""
    query = request.query
    unknown = query.keys() - {*NAMES, *others}
    if unknown:
        raise RequestError(f"{min(unknown)}: no such parameter")
    wanted = parse_filter({name: query.getall(name) for name in query if name in NAMES})
    require_known_classes(request, wanted)
    return wanted
