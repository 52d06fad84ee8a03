import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from mailshed.config.fields import is_hostname
from mailshed.config.schema import Config

MINIMAL: dict[str, object] = {
    "version": 1,
    "listeners": [{"name": "internal", "bind": "127.0.0.1:0"}],
    "backends": [{"name": "mail", "maildir": "maildir"}],
    "spool": {"path": "spool"},
    "metrics": {"bind": "127.0.0.1:0"},
}


def test_the_required_keys_are_enough() -> None:
    config = Config.model_validate(MINIMAL)

    assert config.admin_socket == Path("spool/admin.sock")
    assert is_hostname(config.hostname)


def test_shipped_classes_are_ordered_and_the_first_is_never_shed() -> None:
    classes = Config.model_validate(MINIMAL).classes

    assert [item.rank for item in classes] == sorted(item.rank for item in classes)
    assert classes[0].rank == 0
    thresholds = [item.threshold for item in classes]
    assert thresholds == sorted(thresholds, reverse=True)


def test_shipped_classes_wait_from_the_last_on_and_the_first_ones_never() -> None:
    classes = Config.model_validate(MINIMAL).classes

    assert {item.name: item.waits_at_level for item in classes} == {
        "clinical": None,
        "continuity": None,
        "personal": 4,
        "calendar": 4,
        "application": 3,
        "telework": 3,
        "bulk": 2,
    }
    assert [item.wait_target for item in classes] == [None, 0.5, 0.5, 1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("level", [1, 5])
def test_a_class_waits_at_a_level_at_which_classes_wait(level: int) -> None:
    made = {"name": "x", "rank": 1, "threshold": 1, "wait_max": "1s", "objective": "1m"}
    with pytest.raises(ValidationError, match="waits_at_level"):
        Config.model_validate({**MINIMAL, "classes": [{**made, "waits_at_level": level}]})


@pytest.mark.parametrize(
    ("own", "hostname"),
    [
        ("mx.example.org", "mx.example.org"),
        ("mx", "mx.localdomain"),
        ("my_host", "localhost.localdomain"),
        ("", "localhost.localdomain"),
    ],
)
def test_default_host_name_can_greet_whatever_the_host_is_called(
    own: str, hostname: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: own)

    assert Config.model_validate(MINIMAL).hostname == hostname


def test_is_frozen() -> None:
    config = Config.model_validate(MINIMAL)

    with pytest.raises(ValidationError):
        config.spool.path = Path("elsewhere")  # type: ignore[misc]


def test_admin_socket_may_be_elsewhere() -> None:
    config = Config.model_validate({**MINIMAL, "admin": {"socket": "/run/mailshed.sock"}})

    assert config.admin_socket == Path("/run/mailshed.sock")
