"""Mail servers that relay to the backend.

- `postfix`: it stores each message before its 250 (fsync), so its promise is made on its own;
  mailshed in pass-through makes the same promise by waiting for the backend. It is the peer in
  *what is promised*, not in how. A process for each connection, as many as the loads have.
- `exim`: the same promise, with a new process for each message. Its processes do not wait for those
  that they start, so their CPU time is in no parent's; a control group counts it.
- `haraka`: `queue/smtp_forward`: it waits for the backend as we do, and has no queue.
"""

import contextlib
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.bench import haraka as haraka_server
from tests.bench import loads
from tests.bench.peers.peer import MissingError, Peer, Place
from tests.support.capsule import Capsule, unpacked
from tests.support.debian import require_root
from tests.support.npm import NoPackageError
from tests.support.postfix import Postfix
from tests.support.processes import Process, free_port

_PROCESSES = 250
"""More than the loads have connections."""

_SMTPS = "127.0.0.1:{port} inet n - n - {processes} smtpd -o smtpd_tls_wrappermode=yes\n"


@contextlib.contextmanager
def postfix(place: Place) -> Iterator[Peer]:
    """Postfix as a relay."""
    tls_port = free_port()
    settings = {
        "virtual_mailbox_domains": "",
        "default_transport": "smtp",
        "relay_transport": "smtp",
        "relayhost": f"[127.0.0.1]:{place.backend_port}",
        "smtp_dns_support_level": "disabled",
        "initial_destination_concurrency": "20",
        "in_flow_delay": "0",
        "smtpd_tls_security_level": "may",
        "smtpd_tls_cert_file": str(place.certificate),
        "smtpd_tls_key_file": str(place.key),
        "minimal_backoff_time": "300s",  # as shipped: the tests' own is a second
        "queue_run_delay": "300s",
    }
    services = _SMTPS.format(port=tls_port, processes=_PROCESSES)
    with Postfix(settings=settings, services=services, smtpd_processes=_PROCESSES) as server:
        yield Peer(
            name=loads.POSTFIX,
            port=server.port,
            starttls_port=server.port,
            tls_port=tls_port,
            session=server.pid,
        )


@contextlib.contextmanager
def haraka(place: Place) -> Iterator[Peer]:
    """Haraka with `queue/smtp_forward`."""
    try:
        haraka_server.fetch()
    except NoPackageError as error:
        raise MissingError(str(error)) from error
    with haraka_server.haraka_process(place.folder, place.backend_port) as (port, process):
        yield Peer(name=loads.HARAKA, port=port, session=process.pid)


_EXIM_USER = "Debian-exim"  # compiled in
_EXIM = """\
primary_hostname = exim.hospital.example
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
tls_certificate = /etc/exim4/certificate.pem
tls_privatekey = /etc/exim4/key.pem
tls_advertise_hosts = *
log_selector = -all
keep_environment =
message_size_limit = 50M
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
smtp_accept_max_per_connection = 0
host_lookup =
acl_smtp_rcpt = accept
acl_smtp_data = accept
begin routers
backend:
  driver = manualroute
  route_list = * 127.0.0.1 byname
  self = send
  transport = backend
begin transports
backend:
  driver = smtp
  port = {backend}
  allow_localhost
begin retry
* * F,1h,5m
"""


@contextlib.contextmanager
def exim(place: Place) -> Iterator[Peer]:
    """Exim as a relay, which takes any number of messages over a connection."""
    require_root()
    port = free_port()
    capsule = Capsule(unpacked("exim4-daemon-light"), place.folder, (_EXIM_USER,))
    capsule.lay_out()
    configuration, spool = place.folder / "etc/exim4", place.folder / "var/spool/exim4"
    for folder in (configuration, spool, place.folder / "var/log/exim4"):
        folder.mkdir(parents=True)
        shutil.chown(folder, capsule.uid(_EXIM_USER), capsule.uid(_EXIM_USER))
    (configuration / "exim4.conf").write_text(_EXIM.format(port=port, backend=place.backend_port))
    for source, name in ((place.certificate, "certificate.pem"), (place.key, "key.pem")):
        shutil.copy(source, configuration / name)
        shutil.chown(configuration / name, capsule.uid(_EXIM_USER), capsule.uid(_EXIM_USER))
    with _cpu_group() as group:
        command = capsule.argv("exim4", "-bdf")
        if group is not None:
            join = f'echo $$ > "{group}/cgroup.procs"; exec "$@"'
            command = ["sh", "-ec", join, "sh", *command]
        with Process(command, place.folder / "exim.log") as process:
            process.wait_for_port(port)
            yield Peer(
                name=loads.EXIM,
                port=port,
                starttls_port=port,
                session=process.pid,
                cpu=lambda: _group_seconds(group),
            )


_HIERARCHIES = (Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup"))
"""Of control groups version 1, and of version 2 (cgroups(7))."""


@contextlib.contextmanager
def _cpu_group() -> Iterator[Path | None]:
    """A control group of our own, which counts CPU time; None if the system has none for us."""
    for root in _HIERARCHIES:
        group = root / f"mailshed-bench-{os.getpid()}"
        if (root / "cgroup.procs").exists():
            try:
                group.mkdir()
            except OSError:
                continue
            try:
                yield group
            finally:
                group.rmdir()
            return
    yield None


def _group_seconds(group: Path | None) -> float:
    """CPU time of all that ever ran in the group; nan if there is none."""
    if group is None:
        return math.nan
    usage = group / "cpuacct.usage"
    if usage.exists():
        return int(usage.read_text()) / 1e9
    first = (group / "cpu.stat").read_text().splitlines()[0]  # usage_usec, of version 2
    return int(first.split()[1]) / 1e6
