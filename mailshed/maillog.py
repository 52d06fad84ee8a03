"""The log: one event a line, one method per event, and the only place that knows their fields.

Every other part of mailshed calls a method here; nothing else writes to standard error. As in
Postfix, the queue id comes first (before there is one, the session id; for the service itself, a
dash), so that one `grep` tells the story of a message::

    2026-11-22T09:31:02.123Z info 01JZX4K7T2M8Q0RB event=delivered class=clinical from=<a@b> ...

`logline` says how a line is written, as text or as JSON, and why nothing a peer sends can forge
one. `to` lists at most `RECIPIENTS_MAX` recipients and then `+n`; subjects never appear; the local
part of a patient's mailbox is masked. `delays` has Postfix's four parts in seconds: before us
(reception), waiting for a slot or in the spool, connecting, transmission; `delay` is their sum.
Where journald reads, a line begins with its priority, `<6>` (sd-daemon(3)), which journald takes
off and files the line under.

Level `warning` is for what an operator can act on, `error` for what is broken. Callers log a
repeated failure when it changes. Where lines go is the sink's business: `LineWriter` in the
service, any text stream in tests.
"""

import logging
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from mailshed.control.overrides import Override, OverrideKind
from mailshed.logline import (
    VALUE_MAX,
    Fields,
    Value,
    json_line,
    names_patient,
    redacted,
    text_line,
)
from mailshed.mail.privacy import mask
from mailshed.terms import Reason, ShedLevel, Stage

