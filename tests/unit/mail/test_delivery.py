"""What became of a message, recipient by recipient."""

import pytest

from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    Delivered,
    DeliveryResult,
    InDoubt,
    TransactionResult,
    everyone,
)
from mailshed.mail.reply import make
from mailshed.terms import Stage

DELIVERED = Delivered(make(250, "2.0.0 Ok"))
BUSY = Deferred(Stage.RCPT, make(450, "4.2.0 Busy"))
BUSY_TOO = Deferred(Stage.DATA, make(451, "4.3.0 Error"))
SILENT = Deferred(Stage.RCPT, None, "connection lost")
REFUSED = Bounced(Stage.RCPT, make(550, "5.1.1 No such user"))
REFUSED_TOO = Bounced(Stage.DOT, make(554, "5.7.1 No"))
IN_DOUBT = InDoubt("no answer")


@pytest.mark.parametrize(
    ("results", "common"),
    [
        ((DELIVERED,), DELIVERED),
        ((DELIVERED, DELIVERED), DELIVERED),
        ((BUSY, BUSY_TOO), BUSY),
        ((SILENT, SILENT), SILENT),
        ((REFUSED, REFUSED_TOO), REFUSED),
        ((IN_DOUBT, InDoubt("reset")), IN_DOUBT),
        ((DELIVERED, REFUSED), None),
        ((REFUSED, SILENT), None),
        ((BUSY, REFUSED), None),
        ((IN_DOUBT, DELIVERED), None),
    ],
)
def test_recipients_that_fared_alike_have_one_result(
    results: tuple[DeliveryResult, ...], common: DeliveryResult | None
) -> None:
    assert TransactionResult(recipients=results).uniform is common


@pytest.mark.parametrize("results", [(BUSY, SILENT), (SILENT, BUSY)])
def test_one_whom_the_backend_deferred_and_one_it_never_answered_did_not_fare_alike(
    results: tuple[DeliveryResult, ...],
) -> None:
    """Else the order of the recipients would decide whether the backend counts as away."""
    assert TransactionResult(recipients=results).uniform is None


def test_everyone_shares_one_result() -> None:
    results = everyone(DELIVERED, 3)
    assert results == (DELIVERED, DELIVERED, DELIVERED)
    assert TransactionResult(recipients=results).uniform is DELIVERED


def test_a_transaction_took_no_time_and_had_a_dialog_unless_it_says_so() -> None:
    result = TransactionResult(recipients=(DELIVERED,))
    assert not result.is_backend_away
    assert (result.times.connect, result.times.service) == (0.0, 0.0)
