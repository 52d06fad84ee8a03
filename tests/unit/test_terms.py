"""The vocabulary: closed sets of words, and the numbers of a class."""

from dataclasses import FrozenInstanceError
from enum import Enum

import pytest

from mailshed.terms import ClientKind, Ending, Reason, SpoolState, Stage
from tests.support.builders import traffic_class


@pytest.mark.parametrize("closed_set", [ClientKind, Stage, Reason, SpoolState, Ending])
def test_each_word_is_fit_for_a_log_field_and_a_metric_label(closed_set: type[Enum]) -> None:
    """Lower case with underscores, and the same word as the member's name."""
    for member in closed_set:
        assert member.value == member.name.lower()
        assert member.value.replace("_", "").isalpha()


def test_stages_stand_in_the_order_of_the_dialog() -> None:
    assert [stage.value for stage in Stage] == [
        "connect",
        "ehlo",
        "mail",
        "rcpt",
        "data",
        "dot",
        "quit",
    ]


def test_a_mail_server_may_be_kept_waiting_longer_than_a_person() -> None:
    """A device waits as a user agent does: neither comes back by itself."""
    made = traffic_class(wait_max_mta=10.0, wait_max_user_agent=3.0)
    assert made.wait_max(ClientKind.MTA) == 10.0
    assert made.wait_max(ClientKind.USER_AGENT) == 3.0
    assert made.wait_max(ClientKind.DEVICE) == 3.0


def test_a_class_is_a_value() -> None:
    assert traffic_class("bulk", 5) == traffic_class("bulk", 5)
    assert len({traffic_class("bulk", 5), traffic_class("bulk", 5)}) == 1
    with pytest.raises(FrozenInstanceError):
        traffic_class().rank = 0  # type: ignore[misc]
