"""A configuration as text again: what is in force, in the file's own words and units.

The text is YAML that `load` reads to an equal `Config`; by default only what is required or
differs from the default, in the order of the schema. Strings that some reader of YAML would take
for something else are quoted. The JSON form is for programs: durations are seconds, sizes octets.
"""

import json
from collections.abc import Iterable
from typing import Any

import yaml
from pydantic import BaseModel

from mailshed.config.describe import Key, keys, write_value
from mailshed.config.scalars import explain_ambiguity, read_scalar
from mailshed.config.schema import Config

SCHEMA = "mailshed.config/1"
_AS_THEY_ARE = frozenset(["integer", "number", "1"])


def render(config: Config, *, with_defaults: bool = False) -> str:
    """Write `config` as YAML; `with_defaults` also what is as shipped."""
    plain = _section(config, with_defaults=with_defaults, with_units=True)
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=96, indent=2)


def render_json(config: Config, *, with_defaults: bool = False) -> str:
    """Write `config` as one JSON document; durations in seconds, sizes in octets."""
    plain = _section(config, with_defaults=with_defaults, with_units=False)
    return json.dumps({"schema": SCHEMA, "config": plain}, indent=2, ensure_ascii=False)


def _section(section: BaseModel, *, with_defaults: bool, with_units: bool) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key in keys(type(section)):
        value = getattr(section, key.attribute)
        if not with_defaults and value == key.default:
            continue
        if value is None:
            plain[key.name] = None
        elif key.section is not None and not key.is_list:
            plain[key.name] = _section(value, with_defaults=with_defaults, with_units=with_units)
        elif key.section is not None:
            plain[key.name] = [
                _section(item, with_defaults=with_defaults, with_units=with_units) for item in value
            ]
        else:
            plain[key.name] = _value(key, value, with_units=with_units)
    return plain


def _value(key: Key, value: Any, *, with_units: bool) -> Any:
    if key.is_map:
        return {
            name: None if items is None else _list(key, items, with_units=with_units)
            for name, items in value.items()
        }
    if key.is_list:
        return _list(key, value, with_units=with_units)
    return _scalar(key, value, with_units=with_units)


def _list(key: Key, items: Iterable[Any], *, with_units: bool) -> list[Any]:
    return [_scalar(key, item, with_units=with_units) for item in items]


def _scalar(key: Key, value: Any, *, with_units: bool) -> Any:
    if value is None or isinstance(value, bool) or key.kind in _AS_THEY_ARE:
        return value
    if not with_units and isinstance(value, int | float):
        return value
    return write_value(key.kind, value)


class _Dumper(yaml.SafeDumper):
    """Quotes what could be misread, writes short lists in one line, and indents lists."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow=flow, indentless=False)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    is_plain = read_scalar(text) == text and explain_ambiguity(text) is None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_plain else '"')


def _represent_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    is_flat = not any(isinstance(item, list | dict) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=is_flat)


def _represent_mapping(dumper: yaml.SafeDumper, items: dict[str, Any]) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", items, flow_style=False)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(dict, _represent_mapping)
