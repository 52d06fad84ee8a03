"""Lines about the service itself: its life, its backend, its spool, its process.

They begin with a dash where others have a queue id. What lasts has two lines, one when it begins
and one when it ends; the second says for how many seconds, where somebody will ask.
"""

import traceback
from collections.abc import Sequence

from mailshed.logline import Fields
from mailshed.maillog.writer import EventWriter, LogLevel, rounded

CERTIFICATE_DAYS = 14
"""With less than these left of a certificate, somebody should see to its renewal."""
TRACEBACK_MAX = 8192
"""Characters kept of a traceback: its end, which says what happened."""


class ServiceEvents(EventWriter):
    """One method for each event about the service."""

    # Its life.

    def started(
        self,
        *,
        version: str,
        config: str,
        listeners: Sequence[str],
        backends: Sequence[str],
        metrics: str,
        admin: str,
    ) -> None:
        """All doors are open; `config` is the hash of the configuration."""
        fields: Fields = {
            "version": version,
            "config": config,
            "listeners": ",".join(listeners),
            "backends": ",".join(backends),
            "metrics": metrics,
            "admin": admin,
        }
        self._event("info", "-", "started", fields)

    def start_warning(self, *, detail: str) -> None:
        """The service starts, but something is amiss that it cannot mend."""
        self._event("warning", "-", "start_warning", {"detail": detail})

    def stopping(self, *, cause: str, sessions: int, in_flight: int) -> None:
        """No new work is taken; what is open may finish."""
        fields: Fields = {"cause": cause, "sessions": sessions, "in_flight": in_flight}
        self._event("info", "-", "stopping", fields)

    def stopped(self, *, seconds: float, unfinished: int) -> None:
        """The last line; `unfinished` counts work that the deadline cut off."""
        level: LogLevel = "warning" if unfinished else "info"
        fields: Fields = {"seconds": round(seconds, 2), "unfinished": unfinished}
        self._event(level, "-", "stopped", fields)

    def reloaded(self, *, config: str) -> None:
        """A new configuration is in force."""
        self._event("info", "-", "reloaded", {"config": config})

    def reload_refused(self, *, error: str) -> None:
        """The configuration on disk is faulty; the running one is unchanged."""
        self._event("error", "-", "reload_refused", {"error": error})

    def certificate_loaded(self, *, file: str, serial: str, ends: str, days: int) -> None:
        """Clients are shown this certificate from now on; `days` are left of it."""
        level: LogLevel = "warning" if days < CERTIFICATE_DAYS else "info"
        fields: Fields = {"file": file, "serial": serial, "ends": ends, "days": days}
        self._event(level, "-", "certificate_loaded", fields)

    # The backend.

    def backend_away(self, backend: str, *, detail: str, next_probe_seconds: float) -> None:
        """The backend's breaker opened: mail goes to the spool."""
        probe = rounded(next_probe_seconds)
        fields: Fields = {"backend": backend, "next_probe": probe, "detail": detail}
        self._event("warning", "-", "backend_away", fields)

    def backend_back(self, backend: str, *, away_seconds: float) -> None:
        """The backend answers again: it gets more and more mail."""
        fields: Fields = {"backend": backend, "away": rounded(away_seconds)}
        self._event("warning", "-", "backend_back", fields)

    def backend_restored(self, backend: str, *, seconds: float) -> None:
        """The backend has all mail again, `seconds` after it went away."""
        fields: Fields = {"backend": backend, "seconds": rounded(seconds)}
        self._event("info", "-", "backend_restored", fields)

    def fallback_began(self, backend: str, *, fallback: str, away_seconds: float) -> None:
        """Mail of a backend that is away for long goes to its fallback."""
        away = rounded(away_seconds)
        fields: Fields = {"backend": backend, "fallback": fallback, "away": away}
        self._event("warning", "-", "fallback_began", fields)

    def fallback_ended(self, backend: str, *, fallback: str, cause: str, seconds: float) -> None:
        """It does not any more: the backend is back, or the fallback is away as well."""
        fields: Fields = {"backend": backend, "fallback": fallback, "cause": cause}
        self._event("warning", "-", "fallback_ended", {**fields, "seconds": rounded(seconds)})

    def mail_rerouted(self, backend: str, *, messages: int) -> None:
        """Spooled mail of a backend that the configuration has not goes by its recipients."""
        self._event("warning", "-", "mail_rerouted", {"backend": backend, "messages": messages})

    def backend_in_clear(self, backend: str, *, detail: str, next_try_seconds: float) -> None:
        """TLS with the backend does not work, and is not required: mail goes in clear."""
        again = rounded(next_try_seconds)
        fields: Fields = {"backend": backend, "next_try": again, "detail": detail}
        self._event("warning", "-", "backend_in_clear", fields)

    def backend_login_refused(self, backend: str, *, detail: str, next_try_seconds: float) -> None:
        """The backend does not take our name or password: mail goes to the spool."""
        again = rounded(next_try_seconds)
        fields: Fields = {"backend": backend, "next_try": again, "detail": detail}
        self._event("error", "-", "backend_login_refused", fields)

    def backend_identity_refused(self, backend: str, *, detail: str) -> None:
        """The backend does not want to be told whose messages it gets (`identity`)."""
        fields: Fields = {"backend": backend, "detail": detail}
        self._event("warning", "-", "backend_identity_refused", fields)

    def backend_identity_taken(self, backend: str) -> None:
        """The backend is told again whose messages it gets."""
        self._event("info", "-", "backend_identity_taken", {"backend": backend})

    def baseline_lost(self, backend: str, *, detail: str) -> None:
        """What was learned of the backend cannot be used: it is learned anew."""
        self._event("warning", "-", "baseline_lost", {"backend": backend, "detail": detail})

    def capabilities_lost(self, *, detail: str) -> None:
        """What the backends offered before the restart is not known: it is learned anew."""
        self._event("warning", "-", "capabilities_lost", {"detail": detail})

    def call_ahead_failing(self, *, detail: str, backend: str | None = None) -> None:
        """The backend does not say whether it has a mailbox: recipients are not verified now.

        It is named where there are several.
        """
        self._event("warning", "-", "call_ahead_failing", {"backend": backend, "detail": detail})

    def call_ahead_works(self, *, failed_seconds: float, backend: str | None = None) -> None:
        """The backend says again whether it has a mailbox."""
        fields: Fields = {"backend": backend, "failed": rounded(failed_seconds)}
        self._event("info", "-", "call_ahead_works", fields)

    def catch_all_found(self, domain: str) -> None:
        """The backend takes any address of a domain: its recipients are not verified."""
        self._event("warning", "-", "catch_all_found", {"domain": domain})

    def catch_all_gone(self, domain: str) -> None:
        """The backend does not take any address of a domain any more: they are verified again."""
        self._event("info", "-", "catch_all_gone", {"domain": domain})

    def verifier_failing(self, *, detail: str) -> None:
        """Nobody can say now whether a password is right: users are told to come back."""
        self._event("warning", "-", "verifier_failing", {"detail": detail})

    def verifier_works(self, *, failed_seconds: float) -> None:
        """Passwords are verified again."""
        self._event("info", "-", "verifier_works", {"failed": rounded(failed_seconds)})

    # The spool.

    def spool_sick(self, *, detail: str) -> None:
        """The spool failed: relay-only mode, no promises on its behalf."""
        self._event("error", "-", "spool_sick", {"detail": detail})

    def spool_recovered(self, *, sick_seconds: float) -> None:
        """The spool is verified and takes mail again."""
        self._event("warning", "-", "spool_recovered", {"sick": rounded(sick_seconds)})

    def spool_full(self, *, detail: str) -> None:
        """The spool takes no more mail: what the backend does not take gets 452."""
        self._event("warning", "-", "spool_full", {"detail": detail})

    def spool_has_room(self, *, full_seconds: float) -> None:
        """The spool takes mail again."""
        self._event("warning", "-", "spool_has_room", {"full": rounded(full_seconds)})

    # The process.

    def stress_began(self, *, sessions: int, limit: int) -> None:
        """Sessions are scarce: strangers have less time."""
        self._event("warning", "-", "stress_began", {"sessions": sessions, "limit": limit})

    def stress_ended(self, *, seconds: float) -> None:
        """There are sessions enough again."""
        self._event("warning", "-", "stress_ended", {"seconds": rounded(seconds)})

    def clock_stepped(self, *, seconds: float) -> None:
        """The wall clock was set, forwards or (negative) back."""
        self._event("warning", "-", "clock_stepped", {"seconds": rounded(seconds)})

    def watch(self, *, lag_seconds: float) -> None:
        """The event loop did not run for `lag_seconds`."""
        self._event("warning", "-", "watch", {"lag": round(lag_seconds, 2)})

    def task_failed(self, name: str, error: BaseException) -> None:
        """A task ended with an exception nobody expected; the traceback is one escaped value."""
        fields: Fields = {"task": name, "error": repr(error), "traceback": _trace(error)}
        self._event("error", "-", "task_failed", fields)

    def lines_dropped(self, count: int) -> None:
        """Whoever reads the log had stalled, and `count` lines did not fit the buffer."""
        self._event("warning", "-", "lines_dropped", {"lines": count})

    def library(
        self, logger: str, level: LogLevel, message: str, error: BaseException | None = None
    ) -> None:
        """A record that a library gave to the standard `logging`."""
        trace = None if error is None else _trace(error)
        fields: Fields = {"logger": logger, "message": message, "traceback": trace}
        self._event(level, "-", "library", fields)


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-TRACEBACK_MAX:]
