"""What would become of a message in some state of the backend."""

import pytest

from mailshed.cli.forecast import ACTIONS, STATES, forecast
from mailshed.config.cases import Action, State
from mailshed.terms import ClientKind
from tests.support.builders import BULK, CLINICAL, PERSONAL, traffic_class


@pytest.mark.parametrize(
    ("names", "state", "action", "words"),
    [
        (CLINICAL, "room", "relay", "relay at once"),
        (CLINICAL, "saturated", "wait", "wait up to 2 s"),
        (CLINICAL, "spool_filling", "wait", "wait up to 2 s"),
        (PERSONAL, "saturated", "wait", "wait up to 10 s"),
        (PERSONAL, "away", "spool", "spool (backend_away)"),
        (BULK, "room", "relay", "relay at once"),
        (BULK, "saturated", "spool", "spool (saturated)"),
    ],
)
def test_is_what_the_policy_decides(names: object, state: str, action: str, words: str) -> None:
    found, said = forecast(names, ClientKind.MTA, state)  # type: ignore[arg-type]
    assert found == action
    assert said.startswith(words)


def test_says_the_reply_that_a_sender_would_get() -> None:
    filling = traffic_class("bulk", 5, wait_max_mta=0.0, defer_fill=0.5)
    action, words = forecast(filling, ClientKind.MTA, "spool_filling")
    assert action == "defer"
    assert words.startswith("defer (spool_filling): 4")


def test_cases_may_name_all_states_and_actions_and_no_others() -> None:
    assert set(State.__args__) == set(STATES)  # type: ignore[attr-defined]
    assert set(Action.__args__) == set(ACTIONS)  # type: ignore[attr-defined]
