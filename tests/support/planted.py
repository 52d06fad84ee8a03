"""Faults to plant into the daemon: `python -m tests.support.planted FAULT serve --config FILE`.

A story that has never been red proves nothing. These programs are mailshed with one thing broken,
from outside: the product has no switch for it.

`fifo`: the one door to the backend does not look at classes, so whoever came first goes first.
`hasty`: a breaker that closes after a second, so that the story of a whole outage is a short one.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mailshed.cli.main import main
from mailshed.control import breaker
from mailshed.relay.gate import Gate
from mailshed.terms import TrafficClass
from mailshed.work import Work


def fifo() -> None:
    """All mail is of one class at the gate: that of the message which comes first."""
    only: list[TrafficClass] = []

    def blind(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Gate, work: Work, *args: Any, **kwargs: Any) -> Any:
            if not only:
                only.append(replace(work.traffic_class, name="any", rank=1, threshold=1.0))
            return method(self, replace(work, traffic_class=only[0]), *args, **kwargs)

        return call

    for name in ("arrive", "try_acquire", "acquire"):
        setattr(Gate, name, blind(getattr(Gate, name)))


def hasty() -> None:
    """A backend that answers has all mail again after a second without a failure."""
    breaker.QUIET_SECONDS = 1.0
    breaker.IDLE_WINDOW_SECONDS = 0.25


FAULTS = {"fifo": fifo, "hasty": hasty}


if __name__ == "__main__":
    FAULTS[sys.argv[1]]()
    raise SystemExit(main(sys.argv[2:]))
