"""Reading a file of its own, such as cases or a scenario, into its model, or all that is wrong.

The configuration itself is read by `load`, since it may name other files whose faults are told
together with its own.
"""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mailshed.config.faults import Fault, render
from mailshed.config.marks import Document, read
from mailshed.config.messages import translate
from mailshed.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


def read_as(path: Path, model: type[M], expected: str) -> tuple[M, Document]:
    """Read the file at `path` as `model`; `expected` says what a file that is no mapping lacks.

    Raises ConfigError whose text lists every fault.
    """
    document = read(path)
    faults: list[Fault] = list(document.faults)
    file: M | None = None
    try:
        file = model.model_validate(document.value)
    except ValidationError as error:
        if isinstance(document.value, dict):
            faults += translate(error, document, model)
        elif not faults:
            faults.append(Fault(span=document.span(()), message=expected))
    if file is None or faults:
        raise ConfigError(render(path, document.lines, faults))
    return file, document
