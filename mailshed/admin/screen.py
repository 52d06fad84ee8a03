"""The status document as one screen of text, 80 columns by 24 rows with eight classes.

From the top: what runs, what is shed now and what limits it, operators' overrides, each class
(rates of the last minute, the queue and when it will be empty, counts of the last hour), the
backend, the spool, the books.

Pure: a document in, text out, so that the command line, a test and a page can all show it. Members
that an older service does not send count as zero or empty. Control characters are
shown as `?`: a backend whose error is quoted must not be able to move an operator's cursor.

The address of the backend and the cause of an outage are what is copied into a ticket. They are not
cut but wrapped, and in full where there is no width to keep to.
"""

import textwrap
import time
from collections.abc import Iterator, Sequence
from typing import Any

from mailshed.control.saturation import USED_UP

# The document as it comes out of JSON. Not imported from `status`, which needs the whole metrics
# package: a command line that only prints must start fast.
Document = dict[str, Any]

COLUMNS = 80
ROWS = 24
# The main loop makes four snapshots a second; after eight missed ones it is not a hiccup.
STALE_SECONDS = 2.0
# A cause takes at most so many lines of a terminal: it must not push the table off the screen.
_CAUSE_LINES = 2
# As many lines as people may have overrides in mind.
_OVERRIDE_LINES = 4
# A certificate that ends sooner is named: by then most have been renewed by themselves.
_CERTIFICATE_SECONDS = 30 * 86400
# How full a resource is before it is named beside the fullest.
_NOTABLE_RATIO = 0.5
# No estimate is worth more (seconds).
_ETA_MAX = 99 * 86400
_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))
_LEDGER_OUT = ("delivered", "bounced", "refused", "expired", "removed")


def render(status: Document, width: int | None = COLUMNS) -> str:
    """The screen, without a final newline, for a terminal of `width` columns or for a file."""
    page = COLUMNS if width is None else width
    level = _level(status)
    if width is not None and len(level) > width:
        level = _level(status, is_brief=True)
    top = [*_header(status, width), *_cut(level, width)]
    rest = [
        *_classes(status, page),
        *_backends(status, width),
        *_spool(status, width),
        *_wrapped(_accounting(status), page),
    ]
    overrides = _overrides(status, width, room=ROWS - len(top) - len(rest))
    return "\n".join(line.rstrip() for line in (*top, *overrides, *rest))


def override_words(override: Document) -> str:
    """What it is, in as few words as can be: `hold bulk`, `level 2`, `limit telework 4`."""
    kind = override.get("kind", "?")
    about = [kind] if kind == "level" else [kind, override.get("traffic_class", "?")]
    if kind in ("level", "limit"):
        about.append(override.get("value", "?"))
    return " ".join(map(str, about))


def _header(status: Document, width: int | None) -> Iterator[str]:
    host = str(status.get("hostname", "?"))
    name = host if host[:1].isdigit() else host.partition(".")[0]
    mode = "OBSERVING" if status.get("is_observing") else "ENFORCING"
    wall = status.get("wall", 0)
    loaded = _age(wall - (status.get("config_loaded_wall") or wall))
    yield from _wrapped(
        f"mailshed {status.get('version', '?')} on {name}  {mode}"
        f"  up {_age(status.get('uptime_seconds', 0))}"
        f"  config {str(status.get('config_hash', ''))[:8]} ({loaded} ago)",
        width,
    )
    age = status.get("snapshot_age_seconds", 0)
    if age > STALE_SECONDS:
        yield f"!!! NOT CURRENT: the service made this picture {_age(age)} ago and hangs since !!!"
    if status.get("is_stopping"):
        yield "!!! STOPPING: open transactions are being finished !!!"
    if not status.get("reload_ok", True):
        yield "!!! Reload REFUSED: the old configuration is in force, see the log !!!"
    if status.get("is_stressed"):
        sessions = status.get("sessions", {})
        yield (
            f"STRESS: {_count(sessions.get('used', 0))} of {_count(sessions.get('limit', 0))}"
            " sessions are open, so strangers have less time"
        )
    if failing := status.get("logins_failing"):
        since = _age(status.get("logins_failing_seconds", 0))
        yield from _cut(f"!!! NOBODY CAN LOG IN, for {since}: {failing}", width)
    ends = status.get("certificate_ends_wall")
    if ends is not None and ends <= wall:
        yield f"!!! The CERTIFICATE has ended {_age(wall - ends)} ago: clients refuse it !!!"
    elif ends is not None and ends - wall < _CERTIFICATE_SECONDS:
        yield f"The certificate that clients are shown ends in {_age(ends - wall)}."


