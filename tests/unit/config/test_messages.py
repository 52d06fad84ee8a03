import copy
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mailshed.config.describe import keys, section_at
from mailshed.config.faults import Fault, KeyPath
from mailshed.config.marks import Document, read
from mailshed.config.messages import translate
from mailshed.config.schema import Config

EXAMPLE = Path(__file__).parents[3] / "config" / "mailshed.yaml"


def faults(value: object, document: Document | None = None) -> list[Fault]:
    empty = Document(lines=(), value=value, keys={}, values={}, faults=())
    try:
        Config.model_validate(value)
    except ValidationError as error:
        return list(translate(error, document or empty))
    return []


def schema_keys(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """All keys of the example that the schema names, first item of each list only."""
    if isinstance(value, list):
        yield from schema_keys(value[0], (*path, 0)) if value else ()
    elif isinstance(value, dict) and section_at(Config, path) is not None:
        for key, inner in value.items():
            yield path, key
            yield from schema_keys(inner, (*path, key))


def typos(word: str) -> Iterator[str]:
    """Every deletion and transposition, and a sample of substitutions and insertions."""
    for index in range(len(word)):
        yield word[:index] + word[index + 1 :]
        yield word[:index] + word[index : index + 2][::-1] + word[index + 2 :]
        letter = string.ascii_lowercase[(index * 7 + len(word)) % 26]
        yield word[:index] + letter + word[index + 1 :]
        yield word[:index] + letter + word[index:]


def renamed(value: Any, path: KeyPath, key: str, new: str) -> Any:
    changed = copy.deepcopy(value)
    section = changed
    for step in path:
        section = section[step]
    section[new] = section.pop(key)
    return changed


def test_a_key_with_one_wrong_letter_gets_the_right_suggestion() -> None:
    value = read(EXAMPLE).value
    right, total, wrong = 0, 0, []
    for path, key in schema_keys(value):
        for typo in sorted(set(typos(key)) - {key}):
            total += 1
            messages = [
                fault.message
                for fault in faults(renamed(value, path, key, typo))
                if fault.path == (*path, typo)
            ]
            if messages == [f'unknown key, did you mean "{key}"?']:
                right += 1
            else:
                wrong.append((key, typo, messages))

    assert total > 1000
    assert right / total >= 0.95, wrong


def test_a_misspelt_required_key_is_one_fault() -> None:
    value = renamed(read(EXAMPLE).value, ("spool",), "path", "pth")

    assert [fault.path for fault in faults(value)] == [("spool", "pth")]


def test_keeps_quiet_about_values_that_are_already_in_doubt() -> None:
    value: Any = copy.deepcopy(read(EXAMPLE).value)
    value["limits"]["sessions_max"] = "no"
    doubtful = Document(
        lines=(),
        value=value,
        keys={},
        values={},
        doubtful=frozenset([("limits", "sessions_max")]),
        faults=(),
    )

    assert [fault.message for fault in faults(value)] == ["expected a whole number"]
    assert faults(value, doubtful) == []


def test_every_section_of_the_schema_refuses_unknown_keys() -> None:
    def sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
        yield model
        for key in keys(model):
            if key.section is not None:
                yield from sections(key.section)

    found = list(sections(Config))
    assert len(found) > 8
    assert all(model.model_config.get("extra") == "forbid" for model in found)
