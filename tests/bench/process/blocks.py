"""How long the event loop stands still under each load, by its own pulse (`probe`)."""

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.process.loads import PASSING, SPOOLING, Load, Size
from tests.bench.process.place import Place, place

BLOCK_MAX = 0.020


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A beat that came late; seconds."""

    at: float
    late: float
    ran: float
    queued: float
    collected: float
    """Of it by the garbage collector."""
    seen: Sequence[str]

    @property
    def block(self) -> float:
        """How late it was by what the daemon did, and not for want of a processor."""
        return max(0.0, self.late - self.queued)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """What was found under one load."""

    load: str
    text: str
    seconds: float
    late: Sequence[Beat]

    @property
    def worst(self) -> Beat | None:
        """The longest block."""
        return max(self.late, key=lambda beat: beat.block, default=None)

    @property
    def latest(self) -> float:
        """The latest beat, whoever took the time."""
        return max((beat.late for beat in self.late), default=0.0)

    @property
    def collected(self) -> float:
        """The longest of the garbage collector, if it made a beat late."""
        return max((beat.collected for beat in self.late), default=0.0)

    @property
    def over(self) -> Sequence[Beat]:
        """Blocks that are too long."""
        return [beat for beat in self.late if beat.block > BLOCK_MAX]


def measure_blocks(
    folder: Path, size: Size, *, loads: Collection[str], with_stacks: bool = False
) -> list[Blocks]:
    """Put two daemons under the loads that are wanted: one passes mail on, the other stores it."""
    found = []
    for name, all_loads in (("passing", PASSING), ("spooling", SPOOLING)):
        chosen = [load for load in all_loads if load.__name__ in loads]
        if not chosen:
            continue
        with place(
            folder / name,
            is_spooling=name == "spooling",
            with_probe=True,
            with_stacks=with_stacks,
        ) as here:
            found += [_measure(here, load, size) for load in chosen]
    return found


def _measure(here: Place, load: Load, size: Size) -> Blocks:
    began = time.monotonic()
    load(here, size)
    time.sleep(0.3)  # what it leaves behind is its own: sessions that end, garbage
    ended = time.monotonic()
    beats = [Beat(**json.loads(line)) for line in here.beats.read_text().splitlines()]
    return Blocks(
        load=load.__name__,
        text=(load.__doc__ or "").rstrip("."),
        seconds=ended - began,
        late=[beat for beat in beats if began <= beat.at < ended],
    )
