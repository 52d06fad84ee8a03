"""A peer of the bench: where it takes mail, and how much CPU time it has used."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from tests.bench.tools import Tls
from tests.support.processes import cpu_seconds


class MissingError(Exception):
    """A peer cannot be had here; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a peer is given to start with."""

    folder: Path
    """Its own, and empty."""
    backend_port: int
    """Where it passes mail on; nobody listens there if the backend is to be away."""
    certificate: Path
    """For 127.0.0.1, PEM."""
    key: Path

    def at(self, folder: Path) -> Self:
        """The same with another folder."""
        return replace(self, folder=folder)


def _nothing() -> None:
    """Verify nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Something that takes mail and hands it to the backend."""

    name: str
    port: int
    session: int
    """Session of all its processes, for their CPU time."""
    starttls_port: int | None = None
    tls_port: int | None = None
    """Where TLS begins before the greeting."""
    cpu: Callable[[], float] | None = None
    """CPU seconds so far, where its processes do not tell: nan if nobody does."""
    verify: Callable[[], None] = _nothing
    """Called after a load: raises AssertionError if the peer did not do what it was there for."""

    def port_for(self, tls: Tls) -> int:
        """Where it takes mail in that way."""
        port = {"none": self.port, "starttls": self.starttls_port, "implicit": self.tls_port}[tls]
        assert port is not None, f"{self.name} does not speak TLS here"
        return port

    def cpu_seconds(self) -> float:
        """CPU time that all its processes have used."""
        return cpu_seconds(self.session) if self.cpu is None else self.cpu()
