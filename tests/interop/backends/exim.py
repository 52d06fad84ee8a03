"""Exim, unpacked from Debian's package, with a configuration in place of Debian's.

Source: the Exim specification, chapters 14 (main options), 30 (appendfile), 34 (plaintext) and 42
(ACLs).
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop.backends.backend import Backend, Pair, take_files
from tests.interop.clients import said_version
from tests.interop.ways import LOGIN, PASSWORD, Way
from tests.support.capsule import Capsule, unpacked
from tests.support.processes import Process, free_port

_PACKAGE = "exim4-daemon-light"
_USER = "Debian-exim"

_CONFIGURATION = """\
primary_hostname = mx.hospital.example
spool_directory = /var/spool
log_file_path = /var/log/%slog
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
acl_smtp_rcpt = check_rcpt
tls_advertise_hosts = *
tls_certificate = {certificate}
tls_privatekey = {key}
smtputf8_advertise_hosts = *
host_lookup =
keep_environment =

begin acl
check_rcpt:
  deny
    domains = {login_domain}
    ! authenticated = *
    message = authentication is required
  accept
    domains = *.hospital.example
  deny

begin routers
everybody:
  driver = accept
  transport = maildir

begin transports
maildir:
  driver = appendfile
  directory = /var/mail/inbox
  maildir_format
  user = Debian-exim
  envelope_to_add
  return_path_add

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{login}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
  server_advertise_condition = ${{if def:tls_in_cipher}}
"""


@contextmanager
def exim(folder: Path, pair: Pair) -> Iterator[Backend]:
    """Start it."""
    capsule = Capsule(unpacked(_PACKAGE), folder, (_USER,))
    capsule.lay_out()
    key = folder / "key.pem"
    shutil.copy(pair[1], key)
    owned = [folder / "var" / name for name in ("log", "spool", "mail")]
    for place in owned:
        place.mkdir()
    for place in (*owned, key):
        os.chown(place, capsule.uid(_USER), capsule.uid(_USER))
    port = free_port()
    (folder / "etc/exim4").mkdir()
    (folder / "etc/exim4/exim4.conf").write_text(
        _CONFIGURATION.format(
            port=port,
            certificate=pair[0],
            key=key,
            login_domain=Way.AUTH.domain,
            login=LOGIN,
            password=PASSWORD,
        )
    )
    output = folder / "output.log"
    with Process(capsule.argv("exim4", "-bdf", "-q1m"), output) as process:
        process.wait_for_port(port)
        yield Backend(
            name="Exim",
            version=said_version(*capsule.argv("exim4", "-bV")),
            port=port,
            take=lambda: take_files(folder / "var/mail/inbox/new"),
            log=lambda: (folder / "var/log/mainlog").read_text(errors="replace"),
            encrypted=r"with (?:utf8)?esmtpsa? .*TLS1\.3",
            authenticated=r"with (?:utf8)?esmtpsa ",
        )
