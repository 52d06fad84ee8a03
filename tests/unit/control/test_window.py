"""One window: areas, medians, and bounds."""

import random

import pytest

from mailshed.control.window import (
    SAMPLES_MAX,
    Sample,
    Stages,
    Window,
    error_of_median,
    middle_and_tail,
)


def sample(service: float = 0.2, mail: float = 0.01) -> Sample:
    """Expected: 0.1 s, of which 0.02 s for the envelope."""
    return Sample(service, 0.1, mail, 0.04, 0.02)


def test_messages_in_flight_are_averaged_over_time() -> None:
    window = Window()
    window.begin(10.0)
    window.step(10.0, 1)
    window.step(11.0, 1)  # one for a second
    window.step(13.0, -1)  # two for two seconds
    assert window.in_flight_average(15.0) == pytest.approx((1 + 4 + 2) / 5)
    assert window.in_flight_max == 2


def test_the_next_window_begins_with_those_in_flight() -> None:
    window = Window()
    window.step(0.0, 3)
    window.begin(10.0)
    assert (window.in_flight, window.in_flight_max) == (3, 3)
    assert window.in_flight_average(10.0) == 3.0
    assert window.in_flight_average(12.0) == 3.0


def test_a_window_may_begin_a_little_later() -> None:
    window = Window()
    window.begin(10.0)
    window.step(9.5, 4)
    window.step(10.0, -2)
    assert window.in_flight_average(12.0) == 2.0


def test_it_forgets_what_was_before() -> None:
    window = Window()
    window.begin(0.0)
    window.add(sample(), 0.3)
    window.busy, window.strangers, window.ticks, window.backlogged = 1, 2, 3, 3
    window.begin(5.0)
    assert window.samples == []
    assert (window.busy, window.strangers, window.ticks, window.backlogged) == (0, 0, 0, 0)
    assert window.service_share == 1.0


def test_samples_are_bounded_and_the_latest_stay() -> None:
    window = Window()
    window.begin(0.0)
    for number in range(3 * SAMPLES_MAX):
        window.add(sample(float(number)), 1.0)
    assert len(window.samples) == SAMPLES_MAX
    assert min(each.service for each in window.samples) == 2 * SAMPLES_MAX


def test_the_part_of_a_slot_that_is_service() -> None:
    window = Window()
    window.begin(0.0)
    window.add(sample(0.2), 0.4)
    window.add(sample(0.1), 0.2)
    assert window.service_share == pytest.approx(0.5)


def test_stages_are_compared_with_light_load() -> None:
    window = Window()
    window.begin(0.0)
    assert window.stages(0.005) == Stages()
    for _ in range(5):
        window.add(sample(0.2, mail=0.01), 0.2)
    stages = window.stages(0.005)
    assert stages.mail == pytest.approx(2.0)
    assert stages.envelope == pytest.approx(2.0)
    assert stages.data == pytest.approx(2.0)
    assert stages.rest == pytest.approx(2.0)


def test_a_delay_of_one_stage_is_seen_in_that_stage_alone() -> None:
    window = Window()
    window.begin(0.0)
    for _ in range(5):
        window.add(Sample(5.1, 0.1, 5.005, 5.02, 0.02), 5.1)
    stages = window.stages(0.005)
    assert stages.mail > 900
    assert stages.rest == pytest.approx(1.0, abs=0.01)
    assert stages.data == pytest.approx(1.0)


def test_who_does_not_tell_the_time_of_mail_is_not_asked() -> None:
    window = Window()
    window.begin(0.0)
    window.add(sample(mail=0.0), 0.2)
    assert window.stages(0.005).mail == 0.0


def test_median_tail_and_error() -> None:
    rng = random.Random(1)
    values = [rng.gauss(10.0, 1.0) for _ in range(400)]
    middle, tail = middle_and_tail(values)
    assert middle == pytest.approx(10.0, abs=0.2)
    assert tail == pytest.approx(11.28, abs=0.3)
    assert error_of_median(values) == pytest.approx(1.2533 / 20, rel=0.2)
    assert middle_and_tail([3.0]) == (3.0, 3.0)
    assert error_of_median([3.0]) == 0.0
