"""The lines of the backends: whether each is there, what it takes, and who takes its mail."""

import time
from collections.abc import Iterator

from mailshed.admin.screen.words import Document, age, cause, count, wrapped


def backend_lines(status: Document, width: int | None) -> Iterator[str]:
    """What is said of all backends, in their order."""
    backends = status.get("backends", ())
    longest = max((len(each["name"]) for each in backends), default=0)
    for backend in backends:
        queued = backend.get("queued_messages", 0) if len(backends) > 1 else 0
        state = "up" if backend.get("is_up") else "AWAY"
        if backend.get("breaker") == "half_open":
            state = "COMING BACK"
        busy, idle = backend.get("connections_busy", 0), backend.get("connections_idle", 0)
        yield from wrapped(
            f"BACKEND {backend['name']:{longest}} {state}"
            f"   in flight {backend.get('in_flight', 0)}/{_slots(backend)}"
            f"   waiting {count(backend.get('waiting', 0))}"
            f"{f'   queued {count(queued)}' if queued else ''}"
            f"   conn {busy}+{idle} idle"
            f"   {backend.get('target', '')}",
            width,
        )
        if not backend.get("is_up"):
            probe = backend.get("next_probe_seconds", 0)
            yield from cause(f"next probe in {probe:.0f} s; {backend.get('last_error', '')}", width)
        if fallback := backend.get("fallback"):
            yield from wrapped(_fallback(backend, fallback), width, "  ")


def _fallback(backend: Document, fallback: str) -> str:
    """Who takes the mail of a backend that is away for long: since when, by the local clock."""
    name, away = backend["name"], backend.get("away_seconds", 0)
    since = time.strftime("%H:%M", time.localtime(backend.get("fallback_since_wall", 0)))
    return f"mail of {name} goes to {fallback} since {since} ({name} away for {age(away)})"


def _slots(backend: Document) -> str:
    """The limit in force, and what it may be; or that the backend refused more connections."""
    limit, ceiling = backend.get("limit", 0), backend.get("ceiling", 0)
    if not backend.get("is_up"):
        return str(limit)
    if limit == (backend.get("learning") or {}).get("learned_ceiling"):
        return f"{limit} (it allows {limit})"
    return f"{limit} of {ceiling}" if limit < ceiling else str(limit)
