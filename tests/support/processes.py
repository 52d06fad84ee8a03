"""Real processes under test: start, watch, stop and measure them, by process id only.

Every child is the leader of its own session, so that a server which forks (Postfix) is stopped with
all it has started, and nothing else ever is. Output goes to a file, never to a pipe that could fill
up. Waiting is always for a condition with a deadline; `DEADLINE` is generous, because the machine
that runs the suite may be slow and busy, and a deadline that is reached is a failure.

CPU and memory come from /proc (proc(5)): `cpu_seconds` adds the live members of a session to what
their reaped children have used.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

DEADLINE = 60.0
"""Seconds that anything may take which normally takes less than a few."""

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_OCTETS = os.sysconf("SC_PAGE_SIZE")
_POLL_SECONDS = 0.02

# Below the range from which Linux takes the ports of outgoing connections (32768 and up), so that
# a server that is stopped and started again finds its port still free.
_PORTS = range(20_000, 32_000)
_ports_given: set[int] = set()


class NotInTimeError(AssertionError):
    """A condition did not come true before its deadline."""


def wait_until(
    condition: Callable[[], object], what: str | Callable[[], str], deadline: float = DEADLINE
) -> None:
    """Poll until `condition()` is true; fail with `what` after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            text = what if isinstance(what, str) else what()
            raise NotInTimeError(f"not within {deadline:g} s: {text}")
        time.sleep(_POLL_SECONDS)


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on and that this process has not given out."""
    chooser = random.Random(os.getpid() ^ time.monotonic_ns())
    while True:
        port = chooser.choice(_PORTS)
        if port in _ports_given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _ports_given.add(port)
        return port


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0


class Process:
    """One started program. A context manager: leaving it kills what still runs."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        log: Path,
        *,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start `argv`; standard output and standard error are appended to `log`."""
        self.log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, **environment} if environment else None,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill_session()

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its session."""
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether the process (not its children) still runs."""
        return self._child.poll() is None

    @property
    def log_text(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self._child.send_signal(number)

    def wait(self, deadline: float = DEADLINE) -> int:
        """The exit status, which must come within `deadline` seconds; negative for a signal."""
        try:
            return self._child.wait(deadline)
        except subprocess.TimeoutExpired:
            raise NotInTimeError(f"pid {self.pid} did not end; its log:\n{self.log_text}") from None

    def terminate(self, deadline: float = DEADLINE) -> int:
        """Ask it to stop (SIGTERM) and return its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(deadline)

    def kill(self) -> None:
        """Kill -9 this process alone and wait for it."""
        self._child.kill()
        self._child.wait()

    def kill_session(self) -> None:
        """Kill -9 the process and every process of its session; safe to call twice."""
        session = self._child.pid
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()
        elif Path(f"/proc/{session}").exists():
            return  # ended long ago, and the number belongs to someone else by now

        def is_gone() -> bool:
            # Again and again: one of them may have started another while we looked.
            members = session_members(session)
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not members

        wait_until(is_gone, f"all processes of session {session} end")

    def wait_for_port(self, port: int, deadline: float = DEADLINE) -> None:
        """Wait until `port` accepts connections; fail at once if the process ends before."""

        def is_open() -> bool:
            if not self.is_running:
                raise AssertionError(f"ended with {self._child.returncode}:\n{self.log_text}")
            return accepts(port)

        wait_until(is_open, lambda: f"port {port} is closed; log:\n{self.log_text}", deadline)


def _stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on (field 3 is index 0), or None if gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def session_members(session: int) -> list[int]:
    """Process ids of all live processes of a session."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat_fields(int(entry.name))
            if fields is not None and int(fields[3]) == session and fields[0] != "Z":
                members.append(int(entry.name))
    return members


def cpu_seconds(session: int) -> float:
    """User and system time of a session, reaped children included."""
    ticks = 0
    for pid in session_members(session):
        fields = _stat_fields(pid)
        if fields is not None:
            ticks += sum(int(field) for field in fields[11:15])  # utime stime cutime cstime
    return ticks / _TICKS_PER_SECOND


def resident_octets(pid: int) -> int:
    """Memory that the process has in RAM now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_OCTETS


def resident_peak_octets(pid: int) -> int:
    """The most memory it has had in RAM, since its start or since `reset_resident_peak`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"pid {pid} has no VmHWM")


def reset_resident_peak(pid: int) -> None:
    """Start `resident_peak_octets` afresh (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
