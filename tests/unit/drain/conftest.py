"""The middle of the service around a spool that is watched."""

from pathlib import Path

import pytest

from tests.support.middle import Middle
from tests.support.watched_spool import WatchedSpool


@pytest.fixture
def spool() -> WatchedSpool:
    return WatchedSpool()


@pytest.fixture
def middle(tmp_path: Path, spool: WatchedSpool) -> Middle:
    return Middle(tmp_path, spool=spool)
