import json
from collections.abc import Callable

import pytest

from mailshed.control.surges import (
    DOUBT_SECONDS,
    GAP_SECONDS,
    KEYS_MAX,
    OTHER,
    SurgeChange,
    SurgeKey,
    Surges,
)
from mailshed.control.usual import WEEK_MINUTES
from mailshed.errors import StateError
from mailshed.terms import TrafficClass
from tests.support.builders import BULK, CLASSES, CLINICAL, TELEWORK, traffic_class

DAY = 1440
MEAN = 20
TELE = SurgeKey("telework")
VPN = SurgeKey("telework", "vpn")


class Week:
    """Surges whose time is turned by hand, and whose every minute has some messages of telework.

    `minute` is the place in the week, and moves along with `now` unless a test says otherwise.
    """

    def __init__(self, surges: Surges | None = None, start: int = 0) -> None:
        self.surges = surges or Surges(CLASSES, ("vpn", "lab"))
        self.now = 5000.0
        self.minute = start
        self.changes: list[SurgeChange] = []
        self.tick()

    def tick(self) -> list[SurgeChange]:
        found = self.surges.tick(self.now, self.minute % WEEK_MINUTES)
        self.changes += found
        return found

    def pass_minutes(
        self, minutes: int, per_minute: int, name: str = "telework", network: str = "vpn"
    ) -> None:
        for _ in range(minutes):
            for _ in range(per_minute):
                self.surges.count(name, network, 5000, 1)
            self.now += 60.0
            self.minute += 1
            self.tick()


def learned() -> Week:
    """Four days of the usual, up to Friday 0:00, then until ten."""
    week = Week()
    week.pass_minutes(4 * DAY + 600, MEAN)
    assert week.changes == []
    return week


@pytest.fixture(scope="module")
def document() -> str:
    """What was learned of an ordinary week, as it is kept."""
    return json.dumps(learned().surges.document())


@pytest.fixture
def week(document: str) -> Week:
    surges = Surges(CLASSES, ("vpn", "lab"))
    surges.restore(json.loads(document))
    return Week(surges, 4 * DAY + 600)


# What is watched.


def test_each_class_is_watched_and_each_class_from_each_network() -> None:
    surges = Surges(CLASSES, ("vpn", "lab"))

    names = [each.name for each in CLASSES]
    assert list(surges.states) == [
        *(SurgeKey(name) for name in names),
        *(SurgeKey(name, network) for network in ("vpn", "lab", OTHER) for name in names),
    ]


def test_without_named_networks_there_are_only_classes() -> None:
    surges = Surges(CLASSES, ())

    assert list(surges.states) == [SurgeKey(each.name) for each in CLASSES]
    surges.count("bulk", OTHER, 1, 1)


def test_a_network_called_other_is_not_there_twice() -> None:
    surges = Surges(CLASSES, ("vpn", OTHER))

    assert surges.networks == ("vpn",)
    assert len(surges.states) == 3 * len(CLASSES)


