"""The bench's own client and server, written in C and built when they are needed, and Postfix's.

A generator in Python would use more CPU for a message than the proxy that it measures. The programs
are built with the system's C compiler into tests/.cache, again whenever their sources are newer.
smtp-source(1) of Postfix is there as a second client: everybody has it, it takes nearly twice the
CPU time of ours, and sends less than half as many messages a second to the sink itself.
"""

import json
import mmap
import struct
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.support.debian import program, require
from tests.support.processes import Process, free_port

Mode = Literal["reuse", "new"]
"""Whether all messages of a connection go over it, or each has a connection of its own."""

Tls = Literal["none", "starttls", "implicit"]
"""Whether clients speak TLS: never, after STARTTLS (RFC 3207), or from the start (RFC 8314)."""

_SOURCES = Path(__file__).parent
_BUILT = Path(__file__).parents[1] / ".cache/bench"
_RUN_SECONDS = 150.0  # the generator itself ends after 120


@dataclass(frozen=True, slots=True)
class _Program:
    """What a program is made of, where that is more than one file of its name."""

    others: tuple[str, ...] = ()
    """Sources besides NAME.c; headers are not compiled, but looked at."""
    libraries: tuple[str, ...] = ()


_PROGRAMS: Mapping[str, _Program] = {
    "smtp_gen": _Program(("smtp_gen_io.c", "smtp_gen_io.h"), ("-lssl", "-lcrypto", "-lm")),
}


class NoCompilerError(Exception):
    """There is no C compiler, or not what it needs; the text says what to install."""


def build(name: str) -> Path:
    """Compile tests/bench/NAME.c if needed; raises NoCompilerError."""
    of = _PROGRAMS.get(name, _Program())
    sources = [_SOURCES / file for file in (f"{name}.c", *of.others)]
    built = _BUILT / name
    if built.exists() and built.stat().st_mtime > max(file.stat().st_mtime for file in sources):
        return built
    compiler = program("cc")
    if compiler is None or (of.libraries and program("/usr/include/openssl/ssl.h") is None):
        raise NoCompilerError(
            "the bench needs a C compiler: apt-get install gcc libc6-dev libssl-dev"
        )
    _BUILT.mkdir(parents=True, exist_ok=True)
    compiled = [file for file in sources if file.suffix == ".c"]
    flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
    subprocess.run([compiler, *flags, "-o", built, *compiled, *of.libraries], check=True)
    return built


def build_or_skip() -> None:
    """Build both programs in a test; without a compiler skip it, or fail it when CI=true."""
    require("gcc")
    require("libssl-dev")
    build("smtp_gen")
    build("smtp_sink")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a client says of one run."""

    messages: int
    errors: int
    seconds: float
    p50_seconds: float
    """Time from MAIL to the reply to the dot; nan from smtp-source, which does not tell."""
    p99_seconds: float


def generate(
    port: int,
    *,
    connections: int,
    octets: int,
    mode: Mode,
    messages: int | None = None,
    seconds: float | None = None,
    is_pipelined: bool = False,
    tls: Tls = "none",
    rate: float | None = None,
) -> Run:
    """Send `messages` to `port`, or as many as begin within `seconds`, and wait for the end."""
    words = [f"--connections={connections}", f"--octets={octets}"]
    if messages is not None:
        words.append(f"--messages={messages}")
    if seconds is not None:
        words.append(f"--seconds={seconds}")
    if mode == "new":
        words.append("--new")
    if is_pipelined:
        words.append("--pipelined")
    if tls != "none":
        words.append(f"--tls={tls}")
    if rate is not None:
        words.append(f"--rate={rate}")
    done = subprocess.run(
        [build("smtp_gen"), str(port), *words],
        capture_output=True,
        text=True,
        timeout=_RUN_SECONDS,
        check=False,
    )
    assert done.stdout, f"the generator failed: {done.stderr}"
    run = Run(**json.loads(done.stdout))
    assert done.returncode == 0, f"{run.errors} errors: {done.stderr}"
    assert seconds is not None or run.messages == messages, "the generator was not done in time"
    return run


def smtp_source(port: int, *, connections: int, octets: int, mode: Mode, messages: int) -> Run:
    """The same with Postfix's own load generator, which ends with status 1 at any refusal."""
    words = ["-s", str(connections), "-m", str(messages), "-l", str(octets)]
    if mode == "reuse":
        words.append("-d")
    words += ["-f", "sender@personal.example", "-t", "recipient@hospital.example"]
    start = time.monotonic()
    done = subprocess.run(
        [require("postfix", binary="smtp-source"), *words, f"127.0.0.1:{port}"],
        capture_output=True,
        text=True,
        timeout=_RUN_SECONDS,
        check=False,
    )
    seconds = time.monotonic() - start
    assert done.returncode == 0, f"smtp-source: {done.stderr}"
    return Run(messages=messages, errors=0, seconds=seconds, p50_seconds=nan, p99_seconds=nan)


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
