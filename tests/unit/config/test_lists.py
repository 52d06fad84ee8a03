"""Lists in files."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from mailshed.config.classification import PATTERNS_MAX
from mailshed.config.lists import (
    ENTRIES_MAX,
    FAULTS_MAX,
    OCTETS_MAX,
    ListFile,
    read_list,
    signature_of,
)
from mailshed.config.sources import ListKind


def read(folder: Path, text: str | bytes, kind: ListKind = "addresses") -> ListFile:
    file = folder / "list.txt"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_list(file, kind)


def test_one_entry_a_line_and_comments(tmp_path: Path) -> None:
    text = "# staff\n\n  Alice@Example.org  \n@ward.example # the ward\r\n*#x-list@x.example\n#\n"
    found = read(tmp_path, text)
    assert found.entries == ("alice@example.org", "@ward.example", "*#x-list@x.example")
    assert found.faults == ()
    assert found.signature == signature_of(found.path)


def test_networks_and_users_are_read_as_such(tmp_path: Path) -> None:
    networks = read(tmp_path, "10.0.0.0/8\n2001:db8::1\n", "networks")
    assert networks.entries == (ip_network("10.0.0.0/8"), ip_network("2001:db8::1"))
    assert read(tmp_path, "Alice\nsvc-*\n", "users").entries == ("alice", "svc-*")


def test_a_fault_has_line_and_column_and_others_are_found_too(tmp_path: Path) -> None:
    found = read(tmp_path, "a@b.example\n  10.0.0.1/8\n10.0.0.0/8\nx y\n", "networks")
    places = [
        (each.span.line, each.span.column, each.span.width) for each in found.faults if each.span
    ]
    assert places == [(0, 0, 11), (1, 2, 10), (3, 0, 3)]
    assert "did you mean" in found.faults[1].message


def test_a_list_does_not_include_others(tmp_path: Path) -> None:
    assert read(tmp_path, "file:/etc/passwd\n", "users").entries == ("file:/etc/passwd",)
    assert read(tmp_path, "file:/etc/passwd\n").faults
    assert read(tmp_path, "file:/etc/passwd\n", "networks").faults


def test_a_file_that_is_not_there_is_no_empty_list(tmp_path: Path) -> None:
    found = read_list(tmp_path / "gone", "networks")
    assert found.unreadable == "cannot be read: No such file or directory"
    assert (found.entries, found.signature) == ((), None)
    assert signature_of(tmp_path / "gone") is None


def test_a_file_is_bounded(tmp_path: Path) -> None:
    assert "larger than" in read(tmp_path, b"#" * (OCTETS_MAX + 1)).unreadable
    assert read(tmp_path, b"#" * OCTETS_MAX).unreadable == ""
    many = read(tmp_path, "a@b.example\n" * (ENTRIES_MAX + 1))
    assert [each.message for each in many.faults] == [
        f"more than {ENTRIES_MAX} entries in one list"
    ]


def test_patterns_are_few(tmp_path: Path) -> None:
    assert read(tmp_path, "*a@b.example\n" * PATTERNS_MAX).faults == ()
    (fault,) = read(tmp_path, "*a@b.example\n" * (PATTERNS_MAX + 1)).faults
    assert fault.message == f"more than {PATTERNS_MAX} patterns in one list"


def test_a_file_that_is_no_list_does_not_fill_the_screen(tmp_path: Path) -> None:
    found = read(tmp_path, bytes(range(32, 256)) * 200 + b"\n" + b"\xff\n" * 1000)
    assert len(found.faults) == FAULTS_MAX + 1
    assert found.faults[-1].span is None


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
def test_a_byte_order_mark_is_no_part_of_the_first_entry(tmp_path: Path, mark: bytes) -> None:
    assert read(tmp_path, mark + b"alice@example.org\n").entries == ("alice@example.org",)