RECIPIENTS_MAX = 5
"""Recipients that are listed by address; the others are a number."""
IDS_MAX = 10
"""Queue ids that an operator's action is logged with."""
TRACEBACK_MAX = 8192
"""Characters kept of a traceback: its end, which says what happened."""
# Room for ',+999999' behind the last address that is listed.
_MORE_MAX = 8

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
Outcome = Literal["delivered", "deferred", "bounced", "in_doubt"]
_LEVELS: Mapping[LogLevel, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# sd-daemon(3): syslog's severities, as journald reads them at the start of a line.
_PRIORITIES: Mapping[LogLevel, str] = {
    "debug": "<7>",
    "info": "<6>",
    "warning": "<4>",
    "error": "<3>",
}


class Sink(Protocol):
    """Where finished lines go."""

    def write(self, line: str, /) -> object:
        """Take one line with its newline."""
        ...


class Mail(NamedTuple):
    """What every event about a message says of it: addresses as they came, without brackets."""

    queue_id: str
    traffic_class: str | None
    """None before classification."""
    sender: bytes
    recipients: Sequence[bytes]
    """Those the event is about."""
    size: int
    client: str
    rule: str | None = None
    """The classification rule that named the class; None where it is not known any more."""


class Delays(NamedTuple):
    """Where the time of one delivery went, in seconds; Postfix's a/b/c/d."""

    reception: float = 0.0
    waiting: float = 0.0
    connect: float = 0.0
    transmission: float = 0.0


class MailLog:
    """Writer of events. `level` filters by severity; `wall` is the clock of the time stamps.

    `has_priorities` begins each line with its priority, for journald and nobody else.
    """

    def __init__(
        self,
        sink: Sink,
        log_format: LogFormat = "text",
        level: LogLevel = "info",
        wall: Callable[[], float] = time.time,
        *,
        has_priorities: bool = False,
    ) -> None:
        self._write = sink.write
        self._priorities = _PRIORITIES if has_priorities else dict.fromkeys(_PRIORITIES, "")
        self._render = text_line if log_format == "text" else json_line
        self._threshold = _LEVELS[level]
        self._wall = wall
        self._second = -1
        self._stamp = ""

    # Sessions and commands.

    def session_refused(
        self, session_id: str, *, listener: str, client: str, reason: Reason | str, reply: str
    ) -> None:
        """A connection got no session: too many, or the service is stopping."""
        fields: Fields = {"listener": listener, "client": client, "reason": reason, "reply": reply}
        self._event("info", session_id, "session_refused", fields)

    def session_ended(
        self,
        session_id: str,
        *,
        listener: str,
        client: str,
        how: str,
        seconds: float,
        messages: int,
    ) -> None:
        """A session is over; `how` is quit, eof, timeout, errors or the like."""
        fields: Fields = {"listener": listener, "client": client, "how": how}
        counts: Fields = {"seconds": round(seconds, 2), "messages": messages}
        self._event("debug", session_id, "session_ended", {**fields, **counts})

    def rejected(
        self,
        session_id: str,
        *,
        stage: Stage | str,
        listener: str,
        client: str,
        reply: str,
        reason: Reason | None = None,
        sender: bytes | None = None,
        recipient: bytes | None = None,
    ) -> None:
        """A command was refused before there was a message: by policy, or for what it says.

        `reason` is None where the reply alone says it: syntax, parameters, bounds.
        """
        fields: Fields = {
            "stage": stage,
            "from": None if sender is None else _path(sender),
            "to": None if recipient is None else _path(recipient),
            "client": client,
            "listener": listener,
            "reason": reason,
            "reply": reply,
        }
        self._event("info", session_id, "rejected", fields)

    # What the client was told about its message.

    def delivered(self, mail: Mail, *, backend: str, delays: Delays, reply: str) -> None:
        """It was relayed live: the backend's 250 is the client's."""
        self._message("info", "delivered", mail, delays, {"backend": backend, "reply": reply})

    def spooled(
        self,
        mail: Mail,
        *,
        reason: Reason,
        delays: Delays,
        reply: str | None = None,
        detail: str | None = None,
    ) -> None:
        """It was committed to the spool and the client got our 250; `waiting` has the commit.

        `reply` is the backend's word if it was tried and gave one, `detail` what broke instead.
        """
        tail: Fields = {"reason": reason, "reply": reply, "detail": detail}
        self._message("info", "spooled", mail, delays, tail)

    def deferred(self, mail: Mail, *, reason: Reason, delays: Delays, reply: str) -> None:
        """The client was told 4xx and keeps it."""
        self._message("info", "deferred", mail, delays, {"reason": reason, "reply": reply})

    def refused(self, mail: Mail, *, reason: Reason, delays: Delays, reply: str) -> None:
        """The client was told 5xx: policy, or the backend's word."""
        self._message("info", "refused", mail, delays, {"reason": reason, "reply": reply})

    def aborted(self, mail: Mail, *, stage: Stage | str, reply: str | None = None) -> None:
        """The client left before our dot and before it had an answer; nothing was promised.

        `reply` is what it was told if it was us who ended it, because it was too slow.
        """
        self._message("info", "aborted", mail, None, {"stage": stage, "reply": reply})

    # What became of a spooled message.

    def attempted(
        self,
        mail: Mail,
        *,
        backend: str,
        attempt: int | None,
        outcome: Outcome,
        delays: Delays,
        reply: str,
        next_attempt_seconds: float | None = None,
    ) -> None:
        """One delivery attempt from the spool ended in this way for these recipients.

        `attempt` is None for one that does not count, since the backend was not reached.
        """
        tail: Fields = {
            "outcome": outcome,
            "backend": backend,
            "attempt": attempt,
            "next": _rounded(next_attempt_seconds),
            "reply": reply,
        }
        self._message("info", "attempted", mail, delays, tail)

    def bounced(self, mail: Mail, *, reply: str, report: str | None) -> None:
        """Its recipients failed for good; `report` is a queue id, or None if nobody is told."""
        self._message("info", "bounced", mail, None, {"report": report, "reply": reply})

    def expired(self, mail: Mail, *, age_seconds: float, reply: str, report: str | None) -> None:
        """Its recipients were not delivered within the spool's lifetime."""
        tail: Fields = {"age": _rounded(age_seconds), "report": report, "reply": reply}
        self._message("warning", "expired", mail, None, tail)

    def postponed(self, mail: Mail, *, cause: str, next_attempt_seconds: float) -> None:
        """It was due and was not tried: its mailboxes are held, or there are too many retries."""
        tail: Fields = {"cause": cause, "next": _rounded(next_attempt_seconds)}
        self._message("debug", "postponed", mail, None, tail)

    def delayed(self, mail: Mail, *, age_seconds: float, reply: str, report: str | None) -> None:
        """Its recipients still wait; `report` is a queue id, or None if nobody is told."""
        tail: Fields = {"age": _rounded(age_seconds), "report": report, "reply": reply}
        self._message("info", "delayed", mail, None, tail)

    def in_doubt(self, mail: Mail, *, backend: str, detail: str, is_held: bool = False) -> None:
        """Our dot went out and no answer came: a copy is kept, and may become a duplicate."""
        held = "yes" if is_held else "no"
        tail: Fields = {"backend": backend, "held": held, "detail": detail}
        self._message("warning", "in_doubt", mail, None, tail)

    def corrupt(self, mail: Mail, *, detail: str) -> None:
        """Its stored mail data failed the checksum: it is kept for an operator and not tried."""
        self._message("error", "corrupt", mail, None, {"detail": detail})

    def removed(self, mail: Mail, *, by: str, reason: str) -> None:
        """An operator deleted its recipients."""
        self._message("warning", "removed", mail, None, {"by": by, "reason": reason})

    def operator(
        self,
        *,
        verb: str,
        user: str,
        request: str,
        result: Mapping[str, int | str],
        ids: Sequence[str],
        reason: str | None,
    ) -> None:
        """An operator acted on the queue; the audit log has it whole, under the same `request`."""
        fields: dict[str, Value] = {"verb": verb, "user": user, "request": request}
        fields.update((name, value) for name, value in result.items() if value != "")
        fields |= {"ids": _listed(ids), "reason": reason}
        self._event("warning", "-", "operator", fields)

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

    def divert_begun(self, traffic_class: str, cause: str) -> None:
        """New mail of a class goes to the spool at once: `cause` is load or waits."""
        self._event("warning", "-", "divert_begun", {"class": traffic_class, "cause": cause})

    def divert_ended(self, traffic_class: str) -> None:
        """New mail of a class no longer does."""
        self._event("info", "-", "divert_ended", {"class": traffic_class})

    def shed_level(self, before: ShedLevel, now: ShedLevel) -> None:
        """The shed level in force is `now`, and was `before`."""
        level: LogLevel = "warning" if now >= ShedLevel.BULK_WAITS else "info"
        fields: Fields = {"level": int(now), "means": now.name.lower(), "before": int(before)}
        self._event(level, "-", "shed_level", fields)

    def overrides_lost(self, *, detail: str) -> None:
        """What overrides were in force cannot be read, so none is."""
        self._event("error", "-", "overrides_lost", {"detail": detail})

    # The service itself.

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

    def backend_away(self, backend: str, *, detail: str, next_probe_seconds: float) -> None:
        """The backend's breaker opened: mail goes to the spool."""
        probe = _rounded(next_probe_seconds)
        fields: Fields = {"backend": backend, "next_probe": probe, "detail": detail}
        self._event("warning", "-", "backend_away", fields)

    def backend_back(self, backend: str, *, away_seconds: float) -> None:
        """The backend answers again: it gets more and more mail."""
        fields: Fields = {"backend": backend, "away": _rounded(away_seconds)}
        self._event("warning", "-", "backend_back", fields)

    def backend_restored(self, backend: str, *, seconds: float) -> None:
        """The backend has all mail again, `seconds` after it went away."""
        fields: Fields = {"backend": backend, "seconds": _rounded(seconds)}
        self._event("info", "-", "backend_restored", fields)

    def call_ahead_failing(self, *, detail: str) -> None:
        """The backend does not say whether it has a mailbox: recipients are not verified now."""
        self._event("warning", "-", "call_ahead_failing", {"detail": detail})

    def call_ahead_works(self, *, failed_seconds: float) -> None:
        """The backend says again whether it has a mailbox."""
        self._event("info", "-", "call_ahead_works", {"failed": _rounded(failed_seconds)})

    def catch_all_found(self, domain: str) -> None:
        """The backend takes any address of a domain: its recipients are not verified."""
        self._event("warning", "-", "catch_all_found", {"domain": domain})

    def catch_all_gone(self, domain: str) -> None:
        """The backend does not take any address of a domain any more: they are verified again."""
        self._event("info", "-", "catch_all_gone", {"domain": domain})

    def spool_sick(self, *, detail: str) -> None:
        """The spool failed: relay-only mode, no promises on its behalf."""
        self._event("error", "-", "spool_sick", {"detail": detail})

    def spool_recovered(self, *, sick_seconds: float) -> None:
        """The spool is verified and takes mail again."""
        self._event("warning", "-", "spool_recovered", {"sick": _rounded(sick_seconds)})

    def spool_full(self, *, detail: str) -> None:
        """The spool takes no more mail: what the backend does not take gets 452."""
        self._event("warning", "-", "spool_full", {"detail": detail})

    def spool_has_room(self, *, full_seconds: float) -> None:
        """The spool takes mail again."""
        self._event("warning", "-", "spool_has_room", {"full": _rounded(full_seconds)})

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

    def baseline_lost(self, backend: str, *, detail: str) -> None:
        """What was learned of the backend cannot be used: it is learned anew."""
        self._event("warning", "-", "baseline_lost", {"backend": backend, "detail": detail})

    def surges_lost(self, *, detail: str) -> None:
        """What was learned of usual mail cannot be read: it is learned anew, which takes days."""
        self._event("warning", "-", "surges_lost", {"detail": detail})

    def surges_unsaved(self, *, detail: str) -> None:
        """What was learned of usual mail cannot be saved; it is tried again every few minutes."""
        self._event("warning", "-", "surges_unsaved", {"detail": detail})

    def clock_stepped(self, *, seconds: float) -> None:
        """The wall clock was set, forwards or (negative) back."""
        self._event("warning", "-", "clock_stepped", {"seconds": _rounded(seconds)})

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

    def _message(
        self, level: LogLevel, event: str, mail: Mail, delays: Delays | None, tail: Fields
    ) -> None:
        if _LEVELS[level] < self._threshold:
            return
        fields: dict[str, Value] = {
            "class": mail.traffic_class,
            "rule": mail.rule,
            "from": _path(mail.sender),
            "to": _paths(mail.recipients),
            "nrcpt": len(mail.recipients),
            "size": mail.size,
            "client": mail.client,
        }
        if delays is not None:
            reception, waiting, connect, transmission = delays
            fields["delay"] = round(reception + waiting + connect + transmission, 2)
            fields["delays"] = "%.2f/%.2f/%.2f/%.2f" % delays  # noqa: UP031 - the faster one
        fields.update(tail)
        self._event(level, mail.queue_id, event, fields)

    def _event(self, level: LogLevel, identity: str, event: str, fields: Fields) -> None:
        if _LEVELS[level] < self._threshold:
            return
        stamp = self._time()
        line = self._render(stamp, level, identity, event, fields)
        if names_patient(line):
            line = self._render(stamp, level, identity, event, redacted(fields))
        self._write(self._priorities[level] + line)

    def _time(self) -> str:
        """RFC 3339 in UTC with milliseconds; what is above the second is kept for the next."""
        wall = self._wall()
        second = int(wall)
        if second != self._second:
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
            self._second = second
        return f"{self._stamp}{int((wall - second) * 1000):03d}Z"


def is_journal(fd: int, journal_stream: str) -> bool:
    """Whether journald reads `fd`; `journal_stream` is $JOURNAL_STREAM, or empty.

    The variable alone says only where a descriptor once led, which somebody may have redirected;
    systemd.exec(5) tells to compare device and inode.
    """
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return journal_stream == f"{status.st_dev}:{status.st_ino}"


def configure_logging(maillog: MailLog) -> None:
    """Send warnings and errors of all libraries through `maillog`, in its format.

    Replaces the handlers of the root logger, and lowers aiosmtpd, asyncio and aiohttp, which
    narrate every command, to warnings.
    """
    root = logging.getLogger()
    root.handlers[:] = [_Handler(maillog)]
    root.setLevel(logging.WARNING)
    for name in ("mail.log", "asyncio", "aiohttp"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


class _Handler(logging.Handler):
    """The bridge from `logging`; its records become `library` events."""

    def __init__(self, maillog: MailLog) -> None:
        super().__init__(logging.WARNING)
        self._maillog = maillog

    def emit(self, record: logging.LogRecord) -> None:
        level: LogLevel = "error" if record.levelno >= logging.ERROR else "warning"
        error = record.exc_info[1] if record.exc_info else None
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit their format
            message = str(record.msg)
        self._maillog.library(record.name, level, message, error)


def _path(address: bytes) -> str:
    return f"<{mask(address.decode('utf-8', 'backslashreplace'))}>"


def _paths(recipients: Sequence[bytes]) -> str:
    """As many of the first recipients as fit, whole, and the number of the others."""
    if len(recipients) == 1:
        return _path(recipients[0])
    listed: list[str] = []
    room = VALUE_MAX - _MORE_MAX
    for address in recipients[:RECIPIENTS_MAX]:
        path = _path(address)
        room -= len(path) + 1
        if room < 0:
            break
        listed.append(path)
    if len(listed) < len(recipients):
        listed.append(f"+{len(recipients) - len(listed)}")
    return ",".join(listed)


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
        "left": _rounded(left),
        "request": override.request,
    }


def _surge(traffic_class: str, network: str, ratio: float | None) -> dict[str, Value]:
    return {
        "class": traffic_class,
        "network": network or None,
        "ratio": None if ratio is None else round(ratio, 2),
    }


def _listed(ids: Sequence[str]) -> str | None:
    """The first ids and the number of the others; None if there are none."""
    more = len(ids) - IDS_MAX
    return ",".join([*ids[:IDS_MAX], *([f"+{more}"] if more > 0 else [])]) or None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-TRACEBACK_MAX:]
