"""The route by which an operator says that a surge is usual from now on: `POST /v1/surges/adopt`.

Like all that changes something it is entered in the audit log before and after. What surges there
are is in the status document.
"""

import asyncio
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiohttp import web

from mailshed.admin.audit import done, override_requested
from mailshed.admin.audited import document_of, note_after, note_before, operator_of
from mailshed.admin.service import SERVICE
from mailshed.control.overrides import check_reason
from mailshed.errors import RequestError, StateError

SCHEMA = "mailshed.surge/1"
VERB = "surge adopt"
DEADLINE = 20.0
"""Seconds for saving what was learned."""


class SurgeAdoption(NamedTuple):
    """What an operator asks for."""

    traffic_class: str
    reason: str


def add_surge_routes(app: web.Application) -> None:
    """Add the route that adopts a surge."""
    app.router.add_post("/v1/surges/adopt", _adopt)


def parse_adoption(document: Mapping[str, Any]) -> SurgeAdoption:
    """Read what an operator asks for. Raises RequestError."""
    name, reason = document.get("class"), document.get("reason")
    if not document.keys() <= {"class", "reason"}:
        raise RequestError("expected an object with class and reason")
    if not isinstance(name, str) or not name:
        raise RequestError("class: expected the name of a class")
    if not isinstance(reason, str):
        raise RequestError("reason: expected text")
    check_reason(reason.strip())
    return SurgeAdoption(name, reason.strip())


async def _adopt(request: web.Request) -> web.Response:
    asked = parse_adoption(await document_of(request))
    service = request.app[SERVICE]
    operator, identity = await operator_of(request), os.urandom(8).hex()
    await note_before(
        request,
        override_requested(
            request=identity,
            verb=VERB,
            operator=operator,
            wall=service.wall(),
            details={"class": asked.traffic_class},
            reason=asked.reason,
        ),
    )
    result: dict[str, int | str] = {"error": "it was broken off"}
    try:
        factors = await _run(request, asked, str(operator))
        result = {"adopted": len(factors), "error": ""}
    except (RequestError, web.HTTPException) as failure:
        text = failure.text if isinstance(failure, web.HTTPException) else str(failure)
        result = {"error": text or "it failed"}
        raise
    finally:
        is_noted = await note_after(request, done(identity, VERB, operator, service.wall(), result))
    return web.json_response(
        {
            "schema": SCHEMA,
            "class": asked.traffic_class,
            "adopted": [
                {"network": network, "factor": round(factor, 3)}
                for network, factor in factors.items()
            ],
            "request": identity,
            "is_noted": is_noted,
        }
    )


async def _run(request: web.Request, asked: SurgeAdoption, user: str) -> Mapping[str, float]:
    """Have the main loop do it; 503 if it does not, or could not save it."""
    service = request.app[SERVICE]

    async def adopt() -> Mapping[str, float]:
        return await service.commands.adopt_surge(asked.traffic_class, user, asked.reason)

    try:
        async with asyncio.timeout(DEADLINE):
            return await service.run_on_main(adopt)
    except TimeoutError:
        raise web.HTTPServiceUnavailable(
            text=f"the service did not answer within {DEADLINE:.0f} s; it may still be done: look"
            " at `mailshed surge list`"
        ) from None
    except StateError as failure:
        raise web.HTTPServiceUnavailable(
            text=f"it is done, but could not be saved ({failure}); the service tries again within"
            " five minutes"
        ) from failure
