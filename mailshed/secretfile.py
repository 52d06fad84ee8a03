"""Reading a file that holds a secret, and refusing one that others could read or change.

A secret that everybody on the host can read is none, and one that somebody else can write is
somebody else's. So the owner has to be root or the user that the service runs as, and the mode must
be 0600, 0640 or less: a group may read, for a key that several services share, and nobody else may
do anything. What systemd's `LoadCredential=` puts into `/run/credentials` is of that kind. Root is
not asked whose the file is: it looks on behalf of the service (`config check`).

The checks look at the file that was opened, not at its path, so it cannot be exchanged in between.
Reading blocks: do it in a thread, or before the service has begun. The text of an error never holds
anything of the content.
"""

import os
import stat
from pathlib import Path

from mailshed.errors import SecretFileError

LOGIN_OCTETS_MAX = 4096
"""A longer file is no name and password."""

_FORBIDDEN = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO


def read_secret(path: Path, octets_max: int) -> bytes:
    """All of the file. Raises SecretFileError with what to do about it."""
    try:
        with open(path, "rb", opener=_open) as file:
            _check(path, os.fstat(file.fileno()))
            content = file.read(octets_max + 1)
    except OSError as error:
        raise SecretFileError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > octets_max:
        raise SecretFileError(f"{path} is longer than {octets_max} octets")
    return content


def read_login(path: Path) -> tuple[str, str]:
    """A user's name and password, each on a line of its own, as UTF-8. Raises SecretFileError."""
    try:
        text = read_secret(path, LOGIN_OCTETS_MAX).decode("utf-8")
    except UnicodeDecodeError:
        raise SecretFileError(f"{path} is not UTF-8") from None
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    if len(lines) != 2:
        raise SecretFileError(
            f"{path} must have two lines, the user's name and the password; it has {len(lines)}"
        )
    if not all(lines):
        raise SecretFileError(
            f"{path} has an empty line: the user's name is the first, the password the second"
        )
    if any("\0" in line for line in lines):
        raise SecretFileError(f"{path} has a NUL character, which no password can have")
    user, password = lines
    return user, password


def _open(path: str, flags: int) -> int:
    """Open without waiting for somebody to write, should it be a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise SecretFileError(f"{path} is not a file")
    reader = os.geteuid()
    if reader != 0 and found.st_uid not in (0, reader):
        raise SecretFileError(
            f"{path} belongs to user {found.st_uid}, who could change it: chown it to root or to"
            " the user that the service runs as"
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & _FORBIDDEN:
        raise SecretFileError(
            f"{path} has mode {mode:04o}, so others could read or change it: chmod it to 0600"
        )
