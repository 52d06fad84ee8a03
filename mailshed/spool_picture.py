"""The spool as the picture of the service shows it: what it holds, how full it is, and why.

Pure: totals in, values out.
"""

from mailshed.control.saturation import Level, disk_level
from mailshed.metrics import QueueSnapshot, SpoolSnapshot
from mailshed.spool.accounts import CLINICAL_PERCENT, ordinary_reserve
from mailshed.spool.store import SpoolTotals

# A spool without room for an ordinary message (octets) is full, though a note might still fit.
ORDINARY_MESSAGE = 64 * 1024
_MIB = 1024 * 1024


def spool_snapshot(totals: SpoolTotals, sick_reason: str | None) -> SpoolSnapshot:
    """The spool as it is shown; `sick_reason` is None while it is well."""
    full_reason, has_clinical_room = why_full(totals)
    return SpoolSnapshot(
        is_healthy=sick_reason is None,
        sick_reason=sick_reason or "",
        full_reason=full_reason,
        has_clinical_room=has_clinical_room,
        queues=tuple(
            QueueSnapshot(
                traffic_class=each.traffic_class,
                state=each.state.value,
                messages=each.messages,
                recipients=each.recipients,
                octets=each.octets,
            )
            for each in totals.by_class
        ),
        ledger=totals.ledger,
        octets=totals.octets,
        octets_max=totals.octets_max,
        messages=totals.messages,
        messages_max=totals.messages_max,
        disk_free=totals.disk_free,
        disk_reserve=totals.disk_reserve,
    )


def fill_of(totals: SpoolTotals) -> float:
    """How full the spool is by its fullest measure: octets, messages, or the disk."""
    return max(
        Level(totals.octets, totals.octets_max).ratio,
        Level(totals.messages, totals.messages_max).ratio,
        disk_level(free=totals.disk_free, reserve=totals.disk_reserve).ratio,
    )


def why_full(totals: SpoolTotals) -> tuple[str, bool]:
    """Which limit keeps ordinary mail out of the spool, or nothing; and whether clinical mail fits.

    Limits of 0 are those of a spool that has not been asked yet.
    """
    if 0 < totals.disk_reserve >= totals.disk_free:
        free, reserve = totals.disk_free // _MIB, totals.disk_reserve // _MIB
        return f"{free} MiB of disk are free, {reserve} MiB are reserved", False
    octets, octets_max = totals.octets + ORDINARY_MESSAGE, totals.octets_max
    messages, messages_max = totals.messages + 1, totals.messages_max
    for percent in (0, CLINICAL_PERCENT):
        rest = "; the last of it is for clinical mail" if percent else ""
        if 0 < messages_max - messages_max * percent // 100 < messages:
            return f"it holds {totals.messages} of {messages_max} messages{rest}", bool(percent)
        if 0 < octets_max - octets_max * percent // 100 < octets:
            held, most = totals.octets // _MIB, octets_max // _MIB
            return f"it holds {held} of {most} MiB of mail{rest}", bool(percent)
    ordinary = ordinary_reserve(totals.disk_reserve)
    if totals.disk_free < ordinary:
        free, reserve = totals.disk_free // _MIB, ordinary // _MIB
        rest = "; the last of it is for clinical mail"
        return f"{free} MiB of disk are free, {reserve} MiB are reserved{rest}", True
    return "", True
