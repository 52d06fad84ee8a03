"""Three ways to share a mail server, against what theory says of them."""

from typing import Any

import pytest

from mailshed.simulation.agenda import Agenda
from mailshed.simulation.mail import Job
from mailshed.simulation.scenario import MONDAY
from mailshed.simulation.service import FifoServers, Service, SharedServer, contended, sharing
from tests.support.simulated import job


class Bench:
    """A service, and when it was done with what."""

    def __init__(self, kind: str, servers: int = 2) -> None:
        self.agenda = Agenda(MONDAY)
        self.ends: dict[Job, float] = {}
        self.service: Service
        if kind == "fifo":
            self.service = FifoServers(self.agenda, self.done, servers)
        else:
            part = sharing if kind == "sharing" else contended(0.03, 0.005)
            self.service = SharedServer(self.agenda, self.done, part, servers)

    def done(self, finished: Job) -> None:
        self.ends[finished] = self.agenda.elapsed

    def start(self, demand: float) -> Job:
        started = job(self.agenda, demand=demand)
        self.service.start(started)
        return started

    def at(self, seconds: float, **change: Any) -> None:
        self.agenda.after(seconds, lambda _: self.service.change(**change), None)

    def run(self) -> None:
        while self.agenda.step(self.agenda.now + 1e6) and self.agenda.elapsed < 1e6:
            pass

    def times(self, *jobs: Job) -> list[Any]:
        return [pytest.approx(self.ends[each]) for each in jobs]


def test_fifo_serves_so_many_at_a_time_in_the_order_of_arrival() -> None:
    bench = Bench("fifo")
    jobs = [bench.start(demand) for demand in (1.0, 3.0, 1.0, 1.0)]
    bench.run()
    assert bench.times(*jobs) == [1.0, 3.0, 2.0, 3.0]


def test_sharing_gives_each_an_equal_part() -> None:
    bench = Bench("sharing")
    # Four in two servers go at half speed; when two of them are done, the others at full speed.
    jobs = [bench.start(demand) for demand in (1.0, 1.0, 2.0, 2.0)]
    bench.run()
    assert bench.times(*jobs) == [2.0, 2.0, 3.0, 3.0]


def test_one_message_takes_as_long_as_it_takes_however_it_is_shared() -> None:
    for kind in ("fifo", "sharing", "contended"):
        bench = Bench(kind)
        alone = bench.start(1.5)
        bench.run()
        assert bench.times(alone) == [1.5]


def test_contended_does_less_in_all_beyond_its_best() -> None:
    bench = Bench("contended", servers=8)
    best, most = bench.service.best_in_flight, bench.service.capacity
    part = contended(0.03, 0.005)
    assert most == pytest.approx(best * part(best, 8))
    assert most > (best - 1) * part(best - 1, 8)
    assert most > (best + 1) * part(best + 1, 8)
    assert 30 * part(30, 8) < 0.9 * most


@pytest.mark.parametrize(("kind", "servers"), [("fifo", 3), ("sharing", 3)])
def test_it_knows_its_capacity(kind: str, servers: int) -> None:
    bench = Bench(kind, servers)
    assert (bench.service.capacity, bench.service.best_in_flight) == (servers, servers)
    bench.service.change(servers=6, speed=0.5)
    assert (bench.service.capacity, bench.service.best_in_flight) == (3.0, 6)


@pytest.mark.parametrize("kind", ["fifo", "sharing", "contended"])
def test_a_stall_lasts_as_long_as_it_lasts_for_all(kind: str) -> None:
    bench = Bench(kind)
    first = bench.start(1.0)
    bench.at(0.5, servers=2, speed=0.0)
    bench.at(0.8, servers=2, speed=0.0)
    bench.at(10.5, servers=2, speed=1.0)
    bench.run()
    assert bench.times(first) == [11.0]


@pytest.mark.parametrize("kind", ["fifo", "sharing"])
def test_a_slower_server_takes_longer_for_the_rest(kind: str) -> None:
    bench = Bench(kind)
    first = bench.start(1.0)
    bench.at(0.5, servers=2, speed=0.25)
    bench.at(1.5, servers=2, speed=1.0)
    bench.run()
    assert bench.times(first) == [1.75]


def test_servers_that_are_taken_away_finish_what_they_are_at() -> None:
    bench = Bench("fifo")
    jobs = [bench.start(2.0) for _ in range(4)]
    bench.at(1.0, servers=1, speed=1.0)
    bench.run()
    assert bench.times(*jobs) == [2.0, 2.0, 4.0, 6.0]


def test_servers_that_are_added_take_the_next_in_line() -> None:
    bench = Bench("fifo", servers=1)
    jobs = [bench.start(2.0) for _ in range(3)]
    bench.at(1.0, servers=3, speed=1.0)
    bench.run()
    assert bench.times(*jobs) == [2.0, 3.0, 3.0]


@pytest.mark.parametrize("kind", ["fifo", "sharing"])
def test_what_is_cancelled_is_never_done_and_makes_room(kind: str) -> None:
    bench = Bench(kind, servers=1)
    gone, stays = bench.start(1.0), bench.start(1.0)
    bench.service.cancel(gone)
    bench.run()
    assert gone not in bench.ends
    assert bench.times(stays) == [1.0]


def test_what_is_cancelled_in_line_is_not_served_either() -> None:
    bench = Bench("fifo", servers=1)
    first, gone, last = (bench.start(1.0) for _ in range(3))
    bench.service.cancel(gone)
    bench.run()
    assert gone not in bench.ends
    assert bench.times(first, last) == [1.0, 2.0]
