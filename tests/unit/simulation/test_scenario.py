"""The value that a run is a function of."""

import pytest

from mailshed.simulation.scenario import MIB, BackendModel, Stream
from tests.support.builders import PERSONAL
from tests.support.simulated import scenario, stream


def test_work_grows_with_size_and_recipients() -> None:
    model = BackendModel(base=0.05, per_mib=0.04, per_recipient=0.01)
    assert model.work(0, 1) == pytest.approx(0.05)
    assert model.work(2 * MIB, 3) == pytest.approx(0.05 + 0.08 + 0.02)


def test_a_scaled_scenario_has_so_many_times_the_mail_and_is_the_same_otherwise() -> None:
    made = scenario(stream(rate=2.0), stream(PERSONAL, name="other", rate=0.5))
    scaled = made.scaled(3.0)
    assert [each.rate for each in scaled.streams] == [6.0, 1.5]
    assert (scaled.backend, scaled.duration) == (made.backend, made.duration)


def test_a_stream_has_a_class_that_is_there() -> None:
    with pytest.raises(AssertionError, match="typo"):
        scenario(Stream(name="typo", traffic_class="bukl", rate=1.0))


def test_streams_have_names_of_their_own() -> None:
    with pytest.raises(AssertionError):
        scenario(stream(), stream())


def test_classes_are_found_by_name() -> None:
    assert scenario(stream()).by_name["personal"] is PERSONAL
