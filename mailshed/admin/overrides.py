"""The routes of the overrides: `GET` and `POST /v1/overrides`, `POST /v1/overrides/cancel`.

The way of a change: read the request, write `requested` to the audit log, let the keeper do it on
the main loop, write `done`. What the keeper refuses has a `done` with its error. While observing
they are kept and shown like ever, and the answer says that they act on nothing (`is_observing`).
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from aiohttp import web

from mailshed.admin.audit import done, override_requested
from mailshed.admin.audited import document_of, note_after, note_before, operator_of
from mailshed.admin.keeper import LIST_SCHEMA
from mailshed.admin.service import SERVICE
from mailshed.admin.status import as_json
from mailshed.control.overrides import SECONDS_DEFAULT, OverrideKind, Wish, check, check_reason
from mailshed.errors import RequestError, StateError
from mailshed.metrics import OverrideSnapshot

SCHEMA = "mailshed.override/1"
DEADLINE = 20.0
"""Seconds for saving a change."""
NUMBER_MAX = 2**53
"""As JSON has them."""

_WISH_KEYS = frozenset({"kind", "class", "value", "seconds", "reason"})
_CANCEL_KEYS = frozenset({"id", "reason"})


def add_override_routes(app: web.Application) -> None:
    """Add the routes that show and change overrides."""
    app.router.add_get("/v1/overrides", _list, allow_head=False)
    app.router.add_post("/v1/overrides", _add)
    app.router.add_post("/v1/overrides/cancel", _cancel)


def parse_wish(document: Mapping[str, Any]) -> Wish:
    """Read what an operator asks for. Raises RequestError."""
    _require_keys(document, _WISH_KEYS)
    try:
        kind = OverrideKind(document.get("kind"))
    except ValueError:
        kinds = ", ".join(each.value for each in OverrideKind)
        raise RequestError(f"kind: expected one of {kinds}") from None
    wish = Wish(
        kind=kind,
        traffic_class=str(document.get("class", "")),
        value=_whole(document.get("value", 0), "value"),
        seconds=_seconds(document.get("seconds", SECONDS_DEFAULT)),
        reason=str(document.get("reason", "")).strip(),
    )
    check(wish)
    return wish


async def _list(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    found = service.commands.overrides.snapshots()
    return web.json_response(
        {
            "schema": LIST_SCHEMA,
            "is_observing": _is_observing(request),
            "overrides": as_json(found),
        }
    )


async def _add(request: web.Request) -> web.Response:
    wish = parse_wish(await document_of(request))
    keeper = request.app[SERVICE].commands.overrides

    async def add(user: str, identity: str) -> tuple[OverrideSnapshot, int | None]:
        added = await keeper.add(wish, user=user, request=identity)
        replaced = None if added.replaced is None else added.replaced.number
        return keeper.snapshot_of(added.override), replaced

    details = {"class": wish.traffic_class, "value": wish.value, "seconds": wish.seconds}
    made = await _change(request, f"override {wish.kind.value}", details, wish.reason, add)
    override, replaced = made.outcome
    return _answer(request, made, override=override, replaced=replaced)


async def _cancel(request: web.Request) -> web.Response:
    document = await document_of(request)
    _require_keys(document, _CANCEL_KEYS)
    number = _whole(document.get("id"), "id")
    reason = str(document.get("reason", "")).strip()
    check_reason(reason)
    keeper = request.app[SERVICE].commands.overrides

    async def cancel(user: str, _: str) -> tuple[OverrideSnapshot, None]:
        return keeper.snapshot_of(await keeper.cancel(number, user=user, reason=reason)), None

    made = await _change(request, "override cancel", {"override": number}, reason, cancel)
    return _answer(request, made, cancelled=made.outcome[0])


class _Made(NamedTuple):
    """A change that was made."""

    outcome: tuple[OverrideSnapshot, int | None]
    """The override, and the number of the one that it replaced."""
    identity: str
    is_noted: bool


async def _change(
    request: web.Request,
    verb: str,
    details: Mapping[str, object],
    reason: str,
    act: Callable[[str, str], Awaitable[tuple[OverrideSnapshot, int | None]]],
) -> _Made:
    """Have the main loop `act`, for a user and under a request, with both lines in the audit log.

    Raises RequestError if the keeper refuses it.
    """
    service = request.app[SERVICE]
    operator, identity = await operator_of(request), os.urandom(8).hex()
    requested = override_requested(
        request=identity,
        verb=verb,
        operator=operator,
        wall=service.wall(),
        details=details,
        reason=reason,
    )
    await note_before(request, requested)
    number, error = 0, "it was broken off"
    try:
        async with asyncio.timeout(DEADLINE):
            outcome = await service.run_on_main(partial(act, str(operator), identity))
        number, error = outcome[0].id, ""
    except TimeoutError as late:
        error = str(late) or f"it could not be saved within {DEADLINE:.0f} s"
        raise web.HTTPServiceUnavailable(
            text=f"{error}; it may still be done: look at `mailshed override list`"
        ) from None
    except StateError as failure:
        error = str(failure)
        raise web.HTTPServiceUnavailable(text=f"nothing was changed: {failure}") from failure
    except RequestError as refusal:
        error = str(refusal)
        raise
    finally:
        result: dict[str, int | str] = {"override": number, "error": error}
        is_noted = await note_after(request, done(identity, verb, operator, service.wall(), result))
    return _Made(outcome, identity, is_noted)


def _answer(request: web.Request, made: _Made, **members: object) -> web.Response:
    return web.json_response(
        {
            "schema": SCHEMA,
            "is_observing": _is_observing(request),
            **{name: as_json(value) for name, value in members.items()},
            "request": made.identity,
            "is_noted": made.is_noted,
        }
    )


def _is_observing(request: web.Request) -> bool:
    """Whether what is in force acts on nothing."""
    snapshot = request.app[SERVICE].holder.current
    return snapshot is not None and snapshot.is_observing


def _require_keys(document: Mapping[str, Any], keys: frozenset[str]) -> None:
    if not document.keys() <= keys:
        raise RequestError(f"expected an object with some of {', '.join(sorted(keys))}")


def _whole(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > NUMBER_MAX:
        raise RequestError(f"{name}: expected a whole number")
    return value


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise RequestError("seconds: expected a number")
    return float(max(-NUMBER_MAX, min(value, NUMBER_MAX)))  # no float is as large as some integers
