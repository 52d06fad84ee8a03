"""mailshed with a pulse: `python -m tests.bench.process.probe FILE STACKS serve ...`.

A timer of one millisecond beats in the daemon's own event loop. A beat that comes late says for how
long the loop served nobody else, and the kernel says (schedstat, proc(5)) what the thread did
meanwhile: so long it ran, so long it was ready to run and had no processor, because the machine was
doing something else. The rest it waited: for the interpreter's lock in another thread's hands, for
the kernel, or for a disk. What the machine took is not the daemon's fault; all else is. How much of
it was the garbage collector's is told too.

Late beats are lines of JSON in FILE, by the machine's monotonic clock. With STACKS (`stacks` or
`none`) a thread looks now and then what a loop that is late is at, which disturbs it itself: for
whoever wants to know where to look, not for figures.
"""

import asyncio
import gc
import json
import os
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from mailshed import app
from mailshed.cli.main import main

INTERVAL = 0.001
LATE = 0.005
"""Less is not written down: what a turn of a busy loop takes."""
_LOOK_INTERVAL = 0.004
_LOOK_AFTER = 0.008
_FRAMES = 9
_LOOKS_MAX = 8


class Pulse:
    """The beats of the loop that is running; `begin` is called in it."""

    def __init__(self, file: TextIO, *, with_stacks: bool) -> None:
        self._file = file
        self._with_stacks = with_stacks
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        number = threading.get_native_id()
        self._schedstat = os.open(f"/proc/self/task/{number}/schedstat", os.O_RDONLY)
        self._ran, self._queued = self._kernel_says()
        self._due = time.monotonic()
        self._seen: list[str] = []
        self._collected = self._collection_began = 0.0

    def begin(self) -> None:
        """Beat until the process ends."""
        gc.callbacks.append(self._note_collection)
        if self._with_stacks:
            threading.Thread(target=self._watch, daemon=True).start()
        self._rest()

    def _kernel_says(self) -> tuple[float, float]:
        """Seconds that the thread has run, and those that it was ready to and could not."""
        ran, queued, _ = os.pread(self._schedstat, 80, 0).split()
        return int(ran) / 1e9, int(queued) / 1e9

    def _beat(self) -> None:
        now = time.monotonic()
        ran, queued = self._kernel_says()
        late = now - self._due
        if late > LATE:
            beat = {
                "at": now,
                "late": late,
                "ran": ran - self._ran,
                "queued": queued - self._queued,
                "collected": self._collected,
                "seen": self._seen,
            }
            self._file.write(json.dumps(beat) + "\n")
        self._seen, self._collected = [], 0.0
        self._ran, self._queued = ran, queued
        self._rest()

    def _rest(self) -> None:
        self._due = time.monotonic() + INTERVAL
        self._loop.call_later(INTERVAL, self._beat)

    def _note_collection(self, phase: str, _info: object) -> None:
        now = time.monotonic()
        if phase == "start":
            self._collection_began = now
        elif threading.get_ident() == self._thread:
            self._collected += now - self._collection_began

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_INTERVAL)
            seen = self._seen
            if time.monotonic() - self._due > _LOOK_AFTER and len(seen) < _LOOKS_MAX:
                frames = sys._current_frames()
                others = [
                    _stack(frame, 2)
                    for thread, frame in frames.items()
                    if thread not in (self._thread, threading.get_ident())
                ]
                seen.append(_stack(frames[self._thread], _FRAMES) + " | " + " | ".join(others))


def _stack(frame: FrameType | None, depth: int) -> str:
    """Innermost first."""
    found: list[str] = []
    while frame is not None and len(found) < depth:
        code = frame.f_code
        found.append(f"{Path(code.co_filename).stem}.{code.co_name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(found)


def watched(file: TextIO, *, with_stacks: bool) -> None:
    """Have the service begin with a pulse."""
    inner = app._main

    async def begin(*arguments: Any) -> int:
        Pulse(file, with_stacks=with_stacks).begin()
        return await inner(*arguments)

    app._main = begin  # type: ignore[assignment]


if __name__ == "__main__":
    with Path(sys.argv[1]).open("a", buffering=1) as out:
        watched(out, with_stacks=sys.argv[2] == "stacks")
        raise SystemExit(main(sys.argv[3:]))
