"""What is true of every event: one line, named as its method, at its level, nothing private."""

import json
from collections.abc import Callable

import pytest

from mailshed.control.overrides import Override, OverrideKind
from mailshed.maillog import LogFormat, LogLevel, MailLog
from mailshed.terms import Reason, ShedLevel, Stage
from tests.support.log_lines import DELAYS, MAIL, Log

PATIENT = b"189027512345678@patient.mssante.fr"
OVERRIDE = Override(
    number=7,
    kind=OverrideKind.LIMIT,
    traffic_class="bulk",
    value=2,
    user="dupont",
    reason="newsletter RH",
    since_wall=1795339862.0,
    seconds=7200.0,
    request="77aa",
)


def everything(log: MailLog) -> dict[str, Callable[[], None]]:
    """Every event once, by name."""
    unit = {"backend": "exch01"}
    return {
        "divert_begun": lambda: log.divert_begun("telework", "load"),
        "divert_ended": lambda: log.divert_ended("telework"),
        "shed_level": lambda: log.shed_level(ShedLevel.NORMAL, ShedLevel.BULK_WAITS),
        "session_refused": lambda: log.session_refused(
            client="10.0.0.7",
            cause="address",
            times=1,
            listener="smtp",
            reply="421 4.7.0 Too many",
            detail=None,
        ),
        "stress_began": lambda: log.stress_began(sessions=80, limit=100),
        "stress_ended": lambda: log.stress_ended(seconds=12.34),
        "session_ended": lambda: log.session_ended(
            "S1", listener="smtp", client="10.0.0.7", how="quit", seconds=1.5, messages=2
        ),
        "auth": lambda: log.auth(
            "S1",
            result="rejected",
            listener="submission",
            client="10.0.0.7",
            mechanism="PLAIN",
            login="ali***",
            detail="it said 535 5.7.8",
        ),
        "tls_failed": lambda: log.tls_failed(
            "S1",
            listener="submission",
            client="10.0.0.7",
            result="failed",
            detail="the client does not speak TLS",
            is_stranger=False,
        ),
        "certificate_loaded": lambda: log.certificate_loaded(
            file="/etc/mailshed/tls/fullchain.pem", serial="3F9A", ends="2027-01-31", days=61
        ),
        "rejected": lambda: log.rejected(
            "S1",
            stage=Stage.RCPT,
            listener="smtp",
            client="10.0.0.7",
            reason=Reason.RELAY_DENIED,
            reply="554 5.7.1 Relay access denied",
            sender=b"",
            recipient=b"x@elsewhere.example",
        ),
        "delivered": lambda: log.delivered(MAIL, **unit, delays=DELAYS, reply="250 2.0.0 Ok"),
        "spooled": lambda: log.spooled(MAIL, reason=Reason.SATURATED, delays=DELAYS),
        "deferred": lambda: log.deferred(
            MAIL, reason=Reason.SPOOL_FULL, delays=DELAYS, reply="452 4.3.1 full"
        ),
        "refused": lambda: log.refused(
            MAIL, reason=Reason.BACKEND_REFUSED, delays=DELAYS, reply="550 5.1.1 unknown"
        ),
        "aborted": lambda: log.aborted(MAIL, stage=Stage.DATA),
        "attempted": lambda: log.attempted(
            MAIL,
            **unit,
            attempt=2,
            outcome="deferred",
            delays=DELAYS,
            reply="451 busy",
            next_attempt_seconds=60.04,
        ),
        "bounced": lambda: log.bounced(MAIL, reply="550 5.1.1 unknown", report="R1"),
        "expired": lambda: log.expired(MAIL, age_seconds=345600.0, reply="451", report=None),
        "postponed": lambda: log.postponed(MAIL, cause="mailbox", next_attempt_seconds=60.0),
        "reported": lambda: log.reported("Q1", kind="relayed", addressee=b"a@b", report="R1"),
        "reports_summarised": lambda: log.reports_summarised("R1", addressee=b"a@b", recipients=3),
        "report_lost": lambda: log.report_lost(
            "R1", kind="relayed", addressee=b"a@b", detail="the spool is full"
        ),
        "delayed": lambda: log.delayed(MAIL, age_seconds=900.0, reply="", report="R1"),
        "in_doubt": lambda: log.in_doubt(MAIL, **unit, detail="no reply in 600 s", is_held=True),
        "removed": lambda: log.removed(MAIL, by="dupont", reason="test mail"),
        "operator": lambda: log.operator(
            verb="hold",
            user="dupont",
            request="0011223344556677",
            result={"changed": 1, "busy": 0, "error": ""},
            ids=["01JZX4K7T2M8Q0RB"],
            reason="test mail",
        ),
        "override_set": lambda: log.override_set(OVERRIDE),
        "override_restored": lambda: log.override_restored(OVERRIDE, left=60.04),
        "override_ended": lambda: log.override_ended(OVERRIDE, "expired"),
        "overrides_lost": lambda: log.overrides_lost(detail="overrides.json is damaged"),
        "corrupt": lambda: log.corrupt(MAIL, detail="sha256 differs"),
        "started": lambda: log.started(
            version="1.0.0",
            config="3f9a",
            listeners=["smtp=10.0.0.5:25"],
            backends=["exch01"],
            metrics="127.0.0.1:9825",
            admin="/run/mailshed/admin.sock",
        ),
        "start_warning": lambda: log.start_warning(detail="free disk is below the reserve"),
        "stopping": lambda: log.stopping(cause="SIGTERM", sessions=3, in_flight=1),
        "stopped": lambda: log.stopped(seconds=0.4, unfinished=0),
        "reloaded": lambda: log.reloaded(config="77aa"),
        "reload_refused": lambda: log.reload_refused(error="f.yaml:1:1: unknown key"),
        "backend_away": lambda: log.backend_away("exch01", detail="refused", next_probe_seconds=1),
        "backend_back": lambda: log.backend_back("exch01", away_seconds=12.0),
        "backend_in_clear": lambda: log.backend_in_clear(
            "exch01", detail="bad record", next_try_seconds=600.0
        ),
        "backend_login_refused": lambda: log.backend_login_refused(
            "exch01", detail="535 5.7.8", next_try_seconds=300.0
        ),
        "capabilities_lost": lambda: log.capabilities_lost(detail="not JSON"),
        "backend_identity_refused": lambda: log.backend_identity_refused("exch01", detail="no"),
        "backend_identity_taken": lambda: log.backend_identity_taken("exch01"),
        "backend_restored": lambda: log.backend_restored("exch01", seconds=52.0),
        "fallback_began": lambda: log.fallback_began(
            "exch01", fallback="north", away_seconds=600.04
        ),
        "fallback_ended": lambda: log.fallback_ended(
            "exch01", fallback="north", cause="back", seconds=3600.0
        ),
        "mail_rerouted": lambda: log.mail_rerouted("exch02", messages=412),
        "baseline_lost": lambda: log.baseline_lost("exch01", detail="limit.json is damaged"),
        "call_ahead_failing": lambda: log.call_ahead_failing(detail="no greeting"),
        "call_ahead_works": lambda: log.call_ahead_works(failed_seconds=7.0),
        "verifier_failing": lambda: log.verifier_failing(detail="no greeting"),
        "verifier_works": lambda: log.verifier_works(failed_seconds=7.0),
        "catch_all_found": lambda: log.catch_all_found("hospital.example"),
        "catch_all_gone": lambda: log.catch_all_gone("hospital.example"),
        "spool_sick": lambda: log.spool_sick(detail="disk I/O error"),
        "spool_recovered": lambda: log.spool_recovered(sick_seconds=2.0),
        "spool_full": lambda: log.spool_full(detail="1 of 1 messages"),
        "spool_has_room": lambda: log.spool_has_room(full_seconds=2.0),
        "surge_began": lambda: log.surge_began(
            "telework", "", ratio=2.13, messages=640, expected=10.04
        ),
        "surge_ended": lambda: log.surge_ended("telework", "vpn", ratio=None, seconds=2400.0),
        "surge_adopted": lambda: log.surge_adopted(
            "telework", "vpn", factor=2.0, by="alice", reason="at home now"
        ),
        "surges_unsaved": lambda: log.surges_unsaved(detail="No space left on device"),
        "surges_lost": lambda: log.surges_lost(detail="surge.json is damaged"),
        "clock_stepped": lambda: log.clock_stepped(seconds=-3600.0),
        "watch": lambda: log.watch(lag_seconds=1.25),
        "task_failed": lambda: log.task_failed("message Q1", ValueError("bad\nluck")),
        "lines_dropped": lambda: log.lines_dropped(7),
        "library": lambda: log.library("aiohttp", "warning", "something odd"),
    }


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_every_event_is_one_line_named_as_its_method(log_format: LogFormat) -> None:
    log = Log(log_format)
    events = everything(log.maillog)
    public = {name for name in dir(MailLog) if not name.startswith("_")}
    assert set(events) == public
    for event, emit in events.items():
        emit()
        line = log.lines[-1]
        named = json.loads(line)["event"] if log_format == "json" else line.split()[3]
        assert named.removeprefix("event=") == event
    assert len(log.lines) == len(events)