def _backends(status: Document, width: int | None) -> Iterator[str]:
    backends = status.get("backends", ())
    longest = max((len(each["name"]) for each in backends), default=0)
    for backend in backends:
        queued = backend.get("queued_messages", 0) if len(backends) > 1 else 0
        state = "up" if backend.get("is_up") else "AWAY"
        if backend.get("breaker") == "half_open":
            state = "COMING BACK"
        busy, idle = backend.get("connections_busy", 0), backend.get("connections_idle", 0)
        yield from _wrapped(
            f"BACKEND {backend['name']:{longest}} {state}"
            f"   in flight {backend.get('in_flight', 0)}/{_slots(backend)}"
            f"   waiting {_count(backend.get('waiting', 0))}"
            f"{f'   queued {_count(queued)}' if queued else ''}"
            f"   conn {busy}+{idle} idle"
            f"   {backend.get('target', '')}",
            width,
        )
        if not backend.get("is_up"):
            probe = backend.get("next_probe_seconds", 0)
            yield from _cause(
                f"next probe in {probe:.0f} s; {backend.get('last_error', '')}", width
            )
        if fallback := backend.get("fallback"):
            yield from _wrapped(_fallback(backend, fallback), width, "  ")


def _fallback(backend: Document, fallback: str) -> str:
    """Who takes the mail of a backend that is away for long: since when, by the local clock."""
    name, away = backend["name"], backend.get("away_seconds", 0)
    since = time.strftime("%H:%M", time.localtime(backend.get("fallback_since_wall", 0)))
    return f"mail of {name} goes to {fallback} since {since} ({name} away for {_age(away)})"


def _slots(backend: Document) -> str:
    """The limit in force, and what it may be; or that the backend refused more connections."""
    limit, ceiling = backend.get("limit", 0), backend.get("ceiling", 0)
    if not backend.get("is_up"):
        return str(limit)
    if limit == (backend.get("learning") or {}).get("learned_ceiling"):
        return f"{limit} (it allows {limit})"
    return f"{limit} of {ceiling}" if limit < ceiling else str(limit)


def _level(status: Document, *, is_brief: bool = False) -> str:
    """What is shed now, until when, and the resource that is the reason.

    Many classes are only counted in the brief form: the table has them, and the reason not.
    """
    parts = [_shedding(status, is_brief=is_brief)]
    if empty := _empty_in(status):
        parts.append(empty)
    known = status.get("saturation", {})
    # An older service says how many slots are in use, and not how the backend is.
    hidden = USED_UP if "backend" in known else ()
    ratios = sorted(
        ((name, ratio) for name, ratio in known.items() if name not in hidden),
        key=lambda item: -item[1],
    )
    if full := [_fill(status, name, ratio) for name, ratio in ratios if ratio >= 1]:
        parts.append(f"LIMITED BY {', '.join(full)}")
    elif ratios:
        parts.append(f"FULLEST {_fill(status, *ratios.pop(0))}")
    parts += [_fill(status, *each) for each in ratios if _NOTABLE_RATIO <= each[1] < 1]
    return "   ".join(parts)


def _shedding(status: Document, *, is_brief: bool) -> str:
    backends = status.get("backends", ())
    if backends and not any(each.get("is_up") for each in backends):
        return "ALL MAIL WAITS"
    if status.get("is_observing"):
        return "OBSERVING, nothing is acted on"
    rates = {
        row["name"]: row.get("recent", {}).get("shed_rate", 0) for row in status.get("classes", ())
    }
    shed = [f"{name} {_rate(rate)}/s" for name, rate in rates.items() if rate > 0]
    diverted = [each["name"] for each in status.get("classes", ()) if _is_diverted(each)]
    if shed and is_brief:
        what = f"SHEDDING {_rate(sum(rates.values()))}/s of {len(shed)} classes"
    elif shed:
        what = f"SHEDDING {', '.join(shed)}"
    elif diverted:
        what = f"DIVERTING {', '.join(diverted)}"
    elif waits := _without_a_server(backends):
        what = f"mail of {', '.join(waits)} waits"
    else:
        what = "nothing is shed"
    level, derived = status.get("shed_level", 0), status.get("derived_level", 0)
    if level != derived:
        return f"LEVEL {level} FORCED, {what}"
    if level:
        return f"LEVEL {level}, {what}"
    return f"NORMAL, {what}" if what == "nothing is shed" else what


