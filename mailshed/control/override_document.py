"""The overrides as a JSON object, so that they outlive the process.

What is read is not believed: each is checked as an operator's wish is, and all are refused if
anything is wrong with one. Nothing monotonic is written, since that time ends with the process; of
what is left of an override by the wall clock, a new process gives it at most what it was to last in
all.

Pure: `now` is monotonic seconds, `wall` Unix time.
"""

from typing import Any

from mailshed.control.overrides import (
    OVERRIDES_MAX,
    Override,
    OverrideKind,
    Overrides,
    Wish,
    check,
)
from mailshed.errors import RequestError, StateError

VERSION = 1
WALL_MAX = 1e11
"""Unix times beyond this are no dates that anybody has to do with."""

Document = dict[str, Any]


def to_document(overrides: Overrides) -> Document:
    """What `from_document` reads."""
    return {
        "version": VERSION,
        "last_number": overrides.last_number,
        "in_force": [
            {
                "number": each.number,
                "kind": each.kind.value,
                "class": each.traffic_class,
                "value": each.value,
                "user": each.user,
                "reason": each.reason,
                "since": each.since_wall,
                "seconds": each.seconds,
                "request": each.request,
            }
            for each in overrides.in_force
        ],
    }


def from_document(document: Document, now: float, wall: float) -> Overrides:
    """What `to_document` wrote, those included whose time is over by now.

    Raises StateError if it is not one of ours.
    """
    try:
        return _read(document, now, wall)
    except (KeyError, TypeError, ValueError, RequestError) as error:
        raise StateError(f"the saved overrides make no sense: {error}") from error


def _read(document: Document, now: float, wall: float) -> Overrides:
    """Raises what a damaged document makes Python and `check` raise."""
    if document["version"] != VERSION:
        raise ValueError(f"version {document['version']!r}")
    records = document["in_force"]
    if not isinstance(records, list) or len(records) > OVERRIDES_MAX:
        raise ValueError("expected a list, and not a long one")
    in_force = [_read_one(each, now, wall) for each in records]
    for names in ({each.about for each in in_force}, {each.number for each in in_force}):
        if len(names) < len(in_force):
            raise ValueError("two of the same")
    last_number = _whole(document["last_number"])
    return Overrides(in_force, max([last_number, *(each.number for each in in_force)]))


def _read_one(record: Document, now: float, wall: float) -> Override:
    wish = Wish(
        kind=OverrideKind(record["kind"]),
        traffic_class=str(record["class"]),
        value=_whole(record["value"]),
        seconds=float(record["seconds"]),
        reason=str(record["reason"]),
    )
    check(wish)
    since = float(record["since"])
    if not 0 <= since < WALL_MAX:
        raise ValueError(f"no instant: {since}")
    return Override(
        number=_whole(record["number"]),
        kind=wish.kind,
        traffic_class=wish.traffic_class,
        value=wish.value,
        user=str(record["user"]),
        reason=wish.reason,
        since_wall=since,
        seconds=wish.seconds,
        request=str(record["request"]),
        ends_at=now + min(wish.seconds, since + wish.seconds - wall),
    )


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"expected a count, not {value!r}")
    return value
