"""The overload bench itself works: bounds, servers of known capacity, figures, targets, tables."""

import math
import random
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.bench.overload import backends, bounds, peers, report, run, simulated, targets
from tests.bench.overload.backends import Arrival, Programmable
from tests.bench.overload.bounds import Servers, Stretch
from tests.bench.overload.figures import Figures, Observation, work_out
from tests.bench.overload.plan import FULL, HALF, MIX, TOP, Plan
from tests.bench.tools import build
from tests.support.clients import Item, send_lock_step, send_pipelined
from tests.support.debian import require, require_root
from tests.support.ledger import Fate
from tests.support.load import Message, Outcome, make_message
from tests.support.overload import POLICY_SECONDS
from tests.support.processes import wait_until

EIGHT = Servers(count=8, service=0.2)
FOUR = Servers(count=4, service=0.2)
SECONDS = 1.0


# Bounds.


def test_the_bound_of_the_top_class_is_service_and_an_exponential_wait() -> None:
    rate = Plan(seconds=1).rate(TOP, EIGHT.rate)
    assert rate == pytest.approx(11.28)
    assert bounds.top_class_sojourn(EIGHT, rate) == pytest.approx(0.36, abs=0.005)
    assert bounds.top_class_sojourn(FOUR, rate) == pytest.approx(0.73, abs=0.005)
    assert bounds.top_class_sojourn(EIGHT, 0, 0.5) == pytest.approx(0.2 + math.log(2) / 40)
    assert bounds.top_class_sojourn(FOUR, 20.0) == math.inf


def test_work_counts_each_stretch_at_its_own_rate() -> None:
    stretches = Plan(seconds=3).stretches(EIGHT, FOUR)
    assert bounds.work_between(stretches, 0.0, 3.0) == pytest.approx(40 + 20 + 40)
    assert bounds.work_between(stretches, 1.5, 1.5) == 0
    assert bounds.work_between(stretches, 1.5, 2.5) == pytest.approx(10 + 20)
    assert bounds.work_between(stretches, 2.5, 13.0) == pytest.approx(20 + 400)
    assert bounds.stretch_at(stretches, 1.0).name == HALF
    assert bounds.stretch_at(stretches, 0.99).name == FULL


def test_the_drain_is_what_could_not_be_served_over_the_capacity() -> None:
    stretches = (Stretch(name=FULL, start=0.0, servers=EIGHT),)
    arrivals = [0.0] * 80
    assert bounds.fluid_drain(arrivals, stretches, 1.0) == pytest.approx(1.0)
    assert bounds.fluid_drain(arrivals, stretches, 5.0) == 0
    # What the servers cannot do in advance is lost: an idle second serves nobody later.
    assert bounds.fluid_drain([1.0] * 80, stretches, 1.0) == pytest.approx(2.0)


def test_the_oracle_obeys_rank_and_breaks_nobody_off() -> None:
    one = (Stretch(name=FULL, start=0.0, servers=Servers(count=1, service=1.0)),)
    assert bounds.oracle([(0.0, 5), (0.1, 5), (0.2, 0)], one) == [1.0, 3.0, 2.0]
    weaker = (
        Stretch(name=FULL, start=0.0, servers=Servers(count=2, service=1.0)),
        Stretch(name=HALF, start=0.5, servers=Servers(count=1, service=1.0)),
        Stretch(name=FULL, start=2.5, servers=Servers(count=2, service=1.0)),
    )
    jobs = [(0.0, 1), (0.0, 1), (0.6, 1), (0.7, 1), (0.8, 1)]
    assert bounds.oracle(jobs, weaker) == [1.0, 1.0, 2.0, 3.0, 3.5]


def test_the_oracle_agrees_with_the_formula_where_that_is_exact() -> None:
    """Exponential service, here by very many messages of a top class behind an endless backlog."""
    chooser = random.Random(1)
    stretches = (Stretch(name=FULL, start=0.0, servers=Servers(count=1, service=0.025)),)
    jobs: list[tuple[float, int]] = []
    now = 0.0
    while now < 400:
        now += chooser.expovariate(28.0)
        jobs.append((now, 0))
    jobs += [(index * 0.02, 1) for index in range(20_000)]
    jobs.sort()
    ends = bounds.oracle(jobs, stretches)
    waits = [
        end - arrival - 0.025 for end, (arrival, rank) in zip(ends, jobs, strict=True) if rank == 0
    ]
    # One server of constant service whose residual is never zero: M/D/1 with R = S / 2.
    assert statistics.mean(waits) == pytest.approx(0.0125 / (1 - 28 / 40), rel=0.1)


