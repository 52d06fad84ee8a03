"""Snapshots of a busy service, for tests of what shows them."""

from typing import Any

from mailshed.admin.screen.page import render
from mailshed.admin.status import status_document
from mailshed.control.limit_picture import LimitPicture
from mailshed.control.window import Stages
from mailshed.metrics import (
    BackendSnapshot,
    ClassSnapshot,
    OverrideSnapshot,
    QueueSnapshot,
    Recent,
    Snapshot,
    SpoolSnapshot,
    SurgeSnapshot,
    Usage,
)

CLASS_NAMES = (
    *("clinical", "continuity", "personal", "calendar"),
    *("application", "telework", "bulk", "extra"),
)
_OBJECTIVES = (10.0, 300.0, 120.0, 300.0, 300.0, 900.0, 14400.0, 14400.0)
WALL = 1795339862.0
_RECENT = {
    "clinical": Recent(accepted_rate=3.1, delivered_rate=3.1, hour_delivered=11_203),
    "telework": Recent(
        accepted_rate=4.0,
        delivered_rate=2.5,
        shed_rate=1.5,
        queue_rate=-0.25,
        hour_delivered=9_104,
        hour_spooled=231,
        hour_late=4,
    ),
    "bulk": Recent(
        accepted_rate=380.0,
        delivered_rate=0.8,
        shed_rate=379.2,
        queue_rate=379.2,
        hour_delivered=2_880,
        hour_spooled=9_412,
        hour_deferred=7,
    ),
}


_STANDING: dict[str, dict[str, Any]] = {
    "telework": {
        "kept_back": "diverted",
        "load": 0.99,
        "headroom": 0.9,
        "saturation": 1.0,
        "drain_seconds": 245.0,
    },
    "bulk": {"kept_back": "override", "drain_seconds": None},
}


def busy_snapshot(made_at: float = 1000.0) -> Snapshot:
    """Eight classes, two backends of which one is away, mail in every state, books that balance."""
    classes = tuple(
        ClassSnapshot(
            name=name,
            rank=rank,
            objective_seconds=objective,
            waiting=rank,
            in_flight=3,
            relayed_total=11_203 * (rank + 1),
            spooled_total=2_880 * rank,
            delivered_total=100,
            queued_messages=9_412 if name == "bulk" else rank,
            queued_octets=1_000_000 * rank,
            oldest_age_seconds=15_000.0 if name == "bulk" else 4.0 * rank,
            **_STANDING.get(name, {}),
            recent=_RECENT.get(name, Recent(accepted_rate=0.05, delivered_rate=0.05)),
        )
        for rank, (name, objective) in enumerate(zip(CLASS_NAMES, _OBJECTIVES, strict=True))
    )
    queues = (
        QueueSnapshot(
            traffic_class="bulk", state="queued", messages=9_400, recipients=9_614, octets=10**7
        ),
        QueueSnapshot(traffic_class="bulk", state="hold", messages=12, recipients=12, octets=10**5),
    )
    ledger = {
        "clinical": {"accepted": 10, "delivered": 10},
        "bulk": {
            "accepted": 46_047,
            "generated": 3,
            "delivered": 36_420,
            "bounced": 1,
            "refused": 1,
            "expired": 1,
            "removed": 1,
        },
    }
    return Snapshot(
        made_at=made_at,
        wall=WALL,
        hostname="smtp-int-1.hospital.example",
        version="1.0.0",
        started_wall=WALL - 12.3 * 86400,
        config_hash="3f9a2c1d77aa",
        config_loaded_wall=WALL - 7_300,
        sessions=Usage(used=140, limit=5000),
        tls_handshakes=Usage(used=3, limit=64),
        certificate_ends_wall=WALL + 61.5 * 86400,
        listeners=("smtp 10.0.0.5:25",),
        backends=(
            BackendSnapshot(
                name="exch01",
                target="exch01.hospital.example:25",
                is_up=True,
                in_flight=20,
                limit=20,
                waiting=14,
                connections_busy=20,
                connections_idle=2,
                connections_opened_total=400,
                connections_failed_total=3,
                offered_ratio=1.8,
                drain_slots=4,
                stuck_senders=2,
                endings={"completed": 380, "in_doubt": 2},
                learning=LimitPicture(
                    limit=20,
                    ceiling=40,
                    learned_ceiling=40,
                    x=1.4,
                    queue=5.2,
                    in_flight_average=18.3,
                    capacity=14.8,
                    queue_factor=1.0,
                    elasticity=None,
                    stages=Stages(mail=1.1, envelope=1.2, data=1.5, rest=1.5),
                    is_delayed=False,
                    is_probing=False,
                    is_baseline_known=True,
                    is_baseline_stale=False,
                    baseline=(("data", 0, 0.05),),
                    tail=1.9,
                    cause="room",
                    changes={"room": 11, "queue": 3},
                ),
            ),
            BackendSnapshot(
                name="exch02",
                target="exch02.hospital.example:25",
                is_up=False,
                limit=20,
                next_probe_seconds=12.4,
                breaker="open",
                last_error="connection refused \x1b[2J by 10.0.0.9",
            ),
        ),
        classes=classes,
        spool=SpoolSnapshot(
            queues=queues,
            ledger=ledger,
            octets=1_288_490_188,
            octets_max=10 * 1024**3,
            messages=9_412,
            messages_max=1_000_000,
            disk_free=40 * 1024**3,
            disk_reserve=256 * 1024**2,
        ),
        content_memory=Usage(used=10_000, limit=64 * 1024**2),
        content_disk=Usage(used=0, limit=2 * 1024**3),
        cached_recipients=Usage(used=3_100, limit=100_000),
        remembered_logins=Usage(used=170, limit=10_000),
        held_mailboxes=Usage(used=7, limit=10_000),
        retry_tokens=Usage(used=180, limit=200),
        surges=_surges(),
        overrides=_overrides(),
        files=Usage(used=180, limit=65536),
        memory=Usage(used=90 * 1024**2, limit=8 * 1024**3),
        loop_lag_seconds=0.004,
        pressure=0.93,
        shed_level=3,
        derived_level=2,
        slow_replies=Usage(used=3, limit=200),
        slow_replies_total=17,
        saturation={
            "backend": 1.0,
            "waits": 0.25,
            "spool_age": 0.26,
            "backend_slots": 1.0,
            "spool_bytes": 0.12,
            "spool_messages": 0.01,
            "sessions": 0.03,
            "content_memory": 0.0,
            "content_disk": 0.0,
            "event_loop": 0.06,
            "files": 0.003,
            "memory": 0.01,
        },
    )


