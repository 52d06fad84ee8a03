"""A real Postfix of our own on loopback, in a temporary folder: the mail server behind the proxy.

It shares nothing with a Postfix of the system but the programs: own configuration, queue, data
folder, log and port, on 127.0.0.1 only. Every domain is delivered into one Maildir by virtual(8),
so nothing it accepts, not even a bounce or a relayed message, can leave the machine. The
recipient's address is in `Delivered-To:` of each file, one file per recipient, so the local part
can carry the identity of a message without a change to its bytes.

`local_header_rewrite_clients` is empty: Postfix adds no Message-Id or Date and rewrites no
address, so what it stores differs from what it got only by the trace lines on top.

A policy service (tests/support/policy_service.py) that answers after a fixed time makes its
capacity known: `smtpd_processes / policy_delay` messages a second.

Sources: postconf(5), master(5), virtual(8), SMTPD_POLICY_README.
"""

import contextlib
import os
import pwd
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.debian import require, require_root
from tests.support.policy_service import DELAY_ATTRIBUTE
from tests.support.processes import DEADLINE, Process, accepts, free_port, wait_until

HOSTNAME = "mx.hospital.example"

UNKNOWN_MAILBOXES = "check_recipient_access regexp:{{/^unknown-/ 550 5.1.1 Mailbox unknown}}"
"""A value for `smtpd_relay_restrictions`: mailboxes that begin with `unknown-` do not exist."""

_DELIVERY_USER = "nobody"  # virtual(8) refuses to deliver as root

_SETTINGS = {
    "compatibility_level": "3.6",
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "myhostname": HOSTNAME,
    "mynetworks": "127.0.0.0/8",
    "mydestination": "",
    "alias_maps": "",
    "alias_database": "",
    "local_recipient_maps": "",
    "local_header_rewrite_clients": "",
    "smtpd_relay_restrictions": "",
    "smtpd_recipient_restrictions": "permit_mynetworks, reject",
    "smtpd_client_connection_count_limit": "0",
    "message_size_limit": "52428800",
    "virtual_mailbox_limit": "0",
    "virtual_mailbox_domains": "hospital.example",
    "virtual_mailbox_maps": "static:inbox/",
    "virtual_minimum_uid": "1",
    "virtual_destination_recipient_limit": "1",
    "default_transport": "virtual",
    "relay_transport": "virtual",
    "local_transport": "virtual",
    "minimal_backoff_time": "1s",
    "queue_run_delay": "1s",
}

# service type private unpriv chroot wakeup maxproc command; nothing runs in a chroot, whose files
# Debian would have to copy first.
_MASTER_CF = """\
127.0.0.1:{port} inet n - n - {smtpd_processes} smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
smtp unix - - n - - smtp
relay unix - - n - - smtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""


_QUEUE_FOLDERS = (
    *("incoming", "active", "deferred", "defer", "bounce", "flush", "trace"),
    *("corrupt", "saved", "hold", "private"),
)


_QUEUE_ID = re.compile(rb"\(Postfix\) with E?SMTP id ([0-9A-Za-z]+)")


@dataclass(frozen=True, slots=True)
class Delivered:
    """One file of the Maildir: `content` has the LF line endings of the file."""

    recipient: str
    content: bytes
    arrived: float
    """Unix time at which the file was complete."""

    @property
    def queue_id(self) -> str:
        """Postfix's queue id: the same in two files means that Postfix itself delivered twice."""
        found = _QUEUE_ID.search(self.content)
        assert found is not None, self.content[:400]
        return found[1].decode()

    @property
    def original(self) -> bytes:
        """The content without what Postfix put on top of it (see `without_trace`)."""
        return without_trace(self.content)


def without_trace(content: bytes) -> bytes:
    """`content` without the leading lines of Postfix and of mailshed that trace its way.

    Return-Path, X-Original-To, Delivered-To and the `Received` field of this Postfix are always on
    top; a `Received` field of mailshed follows if the message came through it. What the message
    itself had, `Received` fields included, stays.
    """
    rest = content
    for name in (b"Return-Path:", b"X-Original-To:", b"Delivered-To:", b"Received:"):
        field_, rest = _first_field(rest)
        assert field_.startswith(name), f"expected {name!r}, got {field_!r}"
    field_, below = _first_field(rest)
    is_ours = field_.startswith(b"Received:") and b"(mailshed) with " in field_
    return below if is_ours else rest


