"""A cell of a table, and what came of it."""

import re
from dataclasses import dataclass
from typing import Literal

from tests.interop.contents import Content
from tests.interop.ways import Mode, Way

Table = Literal["clients", "backends"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One message: `row` is the program of others, a client or a backend as the table is."""

    table: Table
    row: str
    way: Way
    content: Content
    mode: Mode

    @property
    def name(self) -> str:
        """The name of its message, which a server takes as a part of an address."""
        words = f"{self.row} {self.way} {self.content} {self.mode}".lower()
        return re.sub(r"[^a-z0-9]+", "-", words)


@dataclass(frozen=True, slots=True)
class Delivered:
    """It arrived as it was sent, once, in the way and the mode it was meant to."""


@dataclass(frozen=True, slots=True)
class InClear:
    """The same, but in clear, though TLS was to be tried; `said` is the log about that."""

    said: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The client got no 250, and nothing arrived; `said` is what the client wrote."""

    said: str


@dataclass(frozen=True, slots=True)
class Waits:
    """The client got our 250, and the message is still in the spool; `said` is why, by the log."""

    said: str


@dataclass(frozen=True, slots=True)
class Failed:
    """None of these."""

    said: str


Outcome = Delivered | InClear | Refused | Waits | Failed
