"""Who is told what: never strangers, never nobody, and only what the sender wants to hear."""

from dataclasses import replace
from typing import Any, ClassVar

import pytest

from mailshed.drain.matter import ReportedRecipient, ReportPolicy
from mailshed.drain.notify import (
    ReportContext,
    delay_report,
    failure_report,
    is_told_of_failure,
    may_report,
    success_kind,
    success_report,
    untold,
    words_of,
)
from mailshed.drain.report_limit import Untold
from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    Delivered,
    DeliveryResult,
    InDoubt,
    TransactionResult,
)
from mailshed.mail.reply import make
from mailshed.spool.store import Report, SpoolRecipient, SpoolRecord
from mailshed.terms import Ending, Reason, ReportKind, Stage
from tests.support.builders import BULK, BUSY, OK, REFUSED, WALL, queue_id, spool_record
from tests.support.reports import bounce_processor, fields, parsed, text_of

POLICY = ReportPolicy(
    hostname="mx.example.org", postmaster="postmaster@example.org", lifetime=4 * 86400.0
)
NOBODY_TO_TELL: list[dict[str, Any]] = [
    {"is_trusted": False},
    {"reverse_path": b""},
    {"is_generated": True},
]
DSN = frozenset({b"RET", b"ENVID", b"NOTIFY", b"ORCPT"})
ANOTHER_REPORT = b'Content-Type: multipart/report;\r\n\treport-type="delivery-status"\r\n\r\n'


def context(content: bytes = b"Subject: test\r\n\r\n", **changes: Any) -> ReportContext:
    made = ReportContext(
        policy=POLICY, report_id=queue_id(), success_id=queue_id(), content=content
    )
    return replace(made, **changes)


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


def delay(record: SpoolRecord, *, is_backend_away: bool = False, wall: float = WALL + 900) -> bytes:
    report = delay_report(record, context(), wall, is_backend_away=is_backend_away)
    assert report is not None
    return report.content


def took(*results: DeliveryResult, **changes: Any) -> TransactionResult:
    return TransactionResult(recipients=results or (Delivered(OK),), **changes)


def success(
    record: SpoolRecord, result: TransactionResult, about: ReportContext | None = None
) -> Report | None:
    about = about or context(remote_mta="backend.example.org")
    return success_report(record, result, about, WALL + 5)


@pytest.mark.parametrize("changes", NOBODY_TO_TELL)
def test_strangers_nobody_and_reports_are_not_told(changes: dict[str, Any]) -> None:
    record = spool_record(recipients=(waits(0, "", b"NOTIFY=SUCCESS"),), **changes)
    assert not may_report(record)
    assert failure_report(record, [failed()], context(), WALL) is None
    assert delay_report(record, context(), WALL, is_backend_away=True) is None
    assert success(record, took()) is None


@pytest.mark.parametrize(
    "content", [ANOTHER_REPORT, ANOTHER_REPORT.lower(), b"A: b\r\n" + ANOTHER_REPORT]
)
def test_a_report_of_another_server_is_never_reported(content: bytes) -> None:
    """One that does not come from the null reverse-path, as it should; or there is no end."""
    about = context(content)
    record = waiting(waits(0, "", b"NOTIFY=SUCCESS,FAILURE,DELAY"))
    assert failure_report(record, [failed()], about, WALL) is None
    assert delay_report(record, about, WALL, is_backend_away=True) is None
    assert success(record, took(), about) is None
    assert not is_told_of_failure(record, waits(), about)


class TestFailure:
    def test_speaks_of_those_who_want_it(self) -> None:
        silent = failed(b"a@example.net", parameters=(b"NOTIFY=NEVER",))
        report = failure_report(spool_record(), [silent, failed()], context(), WALL)
        assert report is not None
        assert bounce_processor(report.content) == (set(), {b"bob@example.net"})
        assert failure_report(spool_record(), [silent], context(), WALL) is None

    def test_ends_as_told_only_if_it_is(self) -> None:
        record, about = spool_record(), context()
        assert is_told_of_failure(record, waits(), about)
        assert not is_told_of_failure(record, waits(0, "", b"NOTIFY=NEVER"), about)
        assert not is_told_of_failure(replace(record, is_trusted=False), waits(), about)
        assert not is_told_of_failure(record, waits(), replace(about, is_limited=True))

    def test_tells_what_was_refused_from_what_came_too_late(self) -> None:
        late = failed(status="4.4.7", reply="", is_expired=True)
        for who, reason in (
            ([late], Reason.EXPIRED),
            ([late, failed()], Reason.BACKEND_REFUSED),
        ):
            report = failure_report(spool_record(), who, context(), WALL)
            assert report is not None
            assert report.record.reason is reason

    def test_of_mail_from_a_program_is_told(self) -> None:
        """RFC 3834 is about replies; that a monitor's mail does not arrive is worth knowing."""
        about = context(b"Auto-Submitted: auto-generated\r\n\r\n")
        assert failure_report(spool_record(), [failed()], about, WALL) is not None


