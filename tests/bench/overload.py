"""`python -m tests.bench.overload`: what a sender feels when three times too much mail arrives.

mailshed, Postfix as a relay and Haraka stand one after the other before the same kind of mail
server (tests/support/overload.py: Postfix that takes 20 messages a second) and get the same load:
same seed, same messages, same times. Every client is a user agent: one connection, one message, and
an error is an error to somebody. Per class: how long from the first connect to the server's
Maildir, how many clients were refused, how many messages are lost or came twice; over all: how much
of the server's capacity was used until the last message had arrived.

- `mailshed`: may hand over as many messages at a time as the server has processes.
- `postfix`: a relay with its defaults; it says 250 and queues.
- `haraka`: `queue/smtp_forward`, its shipped way to a mail server; the client waits meanwhile.

What is still in a peer's queue at the end of the patience is counted as waiting. Four minutes.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.__main__ import machine
from tests.bench.haraka import NoHarakaError, fetch, haraka
from tests.support.daemon import Daemon
from tests.support.ledger import Fate, Ledger
from tests.support.load import Load, Outcome, book
from tests.support.overload import (
    CALIBRATION_MESSAGES,
    MIX,
    OVERLOAD,
    PROCESSES,
    calibrate,
    delays,
    limited_postfix,
    mixed_load,
    quantile,
)
from tests.support.postfix import Postfix
from tests.support.processes import NotInTimeError, wait_until

LOAD_SECONDS = 15.0
# All of the load takes OVERLOAD times its length; then the same again, and the trifle of a start.
PATIENCE = 2.0
PATIENCE_MIN = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """What became of one class. Seconds are from connect to Maildir, of what has arrived."""

    messages: int
    refused: int
    """Clients that saw an error, or no answer."""
    lost: int
    """Acknowledged, not delivered, and in no queue."""
    waiting: int
    """Acknowledged, and still in the peer's queue."""
    duplicates: int
    p50: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What became of the load of one peer."""

    peer: str
    capacity: float
    """Messages a second that the mail server took with nothing in between."""
    goodput: float
    """Messages a second that it took, until it had the last."""
    classes: dict[str, ClassFigures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Something that takes mail on `port`; `is_done` when its own queue is empty."""

    name: str
    port: int
    is_done: Callable[[], bool]


@contextlib.contextmanager
def _mailshed(folder: Path, backend_port: int) -> Iterator[Contender]:
    backend = {
        "name": "postfix",
        "host": "127.0.0.1",
        "port": backend_port,
        "in_flight_max": PROCESSES,
    }
    # As shipped: the daemon of the tests retries within seconds.
    retries = {"retry_min": "30s", "retry_max": "15m"}
    with Daemon(
        folder=folder,
        backend_port=backend_port,
        overrides={"backends": [backend], "spool": retries},
    ) as daemon:

        def is_done() -> bool:
            scrape = daemon.metrics()
            return not (scrape.total("queue_messages") or scrape.total("backend_in_flight"))

        yield Contender(name="mailshed", port=daemon.port, is_done=is_done)


@contextlib.contextmanager
def _postfix(_: Path, backend_port: int) -> Iterator[Contender]:
    settings = {
        "virtual_mailbox_domains": "",
        "default_transport": "smtp",
        "relay_transport": "smtp",
        "relayhost": f"[127.0.0.1]:{backend_port}",
        "smtp_dns_support_level": "disabled",
        # Postfix's own defaults, which the Postfix of the tests shortens.
        "minimal_backoff_time": "300s",
        "queue_run_delay": "300s",
    }
    with Postfix(settings=settings) as relay:
        yield Contender(name="postfix", port=relay.port, is_done=lambda: relay.is_queue_empty)


@contextlib.contextmanager
def _haraka(folder: Path, backend_port: int) -> Iterator[Contender]:
    with haraka(folder, backend_port) as port:
        yield Contender(name="haraka", port=port, is_done=lambda: True)


CONTENDERS = {"mailshed": _mailshed, "postfix": _postfix, "haraka": _haraka}


