"""Contents of configuration files with faults, and where the checks across keys find them."""

from typing import Any

from mailshed.config.draft import draft
from mailshed.config.semantics import findings

LISTENER = {"name": "internal", "bind": "127.0.0.1:25"}


def paths(raw: dict[str, Any]) -> list[str]:
    """Where there are faults, as dotted paths."""
    return [".".join(map(str, path)) for path, _ in findings(draft(raw))]


def rule(**conditions: object) -> dict[str, Any]:
    """A file with one rule."""
    return {"classification": {"rules": [{"name": "r", "class": "bulk", **conditions}]}}


def classes(**changes: dict[str, Any]) -> dict[str, Any]:
    """A file with the classes `first` and `second`, of ranks 0 and 1, and `third` of rank 2."""
    made = [
        {
            "name": name,
            "rank": rank,
            "threshold": 1.0,
            "wait_max": "1s",
            "objective": "1m",
            **changes.get(name, {}),
        }
        for rank, name in enumerate(("first", "second", "third"))
    ]
    return {"classes": made, "classification": {"default": "second"}}
