"""Whether a list has changed since it was read."""

import os
from pathlib import Path

from mailshed.config.load import load
from mailshed.config.schema import Config
from mailshed.config.watch import ListWatch


def configured(folder: Path) -> Config:
    (folder / "lab.txt").touch()
    file = folder / "mailshed.yaml"
    file.write_text(
        "version: 1\nhostname: a.example.org\ndomains: [example.org]\n"
        "listeners: [{name: a, bind: '127.0.0.1:0'}]\nbackends: [{name: m, host: m}]\n"
        "spool: {path: /x}\nmetrics: {bind: '127.0.0.1:0'}\n"
        f"classification: {{networks: {{lab: ['file:{folder}/lab.txt']}}}}\n"
    )
    return load(file)


def test_a_list_that_is_as_it_was_has_not_changed(tmp_path: Path) -> None:
    config, watch = configured(tmp_path), ListWatch()
    assert watch.changed(config) == []
    assert watch.changed(config) == []


def test_each_change_is_told_once(tmp_path: Path) -> None:
    """Otherwise a faulty list would be refused every few seconds."""
    config, watch, file = configured(tmp_path), ListWatch(), tmp_path / "lab.txt"
    file.write_text("nonsense\n")
    assert watch.changed(config) == [file]
    assert watch.changed(config) == []
    file.write_text("10.0.0.0/8\n")
    assert watch.changed(config) == [file]


def test_a_list_that_is_replaced_or_gone_has_changed(tmp_path: Path) -> None:
    config, watch, file = configured(tmp_path), ListWatch(), tmp_path / "lab.txt"
    was = file.stat()
    new = tmp_path / "new"
    new.touch()
    os.utime(new, ns=(was.st_atime_ns, was.st_mtime_ns))
    new.replace(file)
    assert watch.changed(config) == [file], "the same time and size, and another file"
    file.unlink()
    assert watch.changed(config) == [file]
    assert watch.changed(config) == []


def test_another_mode_is_a_change(tmp_path: Path) -> None:
    """A key that was open to everybody is refused; `chmod`, as the log advises, mends that."""
    config, watch, file = configured(tmp_path), ListWatch(), tmp_path / "lab.txt"
    file.chmod(0o600)
    assert watch.changed(config) == [file]
    assert watch.changed(config) == []


def test_after_a_reload_what_is_in_force_is_the_measure(tmp_path: Path) -> None:
    watch, file = ListWatch(), tmp_path / "lab.txt"
    old = configured(tmp_path)
    file.write_text("10.0.0.0/8\n")
    assert watch.changed(old) == [file]
    assert watch.changed(configured(tmp_path)) == []


def test_without_lists_there_is_nothing_to_look_at() -> None:
    from mailshed.config.shipped import shipped_configuration  # noqa: PLC0415

    assert ListWatch().changed(shipped_configuration()) == []
