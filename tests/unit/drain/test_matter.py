"""What a report is about: whose words a reply is, and in which form it is told."""

from dataclasses import replace

import pytest

from tests.support.report_matter import ABSENT, BOB, LATE, TAKEN, matter


@pytest.mark.parametrize(
    ("reply", "is_from_backend"),
    [
        (BOB.reply, True),
        (TAKEN.reply, True),
        ("451", True),
        ("421-4.3.2 closing", True),
        (LATE.reply, False),
        (ABSENT.reply, False),
        ("", False),
        ("55 5.1.1", False),
        ("5500 bottles", False),
    ],
)
def test_a_reply_of_a_server_begins_with_its_code(reply: str, is_from_backend: bool) -> None:
    assert replace(BOB, reply=reply).is_from_backend is is_from_backend


def test_a_report_is_in_utf8_only_for_a_reader_who_is() -> None:
    assert not matter().is_utf8
    assert matter(reverse_path="\u00e5sa@example.org".encode()).is_utf8
