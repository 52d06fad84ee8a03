"""What there is to know about one message."""

import pytest

from mailshed.classification.subject import Subject
from mailshed.mail.header import HeaderView
from tests.support.builders import envelope


def test_a_subject_is_the_envelope_and_the_header_and_does_not_change() -> None:
    made, head = envelope(), HeaderView(b"X: y\r\n\r\n")
    subject = Subject(made, head)
    assert (subject.envelope, subject.header) == (made, head)
    with pytest.raises(AttributeError):
        subject.header = head  # type: ignore[misc]
