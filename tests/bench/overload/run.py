"""One run: a mail server and a peer of its own, the loads, the weakening, the wait for the last.

The wait is bounded: half as long again as the fluid bound of the drain, and some seconds. What a
peer still has then is counted as waiting. Nothing but the peer, the server, the clients and a look
at a counter ten times a second runs meanwhile.
"""

import time
from pathlib import Path

from tests.bench.overload import bounds
from tests.bench.overload.backends import Backend, Kind, Programmable
from tests.bench.overload.figures import Figures, Observation, work_out
from tests.bench.overload.peers import PEERS, Peer
from tests.bench.overload.plan import CLIENT_PATIENCE, Plan
from tests.support.ledger import Fate
from tests.support.load import Load, Outcome

_LOOK_SECONDS = 0.1
_ASK_SECONDS = 1.0
_DRAIN_FACTOR = 1.5
_DRAIN_MARGIN = 12.0


class Watch:
    """Waits, and looks at the server meanwhile."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.held_most = 0

    def look(self) -> None:
        """Note how many messages the server has, if it can say so at no cost."""
        if isinstance(self._backend, Programmable):
            self.held_most = max(self.held_most, self._backend.held)

    def until(self, when: float) -> None:
        """Wait until a time of the monotonic clock."""
        while (left := when - time.monotonic()) > 0:
            self.look()
            time.sleep(min(left, _LOOK_SECONDS))


def measure(kind: Kind, name: str, plan: Plan, folder: Path) -> Figures:
    """Measure the peer `name` before a server of this kind."""
    folder.mkdir(parents=True)
    with (
        kind.start(folder) as backend,
        PEERS[name](folder / "peer", backend.port, kind.normal.count) as peer,
    ):
        return work_out(kind, plan, name, _observe(kind, plan, backend, peer))


def _observe(kind: Kind, plan: Plan, backend: Backend, peer: Peer) -> Observation:
    watch = Watch(backend)
    messages = plan.messages(kind.normal.rate)
    _warm_up(kind, plan, peer, watch)
    watch.held_most, already = 0, backend.taken
    load = Load(peer.port, messages, CLIENT_PATIENCE)
    ticks = _cpu_ticks()
    began, start = time.time(), time.monotonic()
    load.start()
    watch.until(start + plan.weak_from)
    backend.weaken()
    weakened = time.time()
    watch.until(start + plan.weak_until)
    backend.restore()
    restored = time.time()
    watch.until(start + plan.seconds)
    idle, total = (after - before for after, before in zip(_cpu_ticks(), ticks, strict=True))
    stretches = plan.stretches(kind.normal, kind.weak)
    drain = bounds.fluid_drain([each.due for each in messages], stretches, plan.seconds)
    deadline = start + plan.seconds + _DRAIN_MARGIN + _DRAIN_FACTOR * drain
    outcomes = _join(load, watch)
    is_done = _wait_for_all(backend, peer, watch, already + _promised(outcomes), deadline)
    return Observation(
        began=began,
        weakened=weakened,
        restored=restored,
        ended=time.time(),
        outcomes=outcomes,
        arrivals=backend.arrivals(),
        is_done=is_done,
        held_most=watch.held_most,
        cpu_idle=idle / total,
    )


def _cpu_ticks() -> tuple[int, int]:
    """Idle and all CPU time of the machine since its start (proc(5), /proc/stat)."""
    fields = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)


def _warm_up(kind: Kind, plan: Plan, peer: Peer, watch: Watch) -> None:
    start = time.monotonic()
    load = Load(peer.port, plan.warm_messages(kind.normal.rate), CLIENT_PATIENCE).start()
    _join(load, watch)
    watch.until(start + plan.lead)


def _join(load: Load, watch: Watch) -> list[Outcome]:
    while not load.ends_within(_LOOK_SECONDS):
        watch.look()
    return load.join()


def _promised(outcomes: list[Outcome]) -> int:
    """Messages that somebody was told would arrive."""
    return sum(outcome.fate is Fate.ACKNOWLEDGED for outcome in outcomes)


def _wait_for_all(backend: Backend, peer: Peer, watch: Watch, wanted: int, deadline: float) -> bool:
    """Wait until server and peer have nothing left to do; False if the deadline comes first.

    A peer is asked rarely, since asking costs it something, and its word may be a moment old: so if
    the server does not have enough it is asked twice.
    """
    asked, said_so = -_ASK_SECONDS, 0
    while True:
        watch.look()
        has_enough = backend.taken >= wanted
        if backend.is_idle and (has_enough or time.monotonic() > asked + _ASK_SECONDS):
            asked = time.monotonic()
            said_so = said_so + 1 if peer.is_done() and backend.is_idle else 0
            if said_so > (0 if has_enough else 1):
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
