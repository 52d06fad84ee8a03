"""When mail comes and what it is: the laws it follows, and that nothing else moves it."""

import itertools
from collections import Counter
from math import inf
from random import Random

import pytest

from mailshed.simulation.arrivals import Arrivals, mean_size
from mailshed.simulation.scenario import MIB, MONDAY, BackendModel, Factor, Sizes, Stream
from tests.support.simulated import stream

HOUR, DAY = 3600.0, 86400.0


def arrivals(
    made: Stream, *, seed: int = 1, start_wall: float = MONDAY, **model: float
) -> Arrivals:
    backend = BackendModel(**model)  # type: ignore[arg-type]
    return Arrivals(made, backend, Random(seed), start_wall)


def times(made: Stream, until: float, **kwargs: float) -> list[float]:
    source, found = arrivals(made, **kwargs), list[float]()  # type: ignore[arg-type]
    while (when := source.next_time()) < until:
        found.append(when)
    return found


def test_gaps_are_exponential() -> None:
    found = times(stream(rate=10.0), 2000.0)
    gaps = [later - earlier for earlier, later in itertools.pairwise(found)]
    mean = sum(gaps) / len(gaps)
    spread = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert mean == pytest.approx(0.1, rel=0.03)
    assert spread == pytest.approx(0.01, rel=0.1)


def test_the_same_seed_gives_the_same_mail_and_another_one_other_mail() -> None:
    made = stream(rate=1.0, sizes=Sizes())
    one, same, other = arrivals(made), arrivals(made), arrivals(made, seed=2)
    first = [(one.next_time(), one.letter()) for _ in range(50)]
    assert first == [(same.next_time(), same.letter()) for _ in range(50)]
    assert first != [(other.next_time(), other.letter()) for _ in range(50)]


def test_the_rate_follows_the_hours_of_the_week() -> None:
    night_and_day = tuple(1.0 if hour >= 12 else 0.1 for hour in range(24)) * 7
    made = stream(rate=2.0, profile=night_and_day)
    found = times(made, DAY)
    assert sum(when < 12 * HOUR for when in found) == pytest.approx(8640, rel=0.05)
    assert sum(when >= 12 * HOUR for when in found) == pytest.approx(86400, rel=0.02)


@pytest.mark.parametrize(
    ("day", "hour"), [(0, 0.0), (0, 13.0), (6, 23.5)], ids=["monday", "noon", "sunday night"]
)
def test_a_run_begins_in_the_hour_of_its_wall_clock(day: int, hour: float) -> None:
    profile = tuple(float(index) for index in range(168))
    source = arrivals(stream(profile=profile), start_wall=MONDAY + day * DAY + hour * HOUR)
    assert source.rate_at(0.0) == 24 * day + int(hour)
    assert source.rate_at(HOUR) == (24 * day + int(hour) + 1) % 168


def test_a_factor_holds_from_its_start_to_its_end() -> None:
    factor = Factor(start=100.0, end=200.0, factor=3.0)
    source = arrivals(stream(rate=2.0, factors=(factor,)))
    assert [source.rate_at(when) for when in (99.9, 100.0, 199.9, 200.0)] == [2.0, 6.0, 6.0, 2.0]


def test_a_factor_may_come_back_again_and_again() -> None:
    factor = Factor(start=100.0, end=110.0, factor=0.0, every=50.0)
    source = arrivals(stream(rate=2.0, factors=(factor,)))
    found = [source.rate_at(when) for when in (99.0, 105.0, 111.0, 149.0, 155.0, 161.0, 1005.0)]
    assert found == [2.0, 0.0, 2.0, 2.0, 0.0, 2.0, 0.0]


def test_no_time_is_lost_between_two_pieces() -> None:
    factor = Factor(start=0.0, end=25.0, factor=3.0, every=50.0)
    found = times(stream(rate=2.0, factors=(factor,)), 20_000.0)
    assert sum(when % 50.0 < 25.0 for when in found) == pytest.approx(60_000, rel=0.02)
    assert sum(when % 50.0 >= 25.0 for when in found) == pytest.approx(20_000, rel=0.03)


def test_mail_comes_between_its_beginning_and_its_end_only() -> None:
    found = times(stream(rate=5.0, begins=100.0, ends=200.0), inf)
    assert 100.0 <= min(found) < 105.0
    assert 195.0 < max(found) < 200.0


def test_a_stream_without_a_rate_never_comes() -> None:
    assert arrivals(stream(rate=0.0)).next_time() == inf


def test_sizes_are_pareto_between_their_bounds() -> None:
    sizes = Sizes(smallest=1000, largest=1_000_000, shape=1.2)
    source = arrivals(stream(sizes=sizes))
    found = sorted(source.letter().size for _ in range(20_000))
    assert found[0] >= 1000
    assert found[-1] <= 1_000_000
    # The median by the law: (1 - F / mass) solved for a half.
    tail = 1000.0 / 1_000_000.0
    median = 1000.0 * (1.0 - 0.5 * (1.0 - tail**1.2)) ** (-1 / 1.2)
    assert found[len(found) // 2] == pytest.approx(median, rel=0.03)
    assert sum(found) / len(found) == pytest.approx(mean_size(sizes), rel=0.1)


def test_equal_bounds_make_all_messages_alike() -> None:
    sizes = Sizes(smallest=MIB, largest=MIB)
    source = arrivals(stream(sizes=sizes))
    assert {source.letter().size for _ in range(100)} == {MIB}
    assert mean_size(sizes) == MIB


def test_the_mean_of_a_shape_of_one_is_that_of_its_neighbours() -> None:
    around = [mean_size(Sizes(smallest=1000, largest=100_000, shape=s)) for s in (0.999, 1.001)]
    middle = mean_size(Sizes(smallest=1000, largest=100_000, shape=1.0))
    assert min(around) < middle < max(around)


def test_noise_has_a_mean_of_one() -> None:
    source = arrivals(stream(), noise=0.5)
    found = [source.letter().noise for _ in range(20_000)]
    assert sum(found) / len(found) == pytest.approx(1.0, rel=0.02)


def test_senders_are_alike_and_the_elephant_is_not() -> None:
    source = arrivals(stream(senders=10, elephant=0.5))
    found = Counter(source.letter().sender for _ in range(10_000))
    elephant = found.pop(b"elephant@personal")
    assert elephant == pytest.approx(5000, rel=0.05)
    assert len(found) == 10
    assert min(found.values()) > 400


def test_a_share_of_the_mailboxes_is_slow() -> None:
    source = arrivals(stream(), noise=0.0, slow_share=0.2, slow_factor=10.0)
    found = Counter(source.letter().noise for _ in range(5000))
    assert set(found) == {1.0, 10.0}
    assert found[10.0] == pytest.approx(1000, rel=0.15)
