"""The screen answers 'what is full now' in 80 columns by 24 rows."""

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.admin.screen.page import override_words, render
from mailshed.admin.status import status_document
from mailshed.metrics.snapshot import Snapshot, SpoolSnapshot
from tests.support.snapshots import busy_snapshot, screen


def test_a_busy_service_looks_like_this() -> None:
    assert screen(busy_snapshot()).splitlines() == [
        "mailshed 1.0.0 on smtp-int-1  ENFORCING  up 12d7h  config 3f9a2c1d (2h1m ago)",
        "LEVEL 3 FORCED, SHEDDING telework 1.5/s, bulk 379/s   LIMITED BY exch02 away",
        "OVERRIDE 7: hold bulk, 1h30m left (dupont: newsletter RH)",
        "OVERRIDE 6: level 3, 1d left (martin: patch night)",
        "CLASS         IN/s  OUT/s  QUEUED OLDEST    ETA    OK/h SPOOLED/h NOTE",
        "clinical       3.1    3.1       0      -      -  11 203         0",
        "continuity    0.05   0.05       1     4s stands       0         0",
        "personal      0.05   0.05       2     8s stands       0         0",
        "calendar      0.05   0.05       3    12s stands       0         0",
        "application   0.05   0.05       4    16s stands       0         0",
        "telework       4.0    2.5       5    20s   4m5s   9 104       231 2.1x usual",
        "bulk           380   0.80   9 412  4h10m  grows   2 880     9 412 LATE>4h,held",
        "extra         0.05   0.05       7    28s stands       0         0",
        "BACKEND exch01 up   in flight 20/20   waiting 14   conn 20+2 idle",
        "  exch01.hospital.example:25",
        "BACKEND exch02 AWAY   in flight 0/20   waiting 0   conn 0+0 idle",
        "  exch02.hospital.example:25",
        "  next probe in 12 s; connection refused ?[2J by 10.0.0.9",
        "SPOOL 9 412/1.00M messages   1.2 GiB/10 GiB   disk free 40 GiB (keeps 256 MiB)",
        "Accounted (recipients spooled): 46 057 accepted + 3 generated = 36 430 delivered",
        "  + 1 bounced + 1 refused + 1 expired + 1 removed + 9 626 queued   OK",
    ]


def test_many_overrides_do_not_push_the_table_off_the_screen() -> None:
    one = busy_snapshot().overrides[1]
    many = [
        dataclasses.replace(one, id=number, left_seconds=100.0 * number, reason="why " * 100)
        for number in range(9, 0, -1)
    ]
    snapshot = dataclasses.replace(busy_snapshot(), overrides=tuple(many))
    shown = [line for line in screen(snapshot).splitlines() if "verride" in line.lower()]
    assert [line[:12] for line in shown[:3]] == ["OVERRIDE 1: ", "OVERRIDE 2: ", "OVERRIDE 3: "]
    assert all(line.endswith("...") for line in shown[:3])
    assert shown[3:] == ["and 6 more overrides: mailshed override list"]

    whole = render(status_document(snapshot, snapshot.made_at), None)
    assert whole.count("OVERRIDE") == 9
    assert whole.count("why why") == 9 * 50


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"kind": "hold", "traffic_class": "bulk", "value": 0}, "hold bulk"),
        ({"kind": "release", "traffic_class": "bulk", "value": 0}, "release bulk"),
        ({"kind": "limit", "traffic_class": "bulk", "value": 4}, "limit bulk 4"),
        ({"kind": "level", "traffic_class": "", "value": 0}, "level 0"),
        ({}, "? ?"),
    ],
)
def test_an_override_in_few_words(override: dict[str, Any], words: str) -> None:
    assert override_words(override) == words


def test_it_fits_80_by_24_with_eight_classes_when_all_is_wrong() -> None:
    spool = dataclasses.replace(busy_snapshot().spool, is_healthy=False, sick_reason="x" * 300)
    backend = dataclasses.replace(busy_snapshot().backends[1], last_error="no route " * 40)
    worst = dataclasses.replace(
        busy_snapshot(), backends=(backend,), spool=spool, is_stopping=True, reload_ok=False
    )
    assert len(screen(worst, age=99.0).splitlines()) <= 24
    lines = screen(dataclasses.replace(worst, is_stopping=False), age=99.0).splitlines()
    assert len(lines) <= 24
    assert "2 overrides: mailshed override list" in lines
    assert max(map(len, lines)) <= 80


def test_a_picture_that_is_not_current_says_so_loudly() -> None:
    assert "NOT CURRENT" not in screen(busy_snapshot(), age=1.9)
    assert "!!! NOT CURRENT: the service made this picture 7s ago" in screen(
        busy_snapshot(), age=7.0
    )


def test_stress_says_what_it_means() -> None:
    assert "STRESS" not in screen(busy_snapshot())
    stressed = dataclasses.replace(busy_snapshot(), is_stressed=True)
    line = "STRESS: 140 of 5 000 sessions are open, so strangers have less time"
    assert line in screen(stressed).splitlines()


