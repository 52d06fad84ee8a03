"""What the hot path's values are: dataclasses with slots that compare and hash by their fields."""

from dataclasses import field, fields, replace

import pytest

from mailshed.mail.delivery import Deferred
from mailshed.terms import Stage
from mailshed.values import value


@value(kw_only=True)
class Parcel:
    weight: int
    labels: tuple[str, ...] = field(default=())


@value()
class Place:
    street: str
    number: int = 1


def test_they_compare_and_hash_by_their_fields() -> None:
    assert Parcel(weight=1) == Parcel(weight=1, labels=())
    assert len({Place("North"), Place("North", 1), Place("South")}) == 2


def test_they_are_dataclasses_with_slots() -> None:
    assert [each.name for each in fields(Parcel)] == ["weight", "labels"]
    assert replace(Parcel(weight=1), weight=2).weight == 2
    assert not hasattr(Place("North"), "__dict__")
    match Place("North", 7):
        case Place(_, number):
            assert number == 7


def test_their_fields_may_have_to_be_named() -> None:
    with pytest.raises(TypeError):
        Parcel(1)  # type: ignore[call-arg]


def test_the_answers_of_a_backend_are_such_values() -> None:
    assert Deferred(Stage.MAIL, None) == Deferred(Stage.MAIL, None, "")
    assert hash(Deferred(Stage.MAIL, None)) == hash(Deferred(Stage.MAIL, None, ""))
