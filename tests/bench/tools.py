"""The bench's own client and server, written in C and built when they are needed.

A generator in Python would use more CPU for a message than the proxy that it measures. The programs
are built with the system's C compiler into tests/.cache, again whenever their source is newer.
"""

import json
import mmap
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.support.debian import program, require
from tests.support.processes import Process, free_port

Mode = Literal["reuse", "new"]

_SOURCES = Path(__file__).parent
_BUILT = Path(__file__).parents[1] / ".cache/bench"
_RUN_SECONDS = 150.0  # the generator itself ends after 120


class NoCompilerError(Exception):
    """There is no C compiler; the text says what to install."""


def build(name: str) -> Path:
    """Compile tests/bench/NAME.c if needed; raises NoCompilerError."""
    source, built = _SOURCES / f"{name}.c", _BUILT / name
    if built.exists() and built.stat().st_mtime > source.stat().st_mtime:
        return built
    compiler = program("cc")
    if compiler is None:
        raise NoCompilerError("the bench needs a C compiler: apt-get install gcc libc6-dev")
    _BUILT.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", built, source],
        check=True,
    )
    return built


def build_or_skip() -> None:
    """Build both programs in a test; without a compiler skip it, or fail it when CI=true."""
    require("gcc")
    build("smtp_gen")
    build("smtp_sink")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the generator says of one run."""

    messages: int
    errors: int
    seconds: float
    p50_seconds: float
    p99_seconds: float


def generate(port: int, *, connections: int, messages: int, octets: int, mode: Mode) -> Run:
    """Send `messages` to `port` and wait for the end."""
    done = subprocess.run(
        [build("smtp_gen"), str(port), str(connections), str(messages), str(octets), mode],
        capture_output=True,
        text=True,
        timeout=_RUN_SECONDS,
        check=False,
    )
    assert done.stdout, f"the generator failed: {done.stderr}"
    run = Run(**json.loads(done.stdout))
    assert run.errors == 0, f"{run.errors} errors: {done.stderr}"
    return run


class Sink:
    """The running sink; a context manager."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        counter = folder / "sink.count"
        self._process = Process([build("smtp_sink"), str(self.port), counter], folder / "sink.log")
        self._process.wait_for_port(self.port)
        with counter.open("rb") as file:
            self._counter = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._counter.close()
        self._process.kill_session()

    @property
    def pid(self) -> int:
        """Its process id, which is its session as well."""
        return self._process.pid

    @property
    def taken(self) -> int:
        """How many messages it has taken since its start."""
        (count,) = struct.unpack("@Q", self._counter[:])
        return int(count)
