"""The seam between dialog and path: the handler of the service fills it."""

import inspect

import pytest

from mailshed.listener.handler import Handler
from mailshed.listener.interface import MailHandler

METHODS = [
    name for name, _ in inspect.getmembers(MailHandler, inspect.isfunction) if name[0] != "_"
]


@pytest.mark.parametrize("name", METHODS)
def test_the_handler_of_the_service_answers_every_question_of_a_session(name: str) -> None:
    asked = inspect.signature(getattr(MailHandler, name))
    answered = inspect.signature(getattr(Handler, name))
    assert list(answered.parameters) == list(asked.parameters)
    assert inspect.iscoroutinefunction(getattr(Handler, name)) == inspect.iscoroutinefunction(
        getattr(MailHandler, name)
    )


def test_there_is_something_to_ask() -> None:
    assert {"connected", "recipient", "content", "disconnected"} <= set(METHODS)
