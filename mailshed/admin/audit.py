"""The audit log: who did what to the mail, when and why, as JSON lines in `audit.log`.

Two lines for each action, joined by `request`. `requested` is on disk before anything is done, so
there is no action without a line; an action whose line cannot be written is refused. `done` has the
outcome; if it is missing, the service ended in between, and the action may have been done in part.
An override has a third, `ended`, when it ends without anybody asking for it.

The file lies in the spool's folder, for its owner only. It is kept when the mail is gone: at
`OCTETS_MAX` it is renamed to `audit.log.1`, and the `KEEP` latest are kept. The service appends to
it, and the command line does when the service is down; a lock on the file keeps them apart. What
root writes belongs to the owner of the folder, or the service could not go on with it.

Addresses of patients are masked, in filters and reasons too; which messages were meant is in the
ids, of which the first `IDS_MAX` are listed.
"""

import fcntl
import json
import os
import pwd
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from mailshed.control.overrides import Override
from mailshed.errors import MailshedError
from mailshed.mail.privacy import mask_text
from mailshed.spool.filter import QueueFilter
from mailshed.terms import QueueId

AUDIT_FILE = "audit.log"
OCTETS_MAX = 10 * 1024 * 1024
KEEP = 5
IDS_MAX = 1000


class AuditError(MailshedError):
    """The audit log cannot be written, so nothing may be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Who asks, as the kernel says."""

    uid: int
    pid: int
    name: str = ""

    @classmethod
    def of(cls, uid: int, pid: int) -> "Operator":
        """Look the name up; that may take as long as the system's user database."""
        try:
            return cls(uid=uid, pid=pid, name=pwd.getpwuid(uid).pw_name)
        except (KeyError, OSError):
            return cls(uid=uid, pid=pid)

    def __str__(self) -> str:
        return self.name or f"uid {self.uid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What is to be done to which messages, by whom and why."""

    operator: Operator
    verb: str
    wanted: QueueFilter
    """Empty: the whole queue."""
    ids: Sequence[QueueId]
    reason: str
    destination: str = ""
    request: str = field(default_factory=lambda: os.urandom(8).hex())

    def requested(self, wall: float) -> dict[str, object]:
        """The line before it is done."""
        parameters = self.wanted.parameters
        entry: dict[str, object] = {
            **_heading("requested", self.request, self.verb, self.operator, wall),
            "by": "id" if self.wanted.ids else "filter" if parameters else "all",
            "filter": {
                name: [mask_text(value) for value in values]
                for name, values in parameters.items()
                if name != "id"
            },
            "total": len(self.ids),
            "ids": list(self.ids[:IDS_MAX]),
            "reason": mask_text(self.reason),
        }
        return {**entry, "to": self.destination} if self.destination else entry


def done(
    request: str, verb: str, operator: Operator, wall: float, result: Mapping[str, int | str]
) -> dict[str, object]:
    """The line after it was done: numbers of messages, and the `error` that ended it, or empty."""
    return {**_heading("done", request, verb, operator, wall), "result": dict(result)}


def override_requested(
    *,
    request: str,
    verb: str,
    operator: Operator,
    wall: float,
    details: Mapping[str, object],
    reason: str,
) -> dict[str, object]:
    """The line before an override is made or cancelled; `details` say which."""
    heading = _heading("requested", request, verb, operator, wall)
    return {**heading, **details, "reason": mask_text(reason)}


def override_ended(
    override: Override, cause: str, operator: Operator, wall: float
) -> dict[str, object]:
    """The line after an override has ended by itself; `operator` is the service."""
    return {
        **_heading("ended", override.request, f"override {cause}", operator, wall),
        "override": override.number,
        "kind": override.kind.value,
        "class": override.traffic_class,
        "of": override.user,
    }


def _heading(
    event: str, request: str, verb: str, operator: Operator, wall: float
) -> dict[str, object]:
    stamp = datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")
    return {
        "time": stamp.replace("+00:00", "Z"),
        "epoch": round(wall, 3),
        "event": event,
        "request": request,
        "verb": verb,
        "uid": operator.uid,
        "user": operator.name,
        "pid": operator.pid,
    }


class AuditLog:
    """The audit log of the spool in `folder`. Every call reads and writes the disk."""

    def __init__(self, folder: Path, *, octets_max: int = OCTETS_MAX) -> None:
        self.path = folder / AUDIT_FILE
        self._folder = folder
        self._octets_max = octets_max
        self._lock = threading.Lock()

    def append(self, entry: Mapping[str, object]) -> None:
        """Add one line; it is on stable storage when this returns. Raises AuditError."""
        line = json.dumps(entry).encode() + b"\n"
        try:
            with self._lock:
                self._append(line)
        except OSError as error:
            raise AuditError(f"{self.path} cannot be written: {error.strerror}") from error

    def _append(self, line: bytes) -> None:
        file = self._open_locked()
        if 0 < (size := os.fstat(file).st_size) > self._octets_max - len(line):
            try:
                self._rotate()
            finally:
                os.close(file)  # only now, so that whoever waits for it finds it renamed
            file = self._open_locked()
            size = os.fstat(file).st_size
        try:
            _write_all(file, line)
            os.fsync(file)
        except OSError:
            os.ftruncate(file, size)  # no half of a line
            raise
        finally:
            os.close(file)
        if not size:
            self._sync_folder()

    def _open_locked(self) -> int:
        """The file of this name, with the lock on it, however often it is renamed meanwhile."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            file = os.open(self.path, flags, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                opened = os.fstat(file)
                self._give_to_owner(file, opened)
                if self._is_current(opened):
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def _is_current(self, opened: os.stat_result) -> bool:
        try:
            named = self.path.lstat()
        except FileNotFoundError:
            return False
        return os.path.samestat(named, opened)

    def _give_to_owner(self, file: int, opened: os.stat_result) -> None:
        owner = self._folder.stat()
        is_new = not opened.st_size and opened.st_nlink == 1  # never some other file of root's
        if os.geteuid() == 0 and opened.st_uid != owner.st_uid and is_new:
            os.fchown(file, owner.st_uid, owner.st_gid)

    def _rotate(self) -> None:
        names = [self.path, *(self.path.with_name(f"{AUDIT_FILE}.{n}") for n in range(1, KEEP + 1))]
        for older, newer in reversed(list(zip(names[1:], names, strict=False))):
            if newer.exists():
                newer.rename(older)

    def _sync_folder(self) -> None:
        """Make the name of a new file durable."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
