from pathlib import Path

import pytest

from mailshed.config.peek import Places, peek
from mailshed.errors import ConfigError


def peek_text(folder: Path, text: str) -> Places:
    (folder / "m.yaml").write_text(text)
    return peek(folder / "m.yaml")


def test_reads_where_socket_and_spool_are(tmp_path: Path) -> None:
    places = peek_text(tmp_path, "spool: {path: /s}\nadmin: {socket: /a}\n")

    assert places == Places(admin_socket=Path("/a"), spool=Path("/s"))


def test_the_socket_is_in_the_spool_by_default(tmp_path: Path) -> None:
    assert peek_text(tmp_path, "spool: {path: /s}\n").admin_socket == Path("/s/admin.sock")
    assert peek_text(tmp_path, "spool: {path: /s}\nadmin:\n").admin_socket == Path("/s/admin.sock")


def test_other_faults_of_the_file_do_not_matter(tmp_path: Path) -> None:
    """In the moment of trouble half of the file may be wrong."""
    assert peek_text(tmp_path, "spool: {path: /s, typo: no}\nzzz: *x\n").spool == Path("/s")


@pytest.mark.parametrize(
    "text", ["{}", "- 1", "spool: 7", "spool: {path: 7}", "admin: {socket: ''}"]
)
def test_says_nothing_that_the_file_does_not_say(text: str, tmp_path: Path) -> None:
    assert peek_text(tmp_path, text) == Places(admin_socket=None, spool=None)


def test_a_file_that_is_no_yaml_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not valid YAML"):
        peek_text(tmp_path, "spool: {path: /s")
    with pytest.raises(ConfigError, match="No such file"):
        peek(tmp_path / "missing")