def _overrides() -> tuple[OverrideSnapshot, ...]:
    """A forced level and a class that is held, one of them since two days."""
    return (
        OverrideSnapshot(
            id=6,
            kind="level",
            value=3,
            user="martin",
            reason="patch night",
            since_wall=WALL - 2 * 86400,
            until_wall=WALL + 86400,
            left_seconds=86400.0,
        ),
        OverrideSnapshot(
            id=7,
            kind="hold",
            traffic_class="bulk",
            user="dupont",
            reason="newsletter RH",
            since_wall=WALL - 600,
            until_wall=WALL + 5400,
            left_seconds=5400.0,
        ),
    )


def _surges() -> tuple[SurgeSnapshot, ...]:
    """Telework from the VPN is 2.1 times the usual; nothing is known yet of the last class."""
    ratios = dict.fromkeys(CLASS_NAMES, 1.0) | {"telework": 2.1, "extra": None}
    classes = [
        SurgeSnapshot(
            traffic_class=name,
            messages=100,
            ratio=ratio,
            is_alarm=name == "telework",
            is_crisis=name == "telework",
            alarm_seconds=840.0 if name == "telework" else 0.0,
            unexpected_work_seconds_total=51.5 if name == "telework" else 0.0,
        )
        for name, ratio in ratios.items()
    ]
    return (
        *classes,
        SurgeSnapshot(
            traffic_class="telework",
            network="vpn",
            messages=90,
            ratio=2.2,
            is_alarm=True,
            is_crisis=True,
            alarm_seconds=780.0,
        ),
        SurgeSnapshot(traffic_class="telework", network="other", messages=10, ratio=1.0),
        SurgeSnapshot(traffic_class="clinical", network="vpn", ratio=0.1),
    )


def screen(snapshot: Snapshot, age: float = 0.1) -> str:
    """What `mailshed status` shows of it, `age` seconds after it was made."""
    return render(status_document(snapshot, snapshot.made_at + age))


def notes_of(snapshot: Snapshot, name: str, width: int | None = 200) -> str:
    """The notes in the row of a class."""
    page = render(status_document(snapshot, snapshot.made_at), width)
    (line,) = [each for each in page.splitlines() if each.startswith(name)]
    return line[65:].strip()
