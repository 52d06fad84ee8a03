"""The status document: the snapshot as the JSON that `mailshed status` and scripts read.

Its members are the fields of the snapshot's dataclasses under their own names, so the two cannot
drift apart. The document only grows: readers ignore members they do not know, and a change of
meaning is a new schema number.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from mailshed.mail.privacy import mask_text
from mailshed.metrics.snapshot import Snapshot

SCHEMA = "mailshed.status/1"

Document = dict[str, Any]
"""A JSON object."""


def status_document(snapshot: Snapshot, now: float) -> Document:
    """The snapshot as a JSON object; `now` is monotonic and dates it."""
    document: Document = as_json(snapshot)
    del document["made_at"]  # this process's own clock means nothing outside it
    return {
        "schema": SCHEMA,
        "snapshot_age_seconds": round(snapshot.age(now), 3),
        "uptime_seconds": round(max(0.0, snapshot.wall - snapshot.started_wall), 3),
        "binding": snapshot.binding,
        **document,
    }


def as_json(value: Any) -> Any:
    """What `json` can write: objects for dataclasses and mappings, patients' addresses masked."""
    match value:
        case str():
            return mask_text(value)
        case Mapping():
            return {key: as_json(each) for key, each in value.items()}
        case list() | tuple():
            return [as_json(each) for each in value]
        case _ if is_dataclass(value):
            return {each.name: as_json(getattr(value, each.name)) for each in fields(value)}
        case _:
            return value