def test_every_event_about_a_message_begins_with_its_queue_id() -> None:
    log = Log()
    for emit in everything(log.maillog).values():
        emit()
    about = [line for line in log.lines if " from=" in line and "event=rejected" not in line]
    assert len(about) == 13
    assert all(line.split()[2] == MAIL.queue_id for line in about)


def test_levels_filter() -> None:
    """Each level keeps its own events and all that are more severe, and loses the others."""
    severity: list[LogLevel] = ["debug", "info", "warning", "error"]
    seen = []
    for level in severity:
        log = Log(level=level)
        for emit in everything(log.maillog).values():
            emit()
        seen.append([severity.index(line.split()[1]) for line in log.lines])  # type: ignore[arg-type]
    assert set(seen[0]) == {0, 1, 2, 3}
    for least, levels in enumerate(seen):
        assert levels == [level for level in seen[0] if level >= least]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_patients_number_is_in_no_event(log_format: LogFormat) -> None:
    """Not as sender, recipient, in a backend's reply, an error, or a library's message."""
    log = Log(log_format)
    number = PATIENT.split(b"@")[0].decode()
    text = f"550 5.1.1 <{PATIENT.decode()}>: unknown"
    mail = MAIL._replace(sender=PATIENT, recipients=[PATIENT, PATIENT])
    log.maillog.refused(mail, reason=Reason.BACKEND_REFUSED, delays=DELAYS, reply=text)
    log.maillog.bounced(mail, reply=text.upper(), report=None)
    log.maillog.in_doubt(mail, backend="b", detail=text * 10)
    log.maillog.task_failed(f"message {PATIENT.decode()}", ValueError(text))
    log.maillog.library("x", "error", text, ValueError(text))
    log.maillog.rejected(
        "S1",
        stage="rcpt",
        listener="smtp",
        client="::1",
        reply=text,
        sender=PATIENT,
        recipient=PATIENT,
    )
    assert len(log.lines) == 6
    assert number not in log.stream.getvalue()
    assert "***@patient.mssante.fr" in log.lines[0]