def _without_a_server(backends: Sequence[Document]) -> list[str]:
    """The backends that are away, and for which no other one takes the mail."""
    return [each["name"] for each in backends if not each.get("is_up") and not each.get("fallback")]


def _is_diverted(row: Document) -> bool:
    """Whether new mail of a class goes to the spool at once, by the load."""
    return row.get("kept_back") == "diverted"


def _empty_in(status: Document) -> str:
    """Until when mail waits, if all backlogs shrink."""
    waits = [row.get("drain_seconds", 0) for row in status.get("classes", ())]
    if any(each is None for each in waits):
        return ""
    longest = max(waits, default=0)
    return f"EMPTY IN {_age(longest)}" if 1 <= longest <= _ETA_MAX else ""


def _fill(status: Document, name: str, ratio: float) -> str:
    """How full one resource is; slots of a backend that is away are not full but out of reach."""
    backends = status.get("backends", ())
    if name not in ("backend", "backend_slots") or not backends:
        return f"{name} {ratio:.0%}"
    away = " ".join(each["name"] for each in backends if not each.get("is_up"))
    if not any(each.get("is_up") for each in backends):
        return f"backend {away} away"
    if name == "backend":  # the worst of them
        return f"{away} away" if away and ratio >= 1 else f"backend {ratio:.0%}"
    fullest = max(backends, key=lambda each: (each.get("is_up"), each.get("in_flight", 0)))
    return f"{name} {fullest.get('in_flight', 0)}/{fullest.get('limit', 0)} on {fullest['name']}"


def _classes(status: Document, width: int) -> Iterator[str]:
    yield (
        f"{'CLASS':12}{'IN/s':>6}{'OUT/s':>7}{'QUEUED':>8}{'OLDEST':>7}{'ETA':>7}"
        f"{'OK/h':>8}{'SPOOLED/h':>10} NOTE"
    )
    held = {
        queue["traffic_class"]
        for queue in status.get("spool", {}).get("queues", ())
        if queue["state"] in ("hold", "corrupt") and queue["messages"]
    }
    surges = {
        surge["traffic_class"]: surge.get("ratio") or 0.0
        for surge in status.get("surges", ())
        if surge.get("is_alarm") and not surge.get("network")
    }
    for row in status.get("classes", ()):
        recent = row.get("recent", {})
        queued = row.get("queued_messages", 0)
        oldest = row.get("oldest_age_seconds", 0)
        eta = _eta(queued, recent.get("queue_rate", 0), row.get("drain_seconds"))
        line = _printable(
            f"{row['name'][:12]:12}{_rate(recent.get('accepted_rate', 0)):>6}"
            f"{_rate(recent.get('delivered_rate', 0)):>7}{_count(queued):>8}"
            f"{_age(oldest) if oldest else '-':>7}{eta:>7}"
            f"{_count(recent.get('hour_delivered', 0)):>8}"
            f"{_count(recent.get('hour_spooled', 0)):>10}"
        )[:width]
        notes = list(_notes(row, recent, is_held=row["name"] in held))
        if surge := surges.get(row["name"]):
            is_late = bool(notes) and notes[0].startswith("LATE")
            notes.insert(int(is_late), f"{surge:.1f}x usual")
        while len(line) + 1 + len(",".join(notes)) > width and notes:
            notes.pop()
        yield f"{line} {','.join(notes)}"


