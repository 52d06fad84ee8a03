"""How much each sender has sent lately."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.classification.senders import NOTHING_SENT, SenderHistory, sent_within
from mailshed.mail.envelope import Envelope
from tests.support.builders import client, envelope

WINDOW = (100.0,)


def to(count: int, **changes: object) -> Envelope:
    return envelope(*(f"r{number}@example.net" for number in range(count)), **changes)  # type: ignore[arg-type]


def test_counts_messages_and_recipients_the_present_one_included() -> None:
    history = SenderHistory()
    assert history.note(WINDOW, to(3), 1000.0) == ((100.0, 1, 3),)
    assert history.note(WINDOW, to(2), 1010.0) == ((100.0, 2, 5),)


def test_a_window_slides() -> None:
    """What came in the period before counts in the share that the window still covers."""
    history = SenderHistory()
    for _ in range(10):
        history.note(WINDOW, to(1), 1050.0)
    counts = [history.note(WINDOW, to(1), now) for now in (1100.0, 1150.0, 1199.9)]
    assert counts == [((100.0, 11, 11),), ((100.0, 7, 7),), ((100.0, 3, 3),)]
    assert history.note(WINDOW, to(1), 1350.0) == ((100.0, 1, 1),), "all of it is long ago"


def test_windows_are_counted_apart() -> None:
    history = SenderHistory()
    history.note((10.0, 1000.0), to(1), 5000.0)
    assert history.note((10.0, 1000.0), to(1), 5021.0) == ((10.0, 1, 1), (1000.0, 2, 2))


def test_a_change_of_the_rules_keeps_the_windows_that_stay() -> None:
    history = SenderHistory()
    history.note((10.0, 100.0), to(1), 1000.0)
    assert history.note((100.0, 7.0), to(1), 1001.0) == ((100.0, 2, 2), (7.0, 1, 1))


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ({"sender": "a@x.example"}, {"sender": "A@X.example"}, True),
        ({"sender": "a@x.example"}, {"sender": "b@x.example"}, False),
        ({"sender": "a+1@x.example"}, {"sender": "a+2=y@x.example"}, True),
        ({"sender": "+1@x.example"}, {"sender": "+2@x.example"}, False),
        ({"sender": "SRS0+a@x.example"}, {"sender": "SRS0+b@x.example"}, False),
        ({"client": client("10.0.0.1")}, {"client": client("10.0.0.2")}, False),
        (
            {"client": client("10.0.0.1", user="u")},
            {"client": client("10.0.0.2", user="u")},
            True,
        ),
    ],
)
def test_a_sender_is_an_address_from_a_client(
    one: dict[str, object], other: dict[str, object], is_same: bool
) -> None:
    """So nobody can make another's mail look like bulk by forging the address."""
    history = SenderHistory()
    history.note(WINDOW, to(1, **one), 1000.0)
    (_, messages, _), *_ = history.note(WINDOW, to(1, **other), 1000.0)
    assert messages == (2 if is_same else 1)


def test_the_null_sender_is_nobody() -> None:
    history = SenderHistory()
    assert history.note(WINDOW, to(1, sender=None), 1000.0) is NOTHING_SENT
    assert len(history) == 0


def test_without_a_rule_that_asks_nothing_is_counted() -> None:
    history = SenderHistory()
    assert history.note((), to(1), 1000.0) is NOTHING_SENT
    assert len(history) == 0


def test_the_sender_that_was_silent_longest_is_forgotten_first() -> None:
    history = SenderHistory(senders_max=2)
    for name in ("a", "b", "a", "c"):
        history.note(WINDOW, to(1, sender=f"{name}@x.example"), 1000.0)
    assert len(history) == 2
    assert history.note(WINDOW, to(1, sender="a@x.example"), 1000.0) == ((100.0, 3, 3),)
    assert history.note(WINDOW, to(1, sender="b@x.example"), 1000.0) == ((100.0, 1, 1),)


def test_a_window_that_nobody_counts_has_nothing() -> None:
    assert sent_within(((10.0, 1, 2),), 10.0) == (1, 2)
    assert sent_within(((10.0, 1, 2),), 20.0) == (0, 0)


@settings(deadline=None)
@given(st.lists(st.floats(0, 60), max_size=40))
def test_the_estimate_is_never_more_than_the_last_two_windows_have(gaps: list[float]) -> None:
    history, now, times = SenderHistory(), 1000.0, []
    for gap in gaps:
        now += gap
        times.append(now)
        ((_, messages, recipients),) = history.note(WINDOW, to(2), now)
        period = now // 100.0
        now_and_before = [each for each in times if each // 100.0 >= period - 1]
        at_least = [each for each in times if each // 100.0 == period]
        assert len(at_least) <= messages <= len(now_and_before)
        assert 2 * len(at_least) <= recipients <= 2 * len(now_and_before)
