"""What the daemon's process does meanwhile, looked at from outside.

Memory and CPU time are read from /proc each second, which costs the daemon nothing. Its metrics are
scraped every five seconds, attack or not, since a scrape is work for the daemon too.
"""

import threading
import time
from dataclasses import dataclass

from tests.support.daemon import Daemon
from tests.support.processes import cpu_seconds, resident_octets

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
    lag: float | None = None
    """Seconds by which the event loop is late."""
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
        look = Look(at=time.time(), resident=resident_octets(pid), cpu=cpu_seconds(pid))
        if not with_metrics:
            return look
        scrape = self._daemon.metrics()
        return Look(
            at=look.at,
            resident=look.resident,
            cpu=look.cpu,
            sessions=scrape.total("smtp_sessions"),
            lag=scrape.total("event_loop_lag_seconds"),
            is_stressed=bool(scrape.total("smtp_stress_mode")),
        )
