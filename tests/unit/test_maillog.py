"""One event is one line with the fields that operators look for, and nothing private."""

import io
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mailshed.control.overrides import Override, OverrideKind
from mailshed.maillog import (
    Delays,
    LogFormat,
    LogLevel,
    Mail,
    MailLog,
    configure_logging,
    is_journal,
)
from mailshed.terms import Reason, ShedLevel, Stage

MAIL = Mail("01JZX4K7T2M8Q0RB", "clinical", b"a@b.example", (b"c@d.example",), 1234, "10.0.0.7")
DELAYS = Delays(0.012, 0.0, 0.02, 0.09)
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


class Log:
    """A MailLog whose lines can be read."""

    def __init__(self, log_format: LogFormat = "text", level: LogLevel = "debug") -> None:
        self.stream = io.StringIO()
        self.maillog = MailLog(self.stream, log_format, level, wall=lambda: 1795339862.1239)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


def everything(log: MailLog) -> dict[str, Callable[[], None]]:
    """Every event once, by name."""
    unit = {"backend": "exch01"}
    return {
        "divert_begun": lambda: log.divert_begun("telework", "load"),
        "divert_ended": lambda: log.divert_ended("telework"),
        "shed_level": lambda: log.shed_level(ShedLevel.NORMAL, ShedLevel.BULK_WAITS),
        "session_refused": lambda: log.session_refused(
            "S1", listener="smtp", client="10.0.0.7", reason=Reason.SHUTDOWN, reply="421 4.3.2 Bye"
        ),
        "session_ended": lambda: log.session_ended(
            "S1", listener="smtp", client="10.0.0.7", how="quit", seconds=1.5, messages=2
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
        "call_ahead_failing": lambda: log.call_ahead_failing(detail="no greeting"),
        "call_ahead_works": lambda: log.call_ahead_works(failed_seconds=7.0),
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


def test_a_delivery_is_the_line_that_operators_know() -> None:
    log = Log()
    log.maillog.delivered(MAIL, backend="exch01", delays=DELAYS, reply="250 2.0.0 Ok")
    assert log.stream.getvalue() == (
        "2026-11-22T09:31:02.123Z info 01JZX4K7T2M8Q0RB event=delivered class=clinical"
        " from=<a@b.example> to=<c@d.example> nrcpt=1 size=1234 client=10.0.0.7"
        ' delay=0.12 delays=0.01/0.00/0.02/0.09 backend=exch01 reply="250 2.0.0 Ok"\n'
    )


def test_json_has_the_same_fields() -> None:
    log = Log("json")
    log.maillog.delivered(MAIL, backend="exch01", delays=DELAYS, reply="250 2.0.0 Ok")
    record = json.loads(log.lines[0])
    assert record == {
        "time": "2026-11-22T09:31:02.123Z",
        "level": "info",
        "id": "01JZX4K7T2M8Q0RB",
        "event": "delivered",
        "class": "clinical",
        "from": "<a@b.example>",
        "to": "<c@d.example>",
        "nrcpt": 1,
        "size": 1234,
        "client": "10.0.0.7",
        "delay": 0.12,
        "delays": "0.01/0.00/0.02/0.09",
        "backend": "exch01",
        "reply": "250 2.0.0 Ok",
    }


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_every_event_is_one_line_named_as_its_method(log_format: LogFormat) -> None:
    log = Log(log_format)
    events = everything(log.maillog)
    public = {name for name in vars(MailLog) if not name.startswith("_")}
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


def test_an_operators_action_is_told_with_its_numbers_and_first_ids() -> None:
    log = Log()
    result: dict[str, int | str] = {"changed": 11, "busy": 1, "error": ""}
    ids = [f"{number:016}" for number in range(12)]
    log.maillog.operator(
        verb="hold", user="dupont", request="00ff", result=result, ids=ids, reason="a mistake"
    )
    assert log.lines[0].endswith(
        " warning - event=operator verb=hold user=dupont request=00ff changed=11 busy=1"
        f' ids={",".join(ids[:10])},+2 reason="a mistake"'
    )
    result = {"exported": 0, "error": "disk full"}
    log.maillog.operator(
        verb="export", user="uid 7", request="00ff", result=result, ids=(), reason=None
    )
    assert log.lines[1].endswith(
        ' event=operator verb=export user="uid 7" request=00ff exported=0 error="disk full"'
    )


def test_an_override_is_told_with_who_and_why() -> None:
    log = Log()
    log.maillog.override_set(OVERRIDE)
    log.maillog.override_restored(replace(OVERRIDE, kind=OverrideKind.HOLD), left=60.04)
    log.maillog.override_ended(OVERRIDE, "cancelled", by="martin", because="sent")
    one, again, over = (line.partition(" warning - ")[2] for line in log.lines)
    assert one == (
        "event=override_set override=7 kind=limit class=bulk value=2 user=dupont"
        ' reason="newsletter RH" left=7200.0 request=77aa'
    )
    assert again == (
        "event=override_restored override=7 kind=hold class=bulk user=dupont"
        ' reason="newsletter RH" left=60.0 request=77aa'
    )
    assert over == (
        "event=override_ended override=7 kind=limit class=bulk value=2 user=dupont"
        ' reason="newsletter RH" request=77aa cause=cancelled by=martin because=sent'
    )


def test_recipients_are_listed_up_to_five() -> None:
    log = Log()
    many = [b"r%d@d.example" % number for number in range(12)]
    log.maillog.aborted(MAIL._replace(recipients=many), stage=Stage.DATA)
    assert (
        " to=<r0@d.example>,<r1@d.example>,<r2@d.example>,<r3@d.example>,<r4@d.example>,+7"
        " nrcpt=12 " in log.lines[0]
    )


def test_long_recipients_are_listed_whole_as_far_as_they_fit() -> None:
    log = Log()
    many = [b"%02d" % number + b"x" * 120 + b"@d.example" for number in range(4)]
    log.maillog.aborted(MAIL._replace(recipients=many), stage=Stage.DATA)
    to = re.search(r" to=(\S+)", log.lines[0])
    assert to is not None
    assert to[1] == f"<{many[0].decode()}>,+3"


def test_the_longest_address_of_rfc_5321_is_not_cut() -> None:
    log = Log()
    longest = b"l" * 64 + b"@" + b"d" * 189
    log.maillog.aborted(MAIL._replace(recipients=[longest]), stage=Stage.DATA)
    assert f" to=<{longest.decode()}> " in log.lines[0]


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


def test_a_traceback_is_one_escaped_value() -> None:
    log = Log("json")

    def fail() -> None:
        raise RuntimeError("line one\nline two")

    try:
        fail()
    except RuntimeError as error:
        log.maillog.task_failed("drain Q1", error)
    record = json.loads(log.lines[0])
    assert record["error"] == "RuntimeError('line one\\nline two')"
    assert record["traceback"].startswith("Traceback (most recent call last)")
    assert record["traceback"].endswith("RuntimeError: line one\nline two\n")
    assert record["level"] == "error"


def test_an_endless_traceback_keeps_its_end() -> None:
    log = Log("json")
    log.maillog.task_failed("x", ValueError("y" * 20_000 + "THE END"))
    record = json.loads(log.lines[0])
    assert len(record["traceback"]) <= 8192
    assert record["traceback"].endswith("THE END\n")


def test_the_stamp_follows_the_clock() -> None:
    times = iter([0.0, 0.9994, 1.0, 1795339862.5, 59.0])
    stream = io.StringIO()
    log = MailLog(stream, wall=lambda: next(times))
    for _ in range(5):
        log.reloaded(config="x")
    assert [line.split()[0] for line in stream.getvalue().splitlines()] == [
        "1970-01-01T00:00:00.000Z",
        "1970-01-01T00:00:00.999Z",
        "1970-01-01T00:00:01.000Z",
        "2026-11-22T09:31:02.500Z",
        "1970-01-01T00:00:59.000Z",
    ]


def test_a_rejected_command_says_who_wanted_what_where() -> None:
    log = Log()
    everything(log.maillog)["rejected"]()
    assert log.lines[0].split(" ", 1)[1] == (
        "info S1 event=rejected stage=rcpt from=<> to=<x@elsewhere.example> client=10.0.0.7"
        ' listener=smtp reason=relay_denied reply="554 5.7.1 Relay access denied"'
    )


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_journald_gets_each_line_with_its_priority(log_format: LogFormat) -> None:
    """And nobody else: without priorities the same lines come out bare."""
    plain, stream = Log(log_format), io.StringIO()
    journal = MailLog(
        stream, log_format, "debug", wall=lambda: 1795339862.1239, has_priorities=True
    )
    for log in (plain.maillog, journal):
        log.session_ended("S1", listener="l", client="c", how="quit", seconds=1.0, messages=0)
        log.reloaded(config="x")
        log.spool_recovered(sick_seconds=1.0)
        log.spool_sick(detail="I/O error")
    assert all(line[0] != "<" for line in plain.lines)
    lines = stream.getvalue().splitlines()
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>"]
    assert [line[3:] for line in lines] == plain.lines


def test_journald_is_known_by_the_descriptor_and_not_by_the_variable_alone(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as ours, (tmp_path / "b").open("w") as other:
        status = os.fstat(ours.fileno())
        stream = f"{status.st_dev}:{status.st_ino}"
        assert is_journal(ours.fileno(), stream)
        assert not is_journal(other.fileno(), stream), "redirected"
        assert not is_journal(ours.fileno(), "")
    assert not is_journal(-1, stream)


@pytest.fixture
def root_logger() -> Iterator[None]:
    """Put the process's logging back as it was."""
    root, names = logging.getLogger(), ("mail.log", "asyncio", "aiohttp")
    handlers, level = root.handlers[:], root.level
    levels = [logging.getLogger(name).level for name in names]
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, each in zip(names, levels, strict=True):
        logging.getLogger(name).setLevel(each)
    logging.captureWarnings(capture=False)


@pytest.mark.usefixtures("root_logger")
def test_libraries_speak_through_the_same_lines() -> None:
    log = Log()
    configure_logging(log.maillog)
    logging.getLogger("mail.log").info("every command of every session")
    logging.getLogger("asyncio").debug("noise")
    logging.getLogger("aiohttp.server").error("Error: %s\n", "handling", exc_info=ValueError("x"))
    logging.getLogger("anything").warning("50% of %s")
    logging.getLogger("broken").warning("%d", "not a number")
    assert [re.sub(r' traceback=".*"', "", line).split(" ", 1)[1] for line in log.lines] == [
        r'error - event=library logger=aiohttp.server message="Error: handling\n"',
        'warning - event=library logger=anything message="50% of %s"',
        "warning - event=library logger=broken message=%d",
    ]


@pytest.mark.usefixtures("root_logger")
def test_python_warnings_are_lines_too() -> None:
    log = Log()
    configure_logging(log.maillog)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("careful", RuntimeWarning, stacklevel=1)
    assert len(log.lines) == 1
    assert "event=library logger=py.warnings" in log.lines[0]
    assert "RuntimeWarning: careful" in log.lines[0]


def test_a_surge_is_told_with_its_figures() -> None:
    log = Log()
    log.maillog.surge_began("telework", "", ratio=2.13, messages=640, expected=10.04)
    log.maillog.surge_ended("telework", "vpn", ratio=1.204, seconds=2400.3)
    first, second = log.lines
    assert first.endswith(
        "warning - event=surge_began class=telework ratio=2.13 messages=640 expected=10.0"
    )
    assert second.endswith(
        "info - event=surge_ended class=telework network=vpn ratio=1.2 seconds=2400"
    )
