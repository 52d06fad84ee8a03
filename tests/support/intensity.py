"""How hard the attacks of the tests are tried: `make test-attacks` tries so many times more.

What is exhaustive by itself does not change. What is drawn at random, repeated or counted does.
"""

import os
from typing import Any

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("MAILSHED_TEST_ATTACKS", "1"))
"""1 in the ordinary tests."""


def tried(examples: int, **more: Any) -> settings:
    """Settings of a property that is tried so many times, or `TIMES` as often."""
    return settings(
        max_examples=examples * TIMES,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        **more,
    )
