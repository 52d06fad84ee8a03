"""Faults between classes: who is shed first, who is deferred first, and what adds up."""

from collections.abc import Iterator
from math import inf

from mailshed.config.draft import Draft, Finding, length
from mailshed.config.faults import KeyPath
from mailshed.config.schema import TrafficClassSection
from mailshed.config.units import format_duration


def classes_are_ordered(content: Draft) -> Iterator[Finding]:
    """Rank 0 exists, and what is shed first does not get more of the slots."""
    classes = content.classes
    is_complete = len(classes) == length(content.raw.get("classes", classes))
    if is_complete and classes and min(item.rank for item in classes.values()) > 0:
        yield ("classes",), "no class has rank 0, so none is sure never to be shed"
    for index, item in classes.items():
        below = [other for other in classes.values() if other.rank > item.rank]
        favoured = max(below, key=lambda other: other.threshold, default=None)
        if favoured is not None and favoured.threshold > item.threshold:
            message = (
                f"{item.threshold:g} is less than the {favoured.threshold:g} of"
                f' "{favoured.name}", which is to be shed first by its rank'
            )
            yield ("classes", index, "threshold"), message


def reports_make_sense(content: Draft) -> Iterator[Finding]:
    """A report of a delay comes after the promise is broken, and before the mail is returned.

    The shipped classes have no fault of the site's: where mail lives shorter, no report comes.
    """
    for index, item in content.classes.items():
        if item.report_after is None or "classes" not in content.raw:
            continue
        path: KeyPath = ("classes", index, "report_after")
        if item.report_after <= item.objective:
            objective = format_duration(item.objective)
            yield path, f"must be more than objective ({objective}): before that nothing is late"
        elif content.spool is not None and item.report_after >= content.spool.lifetime:
            lifetime = format_duration(content.spool.lifetime)
            message = f"must be less than spool.lifetime ({lifetime}), when the mail is returned"
            yield path, message


def shares_add_up(content: Draft) -> Iterator[Finding]:
    """Guarantees fit together, and 4xx come to classes in the order in which they are shed."""
    classes = content.classes
    total = sum(item.guarantee for item in classes.values())
    if total > 1 + 1e-9:
        yield ("classes",), f"guarantees add up to {total:g}, which is more than all there is (1)"
    for index, item in classes.items():
        path: KeyPath = ("classes", index, "defer_fill")
        if item.rank == 0:
            if item.defer_fill is not None:
                yield path, "has no place in a class of rank 0, which is never shed"
            continue
        below = [other for other in classes.values() if other.rank > item.rank]
        favoured = max(below, key=_defer_fill, default=None)
        if favoured is not None and _defer_fill(favoured) > _defer_fill(item):
            message = (
                f'{item.defer_fill:g} is less than that of "{favoured.name}"'
                f" ({_defer_fill(favoured):g}), which is to be shed first by its rank"
            )
            yield path, message


def _defer_fill(section: TrafficClassSection) -> float:
    return inf if section.defer_fill is None else section.defer_fill
