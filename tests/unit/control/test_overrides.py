"""Overrides as values: what is refused, what replaces what, and when they end."""

from dataclasses import replace
from typing import Any

import pytest

from mailshed.control.overrides import (
    CLOCK_SLACK,
    OVERRIDES_MAX,
    REASON_MAX,
    SECONDS_MAX,
    Override,
    OverrideKind,
    Overrides,
    Wish,
)
from mailshed.errors import RequestError
from tests.support.builders import BULK, CLASSES, CLINICAL, TELEWORK, traffic_class

NOW, WALL = 50.0, 1_700_000_000.0
HOUR = 3600.0
MANY = tuple(traffic_class(f"class-{number}", 3) for number in range(OVERRIDES_MAX))


def wish(kind: str = "hold", name: str = "bulk", value: int = 0, **changes: Any) -> Wish:
    """Two hours of it, because."""
    made = Wish(
        kind=OverrideKind(kind),
        traffic_class="" if kind == "level" else name,
        value=value,
        reason="because",
    )
    return replace(made, **changes)


def add(overrides: Overrides, made: Wish, now: float = NOW, wall: float = WALL) -> Overrides:
    return overrides.add(
        made, (*CLASSES, *MANY), user="dupont", request="77aa", now=now, wall=wall
    ).overrides


def of(*wishes: Wish) -> Overrides:
    """Overrides with these in force."""
    made = Overrides()
    for each in wishes:
        made = add(made, each)
    return made


class TestWhatIsInForce:
    def test_nothing_at_first(self) -> None:
        nothing = Overrides()

        assert len(nothing) == 0
        assert nothing.forced_level is None
        assert not nothing.is_held("bulk")
        assert nothing.slots("bulk") is None
        assert not nothing.is_released("bulk")
        assert nothing.caps == {}

    def test_a_level(self) -> None:
        assert of(wish("level", value=3)).forced_level == 3

    def test_level_0_is_a_level(self) -> None:
        assert of(wish("level", value=0)).forced_level == 0

    def test_each_is_about_its_class_only(self) -> None:
        made = of(wish("hold"), wish("limit", "telework", 2), wish("release", "personal"))

        assert made.held == {"bulk"}
        assert made.is_held("bulk")
        assert not made.is_held("telework")
        assert made.slots("telework") == 2
        assert made.slots("bulk") is None
        assert made.is_released("personal")
        assert not made.is_released("bulk")
        assert made.caps == {"bulk": 0, "telework": 2}

    def test_a_class_may_be_limited_and_held(self) -> None:
        made = of(wish("limit", value=2), wish("hold"))

        assert (made.is_held("bulk"), made.slots("bulk"), made.caps["bulk"]) == (True, 2, 0)
        assert [each.kind.value for each in made.in_force] == ["limit", "hold"]

    def test_they_say_what_they_are(self) -> None:
        made = of(wish("level", value=2), wish("limit", value=3), wish("hold", "telework"))

        assert list(map(str, made.in_force)) == ["level 2", "limit bulk 3", "hold telework"]


