"""Story: three times as much mail as the mail server can take, and clinical mail does not notice.

Postfix has four smtpd processes and a policy service that takes 200 ms, so it takes 20 messages a
second at most; its true rate is measured first. For 30 seconds, three times that arrives, open
loop, every message over a connection of its own, as user agents send: 10 % clinical, 20 %
personal, 30 % telework, 40 % bulk. mailshed may hand over four messages at a time.

Clinical and personal mail together fit into what Postfix can do; telework and bulk do not. So
clinical mail passes at once, the rest waits in the spool, every client hears 250, nothing is lost,
the queue is empty in the end, and /metrics shows what happens while it happens.
"""

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.clients import Item, send_lock_step
from tests.support.daemon import Daemon, Scrape
from tests.support.ledger import Fate, Ledger
from tests.support.load import CLASS_SENDERS, Load, Outcome, book, poisson
from tests.support.postfix import Delivered, Postfix

PROCESSES = 4
POLICY_SECONDS = 0.2
OVERLOAD = 3.0
LOAD_SECONDS = 30.0
MIX = {"clinical": 0.10, "personal": 0.20, "telework": 0.30, "bulk": 0.40}
SEED = 20261122

CALIBRATION_MESSAGES = 60
CLINICAL_SECONDS_MAX = 10.0  # the objective of the class
DRAIN_SECONDS = 240.0  # four times what it takes at the measured rate
SCRAPE_SECONDS = 0.5


def test_clinical_mail_is_never_behind_bulk_when_three_times_the_capacity_arrives(
    tmp_path: Path,
) -> None:
    with Postfix(smtpd_processes=PROCESSES, policy_delay=POLICY_SECONDS) as server:
        capacity = _measure_capacity(server)
        messages = poisson(OVERLOAD * capacity, LOAD_SECONDS, MIX, SEED)
        with Daemon(
            folder=tmp_path / "mailshed",
            backend_port=server.port,
            overrides={"backends": [_backend(server)]},
        ) as daemon:
            load = Load(daemon.port, messages).start()
            scrapes = []
            while not load.ends_within(SCRAPE_SECONDS):
                scrapes.append(daemon.metrics())
            outcomes = load.join()
            _check_that_no_client_saw_an_error(outcomes)
            _check_command_line(daemon)
            daemon.wait_spool_empty(DRAIN_SECONDS)
            server.wait_delivered(CALIBRATION_MESSAGES + len(messages))
            at_end = daemon.metrics()
        delivered = server.delivered()[CALIBRATION_MESSAGES:]

    _check_ledger(outcomes, delivered)
    delays = _delays(outcomes, delivered)
    sys.stdout.write(_report(capacity, delays, outcomes))  # for pytest -s, and with a failure
    _check_order(delays)
    _check_scrapes(scrapes)
    for traffic_class, items in delays.items():
        total = at_end.total("deliveries_total", **{"class": traffic_class, "result": "delivered"})
        assert total == len(items), f"/metrics counts {total:g} deliveries of {traffic_class}"


def _backend(server: Postfix) -> dict[str, object]:
    return {
        "name": "postfix",
        "host": "127.0.0.1",
        "port": server.port,
        "in_flight_max": PROCESSES,
    }


