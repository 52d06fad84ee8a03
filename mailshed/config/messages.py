"""What pydantic found, in the words and at the places of the file.

Pydantic names a fault by a type, a path and the limits that were broken. Here the path becomes a
line and a column (a missing key points at the section it is missing from), the limits get their
units back, and an unknown key gets the key that was probably meant.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mailshed.config.describe import homes, key_at, keys, section_at, write_value
from mailshed.config.faults import Fault, KeyPath, did_you_mean, dotted, nearest
from mailshed.config.marks import Document
from mailshed.config.schema import Config

_EXPECTED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
}
_OTHERS = {
    "relation": "{message}",
    "value_error": "{error}",
    "too_short": "needs at least one entry",
    "too_long": "has {actual_length} entries, at most {max_length} allowed",
}


def translate(
    error: ValidationError, document: Document, root: type[BaseModel] = Config
) -> Iterator[Fault]:
    """Turn each fault of `error` into one of `document`, leaving out what only confuses.

    `root` is the model that the document was read as.
    """
    details = error.errors(include_url=False)
    meant = set(_meant_keys(details, document.value, root))
    for detail in details:
        path = _path(detail)
        if detail["type"] == "missing" and path in meant:
            continue  # the misspelt key is reported, and is the same mistake
        if detail["type"] == "too_short" and detail["input"]:
            continue  # pydantic counts valid items, and the others are reported
        if any(path[:length] in document.doubtful for length in range(len(path) + 1)):
            continue
        yield _fault(detail, path, document, root)


def _fault(detail: ErrorDetails, path: KeyPath, document: Document, root: type[BaseModel]) -> Fault:
    match detail["type"]:
        case "missing":
            span = document.span(path[:-1], of_key=True)
            return Fault(span=span, path=path, message="required, but missing")
        case "extra_forbidden":
            message = _unknown_key(path, document.value, root)
            return Fault(span=document.span(path, of_key=True), path=path, message=message)
        case _:
            is_whole = isinstance(detail["input"], dict) and detail["type"] != "relation"
            of_key = detail["loc"][-1] == "[key]" or is_whole
            span = document.span(path, of_key=of_key)
            return Fault(span=span, path=path, message=_message(detail, path, root))


def _path(detail: ErrorDetails) -> KeyPath:
    """Return where the fault is; pydantic marks faults of a mapping's key with a last step."""
    path = tuple(step for step in detail["loc"] if step != "[key]")
    if detail["type"] == "relation":
        path += detail["ctx"]["path"]
    return path


def _message(detail: ErrorDetails, path: KeyPath, root: type[BaseModel]) -> str:
    kind = detail["type"]
    context: dict[str, Any] = detail.get("ctx", {})
    if (expected := _EXPECTED.get(kind)) is not None:
        message = f"expected {expected}"
        return f"is empty, {message}" if detail["input"] is None else message
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        key = key_at(root, path)
        return f"must be {words} {write_value(key.kind if key else '', context[name])}"
    if kind == "literal_error":
        return f"expected {context['expected']}".replace("'", '"')
    template = _OTHERS.get(kind)
    return template.format_map(context) if template else detail["msg"]


def _unknown_key(path: KeyPath, value: object, root: type[BaseModel]) -> str:
    name, parent = str(path[-1]), path[:-1]
    if (match := _meant(path, value, root)) is not None:
        return f'unknown key, did you mean "{match}"?'
    elsewhere = [dotted(home) for home in homes(root, name)]
    if elsewhere:
        return f"unknown key here; it belongs in {' or '.join(elsewhere)}"
    section = section_at(root, parent)
    known = [key.name for key in keys(section)] if section else []
    return f"unknown key{did_you_mean(name, known)}"


def _meant(path: KeyPath, value: object, root: type[BaseModel]) -> str | None:
    """Return the key that was meant by the unknown one at `path`; absent keys come first."""
    section = section_at(root, path[:-1])
    if section is None:
        return None
    known = [key.name for key in keys(section)]
    present = _mapping_at(value, path[:-1])
    name = str(path[-1])
    return nearest(name, [key for key in known if key not in present]) or nearest(name, known)


def _meant_keys(
    details: Iterable[ErrorDetails], value: object, root: type[BaseModel]
) -> Iterator[KeyPath]:
    for detail in details:
        if detail["type"] == "extra_forbidden":
            match = _meant(detail["loc"], value, root)
            if match is not None:
                yield (*detail["loc"][:-1], match)


def _mapping_at(root: object, path: KeyPath) -> Mapping[str, object]:
    value: Any = root
    for step in path:
        value = value[step]
    return value if isinstance(value, dict) else {}
