"""Programs of Debian packages that cannot be installed beside each other.

Exim and OpenSMTPD conflict with Postfix: each wants to be the machine's mail server. So their
packages are fetched, with those of their dependencies that are missing, and unpacked into
tests/.cache; nothing is installed and nothing is removed. They look for their files below /usr, for
users in /etc/passwd, and keep their mail below /var, so each runs in a mount namespace of its own
(unshare(1)): there its files lie over those of the system (overlayfs), /etc/passwd and /etc/group
have its users too, and /var is an empty folder. Nobody outside sees any of it.

Needs root, apt-get, and a kernel with mount namespaces and overlayfs.
"""

import functools
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.debian import has_lists, unavailable

CACHE = Path(__file__).parents[1] / ".cache/unpacked"

_FETCH_SECONDS = 300.0
_FIRST_ID = 64_000
"""Of users and groups; Debian leaves 60,000 to 64,999 to packages that ask for them."""

# $1 is the unpacked package, $2 the folder of the instance; the rest is the command.
_ENTER = """\
mount -t overlay -o "lowerdir=$1/usr:/usr" overlay /usr
mount -t overlay -o "lowerdir=$2/etc:/etc" overlay /etc
mount --bind "$2/var" /var
shift 2
exec "$@"
"""


@functools.cache
def unpacked(package: str) -> Path:
    """The folder of a package's files, fetched if it is not there yet."""
    place = CACHE / package
    if place.exists():
        return place
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # also for the user that apt-get fetches as
        tree = folder / "tree"
        tree.mkdir()
        if not has_lists():
            _run("apt-get", "update")
        _run("apt-get", "download", *_missing(package), cwd=folder)
        for archive in sorted(folder.glob("*.deb")):
            _run("dpkg-deb", "-x", archive, tree)
        tree.rename(place)
    return place


def _missing(package: str) -> list[str]:
    """The package, and what it needs that is not installed."""
    said = _run("apt-get", "install", "--simulate", "--no-install-recommends", package)
    return [package, *(set(re.findall(r"^Inst (\S+)", said, re.MULTILINE)) - {package})]


def _run(*argv: str | Path, cwd: Path | None = None) -> str:
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words, cwd=cwd, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=True
        )
    except subprocess.SubprocessError as error:
        detail = getattr(error, "stderr", "") or error
        unavailable(f"{' '.join(words)}: {detail}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Capsule:
    """What one instance sees in place of the machine's own folders."""

    package: Path
    """As `unpacked` returned it."""
    root: Path
    """A folder of the instance; `etc` and `var` are made in it."""
    users: Sequence[str]
    """Users that the programs ask for, each with a group of its name; see `uid`."""

    def uid(self, user: str) -> int:
        """The number of one of the users, and of its group."""
        return _FIRST_ID + list(self.users).index(user)

    def lay_out(self) -> None:
        """Make the folders; to be called once, before anything is run."""
        for name in ("etc", "var", "var/run", "var/tmp"):
            (self.root / name).mkdir()
        for file, line in (
            ("passwd", "{user}:x:{id}:{id}::/nonexistent:/usr/sbin/nologin\n"),
            ("group", "{user}:x:{id}:\n"),
        ):
            added = "".join(line.format(user=user, id=self.uid(user)) for user in self.users)
            (self.root / "etc" / file).write_text(Path("/etc", file).read_text() + added)

    def argv(self, *command: str | Path) -> list[str]:
        """The command, to be run inside."""
        enter = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", _ENTER, "sh"]
        return [*enter, str(self.package), str(self.root), *(str(word) for word in command)]