def measure(name: str, seconds: float) -> Figures:
    """One peer before a mail server of its own, which nobody else disturbs."""
    with (
        tempfile.TemporaryDirectory(prefix="mailshed-bench-") as folder,
        limited_postfix() as server,
    ):
        capacity = calibrate(server)
        with CONTENDERS[name](Path(folder) / name, server.port) as peer:
            outcomes = Load(peer.port, mixed_load(capacity, seconds)).start().join()
            acknowledged = sum(outcome.fate is Fate.ACKNOWLEDGED for outcome in outcomes)
            is_done = True
            try:
                wait_until(
                    lambda: (
                        peer.is_done()
                        and server.delivered_count >= CALIBRATION_MESSAGES + acknowledged
                        and server.is_queue_empty
                    ),
                    "all is delivered",
                    PATIENCE_MIN + PATIENCE * OVERLOAD * seconds,
                )
            except NotInTimeError:
                is_done = peer.is_done()
            return _figures(name, capacity, outcomes, server, is_done=is_done)


def _figures(
    name: str, capacity: float, outcomes: Sequence[Outcome], server: Postfix, *, is_done: bool
) -> Figures:
    delivered = server.delivered()[CALIBRATION_MESSAGES:]
    ledger = Ledger()
    book(ledger, outcomes)
    verdict = ledger.judge(delivered)
    missing = Counter(identity.partition("-")[0] for identity in verdict.lost)
    twice = Counter[str]()
    for identity, copies in verdict.duplicated.items():
        twice[identity.partition("-")[0]] += copies
    seconds = delays(outcomes, delivered)
    began = min(outcome.started for outcome in outcomes)
    classes = {}
    for each in MIX:
        of_class = [outcome for outcome in outcomes if outcome.message.traffic_class == each]
        values = seconds[each]
        classes[each] = ClassFigures(
            messages=len(of_class),
            refused=sum(outcome.fate is not Fate.ACKNOWLEDGED for outcome in of_class),
            lost=missing[each] if is_done else 0,
            waiting=0 if is_done else missing[each],
            duplicates=twice[each],
            p50=statistics.median(values) if values else 0.0,
            p99=quantile(values, 0.99),
            most=values[-1] if values else 0.0,
        )
    ended = max((item.arrived for item in delivered), default=time.time())
    return Figures(
        peer=name, capacity=capacity, goodput=len(delivered) / (ended - began), classes=classes
    )


def table(results: Sequence[Figures], seconds: float) -> str:
    """The figures for people."""
    head = f"{'peer':<10}{'class':<10}{'messages':>9}{'p50':>8}{'p99':>8}{'max':>8}"
    head += f"{'refused':>9}{'lost':>6}{'waiting':>9}{'twice':>7}{'goodput':>9}"
    lines = [
        f"{OVERLOAD:g} times the capacity of the mail server for {seconds:g} s; delivered after s:",
        "",
        head,
    ]
    for result in results:
        share = f"{result.goodput / result.capacity:.0%}"
        for name, row in result.classes.items():
            lines.append(
                f"{result.peer:<10}{name:<10}{row.messages:>9}{row.p50:>8.2f}{row.p99:>8.2f}"
                f"{row.most:>8.2f}{row.refused:>9}{row.lost:>6}{row.waiting:>9}"
                f"{row.duplicates:>7}{share:>9}"
            )
            share = ""
    return "\n".join(lines) + "\n"


def _peers() -> list[str]:
    """All of them, but for one that cannot be had."""
    try:
        fetch()
    except NoHarakaError as error:
        sys.stderr.write(f"without Haraka: {error}\n")
        return [name for name in CONTENDERS if name != "haraka"]
    return list(CONTENDERS)


def as_tree(results: Sequence[Figures], seconds: float) -> dict[str, Any]:
    """For JSON."""
    return {
        "machine": machine(),
        "overload": OVERLOAD,
        "load_seconds": seconds,
        "results": [asdict(result) for result in results],
    }


def main() -> int:
    """Measure all peers and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.overload", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument(
        "--seconds", type=float, default=LOAD_SECONDS, metavar="N", help="length of the load"
    )
    arguments = parser.parse_args()
    results = [measure(name, arguments.seconds) for name in _peers()]
    sys.stdout.write(table(results, arguments.seconds))
    if arguments.json is not None:
        tree = as_tree(results, arguments.seconds)
        arguments.json.write_text(json.dumps(tree, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
