"""What the drain reads of the configuration."""

from dataclasses import FrozenInstanceError

import pytest

from tests.support.middle import drain_policy


def test_a_policy_is_replaced_as_a_whole() -> None:
    policy = drain_policy()
    with pytest.raises(FrozenInstanceError):
        policy.remote_mta = "mail.example.net"  # type: ignore[misc]


def test_reports_name_no_backend_unless_it_has_a_host_name() -> None:
    assert drain_policy().remote_mta == ""
