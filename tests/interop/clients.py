"""Programs that people and applications send mail with, each run once for each message.

A client is given a `Job`. What the server tells it shows in its exit status and in what it writes;
nothing is read between the lines.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from tests.interop import command_line, libraries
from tests.interop.job import Job
from tests.support.debian import require

PATIENCE = 120.0
"""Seconds that a client may take for one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A program."""

    name: str
    command: Callable[[Job], Sequence[str]]
    version: Callable[[], str]
    reads: Literal["text", "wire", "body"] | None = None
    """Which of the job's files it reads from its standard input."""
    is_composer: bool = False
    """Whether it makes the header and the encoding itself."""

    def send(self, job: Job) -> tuple[int, str]:
        """Run it; its exit status, and what it wrote."""
        source = getattr(job, self.reads) if self.reads else os.devnull
        with Path(source).open("rb") as standard_input:
            done = subprocess.run(
                list(self.command(job)),
                stdin=standard_input,
                capture_output=True,
                timeout=PATIENCE,
                check=False,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace").strip()


def said_version(*command: str | Path) -> str:
    """The first version number that a command writes."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    found = re.search(r"\d+(?:\.\d+)+\w*", done.stdout + done.stderr)
    assert found is not None, f"{command}: {done.stdout}{done.stderr}"
    return found[0]


def debian_version(package: str) -> str:
    """The version of an installed package."""
    return said_version("dpkg-query", "--show", package)


CLIENTS: Sequence[Client] = (
    Client(
        name="swaks",
        command=command_line.swaks,
        version=lambda: said_version(require("swaks"), "--version"),
    ),
    Client(
        name="msmtp",
        command=command_line.msmtp,
        version=lambda: said_version(require("msmtp"), "--version"),
        reads="text",
    ),
    Client(
        name="curl",
        command=command_line.curl,
        version=lambda: said_version(require("curl"), "--version"),
    ),
    Client(
        name="s-nail",
        command=command_line.s_nail,
        version=lambda: said_version(require("s-nail"), "--version"),
        reads="body",
        is_composer=True,
    ),
    Client(
        name="smtplib",
        command=libraries.smtplib,
        version=lambda: said_version(sys.executable, "--version"),
    ),
    Client(name="aiosmtplib", command=libraries.aiosmtplib, version=lambda: version("aiosmtplib")),
    Client(name="nodemailer", command=libraries.nodemailer, version=lambda: libraries.NODEMAILER),
    Client(
        name="Go net/smtp",
        command=libraries.go,
        version=lambda: said_version(require("golang-go"), "version"),
    ),
    Client(
        name="PHPMailer",
        command=libraries.php,
        version=lambda: debian_version("libphp-phpmailer"),
        is_composer=True,
    ),
    Client(
        name="Ruby net/smtp",
        command=libraries.ruby,
        version=lambda: said_version(
            require("ruby"), "-e", "require 'net/smtp'; puts Net::SMTP::VERSION"
        ),
    ),
)