# The server.


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Programmable]:
    require("gcc")
    build("smtp_server")
    with Programmable(tmp_path, Servers(count=8, service=0.05), FOUR_QUICK) as started:
        yield started


FOUR_QUICK = Servers(count=4, service=0.05)


def _items(prefix: str, count: int) -> list[Item]:
    return [
        Item(
            sender="someone@personal.example",
            recipient=f"{prefix}-{number}@hospital.example",
            wire=b"Subject: x\r\n\r\n.\r\ntext\r\n",
        )
        for number in range(count)
    ]


def _flood(port: int, clients: int, each: int, name: str) -> None:
    shares = [_items(f"{name}-{client}", each) for client in range(clients)]
    with ThreadPoolExecutor(clients) as pool:
        for replies in pool.map(lambda items: send_lock_step(port, items), shares):
            assert all(reply.startswith("250 ") for reply in replies)


def _rate(found: Sequence[Arrival]) -> float:
    return (len(found) - 1) / (found[-1].at - found[0].at)


def test_the_server_takes_what_it_is_said_to_take(server: Programmable) -> None:
    _flood(server.port, 16, 20, "full")
    found = server.arrivals()
    assert len(found) == server.taken == 320
    assert _rate(found[8:]) == pytest.approx(160, rel=0.05)
    server.weaken()
    _flood(server.port, 16, 10, "half")
    assert _rate(server.arrivals()[320 + 8 :]) == pytest.approx(80, rel=0.05)
    server.restore()
    _flood(server.port, 16, 20, "again")
    assert _rate(server.arrivals()[480 + 8 :]) == pytest.approx(160, rel=0.05)
    assert server.is_idle


def test_the_server_is_first_come_first_served_whoever_comes(server: Programmable) -> None:
    names = [f"m{number:02d}" for number in range(40)]
    with ThreadPoolExecutor(len(names)) as pool:
        begun = []
        for number, name in enumerate(names):
            begun.append(pool.submit(send_lock_step, server.port, _items(name, 1)))
            wait_until(partial(_has_come, server, number + 1), "it has come")
        for each in begun:
            each.result()
    assert [arrival.identity for arrival in server.arrivals()] == [f"{name}-0" for name in names]


def _has_come(server: Programmable, count: int) -> bool:
    return server.taken + server.held >= count


def test_the_server_sees_duplicates_and_pipelining(server: Programmable) -> None:
    replies = send_pipelined(server.port, [*_items("same", 3), *_items("same", 2)])
    assert all(reply.startswith("250 ") for reply in replies)
    identities = [arrival.identity for arrival in server.arrivals()]
    assert identities == ["same-0", "same-1", "same-2", "same-0", "same-1"]


def test_a_message_whose_client_has_gone_is_taken_all_the_same(server: Programmable) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(
            b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<gone@b>\r\nDATA\r\nText\r\n.\r\nQUIT\r\n"
        )
        wait_until(lambda: server.held, "it has come")
    wait_until(lambda: server.taken == 1 and server.is_idle, "it is taken")
    assert [arrival.identity for arrival in server.arrivals()] == ["gone"]


# Figures and targets.


def _outcome(message: Message, fate: Fate = Fate.ACKNOWLEDGED) -> Outcome:
    at = 1000.0 + message.due
    return Outcome(message=message, fate=fate, reply="", started=at, ended=at + 0.1)


def _seen(*, is_done: bool = True) -> Observation:
    """Three seconds; clinical mail is lost, twice, refused, and in time."""
    names = ["lost", "twice", "refused", "in-time"]
    fates = [Fate.ACKNOWLEDGED, Fate.ACKNOWLEDGED, Fate.REFUSED, Fate.ACKNOWLEDGED]
    dues = [0.1, 0.2, 0.3, 1.5]
    outcomes = [
        _outcome(make_message(name, TOP, due=due), fate)
        for name, fate, due in zip(names, fates, dues, strict=True)
    ]
    arrivals = [Arrival("twice", 1000.7), Arrival("twice", 1000.9), Arrival("in-time", 1002.0)]
    return Observation(
        began=1000.0,
        weakened=1001.0,
        restored=1002.0,
        ended=1010.0,
        outcomes=outcomes,
        arrivals=arrivals,
        is_done=is_done,
    )


def _figures(*, peer: str = peers.FIXED, is_done: bool = True) -> Figures:
    return work_out(backends.programmable(), Plan(seconds=3), peer, _seen(is_done=is_done))


