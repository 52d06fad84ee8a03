"""Quotas: what fits together within one of them."""

import pytest
from pydantic import ValidationError

from mailshed.config.quotas import Quota


def test_a_soft_quota_is_not_above_the_hard_one() -> None:
    assert Quota.model_validate({"soft": 60, "hard": 60}).soft == 60
    with pytest.raises(ValidationError, match="must not be greater than hard"):
        Quota.model_validate({"soft": 61, "hard": 60})
