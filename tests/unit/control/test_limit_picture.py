"""How a limit shows itself: every part of it can be told apart."""

from dataclasses import fields

import pytest

from mailshed.control.adaptive import AdaptiveLimit
from mailshed.control.limit_picture import LimitPicture
from mailshed.control.window import Stages


def test_a_new_limit_shows_that_it_knows_nothing() -> None:
    picture = AdaptiveLimit(highest=20, lowest=3, start=5).picture()
    assert (picture.limit, picture.ceiling, picture.learned_ceiling) == (3, 20, None)
    assert (picture.x, picture.queue, picture.capacity) == (1.0, 0.0, 0.0)
    assert picture.stages == Stages()
    assert not picture.is_baseline_known
    assert not picture.is_probing
    assert picture.baseline == ()
    assert picture.cause == "start"


def test_a_picture_does_not_change() -> None:
    picture = AdaptiveLimit(highest=20).picture()
    for each in fields(LimitPicture):
        with pytest.raises(AttributeError):
            setattr(picture, each.name, None)
