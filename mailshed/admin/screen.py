"""The status document as one screen of text, 80 columns by 24 rows with eight classes.

Pure: a document in, text out, so that the command line, a test and a page can all show it. Members
that an older service does not send count as zero or empty. Control characters are
shown as `?`: a backend whose error is quoted must not be able to move an operator's cursor.
"""

import textwrap
from collections.abc import Iterator
from typing import Any

# The document as it comes out of JSON. Not imported from `status`, which needs the whole metrics
# package: a command line that only prints must start fast.
Document = dict[str, Any]

COLUMNS = 80
# The main loop makes four snapshots a second; after eight missed ones it is not a hiccup.
STALE_SECONDS = 2.0
# How full a resource is before it is worth a line.
_NOTABLE_RATIO = 0.05
_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))
_LEDGER_OUT = ("delivered", "bounced", "refused", "expired", "removed")


def render(status: Document) -> str:
    """The screen, without a final newline."""
    lines = [
        *_header(status),
        *_backends(status),
        *_classes(status),
        *_spool(status),
        *_saturation(status),
        *_accounting(status),
    ]
    return "\n".join(_printable(line)[:COLUMNS].rstrip() for line in lines)


def _header(status: Document) -> Iterator[str]:
    host = str(status.get("hostname", "?"))
    name = host if host[:1].isdigit() else host.partition(".")[0]
    mode = "OBSERVING" if status.get("is_observing") else "ENFORCING"
    wall = status.get("wall", 0)
    loaded = _age(wall - (status.get("config_loaded_wall") or wall))
    yield (
        f"mailshed {status.get('version', '?')} on {name[:20]}  {mode}"
        f"  up {_age(status.get('uptime_seconds', 0))}"
        f"  config {str(status.get('config_hash', ''))[:8]} ({loaded} ago)"
    )
    age = status.get("snapshot_age_seconds", 0)
    if age > STALE_SECONDS:
        yield f"!!! NOT CURRENT: the service made this picture {_age(age)} ago and hangs since !!!"
    if status.get("is_stopping"):
        yield "!!! STOPPING: open transactions are being finished !!!"
    if not status.get("reload_ok", True):
        yield "!!! The last reload was REFUSED: the file on disk is faulty, see the log !!!"


def _backends(status: Document) -> Iterator[str]:
    for backend in status.get("backends", ()):
        state = "up" if backend.get("is_up") else "AWAY"
        busy, idle = backend.get("connections_busy", 0), backend.get("connections_idle", 0)
        yield (
            f"BACKEND {backend['name']} {state}"
            f"   in flight {backend.get('in_flight', 0)}/{backend.get('limit', 0)}"
            f"   waiting {_count(backend.get('waiting', 0))}"
            f"   conn {busy}+{idle} idle"
            f"   {backend.get('target', '')}"
        )
        if not backend.get("is_up"):
            probe = backend.get("next_probe_seconds", 0)
            yield f"  next probe in {probe:.0f} s; {backend.get('last_error', '')}"


def _classes(status: Document) -> Iterator[str]:
    yield "CLASS          QUEUED OLDEST WAITING IN-FLIGHT  RELAYED  SPOOLED  GOAL NOTE"
    held = {
        queue["traffic_class"]
        for queue in status.get("spool", {}).get("queues", ())
        if queue["state"] in ("hold", "corrupt") and queue["messages"]
    }
    for row in status.get("classes", ()):
        queued = row.get("queued_messages", 0)
        oldest = row.get("oldest_age_seconds", 0)
        objective = row.get("objective_seconds", 0)
        notes = ["LATE"] if queued and oldest > objective else []
        notes += ["held"] if row["name"] in held else []
        yield (
            f"{row['name'][:12]:13}{_count(queued):>8}{_age(oldest) if queued else '-':>7}"
            f"{_count(row.get('waiting', 0)):>8}{_count(row.get('in_flight', 0)):>10}"
            f"{_count(row.get('relayed_total', 0)):>9}{_count(row.get('spooled_total', 0)):>9}"
            f"{_age(objective):>6} {','.join(notes)}"
        )


def _spool(status: Document) -> Iterator[str]:
    spool = status.get("spool", {})
    if not spool.get("is_healthy", True):
        yield "!!! SPOOL SICK: relay-only mode, nothing is promised on its behalf !!!"
        yield f"  {spool.get('sick_reason', '')}"
    yield (
        f"SPOOL {_count(spool.get('messages', 0))}/{_count(spool.get('messages_max', 0))} messages"
        f"   {_size(spool.get('octets', 0))}/{_size(spool.get('octets_max', 0))}"
        f"   disk free {_size(spool.get('disk_free', 0))}"
        f" (keeps {_size(spool.get('disk_reserve', 0))})"
    )


def _saturation(status: Document) -> Iterator[str]:
    ratios = sorted(status.get("saturation", {}).items(), key=lambda item: -item[1])
    if not ratios:
        return
    (binding, highest), *others = ratios
    word = "LIMITED BY" if highest >= 1 else "FULLEST"
    shown = [f"{name} {ratio:.0%}" for name, ratio in others if ratio >= _NOTABLE_RATIO]
    yield from _wrapped("   ".join([f"{word} {binding} {highest:.0%}", *shown]))


def _accounting(status: Document) -> Iterator[str]:
    """The conservation law in recipients: what came in is what went out and what is here."""
    spool = status.get("spool", {})
    terms = dict.fromkeys(("accepted", "generated", *_LEDGER_OUT), 0)
    for ledger in spool.get("ledger", {}).values():
        for term, value in ledger.items():
            terms[term] = terms.get(term, 0) + value
    queued = sum(queue["recipients"] for queue in spool.get("queues", ()))
    entered = terms["accepted"] + terms["generated"]
    left = sum(terms[term] for term in _LEDGER_OUT)
    verdict = "OK" if entered == left + queued else f"MISMATCH of {entered - left - queued:+d}"
    endings = " + ".join(f"{_count(terms[term])} {term}" for term in _LEDGER_OUT)
    yield from _wrapped(
        f"Accounted: {_count(terms['accepted'])} accepted + {_count(terms['generated'])} generated"
        f" = {endings} + {_count(queued)} queued   {verdict}"
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, COLUMNS, subsequent_indent="  ")


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in line)


def _count(number: int) -> str:
    """With a gap between thousands; millions are rounded, so that columns hold."""
    if number >= 1_000_000:
        return f"{number / 1e6:.2f}M"
    return f"{number:,}".replace(",", " ")


def _age(seconds: float) -> str:
    """The two largest units: 4m10s, 3h16m, 12d3h."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    size, unit, next_size, next_unit = next(units for units in _UNITS if whole >= units[0])
    rest = whole % size // next_size
    return f"{whole // size}{unit}" + (f"{rest}{next_unit}" if rest else "")


def _size(octets: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if octets < 1024:
            return f"{octets:.0f} {unit}" if octets >= 10 or unit == "B" else f"{octets:.1f} {unit}"
        octets /= 1024
    return f"{octets:.1f} TiB"
