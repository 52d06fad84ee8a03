"""OpenSMTPD, unpacked from Debian's package.

Its paths are compiled in: the queue is /var/spool/smtpd, and its processes lock themselves into
/var/lib/opensmtpd/empty. Mail is stored by the user `keeper`, as it refuses to do so as root.

Sources: smtpd.conf(5), table(5).
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop.backends.backend import Backend, Pair, take_files
from tests.interop.clients import said_version
from tests.interop.ways import BACKEND_WAYS, LOGIN, PASSWORD, Way
from tests.support.capsule import Capsule, unpacked
from tests.support.debian import require
from tests.support.processes import Process, free_port

_USERS = ("opensmtpd", "opensmtpq", "keeper")

_CONFIGURATION = """\
pki server cert "{certificate}"
pki server key "{key}"
table logins file:/etc/logins
table mailboxes {{ "@" = "keeper" }}
listen on 127.0.0.1 port {port} tls pki server hostname mx.hospital.example auth-optional <logins>
action "store" maildir "/var/mail/inbox" virtual <mailboxes>
match auth from any for domain "{login_domain}" action "store"
match from any for domain {{ {domains} }} action "store"
"""


@contextmanager
def opensmtpd(folder: Path, pair: Pair) -> Iterator[Backend]:
    """Start it."""
    capsule = Capsule(unpacked("opensmtpd"), folder, _USERS)
    capsule.lay_out()
    key = folder / "key.pem"
    shutil.copy(pair[1], key)
    for name in ("spool", "spool/smtpd", "lib", "lib/opensmtpd", "lib/opensmtpd/empty", "mail"):
        (folder / "var" / name).mkdir(mode=0o755)
    (folder / "var/spool/smtpd").chmod(0o711)
    os.chown(folder / "var/mail", capsule.uid("keeper"), capsule.uid("keeper"))
    port = free_port()
    (folder / "etc/logins").write_text(f"{LOGIN} {_hashed(PASSWORD)}\n")
    domains = [way.domain for way in BACKEND_WAYS if way is not Way.AUTH]
    (folder / "etc/smtpd.conf").write_text(
        _CONFIGURATION.format(
            certificate=pair[0],
            key=key,
            port=port,
            login_domain=Way.AUTH.domain,
            domains=", ".join(f'"{domain}"' for domain in domains),
        )
    )
    output = folder / "output.log"
    with Process(capsule.argv("smtpd", "-dv"), output) as process:
        process.wait_for_port(port)
        yield Backend(
            name="OpenSMTPD",
            version=said_version(*capsule.argv("smtpd", "-h")),
            port=port,
            take=lambda: take_files(folder / "var/mail/inbox/new"),
            log=lambda: process.log_text,
            encrypted=r"with ESMTPSA? .*TLS",
            authenticated=r"with ESMTPSA ",
        )


def _hashed(password: str) -> str:
    command = [str(require("openssl")), "passwd", "-6", "-stdin"]
    done = subprocess.run(command, input=password, capture_output=True, text=True, check=True)
    return done.stdout.strip()
