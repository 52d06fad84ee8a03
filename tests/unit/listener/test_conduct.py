"""What is held against a client, and what is not."""

import pytest

from mailshed.listener.conduct import IDLE_COMMANDS_MAX, Conduct
from mailshed.mail import reply
from mailshed.mail.reply import Reply

UNKNOWN = reply.UNKNOWN_RECIPIENT


@pytest.mark.parametrize(
    ("verb", "answer", "is_overrun", "is_old_address", "errors"),
    [
        ("other", reply.UNKNOWN_COMMAND, False, False, 1),
        ("mail", reply.HELO_FIRST, False, False, 1),
        ("mail", reply.INTERNAL, False, False, 1),
        ("dot", reply.BACKEND_AWAY, False, False, 0),
        ("dot", reply.BACKEND_AWAY, True, False, 0),
        ("auth", reply.AUTH_UNAVAILABLE, False, False, 0),
        ("auth", reply.AUTH_FAILED, False, False, 1),
        ("dot", reply.BARE_LINE_ENDING, False, False, 1),
        ("rcpt", UNKNOWN, False, False, 1),
        ("rcpt", UNKNOWN, False, True, 0),
        ("rcpt", UNKNOWN, True, True, 1),
        ("rcpt", reply.UNVERIFIED_RECIPIENT, False, False, 0),
        ("rcpt", reply.UNVERIFIED_RECIPIENT, True, False, 1),
        ("rcpt", reply.TOO_MANY_RECIPIENTS, False, False, 0),
        ("rcpt", reply.TOO_MANY_RECIPIENTS, True, True, 1),
    ],
)
def test_what_is_an_error(
    verb: str, answer: Reply, is_overrun: bool, is_old_address: bool, errors: int
) -> None:
    conduct = Conduct()
    conduct.note_refusal(verb, answer, is_overrun=is_overrun, is_old_address=is_old_address)
    assert conduct.errors == errors


def test_commands_that_lead_nowhere_are_errors_from_a_number_on() -> None:
    conduct = Conduct()
    for _ in range(IDLE_COMMANDS_MAX):
        conduct.note_idle_command()
    assert conduct.errors == 0
    for _ in range(3):
        conduct.note_idle_command()
    assert conduct.errors == 3


def test_it_can_begin_anew() -> None:
    conduct = Conduct()
    for _ in range(IDLE_COMMANDS_MAX + 5):
        conduct.note_idle_command()
    conduct.forget()
    conduct.note_idle_command()
    assert conduct.errors == 0
