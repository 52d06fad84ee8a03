"""The schema as data: which keys stand where, of what kind, with which default and bounds.

Three readers share this view of the pydantic models: the faults of a file ('unknown key, did you
mean'), the renderer of a configuration (which numbers have a unit), and the generated reference.
"""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mailshed.config.faults import KeyPath
from mailshed.config.fields import Kind
from mailshed.config.units import format_duration, format_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of a section. `kind` is what people call its value, or that of each item."""

    name: str
    """As the file has it."""
    attribute: str
    """As the model has it."""
    kind: str
    is_list: bool = False
    is_map: bool = False
    """A mapping whose keys the site chooses."""
    section: type[BaseModel] | None = None
    """What the value, or each item, is made of."""
    field: FieldInfo

    @property
    def default(self) -> object:
        """The default as the model has it, or `...` if the key is required."""
        if self.field.is_required():
            return ...
        return self.field.get_default(call_default_factory=True, validated_data={})

    @property
    def bounds(self) -> str:
        """The permitted range in the unit of the key, or nothing: `1-65535`, `at least 64KiB`."""
        lower, upper = "", ""
        for bound in self.field.metadata:
            match bound:
                case annotated_types.Ge(ge=value):
                    lower = f"at least {write_value(self.kind, value)}"
                case annotated_types.Gt(gt=value):
                    lower = f"more than {write_value(self.kind, value)}"
                case annotated_types.Le(le=value):
                    upper = f"at most {write_value(self.kind, value)}"
                case _:
                    pass
        return ", ".join(part for part in (lower, upper) if part)


def write_value(kind: str, value: Any) -> str:
    """Write a scalar of `kind` as the file would have it."""
    if kind == "duration":
        return format_duration(value)
    if kind == "size":
        return format_size(value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def keys(section: type[BaseModel]) -> tuple[Key, ...]:
    """All keys of a section, in their order."""
    return tuple(_key(name, field) for name, field in section.model_fields.items())


def key_at(root: type[BaseModel], path: KeyPath) -> Key | None:
    """Return the key that the value at `path`, below `root`, belongs to."""
    section: type[BaseModel] | None = root
    found: Key | None = None
    for step in path:
        if isinstance(step, int) or section is None:
            continue  # an item of a list, or a key that the site chose
        found = next((key for key in keys(section) if key.name == step), None)
        if found is None:
            return None
        section = found.section
    return found


def section_at(root: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """Return the section that the mapping at `path` is, or None if its keys are the site's."""
    if not path:
        return root
    key = key_at(root, path)
    return key.section if key else None


def homes(root: type[BaseModel], name: str) -> Iterator[KeyPath]:
    """Sections below `root` that have a key of this name."""
    for key in keys(root):
        if key.section is not None:
            if name in {inner.name for inner in keys(key.section)}:
                yield (key.name,)
            for rest in homes(key.section, name):
                yield (key.name, *rest)


def _key(attribute: str, field: FieldInfo) -> Key:
    annotation: Any = field.annotation
    metadata = list(field.metadata)
    annotation, more = _unwrap(annotation)
    is_map = get_origin(annotation) is dict
    if is_map:
        annotation, more = _unwrap(get_args(annotation)[1])
    is_list = get_origin(annotation) is tuple
    if is_list:
        annotation, more = _unwrap(get_args(annotation)[0])
    section = annotation if _is_section(annotation) else None
    return Key(
        name=field.alias or attribute,
        attribute=attribute,
        kind=_kind(annotation, [*metadata, *more]),
        is_list=is_list,
        is_map=is_map,
        section=section,
        field=field,
    )


def _unwrap(annotation: Any) -> tuple[Any, list[Any]]:
    """Strip 'or None' and `Annotated`; return what is inside, and its metadata."""
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [part for part in get_args(annotation) if part is not types.NoneType]
        if len(inner) == 1:
            annotation = inner[0]
    metadata = list(getattr(annotation, "__metadata__", ()))
    if metadata:
        annotation = get_args(annotation)[0]
    return annotation, metadata


def _is_section(annotation: Any) -> bool:
    return (
        isinstance(annotation, type)
        and issubclass(annotation, BaseModel)
        and annotation.model_config.get("extra") == "forbid"
    )


def _kind(annotation: Any, metadata: list[Any]) -> str:
    for item in metadata:
        if isinstance(item, Kind):
            return item.label
    if get_origin(annotation) is Literal:
        return " or ".join(str(choice) for choice in get_args(annotation))
    return "boolean" if annotation is bool else "section"