def _overrides(status: Document, width: int | None, room: int) -> list[str]:
    """What operators have decided for a time, who and why; what ends first comes first.

    On a terminal so many lines as there is room for, but one in any case. A service that is
    stopping has other worries.
    """
    if status.get("is_stopping"):
        return []
    lines = []
    for each in sorted(status.get("overrides", ()), key=lambda each: each.get("left_seconds", 0)):
        left = _age(round(each.get("left_seconds", 0)))
        who = f"({each.get('user')}: {each.get('reason')})"
        lines += _cut(
            f"OVERRIDE {each.get('id')}: {override_words(each)}, {left} left {who}", width
        )
    most = len(lines) if width is None else max(1, min(_OVERRIDE_LINES, room))
    if len(lines) <= most:
        return lines
    shown = lines[: most - 1]
    more = len(lines) - len(shown)
    return [*shown, f"{f'and {more} more' if shown else more} overrides: mailshed override list"]


def _notes(row: Document, recent: Document, *, is_held: bool) -> Iterator[str]:
    """What is out of the ordinary about a class, the worst first."""
    objective = row.get("objective_seconds", 0)
    if row.get("oldest_age_seconds", 0) > objective:
        yield f"LATE>{_age(objective)}"
    elif late := recent.get("hour_late", 0):
        yield f"{_count(late)} late"
    if _is_diverted(row):
        yield "diverted"
    if is_held:
        yield "held"
    if deferred := recent.get("hour_deferred", 0):
        yield f"{_count(deferred)} 4xx"
    if not row.get("is_configured", True):
        yield "not configured"


def _eta(queued: int, growth: float, forecast: float | None) -> str:
    """When the queue will be empty: by the service's forecast, else at the last minute's pace."""
    if not queued:
        return "-"
    if forecast and forecast <= _ETA_MAX:
        return _age(forecast)
    if growth >= 0:
        return "grows" if growth > 0 else "stands"
    seconds = queued / -growth
    return _age(seconds) if seconds <= _ETA_MAX else f">{_age(_ETA_MAX)}"


def _spool(status: Document, width: int | None) -> Iterator[str]:
    spool = status.get("spool", {})
    if not spool.get("is_healthy", True):
        yield "!!! SPOOL SICK: relay-only mode, nothing is promised on its behalf !!!"
        yield from _cause(spool.get("sick_reason", ""), width)
    elif spool.get("full_reason"):
        if spool.get("has_clinical_room"):
            yield "!!! SPOOL FULL but for clinical mail: other mail gets 452 unless relayed !!!"
        else:
            yield "!!! SPOOL FULL: mail gets 452 unless it is relayed !!!"
        yield from _cause(spool["full_reason"], width)
    yield from _wrapped(
        f"SPOOL {_count(spool.get('messages', 0))}/{_count(spool.get('messages_max', 0))} messages"
        f"   {_size(spool.get('octets', 0))}/{_size(spool.get('octets_max', 0))}"
        f"   disk free {_size(spool.get('disk_free', 0))}"
        f" (keeps {_size(spool.get('disk_reserve', 0))})",
        width,
    )


def _accounting(status: Document) -> str:
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
    return (
        f"Accounted (recipients spooled): {_count(terms['accepted'])} accepted"
        f" + {_count(terms['generated'])} generated"
        f" = {endings} + {_count(queued)} queued   {verdict}"
    )


def _wrapped(text: str, width: int | None, indent: str = "") -> list[str]:
    shown = _printable(text)
    if width is None:
        return [indent + shown]
    return textwrap.wrap(
        shown,
        width,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_on_hyphens=False,
    )


def _cause(text: str, width: int | None) -> list[str]:
    """Why something is as it is: indented, and short enough for a screen if it is for one."""
    return _shortened(_wrapped(text, width, "  "), width, _CAUSE_LINES)


def _cut(text: str, width: int | None) -> list[str]:
    """One line, the end of which can be missed."""
    return _shortened(_wrapped(text, width), width, 1)


def _shortened(lines: list[str], width: int | None, most: int) -> list[str]:
    if width is not None and len(lines) > most:
        lines = lines[:most]
        lines[-1] = lines[-1][: width - 3] + "..."
    return lines


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in line)


def _count(number: int) -> str:
    """With a gap between thousands; millions are rounded, so that columns hold."""
    if number >= 1_000_000:
        return f"{number / 1e6:.2f}M"
    return f"{number:,}".replace(",", " ")


def _rate(per_second: float) -> str:
    """With as many digits as are worth reading: 0, 0.05, 3.1, 420."""
    if per_second == 0:
        return "0"
    return f"{per_second:.{2 if per_second < 1 else 1 if per_second < 100 else 0}f}"


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
