"""Certificates for tests: an authority of our own, made with the `openssl` program.

`make_authority(folder)` makes a root, and `.issue(...)` a certificate that it has signed, with its
key. Keys are P-256, since those are quick to make and quick to use. A certificate goes through
`openssl ca`, which is the one command of all its versions that takes any dates.

Nothing here is secret, and nothing outlives the folder of the test.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import count
from pathlib import Path

from tests.support.debian import require

_SECONDS = 30.0
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_CONFIG = """\
[ca]
default_ca = here
[here]
database = {folder}/index.txt
new_certs_dir = {folder}
certificate = {folder}/ca.pem
private_key = {folder}/ca.key
default_md = sha256
rand_serial = yes
unique_subject = no
copy_extensions = copy
policy = any
email_in_dn = no
[any]
commonName = supplied
"""


@dataclass(frozen=True, slots=True)
class Authority:
    """A root certificate and what it signs. Made by `make_authority`."""

    folder: Path
    ca_file: Path
    """The root, as PEM: what a client has to trust."""
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def issue(
        self,
        names: Sequence[str] = ("localhost", "127.0.0.1"),
        days: float = 30,
        *,
        expired: bool = False,
    ) -> tuple[Path, Path]:
        """Issue a certificate for these host names and addresses: its file and that of its key.

        It ends in so many `days`; an expired one has ended so long ago.
        """
        stem = self.folder / f"issued-{next(self._numbers)}"
        certificate, key = stem.with_suffix(".pem"), stem.with_suffix(".key")
        request = stem.with_suffix(".csr")
        alternatives = ",".join(_alternative(name) for name in names)
        _openssl(
            *("req", "-new", *_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={names[0]}"),
            *("-addext", f"subjectAltName={alternatives}"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
        )
        now = datetime.now(UTC)
        end = now + timedelta(days=-days if expired else days)
        begin = min(now, end) - timedelta(days=1)
        _openssl(
            *("ca", "-batch", "-notext", "-config", self.folder / "ca.cnf"),
            *("-in", request, "-out", certificate),
            *("-startdate", f"{begin:%Y%m%d%H%M%SZ}", "-enddate", f"{end:%Y%m%d%H%M%SZ}"),
        )
        key.chmod(0o600)
        return certificate, key


def make_authority(folder: Path, name: str = "Authority of a test") -> Authority:
    """Make a root in `folder`, which need not exist yet."""
    require("openssl")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.txt").write_text("")
    (folder / "ca.cnf").write_text(_CONFIG.format(folder=folder))
    ca_file = folder / "ca.pem"
    _openssl(
        *("req", "-x509", "-new", *_KEY, "-keyout", folder / "ca.key", "-out", ca_file),
        *("-subj", f"/CN={name}", "-days", "30"),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
    )
    return Authority(folder=folder, ca_file=ca_file)


def serial_of(certificate: Path) -> str:
    """The serial number in hexadecimal, as `ssl.SSLSocket.getpeercert` writes it."""
    return _openssl("x509", "-noout", "-serial", "-in", certificate).strip().partition("=")[2]


def _alternative(name: str) -> str:
    try:
        return f"IP:{ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"


def _openssl(*arguments: object) -> str:
    done = subprocess.run(
        [str(require("openssl")), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"openssl {' '.join(map(str, arguments))}: {done.stderr}"
    return done.stdout
