"""How long a client is kept waiting: as configured, longer for a slow backend, never too long."""

import pytest

from mailshed.control.patience import (
    FACTOR,
    MTA_MAX,
    REFRESH,
    USER_AGENT_MAX,
    WINDOW,
    Patience,
)
from mailshed.terms import ClientKind


def taught(*services: float) -> Patience:
    patience = Patience()
    for service in services:
        patience.note(service)
    return patience


@pytest.mark.parametrize("kind", ClientKind)
def test_one_that_has_learned_nothing_is_as_configured(kind: ClientKind) -> None:
    assert Patience().respond_by(kind, 20.0) == 20.0


@pytest.mark.parametrize("kind", ClientKind)
def test_a_fast_backend_changes_nothing(kind: ClientKind) -> None:
    assert taught(*[0.1] * WINDOW).respond_by(kind, 20.0) == 20.0


def test_a_slow_backend_is_given_three_times_what_it_usually_needs() -> None:
    patience = taught(*[30.0] * REFRESH)
    assert patience.respond_by(ClientKind.MTA, 60.0) == FACTOR * 30.0


def test_one_slow_answer_among_many_is_not_usual() -> None:
    patience = taught(*[1.0] * (WINDOW - 1), 500.0)
    assert patience.respond_by(ClientKind.MTA, 20.0) == 20.0


def test_nobody_is_kept_longer_than_clients_wait() -> None:
    patience = taught(*[400.0] * REFRESH)
    assert patience.respond_by(ClientKind.MTA, 60.0) == MTA_MAX
    assert patience.respond_by(ClientKind.USER_AGENT, 20.0) == USER_AGENT_MAX
    assert patience.respond_by(ClientKind.DEVICE, 20.0) == USER_AGENT_MAX


def test_what_is_configured_counts_even_above_that() -> None:
    assert taught(*[400.0] * REFRESH).respond_by(ClientKind.USER_AGENT, 90.0) == 90.0


def test_a_backend_that_is_fast_again_is_believed_after_a_window() -> None:
    patience = taught(*[100.0] * WINDOW, *[0.1] * WINDOW)
    assert patience.respond_by(ClientKind.MTA, 60.0) == 60.0