def test_a_sick_spool_says_what_that_means() -> None:
    spool = dataclasses.replace(busy_snapshot().spool, is_healthy=False, sick_reason="I/O error")
    text = screen(dataclasses.replace(busy_snapshot(), spool=spool))
    assert "SPOOL SICK: relay-only mode" in text
    assert "I/O error" in text


def with_spool(**changes: Any) -> Snapshot:
    snapshot = busy_snapshot()
    return dataclasses.replace(snapshot, spool=dataclasses.replace(snapshot.spool, **changes))


def test_a_full_spool_says_so_loudly_and_why() -> None:
    assert "SPOOL FULL" not in screen(busy_snapshot())
    reason = "90 MiB of disk are free, 256 MiB are reserved"
    lines = screen(with_spool(full_reason=reason, has_clinical_room=False)).splitlines()
    banner = "!!! SPOOL FULL: mail gets 452 unless it is relayed !!!"
    assert lines[lines.index(banner) + 1] == f"  {reason}"
    clinical = screen(with_spool(full_reason=reason, has_clinical_room=True))
    assert (
        "!!! SPOOL FULL but for clinical mail: other mail gets 452 unless relayed !!!" in clinical
    )
    assert max(map(len, clinical.splitlines())) <= 80


def test_that_nobody_can_log_in_is_said_loudly_and_why() -> None:
    assert "LOG IN" not in screen(busy_snapshot())
    failing = dataclasses.replace(
        busy_snapshot(), logins_failing="auth.sock: Connection refused", logins_failing_seconds=250
    )
    line = "!!! NOBODY CAN LOG IN, for 4m10s: auth.sock: Connection refused"
    assert line in screen(failing).splitlines()
    endless = dataclasses.replace(failing, logins_failing="x" * 300)
    assert max(map(len, screen(endless).splitlines())) <= 80


def test_without_a_width_neither_address_nor_cause_is_cut_or_wrapped() -> None:
    snapshot = busy_snapshot()
    cause = "connect: " + "no route to host " * 20 + "end"
    backend = dataclasses.replace(snapshot.backends[1], target="t" * 200, last_error=cause)
    status = status_document(dataclasses.replace(snapshot, backends=(backend,)), 1000.0)
    lines = render(status, None).splitlines()
    assert any(line.endswith("t" * 200) for line in lines)
    assert f"  next probe in 12 s; {cause}" in lines


@pytest.mark.parametrize("width", [80, 100, 132])
def test_on_a_terminal_a_cause_is_wrapped_once_and_then_cut(width: int) -> None:
    snapshot = busy_snapshot()
    cause = "connect: [Errno 113] no route to host exch02.hospital.example, port 25, from 10.0.0.5"
    backend = dataclasses.replace(snapshot.backends[1], last_error=cause)
    status = status_document(dataclasses.replace(snapshot, backends=(backend,)), 1000.0)
    text = render(status, width)
    assert max(map(len, text.splitlines())) <= width
    assert cause in " ".join(text.split())
    backend = dataclasses.replace(backend, last_error=cause * 9)
    status = status_document(dataclasses.replace(snapshot, backends=(backend,)), 1000.0)
    text = render(status, width)
    assert len([line for line in text.splitlines() if line.endswith("...")]) == 1
    assert max(map(len, text.splitlines())) <= width


def test_a_ledger_that_does_not_balance_is_a_mismatch() -> None:
    """One accepted recipient is nowhere."""
    ledger = {"clinical": {"accepted": 3, "delivered": 2}}
    snapshot = dataclasses.replace(busy_snapshot(), spool=SpoolSnapshot(ledger=ledger))
    assert "MISMATCH of +1" in screen(snapshot)


def test_an_empty_document_is_no_error() -> None:
    """A newer command line may meet an older service."""
    assert "mailshed ?" in render({})


@given(st.dictionaries(st.sampled_from(["hostname", "version", "config_hash"]), st.text()))
def test_no_text_from_outside_reaches_the_terminal_raw(texts: dict[str, str]) -> None:
    status: dict[str, Any] = {
        **texts,
        "backends": [{"name": "b", "is_up": False, "last_error": "".join(texts.values())}],
    }
    assert re.fullmatch(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e]*", render(status))


def test_a_refused_reload_says_what_is_in_force() -> None:
    """A file that needs a restart is not faulty."""
    shown = screen(dataclasses.replace(busy_snapshot(), reload_ok=False))
    assert "!!! Reload REFUSED: the old configuration is in force, see the log !!!" in shown


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (None, ""),
        (30.1, ""),
        (29.5, "The certificate that clients are shown ends in 29d12h."),
        (0.5, "The certificate that clients are shown ends in 12h."),
        (-1.5, "!!! The CERTIFICATE has ended 1d12h ago: clients refuse it !!!"),
    ],
)
def test_a_certificate_that_ends_soon_is_named(days: float | None, said: str) -> None:
    snapshot = busy_snapshot()
    ends = None if days is None else snapshot.wall + days * 86400
    shown = screen(dataclasses.replace(snapshot, certificate_ends_wall=ends))
    assert [line for line in shown.splitlines() if "certificate" in line.lower()] == [said] * bool(
        said
    )
