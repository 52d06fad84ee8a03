"""What the routes that change something share: who asks, for what, and writing it down.

An act is entered in the audit log before it is done, or it is not done; and again afterwards, with
what came of it. If only the second line cannot be written, the answer says so (`is_noted`).
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from aiohttp import web

from mailshed.admin.audit import AuditError, Operator
from mailshed.admin.peer import peer_of
from mailshed.admin.service import SERVICE
from mailshed.errors import RequestError

T = TypeVar("T")

AUDIT_DEADLINE = 10.0
"""Seconds for one line, or for a look at the system's user database."""


async def document_of(request: web.Request) -> dict[str, Any]:
    """The JSON object that was sent. Raises RequestError."""
    try:
        document = await request.json()
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise RequestError("expected a JSON object")
    return document


async def operator_of(request: web.Request) -> Operator:
    """Who asks, as the kernel says."""
    peer = peer_of(request)
    return await _in_executor(request, partial(Operator.of, peer.uid, peer.pid))


async def note_before(request: web.Request, entry: Mapping[str, object]) -> None:
    """Write down what is about to be done; 503 if that is impossible, and nothing may be done."""
    audit = request.app[SERVICE].commands.audit
    try:
        await _in_executor(request, partial(audit.append, entry))
    except (AuditError, TimeoutError) as error:
        raise web.HTTPServiceUnavailable(
            text="nothing was done, since it could not be entered in the audit log: "
            f"{str(error) or 'the disk does not answer'}"
        ) from error


async def note_after(request: web.Request, entry: Mapping[str, object]) -> bool:
    """Write down what was done; whether that was possible."""
    service = request.app[SERVICE]
    try:
        await _in_executor(request, partial(service.commands.audit.append, entry))
    except (AuditError, TimeoutError) as error:
        service.on_failure("audit log", error)
        return False
    return True


async def _in_executor(request: web.Request, call: Callable[[], T]) -> T:
    executor = request.app[SERVICE].executor
    async with asyncio.timeout(AUDIT_DEADLINE):
        return await asyncio.get_running_loop().run_in_executor(executor, call)