def _measure_capacity(server: Postfix) -> float:
    """Messages a second that Postfix takes from as many clients as it has processes."""
    shares = [
        [
            Item(
                sender=CLASS_SENDERS["personal"],
                recipient=f"calibration-{client}-{number}@hospital.example",
                wire=b"Subject: calibration\r\n\r\n",
            )
            for number in range(CALIBRATION_MESSAGES // PROCESSES)
        ]
        for client in range(PROCESSES)
    ]
    start = time.monotonic()
    with ThreadPoolExecutor(PROCESSES) as pool:
        for replies in pool.map(lambda items: send_lock_step(server.port, items), shares):
            assert all(reply.startswith("250") for reply in replies)
    seconds = time.monotonic() - start
    server.wait_delivered(CALIBRATION_MESSAGES)
    return CALIBRATION_MESSAGES / seconds


def _check_that_no_client_saw_an_error(outcomes: Sequence[Outcome]) -> None:
    bad = [outcome for outcome in outcomes if outcome.fate is not Fate.ACKNOWLEDGED]
    assert not bad, f"{len(bad)} clients saw an error: {bad[0].reply}"


def _check_ledger(outcomes: Sequence[Outcome], delivered: Sequence[Delivered]) -> None:
    """Every message arrived once and unaltered."""
    ledger = Ledger()
    book(ledger, outcomes)
    verdict = ledger.judge(delivered)
    verdict.assert_nothing_lost_or_made_up()
    assert not verdict.duplicated


def _delays(
    outcomes: Sequence[Outcome], delivered: Sequence[Delivered]
) -> Mapping[str, Sequence[float]]:
    """Seconds from the client's first connect to the file in the Maildir, sorted, by class."""
    arrived = {item.recipient.partition("@")[0]: item.arrived for item in delivered}
    delays: dict[str, list[float]] = defaultdict(list)
    for outcome in outcomes:
        message = outcome.message
        delays[message.traffic_class].append(arrived[message.identity] - outcome.started)
    return {name: sorted(delays[name]) for name in MIX}


def _quantile(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))]


def _report(
    capacity: float, delays: Mapping[str, Sequence[float]], outcomes: Sequence[Outcome]
) -> str:
    replies: dict[str, list[float]] = defaultdict(list)
    for outcome in outcomes:
        replies[outcome.message.traffic_class].append(outcome.ended - outcome.started)
    lines = [
        (
            f"\nPostfix alone: {capacity:.1f} messages/s; offered: {OVERLOAD:g} times that "
            f"for {LOAD_SECONDS:g} s; seconds:"
        ),
        f"{'class':<10}{'messages':>9}{'delivered p50':>15}{'p99':>8}{'max':>8}{'250 max':>9}",
    ]
    for name, values in delays.items():
        p50, p99, most = statistics.median(values), _quantile(values, 0.99), values[-1]
        slowest = max(replies[name])
        lines.append(
            f"{name:<10}{len(values):>9}{p50:>15.2f}{p99:>8.2f}{most:>8.2f}{slowest:>9.2f}"
        )
    return "\n".join(lines) + "\n"


def _check_order(delays: Mapping[str, Sequence[float]]) -> None:
    """Clinical mail keeps its objective and is far ahead of bulk; classes keep their order."""
    assert delays["clinical"][-1] < CLINICAL_SECONDS_MAX
    assert _quantile(delays["clinical"], 0.99) < statistics.median(delays["bulk"])
    medians = [statistics.median(delays[name]) for name in ("clinical", "telework", "bulk")]
    assert medians == sorted(medians), medians
    assert statistics.median(delays["personal"]) < statistics.median(delays["telework"])


def _check_command_line(daemon: Daemon) -> None:
    """The overload can be seen on a terminal: what waits, how much, and whose."""
    counts = daemon.command_json("queue", "count")["classes"]
    waiting = {entry["class"]: entry["messages"] for entry in counts}
    assert waiting.get("bulk", 0) > 0, waiting
    assert waiting.get("clinical", 0) == 0, waiting
    (oldest, *_) = daemon.command_json("queue", "list", "--class", "bulk")["messages"]
    assert oldest["sender"] == CLASS_SENDERS["bulk"]
    assert oldest["reason"] == "saturated"
    assert "bulk" in daemon.command("status")


def _check_scrapes(scrapes: Sequence[Scrape]) -> None:
    """The overload can be seen while it lasts."""
    assert max(scrape.total("queue_messages", **{"class": "bulk"}) for scrape in scrapes) > 0
    assert all(scrape.total("queue_messages", **{"class": "clinical"}) < 20 for scrape in scrapes)
    assert all(scrape.total("backend_in_flight_limit") == PROCESSES for scrape in scrapes)
    assert max(scrape.total("backend_in_flight") for scrape in scrapes) == PROCESSES
    used = [scrape.total("saturation_ratio", resource="backend_slots") for scrape in scrapes]
    assert statistics.median(used) >= 0.7, used
    assert max(used) >= 1.0, used
    assert all(scrape.total("backend_up") == 1 for scrape in scrapes)