def test_figures_tell_lost_from_waiting_and_count_copies() -> None:
    figures = _figures()
    top = figures.top
    assert (top.messages, top.errors, top.lost, top.waiting, top.duplicates) == (4, 1, 1, 0, 1)
    assert top.by_stretch[FULL].most == pytest.approx(0.5)
    assert top.by_stretch[HALF].most == pytest.approx(0.5)
    assert figures.drain == pytest.approx(-1.0)
    assert figures.goodput == pytest.approx(2 / 60)  # of 40 and 20 in two seconds
    unfinished = _figures(is_done=False)
    assert (unfinished.top.lost, unfinished.top.waiting) == (0, 1)
    assert unfinished.drain == pytest.approx(7.0)


def test_targets_are_judged_one_by_one() -> None:
    ours = _figures()
    found = {each.name: each for each in targets.judge([ours])}
    assert found["clinical p99 at full capacity, s"].limit == pytest.approx(1.25 * 0.364, abs=0.01)
    assert not found["clinical p99 at full capacity, s"].is_reached
    assert found["clinical p99 at half capacity, s"].is_reached
    assert not found["lost"].is_reached
    assert not found["errors seen by clients"].is_reached
    assert not found["goodput over capacity"].is_reached
    assert not any("Postfix" in name for name in found)
    relay = replace(ours, peer=peers.POSTFIX)
    beside = {each.name: each for each in targets.judge([relay, ours])}
    assert beside["clinical p99 below Postfix's, times"].value == pytest.approx(1.0)
    assert not beside["clinical p99 below Postfix's, times"].is_reached


def test_nothing_arrived_reaches_no_target_of_time() -> None:
    seen = replace(_seen(), arrivals=())
    figures = work_out(backends.programmable(), Plan(seconds=3), peers.FIXED, seen)
    found = {each.name: each for each in targets.judge([figures])}
    assert not found["clinical p99 at full capacity, s"].is_reached


def test_tables_have_a_line_for_each_class_and_target() -> None:
    figures = _figures()
    text = report.table(backends.programmable(), Plan(seconds=3), [figures])
    assert text.count(f"\n{peers.FIXED:<18}") == len(MIX)
    assert "oracle" in text
    lines = report.targets(targets.judge([figures])).splitlines()
    assert [line.split()[0] for line in lines].count("MISSED") == 4
    gap = simulated.Gap(
        backend="programmable", peer=peers.FIXED, name="goodput", simulated=0.5, measured=0.7
    )
    assert gap.share == pytest.approx(0.4)
    assert "over 20 %" in report.gaps([gap])
    assert "over 20 %" not in report.gaps([replace(gap, measured=0.55)])


# Whole runs.


@pytest.mark.parametrize("peer", [peers.DIRECT, peers.FIXED, peers.POSTFIX_TUNED])
def test_a_short_overload_is_measured(peer: str, tmp_path: Path) -> None:
    require("gcc")
    build("smtp_server")
    if peer == peers.POSTFIX_TUNED:
        require_root()
        require("postfix")
    plan = Plan(seconds=SECONDS, warm_seconds=SECONDS, warm_pause=0.2)
    kind = backends.programmable()
    figures = run.measure(kind, peer, plan, tmp_path / "run")
    assert set(figures.classes) == set(MIX)
    messages = sum(row.messages for row in figures.classes.values())
    assert messages == len(plan.messages(40.0)) > 50
    for name in ("errors", "lost", "waiting", "duplicates"):
        assert figures.total(name) == 0, name
    assert figures.is_done
    assert 0.3 < figures.goodput <= 1.05
    assert figures.drain >= 0.8 * figures.bounds.drain
    assert (figures.held_most > 20) is (peer == peers.DIRECT)


def test_the_limited_postfix_weakens_and_recovers(tmp_path: Path) -> None:
    require_root()
    require("postfix")
    kind = backends.Kind(name="postfix", normal=EIGHT, weak=FOUR, start=backends.limited)
    with kind.start(tmp_path) as limited:
        sent = 0

        def seconds() -> float:
            nonlocal sent
            sent += 1
            start = time.monotonic()
            send_lock_step(limited.port, _items(f"m{sent}", 1))
            return time.monotonic() - start

        def is_quick() -> bool:
            return POLICY_SECONDS <= seconds() < 2 * POLICY_SECONDS

        wait_until(is_quick, "it takes as long as it is said to take")
        limited.weaken()
        assert seconds() >= 2 * POLICY_SECONDS
        limited.restore()
        wait_until(is_quick, "it has recovered")
        wait_until(lambda: limited.taken == sent and limited.is_idle, "all has been delivered")
        assert len(limited.arrivals()) == sent
