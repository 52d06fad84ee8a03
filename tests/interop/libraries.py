"""SMTP libraries of languages: how to run the programs of tests/interop/programs."""

import functools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.interop.job import Job
from tests.support.debian import require
from tests.support.npm import CACHE, npm_package

NODEMAILER = "10.6.0"

_NODEMAILER_BEFORE = "2026-11-16"
_PROGRAMS = Path(__file__).parent / "programs"
_BUILD_SECONDS = 300.0


def smtplib(job: Job) -> Sequence[str]:
    """Python's own."""
    return sys.executable, str(_PROGRAMS / "with_smtplib.py"), job.file


def aiosmtplib(job: Job) -> Sequence[str]:
    """Python, from PyPI."""
    return sys.executable, str(_PROGRAMS / "with_aiosmtplib.py"), job.file


def nodemailer(job: Job) -> Sequence[str]:
    """JavaScript, from npm."""
    modules = npm_package("nodemailer", NODEMAILER, before=_NODEMAILER_BEFORE)
    node = require("npm", binary="node")
    program = _PROGRAMS / "with_nodemailer.js"
    return "env", f"NODE_PATH={modules}", str(node), str(program), job.file


def php(job: Job) -> Sequence[str]:
    """PHP, with PHPMailer."""
    require("libphp-phpmailer")
    return str(require("php-cli")), str(_PROGRAMS / "with_phpmailer.php"), job.file


def ruby(job: Job) -> Sequence[str]:
    """Ruby's own."""
    return str(require("ruby")), str(_PROGRAMS / "with_net_smtp.rb"), job.file


def go(job: Job) -> Sequence[str]:
    """Go's own."""
    return str(_built()), job.file


@functools.cache
def _built() -> Path:
    """The Go program, with what the last run has left in a cache of Go's."""
    folder = CACHE / "go"
    folder.mkdir(parents=True, exist_ok=True)
    source, target = _PROGRAMS / "with_net_smtp.go", folder / "with_net_smtp"
    subprocess.run(
        [str(require("golang-go")), "build", "-o", str(target), str(source)],
        check=True,
        timeout=_BUILD_SECONDS,
        env={**os.environ, "CGO_ENABLED": "0", "GOCACHE": str(folder / "cache")},
    )
    return target
