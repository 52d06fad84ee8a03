"""The line that is read first: what is shed now, until when, and which resource is the reason."""

from collections.abc import Sequence

from mailshed.admin.screen.words import ETA_MAX, Document, age, rate
from mailshed.control.saturation import USED_UP

# How full a resource is before it is named beside the fullest.
_NOTABLE_RATIO = 0.5


def level_line(status: Document, *, is_brief: bool = False) -> str:
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
    shed = [f"{name} {rate(each)}/s" for name, each in rates.items() if each > 0]
    diverted = [each["name"] for each in status.get("classes", ()) if is_diverted(each)]
    if shed and is_brief:
        what = f"SHEDDING {rate(sum(rates.values()))}/s of {len(shed)} classes"
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


def is_diverted(row: Document) -> bool:
    """Whether new mail of a class goes to the spool at once, by the load."""
    return row.get("kept_back") == "diverted"


def _empty_in(status: Document) -> str:
    """Until when mail waits, if all backlogs shrink."""
    waits = [row.get("drain_seconds", 0) for row in status.get("classes", ())]
    if any(each is None for each in waits):
        return ""
    longest = max(waits, default=0)
    return f"EMPTY IN {age(longest)}" if 1 <= longest <= ETA_MAX else ""


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
