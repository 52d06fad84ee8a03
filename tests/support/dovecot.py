"""A real Dovecot of our own, in a temporary folder: it knows passwords, and takes mail by LMTP.

It shares nothing with a Dovecot of the system but the programs: own configuration, base folder,
users and log. Two doors are open: the socket of its authentication service, as a mail server uses
it (`auth_socket`), and an LMTP listener on 127.0.0.1 (`lmtp_port`), which knows the accounts and no
other mailbox and delivers into a Maildir for each.

With `is_database_away`, passwords are asked of a server that is not there, so that Dovecot says
`temp_fail` to every login.

Sources: the wiki in /usr/share/doc/dovecot-core (Design.AuthProtocol, LMTP, PasswordDatabase),
Postfix' SASL_README.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.debian import require, require_root
from tests.support.processes import DEADLINE, Process, free_port, wait_until

ACCOUNTS = {
    "alice@hospital.example": "correct horse battery",
    "bob@hospital.example": "tr0ub4dor&3",
}
"""Logins and their passwords, unless a test has others; each is a mailbox too."""

_OWNER = "nobody"  # of the mailboxes; Dovecot refuses to deliver as root

_CONFIGURATION = """\
base_dir = {root}/run
state_dir = {root}/state
instance_name = mailshed-test
log_path = {root}/dovecot.log
protocols = lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = {mechanisms}
auth_failure_delay = {failure_delay}
auth_username_format = %Lu
first_valid_uid = 1
mail_location = maildir:{root}/mail/%u
postmaster_address = postmaster@hospital.example
recipient_delimiter = +
default_vsz_limit = 0
service stats {{
  chroot =
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
service anvil {{
  chroot =
}}
service auth {{
  unix_listener {root}/auth.sock {{
    mode = 0666
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp_port}
  }}
}}
{passdb}
userdb {{
  driver = passwd-file
  args = username_format=%u {root}/users
  default_fields = uid={uid} gid={gid} home={root}/mail/%u
}}
{extra}
"""

_PASSWORDS = """\
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {root}/users
}}
"""
# A socket that nobody listens on: what a password database looks like when its server is away.
_NO_PASSWORDS = """\
passdb {{
  driver = dict
  args = {root}/away.conf
}}
"""


@dataclass(kw_only=True)
class Dovecot:
    """One instance; a context manager that starts it and removes everything at the end."""

    accounts: Mapping[str, str] = field(default_factory=lambda: dict(ACCOUNTS))
    mechanisms: str = "plain login"
    failure_delay: str = "0 secs"
    """How long a wrong password has to wait for its answer (Dovecot's own default: 2 secs)."""
    is_database_away: bool = False
    """Whether the password database cannot be reached: then every login is a temporary failure."""
    extra: str = ""
    """Lines for the end of the configuration."""
    lmtp_port: int = field(default_factory=free_port)
    root: Path = field(init=False)
    _process: Process | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        require_root()
        require("dovecot-core")
        require("dovecot-lmtpd")
        # Not pytest's tmp_path: Dovecot's users must be able to enter the folder.
        self.root = Path(tempfile.mkdtemp(prefix="mailshed-dovecot-"))
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

    @property
    def auth_socket(self) -> Path:
        """Where mail servers ask about passwords."""
        return self.root / "auth.sock"

    @property
    def log_text(self) -> str:
        """What it has logged so far."""
        log = self.root / "dovecot.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def delivered(self, account: str) -> list[bytes]:
        """The messages in the Maildir of an account, the oldest first."""
        folder = self.root / "mail" / account / "new"
        files = (
            sorted(folder.iterdir(), key=lambda each: each.stat().st_mtime_ns)
            if (folder.is_dir())
            else []
        )
        return [each.read_bytes() for each in files]

    def empty(self, account: str) -> None:
        """Delete all messages of an account, as its owner would."""
        doveadm = require("dovecot-core", binary="doveadm")
        words = ["expunge", "-u", account, "mailbox", "INBOX", "ALL"]
        subprocess.run(
            [str(doveadm), "-c", str(self.root / "dovecot.conf"), *words],
            check=True,
            capture_output=True,
            timeout=DEADLINE,
        )

    def start(self) -> None:
        """Start it, the first time or again; returns when both doors are open."""
        dovecot = require("dovecot-core")
        self._process = Process(
            [dovecot, "-F", "-c", self.root / "dovecot.conf"], self.root / "output.log"
        )
        self._process.wait_for_port(self.lmtp_port)
        wait_until(self.auth_socket.is_socket, lambda: f"no auth socket:\n{self.log_text}")

    def stop(self) -> None:
        """Stop it as an administrator would; `start` starts it again."""
        if self._process is not None:
            self._process.terminate(DEADLINE)
            self._process.kill_session()
            self._process = None

    def _lay_out(self) -> None:
        owner = pwd.getpwnam(_OWNER)
        for name in ("run", "state", "mail"):
            (self.root / name).mkdir()
        os.chown(self.root / "mail", owner.pw_uid, owner.pw_gid)
        users = "".join(
            f"{login}:{{PLAIN}}{password}::::::\n" for login, password in self.accounts.items()
        )
        (self.root / "users").write_text(users)
        passdb = _NO_PASSWORDS if self.is_database_away else _PASSWORDS
        (self.root / "away.conf").write_text(
            f"uri = redis:path={self.root}/nobody-listens\n"
            "key passdb {\n  key = %u\n  format = json\n}\npassdb_objects = passdb\n"
        )
        (self.root / "dovecot.conf").write_text(
            _CONFIGURATION.format(
                root=self.root,
                mechanisms=self.mechanisms,
                failure_delay=self.failure_delay,
                lmtp_port=self.lmtp_port,
                uid=owner.pw_uid,
                gid=owner.pw_gid,
                passdb=passdb.format(root=self.root),
                extra=self.extra,
            )
        )

    def _tear_down(self) -> None:
        if self._process is not None:
            self._process.kill_session()
        shutil.rmtree(self.root, ignore_errors=True)