def _is_complete(path: Path) -> bool:
    """Whether a queue file is there and complete."""
    try:
        return bool(path.stat().st_mode & stat.S_IXUSR)
    except FileNotFoundError:
        return False  # it has moved on


def _first_field(content: bytes) -> tuple[bytes, bytes]:
    """Cut the first header field, continuation lines included."""
    end = content.find(b"\n") + 1
    while end and content[end : end + 1] in {b" ", b"\t"}:
        end = content.find(b"\n", end) + 1
    return content[:end], content[end:]


@dataclass(kw_only=True)
class Postfix:
    """One instance; a context manager that starts it and removes everything at the end."""

    smtpd_processes: int = 50
    policy_delay: float | None = None
    """Seconds that each recipient costs an smtpd process, or None for no policy service."""
    is_slow_at_dot: bool = False
    """Whether the reply to the final dot costs `policy_delay` once more."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Lines for main.cf, which win over the built-in ones."""
    services: str = ""
    """Lines for master.cf, added to the built-in ones."""
    port: int = field(default_factory=free_port)
    root: Path = field(init=False)
    _master: Process | None = field(default=None, init=False)
    _policy: Process | None = field(default=None, init=False)
    _policy_port: int = field(default=0, init=False)

    def __enter__(self) -> Self:
        require_root()
        require("postfix")
        # Not pytest's tmp_path: Postfix's users must be able to enter the folder.
        self.root = Path(tempfile.mkdtemp(prefix="mailshed-postfix-"))
        self.root.chmod(0o755)
        try:
            self._lay_out()
            self.start()
        except BaseException:
            self._tear_down()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tear_down()

    def _lay_out(self) -> None:
        user = pwd.getpwnam(_DELIVERY_USER)
        for name in ("conf", "queue", "data", "mail"):
            (self.root / name).mkdir()
        shutil.chown(self.root / "data", "postfix")
        os.chown(self.root / "mail", user.pw_uid, user.pw_gid)
        settings = {
            **_SETTINGS,
            "config_directory": f"{self.root}/conf",
            "queue_directory": f"{self.root}/queue",
            "data_directory": f"{self.root}/data",
            "maillog_file": f"{self.root}/mail.log",
            "maillog_file_prefixes": f"{self.root}",
            "virtual_mailbox_base": f"{self.root}/mail",
            "virtual_uid_maps": f"static:{user.pw_uid}",
            "virtual_gid_maps": f"static:{user.pw_gid}",
        }
        if self.policy_delay is not None:
            policy_port = self._policy_port = free_port()
            self._policy = Process(
                [
                    sys.executable,
                    "-m",
                    "tests.support.policy_service",
                    str(policy_port),
                    str(self.policy_delay),
                ],
                self.root / "policy.log",
                cwd=Path(__file__).parents[2],
            )
            self._policy.wait_for_port(policy_port)
            service = f"check_policy_service inet:127.0.0.1:{policy_port}"
            settings["smtpd_recipient_restrictions"] = f"{service}, permit_mynetworks, reject"
            if self.is_slow_at_dot:
                settings["smtpd_end_of_data_restrictions"] = service
        settings |= self.settings
        (self.root / "conf/main.cf").write_text(
            "".join(f"{name} = {value}\n" for name, value in settings.items())
        )
        # Postfix waits until a file is two seconds old before it believes to have read all of it.
        os.utime(self.root / "conf/main.cf", (0, 0))
        (self.root / "conf/master.cf").write_text(
            _MASTER_CF.format(port=self.port, smtpd_processes=self.smtpd_processes) + self.services
        )
        self._make_queue()

    def _make_queue(self) -> None:
        """Make the queue's folders as `postfix check` would."""
        queue = self.root / "queue"
        (queue / "pid").mkdir()
        for name in _QUEUE_FOLDERS:
            (queue / name).mkdir(mode=0o700)
            shutil.chown(queue / name, "postfix")
        for name, mode in (("public", 0o710), ("maildrop", 0o1730)):
            (queue / name).mkdir()
            shutil.chown(queue / name, "postfix", "postdrop")
            (queue / name).chmod(mode)

    def _tear_down(self) -> None:
        for process in (self._master, self._policy):
            if process is not None:
                process.kill_session()
        shutil.rmtree(self.root, ignore_errors=True)

    def _command(self, *argv: str) -> str:
        program = require("postfix", binary=argv[0])
        done = subprocess.run(
            [str(program), *argv[1:]], capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
        return done.stdout

    @property
    def pid(self) -> int:
        """Process id of master(8), which is also the id of the session of all its children."""
        assert self._master is not None, "Postfix was not started"
        return self._master.pid

    def start(self) -> None:
        """Start it, the first time or again on the same port; returns when it accepts."""
        daemons = self._command("postconf", "-c", str(self.root / "conf"), "-h", "daemon_directory")
        master = Path(daemons.strip()) / "master"
        # -d: in the foreground and without a detached terminal, so that it stays our child.
        self._master = Process([master, "-c", self.root / "conf", "-d"], self.root / "master.log")
        self._master.wait_for_port(self.port)

    def kill(self) -> None:
        """Kill -9 the whole server at once, sessions included, as a power switch would."""
        assert self._master is not None, "Postfix was not started"
        self._master.kill_session()
        wait_until(lambda: not accepts(self.port), "Postfix's port closes")

    def set_policy_delay(self, seconds: float) -> None:
        """Change what each recipient costs from now on; only if it was made with a delay."""
        with socket.create_connection(("127.0.0.1", self._policy_port), DEADLINE) as connection:
            connection.sendall(f"{DELAY_ATTRIBUTE}={seconds}\n\n".encode())
            assert connection.recv(1024).startswith(b"action="), "the policy service is gone"

    @property
    def log_text(self) -> str:
        """What Postfix has logged so far."""
        log = self.root / "mail.log"
        return log.read_text(errors="replace") if log.exists() else ""

    @property
    def is_queue_empty(self) -> bool:
        """Whether nothing waits in Postfix's own queue; it may still be writing the last file.

        A file that is being received is not in the queue yet; cleanup(8) makes it executable in the
        end. A Postfix that is killed leaves such files behind.
        """
        folders = ("maildrop", "incoming", "active", "deferred", "hold", "corrupt")
        return not any(
            _is_complete(Path(folder, name))
            for root in folders
            for folder, _, files in os.walk(self.root / "queue" / root)
            for name in files
        )

    @property
    def delivered_count(self) -> int:
        """How many files the Maildir has: messages times recipients."""
        return sum(1 for _ in self._files())

    def delivered(self) -> list[Delivered]:
        """Everything delivered so far, in order of arrival."""
        return self._read(list(self._files()))

    def take_delivered(self) -> list[Delivered]:
        """The same, and remove it: for long runs, which would read it all again and again."""
        paths = list(self._files())
        taken = self._read(paths)
        for path in paths:
            path.unlink()
        return taken

    def _read(self, paths: Iterable[Path]) -> list[Delivered]:
        found = []
        for path in paths:
            content = path.read_bytes()
            lines = content.split(b"\n", 3)
            assert lines[2].startswith(b"Delivered-To: "), lines[:3]
            recipient = lines[2].removeprefix(b"Delivered-To: ").decode()
            found.append(Delivered(recipient, content, path.stat().st_mtime_ns / 1e9))
        return sorted(found, key=lambda delivered: delivered.arrived)

    def wait_delivered(self, count: int, deadline: float = DEADLINE) -> None:
        """Wait until at least `count` files have been delivered and Postfix's queue is empty."""
        wait_until(
            lambda: self.delivered_count >= count and self.is_queue_empty,
            lambda: f"{self.delivered_count} of {count} delivered; log:\n{self.log_text[-4000:]}",
            deadline,
        )

    def _files(self) -> Iterator[Path]:
        inbox = self.root / "mail/inbox/new"
        with contextlib.suppress(FileNotFoundError):
            yield from inbox.iterdir()
