"""The table of the classes: a row each, with what is out of the ordinary at its end."""

from collections.abc import Iterator

from mailshed.admin.screen.level import is_diverted
from mailshed.admin.screen.words import ETA_MAX, Document, age, count, printable, rate


def class_table(status: Document, width: int) -> Iterator[str]:
    """The heading and the rows; `width` columns are enough for one of each."""
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
        line = printable(
            f"{row['name'][:12]:12}{rate(recent.get('accepted_rate', 0)):>6}"
            f"{rate(recent.get('delivered_rate', 0)):>7}{count(queued):>8}"
            f"{age(oldest) if oldest else '-':>7}{eta:>7}"
            f"{count(recent.get('hour_delivered', 0)):>8}"
            f"{count(recent.get('hour_spooled', 0)):>10}"
        )[:width]
        notes = list(_notes(row, recent, is_held=row["name"] in held))
        if surge := surges.get(row["name"]):
            is_late = bool(notes) and notes[0].startswith("LATE")
            notes.insert(int(is_late), f"{surge:.1f}x usual")
        while len(line) + 1 + len(",".join(notes)) > width and notes:
            notes.pop()
        yield f"{line} {','.join(notes)}"


def _notes(row: Document, recent: Document, *, is_held: bool) -> Iterator[str]:
    """What is out of the ordinary about a class, the worst first."""
    objective = row.get("objective_seconds", 0)
    if row.get("oldest_age_seconds", 0) > objective:
        yield f"LATE>{age(objective)}"
    elif late := recent.get("hour_late", 0):
        yield f"{count(late)} late"
    if is_diverted(row):
        yield "diverted"
    if is_held:
        yield "held"
    if deferred := recent.get("hour_deferred", 0):
        yield f"{count(deferred)} 4xx"
    if not row.get("is_configured", True):
        yield "not configured"


def _eta(queued: int, growth: float, forecast: float | None) -> str:
    """When the queue will be empty: by the service's forecast, else at the last minute's pace."""
    if not queued:
        return "-"
    if forecast and forecast <= ETA_MAX:
        return age(forecast)
    if growth >= 0:
        return "grows" if growth > 0 else "stands"
    seconds = queued / -growth
    return age(seconds) if seconds <= ETA_MAX else f">{age(ETA_MAX)}"
