"""What the drain reads of the configuration."""

from dataclasses import FrozenInstanceError

import pytest

from tests.support.middle import drain_policy


def test_a_policy_is_replaced_as_a_whole() -> None:
    policy = drain_policy()
    with pytest.raises(FrozenInstanceError):
        policy.retry = policy.retry  # type: ignore[misc]
