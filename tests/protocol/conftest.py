"""Every asynchronous test of this folder runs on asyncio's own loop and on uvloop."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Their transports differ in how they end, in what they buffer and in what they raise."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