class TestAdding:
    def test_it_is_known_by_a_number_and_ends_when_it_should(self) -> None:
        added = of(wish("level", value=1)).add(
            wish(seconds=HOUR), CLASSES, user="dupont", request="beef", now=NOW, wall=WALL
        )

        assert added.override == Override(
            number=2,
            kind=OverrideKind.HOLD,
            traffic_class="bulk",
            user="dupont",
            reason="because",
            since_wall=WALL,
            seconds=HOUR,
            request="beef",
            ends_at=NOW + HOUR,
        )
        assert added.override.until_wall == WALL + HOUR
        assert added.overrides.get(2) == added.override
        assert added.replaced is None

    def test_what_was_there_is_unchanged(self) -> None:
        before = of(wish("hold"))
        add(before, wish("hold", "telework"))

        assert before.held == {"bulk"}

    def test_the_same_again_replaces_it(self) -> None:
        before = of(wish("limit", value=2))
        added = before.add(
            wish("limit", value=5, seconds=9), CLASSES, user="x", request="", now=NOW, wall=WALL
        )

        assert added.replaced == before.get(1)
        assert len(added.overrides) == 1
        assert added.overrides.slots("bulk") == 5

    def test_a_level_replaces_a_level(self) -> None:
        made = of(wish("level", value=1), wish("level", value=4))

        assert (made.forced_level, len(made)) == (4, 1)

    def test_numbers_are_not_used_again(self) -> None:
        made = of(wish("hold"), wish("hold", "telework"))
        made = add(made.without(made.in_force), wish("hold"))

        assert [each.number for each in made.in_force] == [3]

    @pytest.mark.parametrize(
        ("first", "then"), [("hold", "release"), ("limit", "release"), ("release", "hold")]
    )
    def test_a_contradiction_is_refused_and_says_whose_decision_it_is(
        self, first: str, then: str
    ) -> None:
        before = of(wish(first, value=1))

        with pytest.raises(RequestError, match=r"by override 1 \(dupont: because\).*cancel 1"):
            add(before, wish(then, value=1))
        assert add(before, wish(then, "telework", value=1)).in_force[-1].traffic_class == "telework"

    @pytest.mark.parametrize("kind", ["hold", "limit", "release"])
    def test_rank_0_is_left_alone(self, kind: str) -> None:
        with pytest.raises(RequestError, match="rank 0"):
            add(Overrides(), wish(kind, "clinical", 1))

    @pytest.mark.parametrize("kind", ["hold", "limit", "release"])
    def test_an_unknown_class_is_refused_with_the_names_there_are(self, kind: str) -> None:
        with pytest.raises(RequestError, match=r"no 'bluk', only clinical, personal, "):
            add(Overrides(), wish(kind, "bluk", 1))

    @pytest.mark.parametrize(
        ("changes", "fault"),
        [
            ({"kind": OverrideKind.LEVEL, "value": -1}, "level"),
            ({"kind": OverrideKind.LEVEL, "value": 5}, "level"),
            ({"kind": OverrideKind.LIMIT, "value": 0}, "slots: .*hold the class"),
            ({"kind": OverrideKind.LIMIT, "value": 10_001}, "slots"),
            ({"seconds": 0.5}, "for"),
            ({"seconds": SECONDS_MAX + 1}, "for: .*7d.*configuration"),
            ({"seconds": float("nan")}, "for"),
            ({"reason": ""}, "reason"),
            ({"reason": "x" * (REASON_MAX + 1)}, "reason"),
            ({"reason": "a\x1b[2J"}, "reason"),
        ],
    )
    def test_nonsense_is_refused(self, changes: dict[str, Any], fault: str) -> None:
        with pytest.raises(RequestError, match=f"^{fault}"):
            add(Overrides(), wish(**changes))

    def test_there_is_a_bound(self) -> None:
        full = of(*(wish("hold", each.name) for each in MANY))

        with pytest.raises(RequestError, match="100 overrides"):
            add(full, wish("level", value=1))
        assert len(add(full, wish("hold", MANY[0].name))) == OVERRIDES_MAX, "it replaces one"


class TestTheEnd:
    def test_it_comes_by_itself(self) -> None:
        made = of(wish(seconds=HOUR), wish("level", value=1, seconds=2 * HOUR))

        assert made.expire(NOW + HOUR - 1, WALL + HOUR - 1).overrides is made
        change = made.expire(NOW + HOUR, WALL + HOUR)
        assert [each.number for each in change.ended] == [1]
        assert not change.overrides.held
        assert change.overrides.forced_level == 1
        assert change.overrides.last_number == 2

    def test_a_clock_set_forward_ends_it(self) -> None:
        assert len(of(wish()).expire(NOW + 1, WALL + 3 * HOUR).ended) == 1

    def test_a_clock_set_back_does_not_prolong_it(self) -> None:
        made = of(wish(seconds=HOUR))

        moved = made.expire(NOW + 600, WALL - 86400)
        assert not moved.ended
        (override,) = moved.overrides.in_force
        assert override.until_wall == pytest.approx(WALL - 86400 + 3000)
        assert override.seconds == HOUR
        assert override.left(NOW + 600, WALL - 86400) == pytest.approx(3000)

    def test_clocks_that_differ_by_a_little_change_nothing(self) -> None:
        made = of(wish())

        assert made.expire(NOW + 60, WALL + 60 - CLOCK_SLACK).overrides is made

    def test_what_is_left_is_by_the_clock_that_comes_first(self) -> None:
        (override,) = of(wish(seconds=HOUR)).in_force

        assert override.left(NOW + 60, WALL + 60) == HOUR - 60
        assert override.left(NOW + 60, WALL + 120) == HOUR - 120
        assert override.left(NOW + 120, WALL - 1e6) == HOUR - 120
        assert override.left(NOW + 2 * HOUR, WALL) == 0.0


class TestAnotherConfiguration:
    def test_what_fits_stays(self) -> None:
        made = of(wish(), wish("level", value=1))

        assert made.fit(CLASSES).overrides is made

    def test_an_override_goes_with_its_class(self) -> None:
        made = of(wish(), wish("hold", "telework"), wish("level", value=1))
        change = made.fit([CLINICAL, TELEWORK])

        assert [each.traffic_class for each in change.ended] == ["bulk"]
        assert change.overrides.held == {"telework"}
        assert change.overrides.forced_level == 1

    def test_a_class_that_has_become_clinical_is_not_held(self) -> None:
        made = of(wish())

        assert not made.fit([replace(BULK, rank=0)]).overrides.held
