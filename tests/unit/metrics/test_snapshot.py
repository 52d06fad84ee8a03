"""A snapshot is a whole picture that knows its age and what binds."""

import dataclasses

import pytest

from mailshed.metrics.snapshot import Snapshot, SnapshotHolder, Usage

SNAPSHOT = Snapshot(made_at=100.0, wall=1e9, hostname="h", version="1", started_wall=1e9)


def test_age_is_measured_on_the_monotonic_clock_and_never_negative() -> None:
    assert SNAPSHOT.age(100.25) == 0.25
    assert SNAPSHOT.age(99.0) == 0.0


def test_the_fullest_resource_binds() -> None:
    full = dataclasses.replace(SNAPSHOT, saturation={"sessions": 0.2, "spool_bytes": 0.9})
    assert full.binding == "spool_bytes"
    assert SNAPSHOT.binding is None


def test_the_holder_hands_out_the_latest() -> None:
    holder = SnapshotHolder()
    assert holder.current is None
    newer = dataclasses.replace(SNAPSHOT, sessions=Usage(used=1, limit=2))
    holder.swap(SNAPSHOT)
    holder.swap(newer)
    assert holder.current is newer


def test_a_snapshot_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SNAPSHOT.wall = 0.0  # type: ignore[misc]