class TestDelay:
    def test_is_a_message_from_nobody_to_the_sender_as_urgent_as_its_cause(self) -> None:
        about = context()
        record = spool_record(names=BULK, reason=Reason.BACKEND_AWAY)
        report = delay_report(record, about, WALL + 900, is_backend_away=True)
        assert report is not None
        assert report.kind is ReportKind.DELAYED
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

    def test_to_an_address_of_another_script_needs_smtputf8(self) -> None:
        record = waiting(waits(), reverse_path="\u00e5sa@example.org".encode())
        report = delay_report(record, context(), WALL, is_backend_away=True)
        assert report is not None
        assert report.record.parameters == (b"BODY=8BITMIME", b"SMTPUTF8")
        assert "To: <\u00e5sa@example.org>\r\n".encode() in report.content

    def test_speaks_of_those_who_want_it(self) -> None:
        record = waiting(waits(0), waits(1, "", b"NOTIFY=FAILURE"), waits(2, "", b"NOTIFY=DELAY"))
        assert bounce_processor(delay(record)) == ({b"r0@example.net", b"r2@example.net"}, set())
        alone = waiting(waits(1, "", b"NOTIFY=NEVER"))
        assert delay_report(alone, context(), WALL, is_backend_away=True) is None

    @pytest.mark.parametrize(
        ("value", "is_told"),
        [("auto-generated", False), ("auto-replied; x=y", False), ("no", True), ("NO ", True)],
    )
    def test_is_told_to_a_program_only_if_it_asks(self, value: str, is_told: bool) -> None:
        """RFC 3834, 2: nobody reads the mailbox of a program."""
        about = context(f"Auto-Submitted: {value}\r\n\r\n".encode())
        unasked = delay_report(waiting(waits()), about, WALL, is_backend_away=True)
        assert (unasked is not None) is is_told
        asked = waiting(waits(0, "", b"NOTIFY=DELAY"))
        assert delay_report(asked, about, WALL, is_backend_away=True) is not None

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

    def test_at_the_time_that_its_sender_had_set_says_so(self) -> None:
        """RFC 2852: BY=600;N."""
        record = waiting(waits(0, "452 4.2.2 Mailbox full"), parameters=(b"BY=600;N",))
        about_message, about = fields(delay(record, wall=WALL + 600))
        assert about_message["Deliver-By-Date"] == "Tue, 14 Nov 2023 22:23:20 +0000"
        assert (about["Action"], about["Status"]) == ("delayed", "4.4.7")
        _, about = fields(delay(record, wall=WALL + 599))
        assert about["Status"] == "4.2.2"


class TestSuccess:
    ASKED = (b"NOTIFY=SUCCESS",)

    def record(self, **changes: Any) -> SpoolRecord:
        return waiting(waits(0, "", *self.ASKED), **changes)

    def test_is_told_by_whoever_is_the_last_to_know(self) -> None:
        assert success_kind(took()) is ReportKind.RELAYED
        assert success_kind(took(passed_on=frozenset({b"BODY"}))) is ReportKind.RELAYED
        assert success_kind(took(passed_on=DSN)) is None
        assert success_kind(took(is_final=True)) is ReportKind.DELIVERED
        assert success_kind(took(is_final=True, passed_on=DSN)) is None

    @pytest.mark.parametrize(("is_final", "action"), [(False, "relayed"), (True, "delivered")])
    def test_says_what_became_of_it_and_where(self, is_final: bool, action: str) -> None:
        about = context(remote_mta="backend.example.org")
        report = success(self.record(), took(is_final=is_final), about)
        assert report is not None
        assert report.kind.value == action
        assert report.record.queue_id == about.success_id
        assert report.record.reverse_path == b""
        assert report.record.is_generated
        _, about_bob = fields(report.content)
        assert (about_bob["Action"], about_bob["Status"]) == (action, "2.0.0")
        assert about_bob["Diagnostic-Code"] == f"smtp; {OK.text}"
        assert about_bob["Remote-MTA"] == "dns; backend.example.org"
        assert about_bob["Last-Attempt-Date"] == "Tue, 14 Nov 2023 22:13:25 +0000"
        assert bounce_processor(report.content) == (set(), set())

    def test_of_a_maildir_names_no_server(self) -> None:
        report = success(self.record(), took(is_final=True), context())
        assert report is not None
        _, about = fields(report.content)
        assert about["Diagnostic-Code"] == "x-mailshed; stored in the mailbox"
        assert about["Remote-MTA"] is None

    def test_is_not_ours_to_tell_if_the_parameters_were_passed_on(self) -> None:
        assert success(self.record(), took(passed_on=DSN)) is None

    def test_speaks_of_those_who_got_it_and_are_asked_about(self) -> None:
        record = waiting(
            waits(0, "", b"NOTIFY=SUCCESS,FAILURE"),
            waits(1),
            waits(2, "", b"NOTIFY=NEVER"),
            waits(3, "", b"NOTIFY=SUCCESS"),
            waits(4, "", b"NOTIFY=SUCCESS"),
            waits(5, "", b"NOTIFY=SUCCESS"),
        )
        yes, no, later = Delivered(OK), Bounced(Stage.RCPT, REFUSED), Deferred(Stage.RCPT, BUSY)
        report = success(record, took(yes, yes, yes, no, later, InDoubt("lost")))
        assert report is not None
        assert [each["Final-Recipient"] for each in fields(report.content)[1:]] == [
            "rfc822; r0@example.net"
        ]

    def test_nobody_asked_about_is_no_report(self) -> None:
        assert success(waiting(waits(0)), took()) is None

    def test_brings_back_how_the_sender_named_it(self) -> None:
        recipient = waits(0, "", b"NOTIFY=SUCCESS", b"ORCPT=rfc822;Bob@example.net")
        report = success(waiting(recipient, parameters=(b"ENVID=Q1", b"RET=FULL")), took())
        assert report is not None
        about_message, about = fields(report.content)
        assert about_message["Original-Envelope-Id"] == "Q1"
        assert about["Original-Recipient"] == "rfc822; Bob@example.net"
        assert parsed(report.content)["Subject"].startswith("Mail Handed Over")


