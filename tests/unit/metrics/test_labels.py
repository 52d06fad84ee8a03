"""Label values: closed, whole and told apart."""

from mailshed.metrics.labels import CLOSED_SETS, CODE_CLASSES, CONFIGURED, STATES, TERMS
from mailshed.terms import Ending, SpoolState


def test_a_label_is_closed_or_configured_and_never_both() -> None:
    assert not CLOSED_SETS.keys() & CONFIGURED


def test_no_set_has_a_value_twice_or_none() -> None:
    for label, values in CLOSED_SETS.items():
        assert values, label
        assert len(set(values)) == len(values), label


def test_states_and_terms_are_those_of_the_spool() -> None:
    assert set(STATES) == {state.value for state in SpoolState}
    assert set(TERMS) == {"accepted", "generated", *(ending.value for ending in Ending)}


def test_no_reply_is_a_class_of_its_own() -> None:
    assert CODE_CLASSES[-1] == "none"
