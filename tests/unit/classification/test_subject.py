"""What there is to know about one message."""

import pytest

from mailshed.classification.subject import Condition, Known, early_answer, subject_of
from mailshed.mail.header import HeaderView
from tests.support.builders import envelope, subject


def test_a_subject_is_what_the_rules_see_of_envelope_and_header() -> None:
    made, head = envelope("x@example.net", priority=3), HeaderView(b"X: y\r\n\r\n")
    one = subject_of(made, head, size=7, sent=((60.0, 1, 1),))
    assert (one.client, one.reverse_path) == (made.client, made.reverse_path)
    assert (one.recipients, one.header, one.priority) == (made.recipients, head, 3)
    assert (one.size, one.sent, one.known) == (7, ((60.0, 1, 1),), Known.CONTENT)


def condition(known_at: Known, *, holds: bool, settled_by: bool | None = None) -> Condition:
    return Condition(
        holds=lambda _: holds, why=lambda _: "", known_at=known_at, settled_by=settled_by
    )


@pytest.mark.parametrize("holds", [True, False])
def test_an_answer_is_given_as_soon_as_it_is_final(holds: bool) -> None:
    asked = condition(Known.MAIL, holds=holds)
    answers = [early_answer(asked, subject(known=known)) for known in Known]
    assert answers == [None, holds, holds, holds, holds]


@pytest.mark.parametrize(("holds", "at_rcpt"), [(True, True), (False, None)])
def test_an_answer_that_recipients_cannot_take_back_is_given_at_rcpt(
    holds: bool, at_rcpt: bool | None
) -> None:
    asked = condition(Known.ENVELOPE, holds=holds, settled_by=True)
    answers = [early_answer(asked, subject(known=known)) for known in Known]
    assert answers == [None, None, at_rcpt, holds, holds]