class TestUntold:
    """What the limit has kept back, in the words of a summary."""

    RECORD = waiting(
        waits(0),
        waits(1, "", b"NOTIFY=NEVER"),
        waits(2, "", b"NOTIFY=SUCCESS"),
        waits(3),
        waits(4, "451 4.3.0 later"),
    )
    RESULTS = (
        Bounced(Stage.RCPT, REFUSED),
        Bounced(Stage.RCPT, REFUSED),
        Delivered(OK),
        Delivered(OK),
        Deferred(Stage.RCPT, make(450, "4.2.0 busy")),
    )
    ENDINGS: ClassVar = {
        0: Ending.REFUSED,
        1: Ending.REFUSED,
        2: Ending.DELIVERED,
        3: Ending.DELIVERED,
        4: Ending.EXPIRED,
    }
    LIMITED = context(is_limited=True)

    def test_is_what_would_have_been_told(self) -> None:
        queue = self.RECORD.queue_id
        assert untold(self.RECORD, self.ENDINGS, took(*self.RESULTS), self.LIMITED) == [
            Untold(ReportKind.FAILED, queue, b"r0@example.net", REFUSED.text),
            Untold(ReportKind.RELAYED, queue, b"r2@example.net", OK.text),
            Untold(ReportKind.FAILED, queue, b"r4@example.net", "450 4.2.0 busy"),
        ]

    def test_of_what_ended_without_an_attempt_has_the_last_reply(self) -> None:
        lines = untold(self.RECORD, {4: Ending.EXPIRED}, None, self.LIMITED)
        assert [line.words for line in lines] == ["451 4.3.0 later"]

    def test_is_nothing_if_the_backend_tells_of_the_success(self) -> None:
        result = took(*self.RESULTS, passed_on=DSN)
        assert untold(self.RECORD, {2: Ending.DELIVERED}, result, self.LIMITED) == []

    def test_is_nothing_without_a_limit_or_for_who_is_not_told_anyway(self) -> None:
        result = took(*self.RESULTS)
        assert untold(self.RECORD, self.ENDINGS, result, context()) == []
        for changes in NOBODY_TO_TELL:
            record = replace(self.RECORD, **changes)
            assert untold(record, self.ENDINGS, result, self.LIMITED) == []
        another = replace(self.LIMITED, content=ANOTHER_REPORT)
        assert untold(self.RECORD, self.ENDINGS, result, another) == []

    def test_and_report_never_speak_of_the_same(self) -> None:
        assert failure_report(self.RECORD, [failed()], self.LIMITED, WALL) is None
        assert success(self.RECORD, took(*self.RESULTS), self.LIMITED) is None


@pytest.mark.parametrize(
    ("fared", "words"),
    [
        (Delivered(OK), OK.text),
        (Bounced(Stage.DOT, REFUSED), REFUSED.text),
        (Deferred(Stage.RCPT, BUSY, "unused"), BUSY.text),
        (Deferred(Stage.CONNECT, None, "refused"), "connect: refused"),
        (Deferred(Stage.DATA, None), "data: no reply"),
        (InDoubt("timed out"), "dot: in doubt: timed out"),
    ],
)
def test_words_are_the_reply_or_begin_with_a_stage(fared: DeliveryResult, words: str) -> None:
    assert words_of(fared) == words
