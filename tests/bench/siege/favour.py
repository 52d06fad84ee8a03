"""Processor time for the bench on a machine that does other things too.

Linux shares a processor among sessions of processes first (sched_autogroup, sched(7)), and nice(1)
counts only within one. The daemon, its mail server, the attackers and the bench are sessions of
their own, so each has its place raised. Needs root; without it nothing happens.
"""

from contextlib import suppress
from pathlib import Path

NICE = -15


def favour(*pids: int) -> None:
    """Let the sessions of these processes go first."""
    for pid in pids:
        with suppress(OSError):
            Path(f"/proc/{pid}/autogroup").write_text(str(NICE))
