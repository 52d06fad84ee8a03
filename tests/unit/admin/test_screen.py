"""The screen answers 'what is full now' in 80 columns by 24 rows."""

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.admin.screen import _age, _count, _size, render
from mailshed.admin.status import status_document
from mailshed.metrics.snapshot import Snapshot, SpoolSnapshot
from tests.support.snapshots import busy_snapshot


def screen(snapshot: Snapshot, age: float = 0.1) -> str:
    return render(status_document(snapshot, snapshot.made_at + age))


def test_a_busy_service_looks_like_this() -> None:
    assert screen(busy_snapshot()).splitlines() == [
        "mailshed 1.0.0 on smtp-int-1  ENFORCING  up 12d7h  config 3f9a2c1d (2h1m ago)",
        "BACKEND exch01 up   in flight 20/20   waiting 14   conn 20+2 idle",
        "  exch01.hospital.example:25",
        "BACKEND exch02 AWAY   in flight 0/20   waiting 0   conn 0+0 idle",
        "  exch02.hospital.example:25",
        "  next probe in 12 s; connection refused ?[2J by 10.0.0.9",
        "CLASS          QUEUED OLDEST WAITING IN-FLIGHT  RELAYED  SPOOLED  GOAL NOTE",
        "clinical            0      -       0         3   11 203        0   10s",
        "continuity          1     4s       1         3   22 406    2 880    5m",
        "personal            2     8s       2         3   33 609    5 760    2m",
        "calendar            3    12s       3         3   44 812    8 640    5m",
        "application         4    16s       4         3   56 015   11 520    5m",
        "telework            5    20s       5         3   67 218   14 400   15m",
        "bulk            9 412  4h10m       6         3   78 421   17 280    4h LATE,held",
        "extra               7    28s       7         3   89 624   20 160    4h",
        "SPOOL 9 412/1.00M messages   1.2 GiB/10 GiB   disk free 40 GiB (keeps 256 MiB)",
        "LIMITED BY backend_slots 100%   spool_bytes 12%   event_loop 6%",
        "Spool accounted (recipients): 46 057 accepted + 3 generated = 36 430 delivered +",
        "  1 bounced + 1 refused + 1 expired + 1 removed + 9 626 queued   OK",
    ]


def test_it_fits_80_by_24_with_eight_classes_when_all_is_wrong() -> None:
    spool = dataclasses.replace(busy_snapshot().spool, is_healthy=False, sick_reason="x" * 300)
    backend = dataclasses.replace(busy_snapshot().backends[1], last_error="no route " * 40)
    worst = dataclasses.replace(
        busy_snapshot(), backends=(backend,), spool=spool, is_stopping=True, reload_ok=False
    )
    lines = screen(worst, age=99.0).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_a_picture_that_is_not_current_says_so_loudly() -> None:
    assert "NOT CURRENT" not in screen(busy_snapshot(), age=1.9)
    assert "!!! NOT CURRENT: the service made this picture 7s ago" in screen(
        busy_snapshot(), age=7.0
    )


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


def test_all_that_is_full_is_named() -> None:
    ratios = {"backend_slots": 1.0, "spool_disk": 1.0, "sessions": 0.3}
    text = screen(dataclasses.replace(busy_snapshot(), saturation=ratios))
    assert "LIMITED BY backend_slots 100%, spool_disk 100%   sessions 30%" in text


def test_a_backend_that_is_away_limits_not_its_slots() -> None:
    """None of them is in use."""
    snapshot = busy_snapshot()
    away = dataclasses.replace(snapshot, backends=snapshot.backends[1:])
    assert "LIMITED BY backend exch02 away   spool_bytes 12%" in screen(away)


def test_without_a_width_neither_address_nor_cause_is_cut_or_wrapped() -> None:
    snapshot = busy_snapshot()
    cause = "connect: " + "no route to host " * 20 + "end"
    backend = dataclasses.replace(snapshot.backends[1], target="t" * 200, last_error=cause)
    status = status_document(dataclasses.replace(snapshot, backends=(backend,)), 1000.0)
    lines = render(status, None).splitlines()
    assert lines[1].endswith("t" * 200)
    assert lines[2] == f"  next probe in 12 s; {cause}"


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


def test_mail_of_a_class_that_is_not_configured_has_its_row() -> None:
    snapshot = busy_snapshot()
    lost = dataclasses.replace(snapshot.classes[6], name="lost", is_configured=False)
    lines = screen(dataclasses.replace(snapshot, classes=(*snapshot.classes[:6], lost)))
    assert (
        "lost            9 412  4h10m       6         3    not configured    4h LATE"
        in lines.splitlines()
    )


def test_a_ledger_that_does_not_balance_is_a_mismatch() -> None:
    """One accepted recipient is nowhere."""
    ledger = {"clinical": {"accepted": 3, "delivered": 2}}
    snapshot = dataclasses.replace(busy_snapshot(), spool=SpoolSnapshot(ledger=ledger))
    assert "MISMATCH of +1" in screen(snapshot)


def test_with_room_everywhere_the_fullest_resource_is_named() -> None:
    snapshot = dataclasses.replace(busy_snapshot(), saturation={"sessions": 0.3, "spool_bytes": 0})
    text = screen(snapshot)
    assert "FULLEST sessions 30%" in text
    assert "LIMITED BY" not in text


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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-3, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (250, "4m10s"),
        (3600, "1h"),
        (11_760, "3h16m"),
        (86_400, "1d"),
        (12.3 * 86400, "12d7h"),
    ],
)
def test_ages_have_their_two_largest_units(seconds: float, text: str) -> None:
    assert _age(seconds) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (40 * 1024**3, "40 GiB")],
)
def test_sizes_are_binary(octets: int, text: str) -> None:
    assert _size(octets) == text


def test_large_counts_keep_their_column() -> None:
    assert [_count(n) for n in (0, 999, 46057, 999_999, 12_345_678)] == [
        *("0", "999", "46 057", "999 999", "12.35M")
    ]
