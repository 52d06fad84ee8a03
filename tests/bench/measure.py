"""Rounds of measurement: every peer in turn, several times, and what is left of it as figures.

Rounds alternate between the peers, so that a slow minute of the machine hits all alike. The rate is
the median of the rounds, CPU time per message the minimum: everything that disturbs it adds. A run
ends when the sink has the last message, not when the client has its reply, so that a relay which
queues is measured on the whole way. Client and sink run on the same cores as the peer; rates say
what this machine does with all three, CPU time per message says what the peer alone costs.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.bench.peers import Peer
from tests.bench.tools import Mode, Sink, generate
from tests.support.processes import cpu_seconds, wait_until

MODES: tuple[Mode, ...] = ("reuse", "new")

_PROBE_MESSAGES = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The shape of the load and how long one round of one peer takes."""

    octets: int = 10 * 1024
    connections: int = 20
    rounds: int = 3
    seconds: float = 2.5
    messages_max: int = 40_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One run of one peer."""

    messages: int
    seconds: float
    cpu_seconds: float
    p50_seconds: float
    p99_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All rounds of one peer in one mode."""

    peer: str
    mode: Mode
    rounds: tuple[Round, ...]

    @property
    def rate(self) -> float:
        """Messages a second, median of the rounds."""
        return statistics.median(item.messages / item.seconds for item in self.rounds)

    @property
    def cpu_microseconds(self) -> float:
        """CPU time of the peer for one message, least of the rounds."""
        return min(item.cpu_seconds / item.messages for item in self.rounds) * 1e6

    @property
    def p50_milliseconds(self) -> float:
        """Time from MAIL to the reply to the dot, median of the medians."""
        return statistics.median(item.p50_seconds for item in self.rounds) * 1e3

    @property
    def p99_milliseconds(self) -> float:
        """The 99th percentile of the same, median of the rounds."""
        return statistics.median(item.p99_seconds for item in self.rounds) * 1e3

    def as_tree(self) -> dict[str, Any]:
        """For JSON, figures and rounds."""
        return {
            "peer": self.peer,
            "mode": self.mode,
            "messages_per_second": round(self.rate, 1),
            "cpu_microseconds_per_message": round(self.cpu_microseconds, 1),
            "p50_milliseconds": round(self.p50_milliseconds, 3),
            "p99_milliseconds": round(self.p99_milliseconds, 3),
            "rounds": [asdict(item) for item in self.rounds],
        }


def measure(peers: Sequence[Peer], sink: Sink, load: Load) -> list[Result]:
    """All rounds of all peers in all modes, in order of mode and peer."""
    results = []
    for mode in MODES:
        counts = {peer.name: _message_count(peer, sink, load, mode) for peer in peers}
        rounds: dict[str, list[Round]] = {peer.name: [] for peer in peers}
        for _ in range(load.rounds):
            for peer in peers:
                rounds[peer.name].append(_run(peer, sink, load, mode, counts[peer.name]))
        results += [
            Result(peer=name, mode=mode, rounds=tuple(items)) for name, items in rounds.items()
        ]
    return results


def _message_count(peer: Peer, sink: Sink, load: Load, mode: Mode) -> int:
    """How many messages fill the time of a round; the run that finds out is the warm-up."""
    probe = _run(peer, sink, load, mode, min(_PROBE_MESSAGES, load.messages_max))
    wanted = int(load.seconds * probe.messages / probe.seconds)
    return max(load.connections, min(wanted, load.messages_max))


def _run(peer: Peer, sink: Sink, load: Load, mode: Mode, messages: int) -> Round:
    taken = sink.taken
    cpu = cpu_seconds(peer.session)
    run = generate(
        peer.port,
        connections=load.connections,
        messages=messages,
        octets=load.octets,
        mode=mode,
    )
    return Round(
        messages=messages,
        seconds=run.seconds + _seconds_until(sink, taken + messages),
        cpu_seconds=cpu_seconds(peer.session) - cpu,
        p50_seconds=run.p50_seconds,
        p99_seconds=run.p99_seconds,
    )


def _seconds_until(sink: Sink, count: int) -> float:
    """Wait for what is still under way to the sink; how long that took."""
    start = time.monotonic()
    wait_until(
        lambda: sink.taken >= count,
        lambda: f"the sink has {count - sink.taken} messages less than were acknowledged",
    )
    return time.monotonic() - start
