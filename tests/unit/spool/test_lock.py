"""Ownership of the folder, and which folders are refused."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mailshed.errors import SpoolError, SpoolLocked
from mailshed.spool.lock import LOCK_FILE, SpoolLock, file_system_of, prepare_folder

HOLDER = """
import sys
from pathlib import Path
from mailshed.spool.lock import SpoolLock
lock = SpoolLock(Path(sys.argv[1]))
lock.acquire()
lock.write_owner()
print("held", flush=True)
sys.stdin.read()
"""

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /srv rw shared:2 - nfs4 server:/export rw
24 23 0:22 / /srv/local\\040disk rw - xfs /dev/vdb rw
25 22 0:23 / /mnt rw - ext4 /dev/vdc rw
26 22 0:24 / /mnt rw master:3 - fuse.sshfs host: rw
"""


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        lock = SpoolLock(tmp_path)
        with pytest.raises(SpoolLocked, match=f"process {holder.pid}$"):
            lock.acquire()
        holder.kill()  # the kernel drops the lock, whatever the process did not do
    lock.acquire()
    lock.release()


def test_a_lock_is_waited_for_as_long_as_asked(tmp_path: Path) -> None:
    first, second = SpoolLock(tmp_path), SpoolLock(tmp_path)
    first.acquire()
    with pytest.raises(SpoolLocked, match="process unknown"):
        second.acquire(patience=0.05)
    first.release()
    second.acquire(patience=60)
    second.release()


def test_releasing_twice_is_releasing_once_and_the_file_stays(tmp_path: Path) -> None:
    lock = SpoolLock(tmp_path)
    lock.acquire()
    lock.write_owner()
    lock.release()
    lock.release()
    assert (tmp_path / LOCK_FILE).read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE((tmp_path / LOCK_FILE).stat().st_mode) == 0o600


def test_a_reader_leaves_no_lock_file_behind(tmp_path: Path) -> None:
    lock = SpoolLock(tmp_path)
    lock.acquire(create=False)
    lock.release()
    assert not (tmp_path / LOCK_FILE).exists()


def test_a_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    prepare_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    prepare_folder(folder)


def test_a_missing_parent_is_not_made_since_it_may_be_a_disk(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match=rf"{tmp_path}/disk does not exist.*is its disk mounted\?"):
        prepare_folder(tmp_path / "disk" / "spool")
    assert not (tmp_path / "disk").exists()


def test_a_relative_path_is_made_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick start runs in a fresh checkout."""
    monkeypatch.chdir(tmp_path)
    prepare_folder(Path("./var/spool"))
    assert stat.S_IMODE((tmp_path / "var" / "spool").stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [None, LOCK_FILE, "lost+found"])
def test_a_folder_of_ours_that_is_open_to_others_is_closed_to_them(
    tmp_path: Path, content: str | None
) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    folder.chmod(0o755)
    if content is not None:
        (folder / content).touch()
    prepare_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_with_other_files_is_left_as_it_is(tmp_path: Path) -> None:
    """Whoever writes `path: /tmp` does not want it closed to all users."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    (folder / "precious").touch()
    with pytest.raises(SpoolError, match=r"mode 1777.*a folder of its own"):
        prepare_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777


def test_a_folder_of_somebody_else_that_is_open_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    folder.chmod(0o750)
    us = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: us)
    with pytest.raises(SpoolError, match=rf"mode 0750.*not to the service's user \(uid {us}\)"):
        prepare_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("")
    with pytest.raises(SpoolError, match=r"spool is not a folder; set spool\.path"):
        prepare_folder(tmp_path / "spool")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="file/spool"):
        prepare_folder(tmp_path / "file" / "spool")


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/var/spool/mailshed", "ext4"),
        ("/srv/spool", "nfs4"),
        ("/srv/local disk/spool", "xfs"),
        ("/srvother", "ext4"),
        ("/mnt/spool", "fuse.sshfs"),
    ],
)
def test_the_innermost_and_latest_mount_decides(tmp_path: Path, folder: str, expected: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert file_system_of(Path(folder), mounts) == expected


def test_the_file_system_of_this_machine_is_known(tmp_path: Path) -> None:
    assert file_system_of(tmp_path)
    assert file_system_of(tmp_path, tmp_path / "nothing") == ""


def test_a_network_file_system_is_refused_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailshed.spool.lock.file_system_of", lambda _: "nfs4")
    with pytest.raises(SpoolError, match=r"network file system \(nfs4\)"):
        prepare_folder(tmp_path)
    prepare_folder(tmp_path, allow_network_filesystem=True)
