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

from collections.abc import Iterator

from mailshed.admin.screen.backends import backend_lines
from mailshed.admin.screen.level import level_line
from mailshed.admin.screen.table import class_table
from mailshed.admin.screen.words import Document, age, cause, count, cut, size, wrapped

COLUMNS = 80
ROWS = 24
# The main loop makes four snapshots a second; after eight missed ones it is not a hiccup.
STALE_SECONDS = 2.0
# As many lines as people may have overrides in mind.
_OVERRIDE_LINES = 4
# A certificate that ends sooner is named: by then most have been renewed by themselves.
_CERTIFICATE_SECONDS = 30 * 86400
_LEDGER_OUT = ("delivered", "bounced", "refused", "expired", "removed")


def render(status: Document, width: int | None = COLUMNS) -> str:
    """The screen, without a final newline, for a terminal of `width` columns or for a file."""
    page = COLUMNS if width is None else width
    level = level_line(status)
    if width is not None and len(level) > width:
        level = level_line(status, is_brief=True)
    top = [*_header(status, width), *cut(level, width)]
    rest = [
        *class_table(status, page),
        *backend_lines(status, width),
        *_spool(status, width),
        *wrapped(_accounting(status), page),
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
    loaded = age(wall - (status.get("config_loaded_wall") or wall))
    yield from wrapped(
        f"mailshed {status.get('version', '?')} on {name}  {mode}"
        f"  up {age(status.get('uptime_seconds', 0))}"
        f"  config {str(status.get('config_hash', ''))[:8]} ({loaded} ago)",
        width,
    )
    made = status.get("snapshot_age_seconds", 0)
    if made > STALE_SECONDS:
        yield f"!!! NOT CURRENT: the service made this picture {age(made)} ago and hangs since !!!"
    if status.get("is_stopping"):
        yield "!!! STOPPING: open transactions are being finished !!!"
    if not status.get("reload_ok", True):
        yield "!!! Reload REFUSED: the old configuration is in force, see the log !!!"
    if status.get("is_stressed"):
        sessions = status.get("sessions", {})
        yield (
            f"STRESS: {count(sessions.get('used', 0))} of {count(sessions.get('limit', 0))}"
            " sessions are open, so strangers have less time"
        )
    if failing := status.get("logins_failing"):
        since = age(status.get("logins_failing_seconds", 0))
        yield from cut(f"!!! NOBODY CAN LOG IN, for {since}: {failing}", width)
    ends = status.get("certificate_ends_wall")
    if ends is not None and ends <= wall:
        yield f"!!! The CERTIFICATE has ended {age(wall - ends)} ago: clients refuse it !!!"
    elif ends is not None and ends - wall < _CERTIFICATE_SECONDS:
        yield f"The certificate that clients are shown ends in {age(ends - wall)}."


def _overrides(status: Document, width: int | None, room: int) -> list[str]:
    """What operators have decided for a time, who and why; what ends first comes first.

    On a terminal so many lines as there is room for, but one in any case. A service that is
    stopping has other worries.
    """
    if status.get("is_stopping"):
        return []
    lines = []
    for each in sorted(status.get("overrides", ()), key=lambda each: each.get("left_seconds", 0)):
        left = age(round(each.get("left_seconds", 0)))
        who = f"({each.get('user')}: {each.get('reason')})"
        lines += cut(f"OVERRIDE {each.get('id')}: {override_words(each)}, {left} left {who}", width)
    most = len(lines) if width is None else max(1, min(_OVERRIDE_LINES, room))
    if len(lines) <= most:
        return lines
    shown = lines[: most - 1]
    more = len(lines) - len(shown)
    return [*shown, f"{f'and {more} more' if shown else more} overrides: mailshed override list"]


def _spool(status: Document, width: int | None) -> Iterator[str]:
    spool = status.get("spool", {})
    if not spool.get("is_healthy", True):
        yield "!!! SPOOL SICK: relay-only mode, nothing is promised on its behalf !!!"
        yield from cause(spool.get("sick_reason", ""), width)
    elif spool.get("full_reason"):
        if spool.get("has_clinical_room"):
            yield "!!! SPOOL FULL but for clinical mail: other mail gets 452 unless relayed !!!"
        else:
            yield "!!! SPOOL FULL: mail gets 452 unless it is relayed !!!"
        yield from cause(spool["full_reason"], width)
    yield from wrapped(
        f"SPOOL {count(spool.get('messages', 0))}/{count(spool.get('messages_max', 0))} messages"
        f"   {size(spool.get('octets', 0))}/{size(spool.get('octets_max', 0))}"
        f"   disk free {size(spool.get('disk_free', 0))}"
        f" (keeps {size(spool.get('disk_reserve', 0))})",
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
    endings = " + ".join(f"{count(terms[term])} {term}" for term in _LEDGER_OUT)
    return (
        f"Accounted (recipients spooled): {count(terms['accepted'])} accepted"
        f" + {count(terms['generated'])} generated"
        f" = {endings} + {count(queued)} queued   {verdict}"
    )
