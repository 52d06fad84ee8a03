"""The file of recipients: read, or one line for each thing that is wrong with it."""

from pathlib import Path

import pytest

from mailshed.config import recipients
from mailshed.config.recipients import read_recipients


def written(folder: Path, octets: bytes) -> Path:
    file = folder / "recipients"
    file.write_bytes(octets)
    return file


def test_a_list_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    found, faults = read_recipients(written(tmp_path, b"\xef\xbb\xbfalice@example.net\n"))
    assert faults == []
    assert found is not None
    assert b"Alice@example.net" in found


def test_every_faulty_line_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, b"alice@example.net\nbob\n\ncarol\n")
    _, faults = read_recipients(file)
    assert [fault.split(" ")[0] for fault in faults] == [f"{file}:2:", f"{file}:4:"]


def test_what_is_not_text_is_told_with_its_line(tmp_path: Path) -> None:
    file = written(tmp_path, b"alice@example.net\nren\xe9@example.net\n")
    assert read_recipients(file) == (None, [f"{file}:2: not UTF-8"])


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    missing = tmp_path / "recipients"
    assert read_recipients(missing) == (None, [f"cannot read {missing}: No such file or directory"])


def test_a_file_without_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipients, "OCTETS_MAX", 1024**2)
    file = written(tmp_path, b"a@example.net\n" * 80_000)
    assert read_recipients(file) == (None, [f"{file} is larger than 1 MiB"])
