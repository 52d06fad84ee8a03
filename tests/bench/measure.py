"""Rounds of measurement: every peer in turn, several times.

Rounds alternate between the peers, so that a slow minute of the machine hits all alike. A run ends
when the sink has the last message, not when the client has its reply, so that a relay which queues
is measured on the whole way; only if the backend is away the reply is the end. Client and sink run
on the same cores as the peer: rates say what this machine does with all three, CPU time per message
says what the peer alone costs.

The peers are started afresh for each load, and what mailshed claims to have done is verified after
it.
"""

import contextlib
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.loads import MAILSHED, SINK, Load
from tests.bench.peers import MissingError, Peer, Place, start
from tests.bench.results import Measured, Result, Round
from tests.bench.tools import Run, Sink, generate, smtp_source
from tests.support.certificates import make_authority
from tests.support.processes import free_port, wait_until


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long each peer is measured with each load."""

    rounds: int = 3
    seconds: float = 2.0
    warm_up_seconds: float = 0.5


QUICK = Effort(rounds=1, seconds=0.15, warm_up_seconds=0.05)
"""A smoke test of the bench itself; its figures mean nothing."""


def measure(load: Load, peers: Sequence[str], effort: Effort) -> Measured:
    """Start the peers of a load that are wanted, measure all rounds, and stop them."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mailshed-bench-")))
        folder.chmod(0o755)  # servers enter it as other users
        sink = stack.enter_context(Sink(folder))
        place = place_of(folder, sink.port if load.backend == "sink" else free_port())
        started: list[Peer] = []
        missing: dict[str, str] = {}
        for name in load.peers:
            if name not in peers:
                continue
            if name == SINK:
                started.append(Peer(name=SINK, port=sink.port, session=sink.pid))
                continue
            try:
                started.append(stack.enter_context(start(name, place)))
            except MissingError as reason:
                missing[name] = str(reason)
        runner = _Runner(load, sink, effort)
        results = runner.results(started) if started else ()
        for peer in started:
            peer.verify()
        return Measured(load=load.name, results=results, missing=missing, paced_rate=runner.rate)


def place_of(folder: Path, backend_port: int) -> Place:
    """Where a peer starts, with a certificate of its own."""
    certificate, key = make_authority(folder / "tls").issue()
    return Place(folder=folder, backend_port=backend_port, certificate=certificate, key=key)


class _Runner:
    """Sends one load to one peer after the other."""

    def __init__(self, load: Load, sink: Sink, effort: Effort) -> None:
        self.rate: float | None = None
        """Messages a second, once it is known, of a load that is paced."""
        self._load, self._sink, self._effort = load, sink, effort

    def results(self, peers: Sequence[Peer]) -> tuple[Result, ...]:
        """Warm up all peers, then measure all rounds."""
        load, effort = self._load, self._effort
        # How fast mailshed is decides what a paced load measures, so that is not left to a warm-up.
        seconds = effort.seconds if load.is_paced else effort.warm_up_seconds
        rates = {peer.name: self._rate(peer, seconds) for peer in peers}
        if load.is_paced:
            self.rate = rates.get(MAILSHED, min(rates.values())) / 2
        rounds: dict[str, list[Round]] = {peer.name: [] for peer in peers}
        for _ in range(effort.rounds):
            for peer in peers:
                rounds[peer.name].append(self._run(peer, rates[peer.name]))
        return tuple(Result(peer=name, rounds=tuple(items)) for name, items in rounds.items())

    def _rate(self, peer: Peer, seconds: float) -> float:
        """Messages a second in a first run, whose other figures are thrown away."""
        taken = self._sink.taken
        run = self._generate(peer, seconds)
        return run.messages / (run.seconds + self._seconds_until(taken + run.messages))

    def _run(self, peer: Peer, expected_rate: float) -> Round:
        taken, cpu = self._sink.taken, peer.cpu_seconds()
        if self._load.client == "smtp-source":
            run = smtp_source(
                peer.port,
                connections=self._load.connections,
                octets=self._load.octets,
                mode=self._load.mode,
                messages=max(1, round(expected_rate * self._effort.seconds)),
            )
        else:
            run = self._generate(peer, self._effort.seconds, rate=self.rate)
        seconds = run.seconds + self._seconds_until(taken + run.messages)
        used = peer.cpu_seconds() - cpu
        return Round(
            messages=run.messages,
            seconds=seconds,
            cpu_seconds=_known(used),
            p50_seconds=_known(run.p50_seconds),
            p99_seconds=_known(run.p99_seconds),
        )

    def _generate(self, peer: Peer, seconds: float, *, rate: float | None = None) -> Run:
        load = self._load
        return generate(
            peer.port_for(load.tls),
            connections=load.connections,
            octets=load.octets,
            mode=load.mode,
            seconds=seconds,
            is_pipelined=load.is_pipelined,
            tls=load.tls,
            rate=rate,
        )

    def _seconds_until(self, count: int) -> float:
        """Wait for what is still under way to the sink; how long that took."""
        if self._load.backend == "away":
            return 0.0
        start = time.monotonic()
        wait_until(
            lambda: self._sink.taken >= count,
            lambda: f"the sink lacks {count - self._sink.taken} messages that were acknowledged",
        )
        return time.monotonic() - start


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
