"""Somebody at a shell: runs `mailshed` against a test's daemon, as a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.daemon import Daemon
from tests.support.processes import DEADLINE

ROOT = Path(__file__).parents[2]
OK, NO_MATCH, USAGE, UNAVAILABLE = 0, 1, 64, 69


class Operator:
    """Somebody at a shell; `verb` comes before the words of every command."""

    def __init__(self, daemon: Daemon, *verb: str) -> None:
        self._daemon = daemon
        self._verb = verb
        self.errors = ""
        """Standard error of the last command."""

    def run(self, *words: str, expected: int | tuple[int, ...] = OK) -> str:
        """Standard output of `mailshed WORDS...`, which must end with this status."""
        command = [*self._verb, *words]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "mailshed", *command),
                *("--config", str(self._daemon.configuration_file)),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        self.errors = done.stderr
        told = f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert done.returncode in (expected if isinstance(expected, tuple) else (expected,)), told
        return done.stdout

    def json(self, *words: str, expected: int | tuple[int, ...] = OK) -> Any:
        """The document that a command prints with --json."""
        return json.loads(self.run(*words, "--json", expected=expected))
