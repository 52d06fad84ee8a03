"""Saving what was learned: every so often while the service runs, and a last time at its end.

Mail goes on without it, so nothing that fails here ends anything. A failure is told to
`on_failure`, under the name of what was to be saved; while it lasts, once.
"""

import asyncio
from collections.abc import Awaitable, Callable

Save = Callable[[], Awaitable[None]]
OnFailure = Callable[[str, BaseException], None]


async def save_every(seconds: float, save: Save, name: str, on_failure: OnFailure) -> None:
    """Save until cancelled; the first time after `seconds`."""
    failure = ""
    while True:
        await asyncio.sleep(seconds)
        try:
            await save()
            failure = ""
        except Exception as error:  # noqa: BLE001 - mail goes on without
            if repr(error) != failure:
                on_failure(name, error)
            failure = repr(error)


async def save_last(save: Save, name: str, on_failure: OnFailure) -> None:
    """Save once more."""
    try:
        await save()
    except Exception as error:  # noqa: BLE001 - the rest of the stop is mail's
        on_failure(name, error)
