"""Two mail servers of known capacity, which can be made weaker while they run.

- `Programmable`: our own sink in C (`smtp_server.c`). Eight messages at a time for 0.2 s each, from
  the final dot to the 250; any number of connections; what is beyond eight waits inside, first
  come, first served, whatever it is. Half its capacity: four at a time.
- `LimitedPostfix`: the Postfix of tests/support/overload.py. Four smtpd(8) processes, and 0.2 s for
  each recipient; a fifth connection waits for a process, without a greeting. Half its capacity:
  0.4 s. Its own true capacity is measured once, with nothing in between.

Arrival times are those of the 250 (programmable) and of the file in the Maildir (Postfix), which is
there a moment later.
"""

import contextlib
import mmap
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from tests.bench.overload.bounds import Servers
from tests.bench.tools import build
from tests.support.overload import (
    POLICY_SECONDS,
    PROCESSES,
    calibrate,
    limited_postfix,
)
from tests.support.postfix import Postfix
from tests.support.processes import Process, free_port

_CALIBRATION = "calibration-"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One copy of a message that the server has taken."""

    identity: str
    at: float
    """Unix time."""


class Backend(Protocol):
    """A mail server of known capacity."""

    @property
    def port(self) -> int:
        """Where it takes mail, on 127.0.0.1."""
        ...

    @property
    def taken(self) -> int:
        """Messages that it has taken so far. Cheap."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing left to do."""
        ...

    def weaken(self) -> None:
        """Halve the capacity."""
        ...

    def restore(self) -> None:
        """Give all of it back."""
        ...

    def arrivals(self) -> list[Arrival]:
        """All copies of all messages, in order of their arrival."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of backend: `start` makes one in a folder, as a context manager."""

    name: str
    normal: Servers
    weak: Servers
    start: Callable[[Path], AbstractContextManager[Backend]]


class Programmable:
    """The running sink; a context manager that `programmable` makes."""

    _FORMAT = struct.Struct("@6Q")  # struct control of smtp_server.c
    _FIRST = struct.Struct("@Q")

    def __init__(self, folder: Path, normal: Servers, weak: Servers) -> None:
        self.port = free_port()
        self._normal, self._weak = normal, weak
        self._log = folder / "server.log"
        path = folder / "server.control"
        path.write_bytes(self._FORMAT.pack(normal.count, round(normal.service * 1e6), 0, 0, 0, 0))
        with path.open("r+b") as file:
            self._control = mmap.mmap(file.fileno(), self._FORMAT.size)
        self._process = Process(
            [build("smtp_server"), str(self.port), path, self._log], folder / "server.err"
        )

    def __enter__(self) -> Self:
        self._process.wait_for_port(self.port)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill_session()
        self._control.close()

    @property
    def taken(self) -> int:
        """Messages answered."""
        return self._read()[2]

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in service or waits."""
        return not any(self._read()[3:5])

    @property
    def held(self) -> int:
        """Messages in service or behind them."""
        return sum(self._read()[3:5])

    def weaken(self) -> None:
        """Take servers away; what is in service ends as usual."""
        self._set(self._weak)

    def restore(self) -> None:
        """Give them back."""
        self._set(self._normal)

    def arrivals(self) -> list[Arrival]:
        """From its log."""
        found = []
        for line in self._log.read_text().splitlines():
            identity, _, _, answered = line.split()
            found.append(Arrival(identity, int(answered) / 1e6))
        return found

    def _read(self) -> tuple[int, ...]:
        return self._FORMAT.unpack(self._control[:])

    def _set(self, servers: Servers) -> None:
        assert servers.service == self._normal.service, "only the number of servers changes"
        self._control[: self._FIRST.size] = self._FIRST.pack(servers.count)


def programmable(count: int = 8, service: float = 0.2) -> Kind:
    """The kind of the programmable server."""
    normal = Servers(count=count, service=service)
    weak = Servers(count=count // 2, service=service)
    return Kind(
        name="programmable",
        normal=normal,
        weak=weak,
        start=lambda folder: Programmable(folder, normal, weak),
    )


class LimitedPostfix:
    """The Postfix of four processes."""

    def __init__(self, server: Postfix) -> None:
        self._server = server
        self.port = server.port

    @property
    def taken(self) -> int:
        """Files in the Maildir."""
        return self._server.delivered_count

    @property
    def is_idle(self) -> bool:
        """Whether its own queue is empty."""
        return self._server.is_queue_empty

    def weaken(self) -> None:
        """Each recipient costs twice as long."""
        self._server.set_policy_delay(2 * POLICY_SECONDS)

    def restore(self) -> None:
        """As before."""
        self._server.set_policy_delay(POLICY_SECONDS)

    def arrivals(self) -> list[Arrival]:
        """From its Maildir."""
        return [
            Arrival(item.recipient.partition("@")[0], item.arrived)
            for item in self._server.delivered()
            if not item.recipient.startswith(_CALIBRATION)
        ]


@contextlib.contextmanager
def limited(_: Path) -> Iterator[LimitedPostfix]:
    """Start the limited Postfix, which needs no folder of the bench."""
    with limited_postfix() as server:
        yield LimitedPostfix(server)


def postfix() -> Kind:
    """The kind of the limited Postfix; measures its capacity, which takes four seconds."""
    with limited_postfix() as server:
        normal = Servers(count=PROCESSES, service=PROCESSES / calibrate(server))
    weak = Servers(count=PROCESSES, service=normal.service + POLICY_SECONDS)
    return Kind(name="postfix", normal=normal, weak=weak, start=limited)
