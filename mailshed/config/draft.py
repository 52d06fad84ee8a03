"""What can be known of a configuration file that may have faults: its valid parts, and its names.

Checks across keys read this, so that they speak even when other parts of the file are not valid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mailshed.config.authentication import Authentication
from mailshed.config.back import Backend
from mailshed.config.faults import KeyPath
from mailshed.config.front import Listener
from mailshed.config.schema import Config, TrafficClassSection
from mailshed.config.sections import Limits, Metrics, Spool
from mailshed.config.tls import Tls

M = TypeVar("M", bound=BaseModel)
Finding = tuple[KeyPath, str]
"""A path and what is wrong there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What can be known of a file: its raw content, and the sections that are valid."""

    raw: Mapping[str, object]
    listeners: dict[int, Listener]
    backends: dict[int, Backend]
    metrics: Metrics | None
    spool: Spool | None
    limits: Limits | None
    tls: Tls | None
    authentication: Authentication | None
    classes: dict[int, TrafficClassSection]
    class_names: frozenset[str] | None
    """None if not all names are known."""
    rules: tuple[Mapping[str, object], ...]
    """As they are in the file: a rule's references are checked even if it has other faults."""
    networks: frozenset[str]


def draft(raw: Mapping[str, object]) -> Draft:
    """Take what is valid from the plain content of a file."""
    classes = items_of(raw, "classes", TrafficClassSection)
    names: frozenset[str] | None = frozenset(item.name for item in classes.values())
    if "classes" not in raw:
        shipped = Config.model_fields["classes"].get_default(call_default_factory=True)
        classes = dict(enumerate(shipped))
        names = frozenset(item.name for item in classes.values())
    elif len(classes) < length(raw["classes"]) or not classes:
        names = raw_names(raw["classes"])
    classification = raw.get("classification")
    inner = classification if isinstance(classification, dict) else {}
    networks, rules = inner.get("networks"), inner.get("rules")
    return Draft(
        raw=raw,
        listeners=items_of(raw, "listeners", Listener),
        backends=items_of(raw, "backends", Backend),
        metrics=_valid(Metrics, raw.get("metrics")),
        spool=_valid(Spool, raw.get("spool")),
        limits=_valid(Limits, raw.get("limits", {})),
        tls=_valid(Tls, raw.get("tls", {})),
        authentication=_valid(Authentication, raw.get("authentication", {})),
        classes=classes,
        class_names=names,
        rules=tuple(
            rule if isinstance(rule, dict) else {}
            for rule in (rules if isinstance(rules, list) else ())
        ),
        networks=frozenset(networks if isinstance(networks, dict) else ()),
    )


def items_of(raw: Mapping[str, object], key: str, model: type[M]) -> dict[int, M]:
    """Return the valid items of a list of sections, by their index."""
    items = raw.get(key)
    valid = (
        (index, _valid(model, item))
        for index, item in enumerate(items if isinstance(items, list) else ())
    )
    return {index: item for index, item in valid if item is not None}


def _valid(model: type[M], value: object) -> M | None:
    try:
        return model.model_validate(value)
    except ValidationError:
        return None


def raw_names(items: object) -> frozenset[str] | None:
    """Return the names in a list of which some items are invalid; None if one has no name."""
    if not isinstance(items, list):
        return None
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    texts = [name for name in names if isinstance(name, str)]
    return frozenset(texts) if texts and len(texts) == len(names) else None


def length(value: object) -> int:
    """How many items it has; 0 for what is no container."""
    return len(value) if isinstance(value, list | dict) else 0


def dig(raw: Mapping[str, object], *steps: str) -> object:
    """What stands at the end of these keys; None where one is missing."""
    value: object = raw
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    return value
