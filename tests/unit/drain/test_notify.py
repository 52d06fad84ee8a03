"""Who is told what: never strangers, never nobody, and only what the sender wants to hear."""

from typing import Any

import pytest

from mailshed.drain.notify import (
    ReportContext,
    delay_report,
    failure_report,
    may_report,
    wants_delay_report,
    wants_failure_report,
)
from mailshed.drain.report import ReportedRecipient, ReportPolicy
from mailshed.spool.store import SpoolRecipient, SpoolRecord
from mailshed.terms import Reason
from tests.support.builders import BULK, WALL, queue_id, spool_record
from tests.support.reports import bounce_processor, fields, text_of

POLICY = ReportPolicy(
    hostname="mx.example.org", postmaster="postmaster@example.org", lifetime=4 * 86400.0
)
NOBODY_TO_TELL = [{"is_trusted": False}, {"reverse_path": b""}, {"is_generated": True}]


def context() -> ReportContext:
    return ReportContext(policy=POLICY, report_id=queue_id(), header=b"Subject: test\r\n\r\n")


def failed(address: bytes = b"bob@example.net", **changes: Any) -> ReportedRecipient:
    values: dict[str, Any] = {"status": "5.1.1", "reply": "550 5.1.1 No such user"} | changes
    return ReportedRecipient(address=address, **values)


def waiting(*recipients: SpoolRecipient, **changes: Any) -> SpoolRecord:
    return spool_record(recipients=recipients, **changes)


def waits(index: int = 0, last_reply: str = "", *parameters: bytes) -> SpoolRecipient:
    return SpoolRecipient(
        index=index,
        address=f"r{index}@example.net".encode(),
        parameters=parameters,
        last_reply=last_reply,
    )


def delay(record: SpoolRecord, *, is_backend_away: bool = False) -> bytes:
    report = delay_report(record, context(), WALL + 900, is_backend_away=is_backend_away)
    assert report is not None
    return report.content


@pytest.mark.parametrize(
    ("parameters", "failure", "delay"),
    [
        ((), True, True),
        ((b"NOTIFY=FAILURE",), True, False),
        ((b"notify=success,failure",), True, False),
        ((b"NOTIFY=FAILURE,DELAY",), True, True),
        ((b"NOTIFY=NEVER",), False, False),
        ((b"NOTIFY=SUCCESS,DELAY",), False, True),
        ((b"ORCPT=rfc822;a@x", b"notify=delay"), False, True),
        ((b"NOTIFY=",), False, False),
    ],
)
def test_notify_decides_who_hears_of_what(
    parameters: tuple[bytes, ...], failure: bool, delay: bool
) -> None:
    """RFC 3461, 4.1: with NOTIFY only what it names; without it, both."""
    assert wants_failure_report(parameters) is failure
    assert wants_delay_report(parameters) is delay


@pytest.mark.parametrize("changes", NOBODY_TO_TELL)
def test_strangers_nobody_and_reports_are_not_told(changes: dict[str, Any]) -> None:
    record = spool_record(**changes)
    assert not may_report(record)
    assert failure_report(record, [failed()], context(), WALL) is None
    assert delay_report(record, context(), WALL, is_backend_away=True) is None


class TestFailure:
    def test_speaks_of_those_who_want_it(self) -> None:
        silent = failed(b"a@example.net", parameters=(b"NOTIFY=NEVER",))
        report = failure_report(spool_record(), [silent, failed()], context(), WALL)
        assert report is not None
        assert bounce_processor(report.content) == (set(), {b"bob@example.net"})
        assert failure_report(spool_record(), [silent], context(), WALL) is None

    def test_tells_what_was_refused_from_what_came_too_late(self) -> None:
        late = failed(status="4.4.7", reply="", is_expired=True)
        for who, reason in (
            ([late], Reason.EXPIRED),
            ([late, failed()], Reason.BACKEND_REFUSED),
        ):
            report = failure_report(spool_record(), who, context(), WALL)
            assert report is not None
            assert report.record.reason is reason


class TestDelay:
    def test_is_a_message_from_nobody_to_the_sender_as_urgent_as_its_cause(self) -> None:
        about = context()
        record = spool_record(names=BULK, reason=Reason.BACKEND_AWAY)
        report = delay_report(record, about, WALL + 900, is_backend_away=True)
        assert report is not None
        assert report.record == SpoolRecord(
            queue_id=about.report_id,
            traffic_class="bulk",
            rank=5,
            reverse_path=b"",
            recipients=(SpoolRecipient(index=0, address=b"alice@example.org"),),
            size=len(report.content),
            received_wall=WALL + 900,
            expires_wall=WALL + 900 + POLICY.lifetime,
            next_attempt_wall=WALL + 900,
            reason=Reason.BACKEND_AWAY,
            client_address="local",
            is_trusted=False,
            is_generated=True,
        )
        assert report.record.report_wall is None, "nobody is told that a report is late"

    def test_speaks_of_those_who_want_it(self) -> None:
        record = waiting(waits(0), waits(1, "", b"NOTIFY=FAILURE"), waits(2, "", b"NOTIFY=DELAY"))
        assert bounce_processor(delay(record)) == ({b"r0@example.net", b"r2@example.net"}, set())
        alone = waiting(waits(1, "", b"NOTIFY=NEVER"))
        assert delay_report(alone, context(), WALL, is_backend_away=True) is None

    @pytest.mark.parametrize(
        ("last_reply", "is_backend_away", "status", "code"),
        [
            ("452 4.2.2 Mailbox full", True, "4.2.2", "smtp; 452 4.2.2 Mailbox full"),
            ("451-4.3.0 Queue full", False, "4.3.0", "smtp; 451-4.3.0 Queue full"),
            ("450 4.7.1", False, "4.7.1", "smtp; 450 4.7.1"),
            ("451 come back later", False, "4.0.0", "smtp; 451 come back later"),
            ("450 5.1.1 contradicts itself", False, "4.0.0", "smtp; 450 5.1.1 contradicts itself"),
            ("", True, "4.4.1", "x-mailshed; the mail server cannot be reached"),
            ("", False, "4.4.5", "x-mailshed; the mail server is busy with other mail"),
            ("data: no reply", False, "4.4.2", "x-mailshed; data: no reply"),
            ("connect: refused", True, "4.4.1", "x-mailshed; the mail server cannot be reached"),
        ],
    )
    def test_says_why_as_far_as_it_is_known(
        self, last_reply: str, is_backend_away: bool, status: str, code: str
    ) -> None:
        record = waiting(waits(0, last_reply))
        _, about = fields(delay(record, is_backend_away=is_backend_away))
        assert (about["Status"], about["Diagnostic-Code"]) == (status, code)

    def test_says_until_when_it_is_tried(self) -> None:
        record = waiting(waits(0), expires_wall=WALL + 86400)
        wire = delay(record)
        _, about = fields(wire)
        assert about["Will-Retry-Until"] == "Wed, 15 Nov 2023 22:13:20 +0000"
        assert "again and again until Wed, 15 Nov 2023 22:13:20 +0000" in text_of(wire)