def test_keys_are_bounded_and_the_last_networks_count_as_other() -> None:
    networks = [f"n{number}" for number in range(1000)]
    surges = Surges(CLASSES, networks)

    assert len(surges.states) == KEYS_MAX
    assert surges.networks == tuple(networks[: KEYS_MAX // len(CLASSES) - 2])
    week = Week(surges)
    week.pass_minutes(1, 5, network="n999")
    assert surges.document()


def test_too_many_classes_are_not_all_watched() -> None:
    many = [traffic_class(f"c{number}") for number in range(KEYS_MAX + 5)]
    surges = Surges(many, ("vpn",))

    assert len(surges.states) == KEYS_MAX
    surges.count(f"c{KEYS_MAX + 1}", "vpn", 1, 1)


def test_mail_counts_for_its_class_and_for_its_part_of_it(week: Week) -> None:
    week.pass_minutes(1, 7)
    week.pass_minutes(1, 5, network="nowhere")

    states = week.surges.states
    assert states[TELE].messages == 12
    assert states[VPN].messages == 7
    assert states[SurgeKey("telework", OTHER)].messages == 5
    assert states[SurgeKey("bulk")].messages == 0


# Alarms.


def test_a_surge_is_told_when_it_begins_and_when_it_ends(week: Week) -> None:
    week.pass_minutes(15, 2 * MEAN)
    week.pass_minutes(60, MEAN)

    assert [(change.key, change.is_alarm) for change in week.changes] == [
        (TELE, True),
        (VPN, True),
        (TELE, False),
        (VPN, False),
    ]
    began, _, ended, _ = week.changes
    assert began.seconds == 0.0
    assert began.state.ratio is not None
    assert 30 * 60 <= ended.seconds <= 60 * 60


def test_a_surge_of_one_network_is_seen_where_the_class_hides_it(document: str) -> None:
    surges = Surges(CLASSES, ("vpn", "lab"))
    surges.restore(json.loads(document))
    week = Week(surges, 4 * DAY + 600)

    for _ in range(40):
        week.pass_minutes(1, MEAN + 2)  # lab is usually silent
        for _ in range(6):
            week.surges.count("telework", "lab", 1, 1)

    assert [change.key for change in week.changes] == [SurgeKey("telework", "lab")]


def test_between_ticks_nothing_happens(week: Week) -> None:
    for _ in range(100):
        week.surges.count("telework", "vpn", 1, 1)
        week.now += 0.5
        week.tick()

    assert week.surges.states[TELE].messages == 0
    week.now += 10
    week.minute += 1
    week.tick()
    assert week.surges.states[TELE].messages == 100


def test_a_tick_that_comes_late_counts_as_long_as_it_was(week: Week) -> None:
    for _ in range(20):
        for _ in range(4 * MEAN):
            week.surges.count("telework", "vpn", 1, 1)
        week.now += 240.0
        week.minute += 4
        week.tick()

    assert week.changes == []
    assert week.surges.states[TELE].ratio == pytest.approx(1.0, rel=0.01)


# Time that goes wrong.


def test_after_a_long_pause_what_was_counted_is_dropped(week: Week) -> None:
    for _ in range(1000):
        week.surges.count("telework", "vpn", 1, 1)
    week.now += GAP_SECONDS + 1
    week.minute += 5
    week.tick()

    assert week.surges.states[TELE].messages == 0
    week.pass_minutes(1, MEAN)
    assert week.surges.states[TELE].messages == MEAN
    assert week.changes == []


@pytest.mark.parametrize("jump", [-60, 60, 12 * 60, -3 * DAY, WEEK_MINUTES // 2])
def test_a_clock_that_was_set_begins_no_alarm_and_teaches_nothing(week: Week, jump: int) -> None:
    """It is set wrong for ten minutes, and then right again."""
    known = week.surges.document()
    week.pass_minutes(10, MEAN)
    week.minute += jump
    week.pass_minutes(10, 5 * MEAN)
    week.minute -= jump
    week.pass_minutes(int(DOUBT_SECONDS // 60) - 1, MEAN)

    assert week.changes == []
    hours = [each["usual"] for each in week.surges.document()["surges"]]  # type: ignore[attr-defined]
    assert hours == [each["usual"] for each in known["surges"]]  # type: ignore[attr-defined]


def test_after_the_doubt_there_are_alarms_again(week: Week) -> None:
    week.minute += 60
    week.pass_minutes(int(DOUBT_SECONDS // 60) + 1, 2 * MEAN)
    assert week.changes == []

    week.pass_minutes(15, 2 * MEAN)

    assert [change.key for change in week.changes] == [TELE, VPN]


def test_the_hour_that_comes_twice_in_autumn_is_two_hours() -> None:
    week = Week()
    week.pass_minutes(59, 10)
    week.minute -= 60
    week.pass_minutes(62, 20)

    stored = week.surges.document()["surges"][2]["usual"]["hours"][:3]  # type: ignore[index]
    assert week.surges.document()["surges"][2]["class"] == "telework"  # type: ignore[index]
    assert stored == [20 * 60, 10 * 60, -1]


def test_the_hour_that_is_missing_in_spring_has_no_value() -> None:
    week = Week()
    week.pass_minutes(60, 10)
    week.minute += 60
    week.pass_minutes(61, 10)

    hours = week.surges.document()["surges"][2]["usual"]["hours"]  # type: ignore[index]
    assert [hours[each * 8] for each in range(4)] == [600, -1, 600, -1]


# Quotas.


def test_a_class_in_a_surge_has_a_quota_of_what_is_expected(week: Week) -> None:
    assert week.surges.quotas(1.2) == {}

    week.pass_minutes(15, 2 * MEAN)

    assert week.surges.quotas(1.2) == {"telework": pytest.approx(1.2 * MEAN / 60, rel=0.1)}
    week.pass_minutes(60, MEAN)
    assert week.surges.quotas(1.2) == {}


def test_clinical_mail_has_none_whatever_it_does() -> None:
    week = Week()
    week.pass_minutes(4 * DAY, 5, name="clinical")
    week.pass_minutes(30, 100, name="clinical")

    assert week.surges.states[SurgeKey("clinical")].is_alarm
    assert week.surges.quotas(1.2) == {}


def test_an_alarm_of_a_network_alone_has_no_effect(week: Week) -> None:
    week.pass_minutes(60, 6, network="lab")

    assert week.surges.states[SurgeKey("telework", "lab")].is_alarm
    assert not week.surges.states[TELE].is_alarm
    assert week.surges.quotas(1.2) == {}


# Work.


def measured(seconds: float | None) -> Callable[[int, int], float | None]:
    def seconds_of(size: int, recipients: int) -> float | None:
        assert (size, recipients) == (5000, 1)
        return seconds

    return seconds_of


def test_what_was_not_expected_of_a_surge_is_counted_as_work(week: Week) -> None:
    for seconds, expected in ((None, 0.0), (0.5, 0.5)):
        before = week.surges.unexpected_work["telework"]
        for _ in range(30):
            for _ in range(3 * MEAN):
                week.surges.count("telework", "vpn", 5000, 1)
            week.now += 60
            week.minute += 1
            week.surges.tick(week.now, week.minute, measured(seconds))
        work = week.surges.unexpected_work["telework"] - before
        assert work == pytest.approx(expected * 30 * 2 * MEAN, rel=0.1)


def test_chance_is_not_counted_as_work(week: Week) -> None:
    for minute in range(60):
        for _ in range(MEAN + (5 if minute % 2 else -5)):
            week.surges.count("telework", "vpn", 5000, 1)
        week.now += 60
        week.minute += 1
        week.surges.tick(week.now, week.minute, measured(1.0))

    assert week.surges.unexpected_work == dict.fromkeys((each.name for each in CLASSES), 0.0)


# Adoption.


def test_a_class_is_adopted_with_its_networks(week: Week) -> None:
    week.pass_minutes(120, 2 * MEAN)

    adopted = week.surges.adopt("telework")

    assert set(adopted) == {TELE, VPN}
    assert all(factor == pytest.approx(2.0, rel=0.1) for factor in adopted.values())
    assert not week.surges.states[TELE].is_alarm
    assert week.surges.quotas(1.2) == {}
    week.pass_minutes(60, 2 * MEAN)
    assert not week.surges.states[TELE].is_alarm


def test_what_has_no_surge_is_not_adopted(week: Week) -> None:
    assert week.surges.adopt("telework") == {}
    assert week.surges.adopt("no-such-class") == {}


# The configuration changes.


def test_what_was_learned_survives_a_change_of_the_configuration(week: Week) -> None:
    week.surges.configure([CLINICAL, TELEWORK], ("vpn", "new"))
    assert SurgeKey("bulk") not in week.surges.states
    week.pass_minutes(1, MEAN)

    week.surges.configure(CLASSES, ("vpn", "lab"))
    week.pass_minutes(15, 2 * MEAN)

    assert [change.key for change in week.changes] == [TELE, VPN]


def test_what_is_counted_survives_it_too(week: Week) -> None:
    for _ in range(7):
        week.surges.count("telework", "vpn", 1, 1)
    week.surges.configure([BULK, TELEWORK], ("vpn",))
    week.pass_minutes(1, 0)

    assert week.surges.states[TELE].messages == 7


def test_what_was_learned_of_others_is_bounded() -> None:
    surges = Surges([traffic_class("a")], [f"n{number}" for number in range(200)])
    surges.configure([traffic_class("b")], [f"n{number}" for number in range(200)])

    assert len(surges.document()["surges"]) == KEYS_MAX  # type: ignore[arg-type]


# Keeping.


def test_survives_as_json(document: str) -> None:
    surges = Surges(CLASSES, ("vpn", "lab"))
    surges.restore(json.loads(document))

    assert json.loads(json.dumps(surges.document())) == json.loads(document)


def test_what_is_kept_of_a_class_that_is_gone_is_kept_on(document: str) -> None:
    without: list[TrafficClass] = [CLINICAL, BULK]
    surges = Surges(without, ())
    surges.restore(json.loads(document))
    surges.configure(CLASSES, ("vpn", "lab"))

    kept = {(each["class"], each["network"]): each for each in json.loads(document)["surges"]}
    now = {(each["class"], each["network"]): each for each in surges.document()["surges"]}  # type: ignore[attr-defined]
    assert now == kept


def test_the_largest_state_fits_its_file() -> None:
    from mailshed.statefile import OCTETS_MAX  # noqa: PLC0415 - only here

    surges = Surges([traffic_class(f"class-{number}") for number in range(KEYS_MAX)], ())
    text = json.dumps(surges.document(), separators=(",", ":"))
    most = text.replace("-1", str(10**9))

    assert len(most) < OCTETS_MAX


@pytest.mark.parametrize(
    "faulty",
    [
        {},
        {"version": 2, "surges": []},
        {"version": 1, "surges": {}},
        {"version": 1, "surges": [7]},
        {"version": 1, "surges": [{"class": "telework", "network": ""}]},
    ],
)
def test_what_is_not_ours_is_refused_and_changes_nothing(
    faulty: dict[str, object], week: Week
) -> None:
    before = week.surges.document()

    with pytest.raises(StateError):
        week.surges.restore(faulty)

    assert week.surges.document() == before


def test_names_are_text(document: str) -> None:
    faulty = json.loads(document)
    faulty["surges"][0]["class"] = 7

    with pytest.raises(StateError, match="names"):
        Surges(CLASSES, ()).restore(faulty)
