"""The status document is the snapshot, as JSON."""

import dataclasses
import json
from types import MappingProxyType

from mailshed.admin.status import SCHEMA, as_json, status_document
from mailshed.metrics.snapshot import BackendSnapshot, Snapshot, SpoolSnapshot
from tests.support.snapshots import busy_snapshot


def test_every_field_of_the_snapshot_is_a_member() -> None:
    document = json.loads(json.dumps(status_document(busy_snapshot(), 1000.5)))
    names = {field.name for field in dataclasses.fields(Snapshot)} - {"made_at"}
    assert set(document) == names | {
        *("schema", "snapshot_age_seconds", "uptime_seconds", "binding")
    }
    assert document["schema"] == SCHEMA == "mailshed.status/1"
    assert document["snapshot_age_seconds"] == 0.5
    assert document["binding"] == "backend"
    assert document["spool"]["ledger"]["bulk"]["delivered"] == 36_420
    assert document["backends"][0]["in_flight"] == 20
    assert document["sessions"] == {"used": 140, "limit": 5000}


def test_mappings_of_any_kind_are_objects() -> None:
    ledger = MappingProxyType({"bulk": MappingProxyType({"accepted": 1})})
    snapshot = dataclasses.replace(busy_snapshot(), spool=SpoolSnapshot(ledger=ledger))
    document = status_document(snapshot, 1000.0)
    assert json.loads(json.dumps(document))["spool"]["ledger"] == {"bulk": {"accepted": 1}}


def test_a_wall_clock_that_jumped_back_gives_no_negative_uptime() -> None:
    snapshot = dataclasses.replace(busy_snapshot(), wall=0.0)
    assert status_document(snapshot, 1000.0)["uptime_seconds"] == 0.0


def test_a_patients_address_in_an_error_is_masked() -> None:
    error = "550 <189027512345678@patient.mssante.fr> unknown"
    away = BackendSnapshot(name="b", target="t", is_up=False, last_error=error)
    snapshot = dataclasses.replace(busy_snapshot(), backends=(away,))
    text = json.dumps(status_document(snapshot, 1000.0))
    assert "189027512345678" not in text
    assert "***@patient.mssante.fr" in text


def test_numbers_and_nothing_stay_what_they_are() -> None:
    assert as_json([1, 2.5, None, True, ("x",)]) == [1, 2.5, None, True, ["x"]]
