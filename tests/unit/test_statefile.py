"""What was saved is there again, whole, whatever interrupts a save; and what is damaged is said."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailshed import statefile
from mailshed.errors import StateError
from mailshed.statefile import OCTETS_MAX, StateFile

OLD, NEW = {"level": 1, "name": "café"}, {"level": 2, "in_force": [1, 2.5, None]}


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture
def file(tmp_path: Path) -> StateFile:
    """A file that has something in it."""
    made = StateFile(tmp_path, "topic")
    made.save(OLD)
    return made


def fail_with(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def crash(*_: object, **__: object) -> None:
    raise Crash


def test_nothing_was_saved_at_first(tmp_path: Path) -> None:
    assert StateFile(tmp_path, "topic").load() is None
    assert StateFile(tmp_path / "missing", "topic").load() is None


def test_what_was_saved_last_is_there_again(file: StateFile) -> None:
    assert file.load() == OLD
    file.save(NEW)
    assert StateFile(file.path.parent, "topic").load() == NEW


def test_topics_are_apart(file: StateFile) -> None:
    other = StateFile(file.path.parent, "other")
    other.save(NEW)

    assert file.load() == OLD
    assert other.load() == NEW


def test_it_is_for_its_owner_only_and_leaves_nothing_beside_it(file: StateFile) -> None:
    assert file.path.name == "topic.json"
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert list(file.path.parent.iterdir()) == [file.path]


def test_it_is_on_stable_storage_before_it_has_its_name_and_the_name_before_save_returns(
    file: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, Path.replace

    def note_sync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        done.append(f"sync {target.name}: {target.stat().st_size > 0}")
        sync(descriptor)

    def note_replace(self: Path, target: Path) -> Path:
        done.append(f"rename to {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    file.save(NEW)

    folder = file.path.parent.name
    assert done == ["sync topic.new: True", "rename to topic.json", f"sync {folder}: True"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_crash_before_the_rename_leaves_the_old_one(
    file: StateFile, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patch:
        if step == "replace":
            patch.setattr(Path, "replace", crash)
        elif step == "fsync":
            patch.setattr(os, "fsync", crash)
        else:
            patch.setattr(os, "fdopen", crash)
        with pytest.raises(Crash):
            file.save(NEW)
    assert file.load() == OLD

    file.save(NEW)
    assert file.load() == NEW
    assert list(file.path.parent.iterdir()) == [file.path]


def test_a_longer_leftover_does_not_show_through(file: StateFile) -> None:
    file.path.with_suffix(".new").write_text("x" * 10_000)
    file.save(NEW)

    assert file.load() == NEW


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_sync_that_fails_is_an_error_and_the_old_one_stays(
    file: StateFile, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_with(number))
        with pytest.raises(
            StateError, match=rf"topic\.json cannot be written: {os.strerror(number)}"
        ):
            file.save(NEW)

    assert file.load() == OLD


def test_a_name_that_cannot_be_synced_is_an_error_and_one_of_the_two_is_there(
    file: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, calls = os.fsync, []

    def fail_for_the_folder(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_for_the_folder)
        with pytest.raises(StateError, match="Input/output error"):
            file.save(NEW)

    assert file.load() == NEW, "after a power cut it may be the old one"


def test_a_folder_that_cannot_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StateError, match="No such file or directory"):
        StateFile(tmp_path / "missing", "topic").save(NEW)
    # Root may write anywhere, so the kernel's word is put into its mouth.
    monkeypatch.setattr(os, "open", fail_with(errno.EACCES))
    with pytest.raises(StateError, match="Permission denied"):
        StateFile(tmp_path, "topic").save(NEW)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (b"", "Expecting value"),
        (b'{"level": 1', "Expecting"),
        (b"\xff\xfe{}", "Expecting value"),
        (b'{"level": "\xff"}', "codec"),
        (b"[1, 2]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"\0" * 4096, "Expecting value"),
        (b'{"a":' + b"[" * 100_000, "recursion"),
        (b'{"a": 1' + b"0" * 400 + b"}", "401 digits"),
        (b'{"a": -1' + b"0" * 400 + b"}", "402 digits"),
        (b'{"a": [NaN]}', "NaN is no number"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
    ],
)
def test_a_damaged_one_is_an_error_that_names_it(file: StateFile, damage: bytes, why: str) -> None:
    file.path.write_bytes(damage)

    with pytest.raises(StateError, match=rf"{file.path} is damaged: .*{why}"):
        file.load()


def test_one_that_is_too_large_is_not_ours(file: StateFile) -> None:
    file.path.write_text(json.dumps({"x": "y" * OCTETS_MAX}))

    with pytest.raises(StateError, match="is damaged: more than"):
        file.load()


def test_no_more_is_read_than_is_allowed(file: StateFile, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(file.path.read_bytes())
    monkeypatch.setattr(statefile, "OCTETS_MAX", size)
    assert file.load() == OLD
    monkeypatch.setattr(statefile, "OCTETS_MAX", size - 1)
    with pytest.raises(StateError, match=f"more than {size - 1} octets"):
        file.load()


def test_one_that_cannot_be_read_is_an_error(file: StateFile) -> None:
    file.path.unlink()
    file.path.mkdir()

    with pytest.raises(StateError, match="cannot be read: Is a directory"):
        file.load()


def test_a_value_that_json_does_not_have_is_our_own_fault(file: StateFile) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        file.save({"rate": float("nan")})
    assert file.load() == OLD
