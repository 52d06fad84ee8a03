"""A file becomes its model, or one error that lists every fault with its place."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from mailshed.config.document import read_as
from mailshed.errors import ConfigError


class Shelf(BaseModel):
    model_config = ConfigDict(extra="forbid")

    boards: int
    title: str = ""


def fault_of(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_as(path, Shelf, "expected a mapping with boards")
    return str(caught.value)


def test_a_file_becomes_its_model_and_its_lines_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "shelf.yaml"
    path.write_text("boards: 3\n")
    shelf, document = read_as(path, Shelf, "expected a mapping with boards")
    assert shelf == Shelf(boards=3)
    assert list(document.lines) == ["boards: 3"]


def test_every_fault_is_told_with_its_place(tmp_path: Path) -> None:
    text = fault_of(tmp_path / "shelf.yaml", "boards: many\ncolour: red\n")
    assert "shelf.yaml:1:" in text
    assert "shelf.yaml:2:" in text


def test_what_is_no_mapping_hears_what_is_expected(tmp_path: Path) -> None:
    assert "expected a mapping with boards" in fault_of(tmp_path / "shelf.yaml", "- 1\n")


def test_a_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        read_as(tmp_path / "none.yaml", Shelf, "expected a mapping with boards")
