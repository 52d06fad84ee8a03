"""What the daemon's process does meanwhile, looked at from outside.

Memory and CPU time are read from /proc each second, which costs the daemon nothing. Its metrics are
scraped every five seconds, attack or not, since a scrape is work for the daemon too.
"""

import os
import re
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.processes import resident_octets

_LAGS = re.compile(
    r"^mailshed_event_loop_lag_seconds_bucket\{le=\"([^\"]+)\"\} (\S+)$", re.MULTILINE
)

INTERVAL = 1.0
SCRAPE_EVERY = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look; `at` is Unix time."""

    at: float
    resident: int
    cpu: float
    """Seconds of CPU time since the start."""
    sessions: float | None = None
    lags: tuple[tuple[float, int], ...] = ()
    """How often the event loop was late by so many seconds at most, since the start."""
    is_stressed: bool | None = None


class Watch:
    """Looks from a thread of its own until `stop`."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.looks: list[Look] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def start(self) -> "Watch":
        """Begin."""
        self._thread.start()
        return self

    def stop(self) -> list[Look]:
        """End, and return all looks."""
        self._is_over.set()
        self._thread.join()
        return self.looks

    def _run(self) -> None:
        number = 0
        while not self._is_over.wait(INTERVAL):
            self.looks.append(self._look(with_metrics=number % SCRAPE_EVERY == 0))
            number += 1

    def _look(self, *, with_metrics: bool) -> Look:
        pid = self._daemon.pid
        look = Look(at=time.time(), resident=resident_octets(pid), cpu=_cpu_seconds(pid))
        if not with_metrics:
            return look
        text = self._daemon.get("/metrics")[1]
        return replace(
            look,
            sessions=_gauge(text, "smtp_sessions"),
            lags=tuple((float(most), int(float(times))) for most, times in _LAGS.findall(text)),
            is_stressed=bool(_gauge(text, "smtp_stress_mode")),
        )


def _cpu_seconds(pid: int) -> float:
    """Of this process alone, which starts no others; proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _gauge(text: str, name: str) -> float:
    """A gauge without labels; the parser of `Daemon.metrics` would take time from the load."""
    found = re.search(rf"^mailshed_{name} (\S+)$", text, re.MULTILINE)
    assert found is not None, f"{name} is not exported"
    return float(found[1])
