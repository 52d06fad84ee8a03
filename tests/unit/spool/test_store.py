"""The protocol: that the stores fulfil it, and that its values are values."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from mailshed.spool.store import Settlement, SpoolStore
from tests.support.builders import queue_id, spool_record
from tests.support.memory_spool import MemorySpool
from tests.support.spools import sqlite_spool


def test_both_stores_have_every_method_of_the_protocol(tmp_path: Path) -> None:
    """The assignments are the test for mypy, the loop is the one for the running program."""
    stores: list[SpoolStore] = [MemorySpool(), sqlite_spool(tmp_path)]
    names = [name for name in vars(SpoolStore) if not name.startswith("_")]
    assert len(names) == 18
    for store in stores:
        assert all(callable(getattr(store, name)) for name in names)


def test_a_record_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        spool_record().attempts = 1  # type: ignore[misc]


def test_a_settlement_of_nobody_has_neither_endings_nor_reports() -> None:
    settlement = Settlement(queue_id=queue_id(), attempts=1, next_attempt_wall=0.0)
    assert (dict(settlement.endings), dict(settlement.deferred), settlement.reports) == ({}, {}, ())
