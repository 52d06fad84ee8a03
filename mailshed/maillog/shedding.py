"""Lines about shedding: overrides, classes that are diverted, the shed level, surges.

What an operator does is always a `warning`, so that whoever wonders about waiting mail finds it.
What the service does by itself is one when it begins, and `info` when it ends.
"""

from mailshed.control.overrides import Override, OverrideKind
from mailshed.logline import Fields, Value
from mailshed.maillog.writer import EventWriter, LogLevel, rounded
from mailshed.terms import ShedLevel


class SheddingEvents(EventWriter):
    """One method for each event about mail that has to wait."""

    def override_set(self, override: Override) -> None:
        """An operator's override is in force."""
        self._event("warning", "-", "override_set", _override(override, override.seconds))

    def override_restored(self, override: Override, *, left: float) -> None:
        """An override is in force again, after a restart."""
        self._event("warning", "-", "override_restored", _override(override, left))

    def override_ended(
        self, override: Override, cause: str, *, by: str | None = None, because: str | None = None
    ) -> None:
        """An override is over: `cause` is expired, cancelled, replaced or not_configured."""
        fields = {**_override(override), "cause": cause, "by": by, "because": because}
        self._event("warning", "-", "override_ended", fields)

    def overrides_lost(self, *, detail: str) -> None:
        """What overrides were in force cannot be read, so none is."""
        self._event("error", "-", "overrides_lost", {"detail": detail})

    def divert_begun(self, traffic_class: str, cause: str, *, backend: str | None = None) -> None:
        """New mail of a class goes to the spool at once: `cause` is load or waits.

        The backend is named where there are several.
        """
        fields: Fields = {"class": traffic_class, "backend": backend, "cause": cause}
        self._event("warning", "-", "divert_begun", fields)

    def divert_ended(self, traffic_class: str, *, backend: str | None = None) -> None:
        """New mail of a class no longer does."""
        fields: Fields = {"class": traffic_class, "backend": backend}
        self._event("info", "-", "divert_ended", fields)

    def shed_level(self, before: ShedLevel, now: ShedLevel) -> None:
        """The shed level in force is `now`, and was `before`."""
        is_worse = now >= ShedLevel.BULK_WAITS and now > before
        level: LogLevel = "warning" if is_worse else "info"
        fields: Fields = {"level": int(now), "means": now.name.lower(), "before": int(before)}
        self._event(level, "-", "shed_level", fields)

    def surge_began(
        self,
        traffic_class: str,
        network: str,
        *,
        ratio: float | None,
        messages: int,
        expected: float,
    ) -> None:
        """Much more mail of a class comes than is usual, or of the part of it from a network."""
        fields = _surge(traffic_class, network, ratio)
        fields |= {"messages": messages, "expected": round(expected, 1)}
        self._event("warning", "-", "surge_began", fields)

    def surge_ended(
        self, traffic_class: str, network: str, *, ratio: float | None, seconds: float
    ) -> None:
        """It is less than that again."""
        fields = _surge(traffic_class, network, ratio) | {"seconds": round(seconds)}
        self._event("info", "-", "surge_ended", fields)

    def surge_adopted(
        self, traffic_class: str, network: str, *, factor: float, by: str, reason: str
    ) -> None:
        """An operator says that so many times the mail is usual from now on."""
        fields = _surge(traffic_class, network, factor) | {"user": by, "reason": reason}
        self._event("warning", "-", "surge_adopted", fields)

    def surges_lost(self, *, detail: str) -> None:
        """What was learned of usual mail cannot be read: it is learned anew, which takes days."""
        self._event("warning", "-", "surges_lost", {"detail": detail})

    def surges_unsaved(self, *, detail: str) -> None:
        """What was learned of usual mail cannot be saved; it is tried again every few minutes."""
        self._event("warning", "-", "surges_unsaved", {"detail": detail})


def _override(override: Override, left: float | None = None) -> Fields:
    """What it is, whose, and why; `left` are seconds."""
    value = override.value if override.kind in (OverrideKind.LEVEL, OverrideKind.LIMIT) else None
    return {
        "override": override.number,
        "kind": override.kind.value,
        "class": override.traffic_class or None,
        "value": value,
        "user": override.user,
        "reason": override.reason,
        "left": rounded(left),
        "request": override.request,
    }


def _surge(traffic_class: str, network: str, ratio: float | None) -> dict[str, Value]:
    return {
        "class": traffic_class,
        "network": network or None,
        "ratio": None if ratio is None else round(ratio, 2),
    }
