"""The routes that act on the queue: `POST /v1/queue/{hold,release,retry,delete,export}`.

The way of an action: read the request, find the messages, write `requested` to the audit log,
change them in batches on the main loop, write `done`, and tell the log. Nothing is done if more
match than the request allows, if the audit log cannot be written, or while another action is under
way. What is found may change before its turn comes; the spool then says that nothing changed.

An action that ends half-way (the spool fails, the time is up, the service stops) is told as such,
with what was done until then. The client going away does not end it.

An export is written by the command line, which may read the spool itself; here it is only entered
in the audit log, before and after.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from mailshed.admin.audit import Action, Operator, done
from mailshed.admin.audited import document_of, note_after, note_before, operator_of
from mailshed.admin.queue import require_known_classes
from mailshed.admin.request import EXPORT, MESSAGES_MAX, QueueRequest, parse_request
from mailshed.admin.service import SERVICE, read_spool
from mailshed.errors import RequestError, SpoolError
from mailshed.spool.store import AmendResult
from mailshed.terms import QueueAction, QueueId

SCHEMA = "mailshed.queue-action/1"

BATCH = 256
"""Messages that are handed to the main loop at a time. If the spool fails over some of them, those
of the same batch that were changed are not counted."""
ACTION_DEADLINE = 120.0
"""Seconds for changing all of them."""
FIND_DEADLINE = 30.0
SAMPLE = 10
"""Queue ids that a dry run names."""

_REQUEST_ID = re.compile(r"[0-9a-f]{16}")
_TEXT_MAX = 500

_ACTING = web.AppKey("acting", asyncio.Lock)

Counts = dict[str, int | str]


@dataclass(slots=True)
class _Progress:
    """What has been done so far, in messages; `error` is empty when all of it is done."""

    changed: int = 0
    unchanged: int = 0
    busy: int = 0
    error: str = "it was broken off"

    def add(self, result: AmendResult) -> None:
        self.changed += result.changed
        self.unchanged += result.unchanged
        self.busy += result.busy

    @property
    def counts(self) -> Counts:
        numbers = {"changed": self.changed, "unchanged": self.unchanged, "busy": self.busy}
        return {**numbers, "error": self.error}


def add_action_routes(app: web.Application) -> None:
    """Add the routes that change something."""
    app[_ACTING] = asyncio.Lock()
    for action in QueueAction:
        app.router.add_post(f"/v1/queue/{action.value}", _handler(action))
    app.router.add_post("/v1/queue/export", _export)
    app.router.add_post("/v1/queue/export/done", _export_done)


# Actions.


def _handler(action: QueueAction) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        asked = await _read(request)
        if asked.is_dry_run:
            return await _would_do(request, action.value, asked)
        acting = request.app[_ACTING]
        if acting.locked():
            raise web.HTTPServiceUnavailable(
                text="another action on the queue is under way; try again when it is done"
            )
        async with acting:
            return await _do(request, action, asked)

    return handle


async def _would_do(request: web.Request, verb: str, asked: QueueRequest) -> web.Response:
    """Say how many messages match, and which come first."""
    commands, wanted = request.app[SERVICE].commands, asked.wanted

    def look() -> tuple[int, list[QueueId]]:
        counts = commands.count_messages(wanted)
        return sum(int(each["messages"]) for each in counts), commands.find_ids(wanted, SAMPLE)

    matched, first = await read_spool(request, look, FIND_DEADLINE)
    missing = _missing(asked, matched)
    return _answer(verb, is_dry_run=True, matched=matched, missing=missing, ids=first)


async def _do(request: web.Request, action: QueueAction, asked: QueueRequest) -> web.Response:
    ids = await _find(request, asked)
    missing = _missing(asked, len(ids))
    if not ids:
        return _answer(action.value, matched=0, missing=missing)
    entry = await _begin(request, action.value, asked, ids)
    progress = _Progress()
    try:
        await _amend(request, action, ids, progress)
    finally:
        is_noted = await _end(request, entry, progress.counts)
    if progress.error:
        raise web.HTTPServiceUnavailable(
            text=f"{progress.error}; at least {progress.changed:,} of {len(ids):,} messages have"
            " been changed"
        )
    return _answer(
        action.value,
        matched=len(ids),
        missing=missing,
        request=entry.request,
        is_noted=is_noted,
        **progress.counts,
    )


async def _amend(
    request: web.Request, action: QueueAction, ids: list[QueueId], progress: _Progress
) -> None:
    """Change the messages batch by batch."""
    service = request.app[SERVICE]
    try:
        async with asyncio.timeout(ACTION_DEADLINE):
            for start in range(0, len(ids), BATCH):
                batch = ids[start : start + BATCH]
                progress.add(
                    await service.run_on_main(partial(service.commands.amend, action, batch))
                )
    except TimeoutError as late:
        progress.error = str(late) or f"the service needs more than {ACTION_DEADLINE:.0f} s"
    except SpoolError as failure:
        progress.error = f"the spool failed: {failure}"
    else:
        progress.error = ""


# Exports.


async def _export(request: web.Request) -> web.Response:
    """Say which messages match, having noted that somebody takes them out."""
    asked = await _read(request)
    if asked.is_dry_run:
        return await _would_do(request, EXPORT, asked)
    ids = await _find(request, asked)
    missing = _missing(asked, len(ids))
    if not ids:
        return _answer(EXPORT, matched=0, missing=missing, ids=[])
    entry = await _begin(request, EXPORT, asked, ids)
    return _answer(EXPORT, matched=len(ids), missing=missing, ids=ids, request=entry.request)


async def _export_done(request: web.Request) -> web.Response:
    """Note what became of an export: its `request`, and a `result` of numbers with an `error`."""
    document = await document_of(request)
    identity, result = document.get("request"), document.get("result")
    if not isinstance(identity, str) or _REQUEST_ID.fullmatch(identity) is None:
        raise RequestError("request: expected the one that the export was given")
    if not isinstance(result, dict):
        raise RequestError("result: expected an object")
    counts: Counts = {}
    for name in ("exported", "damaged", "gone"):
        number = result.get(name)
        if not isinstance(number, int) or not 0 <= number <= MESSAGES_MAX:
            raise RequestError(f"result: {name} has to be a number of messages")
        counts[name] = number
    text = str(result.get("error", ""))[:_TEXT_MAX]
    counts["error"] = "".join(each if each.isprintable() else " " for each in text)
    operator = await operator_of(request)
    is_noted = await _note_done(request, identity, EXPORT, operator, counts)
    request.app[SERVICE].commands.announce(
        verb=EXPORT, user=str(operator), request=identity, result=counts, ids=(), reason=None
    )
    return _answer(EXPORT, request=identity, is_noted=is_noted)


# What they share.


async def _read(request: web.Request) -> QueueRequest:
    asked = parse_request(await document_of(request))
    require_known_classes(request, asked.wanted)
    return asked


async def _find(request: web.Request, asked: QueueRequest) -> list[QueueId]:
    """The messages that are meant; 409 if there are more than the request allows."""
    commands, most = request.app[SERVICE].commands, asked.messages_max
    ids = await read_spool(
        request, lambda: commands.find_ids(asked.wanted, most + 1), FIND_DEADLINE
    )
    if len(ids) > most:
        raise web.HTTPConflict(
            text=f"more than {most:,} messages match, so nothing was done: narrow the filter, or"
            f" raise --max (up to {MESSAGES_MAX:,})"
        )
    return ids


def _missing(asked: QueueRequest, matched: int) -> int:
    """How many of the messages that are named by id are not there, or do not match the rest."""
    return max(0, len(asked.wanted.ids) - matched)


async def _begin(
    request: web.Request, verb: str, asked: QueueRequest, ids: list[QueueId]
) -> Action:
    """Write `requested`; 503 if that is impossible, and nothing may be done."""
    service = request.app[SERVICE]
    action = Action(
        operator=await operator_of(request),
        verb=verb,
        wanted=asked.wanted,
        ids=ids,
        reason=asked.reason,
        destination=asked.destination,
    )
    await note_before(request, action.requested(service.wall()))
    return action


async def _end(request: web.Request, action: Action, result: Counts) -> bool:
    """Write `done` and tell the log; whether the audit log could be written."""
    is_noted = await _note_done(request, action.request, action.verb, action.operator, result)
    request.app[SERVICE].commands.announce(
        verb=action.verb,
        user=str(action.operator),
        request=action.request,
        result=result,
        ids=action.ids,
        reason=action.reason,
    )
    return is_noted


async def _note_done(
    request: web.Request, identity: str, verb: str, operator: Operator, result: Counts
) -> bool:
    wall = request.app[SERVICE].wall()
    return await note_after(request, done(identity, verb, operator, wall, result))


def _answer(verb: str, **members: object) -> web.Response:
    return web.json_response({"schema": SCHEMA, "verb": verb, **members})
