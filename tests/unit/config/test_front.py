"""Sections about clients: what fits together within one of them."""

import pytest
from pydantic import ValidationError

from mailshed.config.front import Listener


def test_a_key_that_is_not_there_is_a_fault() -> None:
    with pytest.raises(ValidationError, match="clint"):
        Listener.model_validate({"name": "a", "bind": "127.0.0.1:25", "clint": "mta"})
