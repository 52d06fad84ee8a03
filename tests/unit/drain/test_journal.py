"""Each thing that becomes of a spooled message is one line and its counts, and they agree."""

from dataclasses import replace
from typing import Any

import pytest

from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    Delivered,
    DeliveryResult,
    InDoubt,
    StageTimes,
    TransactionResult,
)
from mailshed.mail.reply import make
from mailshed.spool.store import Report, Settlement
from mailshed.terms import Ending, ReportKind, SpoolState, Stage
from tests.support.builders import (
    BUSY,
    OK,
    REFUSED,
    TELEWORK,
    WALL,
    spool_record,
)
from tests.support.clock import ManualClock
from tests.support.middle import JournalBook

ANSWER_TIMES = StageTimes(connect=0.5, envelope=0.25, content=0.25, service=1.5)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(monotonic=1000.0, wall=WALL)


@pytest.fixture
def book(clock: ManualClock) -> JournalBook:
    return JournalBook(clock)


Settled = dict[str, Any]
"""What a settlement says beyond what all of them say."""


class TestAttempted:
    def attempt(
        self,
        book: JournalBook,
        results: tuple[DeliveryResult, ...],
        *,
        has_report: bool = False,
        attempts: int = 3,
        **settled: object,
    ) -> None:
        names = [f"r{number}@example.net" for number in range(len(results))]
        record = spool_record(*names, names=TELEWORK)
        report = Report(record=spool_record(), content=b"")
        settlement = Settlement(
            queue_id=record.queue_id,
            attempts=attempts,
            next_attempt_wall=WALL + 45,
            reports=(report,) if has_report else (),
            **settled,  # type: ignore[arg-type]
        )
        result = TransactionResult(recipients=results, times=ANSWER_TIMES)
        book.drain_journal.attempted(record, "exch", result, settlement, 12.0)

    def test_says_how_it_went_and_when_it_goes_on(self, book: JournalBook) -> None:
        self.attempt(book, (Deferred(Stage.RCPT, BUSY),), deferred={0: BUSY.text})
        line = book.log.one("attempted")
        assert (line["outcome"], line["attempt"], line["next"]) == ("deferred", 3, 45)
        assert line["reply"] == BUSY.text
        assert line["delays"] == "0.00/12.00/0.50/1.50"

    def test_has_no_next_time_when_all_is_settled(self, book: JournalBook) -> None:
        self.attempt(book, (Delivered(OK),), endings={0: Ending.DELIVERED})
        assert "next" not in book.log.one("attempted")
        assert book.count("queue_wait_seconds_sum", **{"class": "telework"}) == 12

    def test_what_arrives_from_the_spool_is_on_time_or_late(
        self, book: JournalBook, clock: ManualClock
    ) -> None:
        book.metrics.promise({"telework": 60.0}, 1.0)
        for seconds in (60.0, 1.0):
            clock.advance(seconds)
            self.attempt(book, (Delivered(OK), Deferred(Stage.RCPT, BUSY)), deferred={1: ""})
            self.attempt(book, (Deferred(Stage.RCPT, BUSY),), deferred={0: ""})
        for timeliness in ("on_time", "late"):
            labels = {"class": "telework", "timeliness": timeliness}
            assert book.count("delivered_messages_total", **labels) == 1

    def test_names_in_later_lines_only_those_they_are_about(self, book: JournalBook) -> None:
        other = make(554, "5.7.1 Never")
        results = (
            Delivered(OK),
            Bounced(Stage.RCPT, REFUSED),
            Bounced(Stage.RCPT, other),
            Deferred(Stage.RCPT, BUSY),
        )
        endings = {
            0: Ending.DELIVERED,
            1: Ending.BOUNCED,
            2: Ending.REFUSED,
            3: Ending.EXPIRED,
        }
        self.attempt(book, results, endings=endings, has_report=True)
        attempted = book.log.of("attempted")
        shown = [(line["outcome"], line["to"], line["reply"]) for line in attempted]
        assert shown == [
            ("delivered", "<r0@example.net>", OK.text),
            ("bounced", "<r1@example.net>", REFUSED.text),
            ("bounced", "<r2@example.net>", other.text),
            ("deferred", "<r3@example.net>", BUSY.text),
        ]
        assert not any("next" in line for line in attempted)
        told, untold = book.log.of("bounced")
        assert (told["to"], told["reply"]) == ("<r1@example.net>", REFUSED.text)
        assert "report" in told
        assert (untold["to"], untold["reply"]) == ("<r2@example.net>", other.text)
        assert "report" not in untold
        expired = book.log.one("expired")
        assert (expired["to"], expired["age"], expired["reply"]) == (
            "<r3@example.net>",
            12,
            BUSY.text,
        )

    def test_recipients_who_fared_alike_share_a_line(self, book: JournalBook) -> None:
        results = (Deferred(Stage.RCPT, BUSY), Delivered(OK), Deferred(Stage.RCPT, BUSY))
        settled: Settled = {
            "endings": {1: Ending.DELIVERED},
            "deferred": {0: BUSY.text, 2: BUSY.text},
        }
        self.attempt(book, results, **settled)
        waits, done = book.log.of("attempted")
        assert (waits["to"], waits["nrcpt"]) == ("<r0@example.net>,<r2@example.net>", 2)
        assert (waits["outcome"], waits["next"], waits["attempt"]) == ("deferred", 45, 3)
        assert (done["to"], done["outcome"], "next" in done) == (
            "<r1@example.net>",
            "delivered",
            False,
        )

    def test_what_is_held_has_no_next_attempt(self, book: JournalBook) -> None:
        held: Settled = {"deferred": {0: "dot"}, "state": SpoolState.HOLD}
        self.attempt(book, (InDoubt("timed out"),), **held)
        line = book.log.one("attempted")
        assert (line["outcome"], "next" in line) == ("in_doubt", False)

    def test_a_try_that_did_not_count_has_no_number(self, book: JournalBook) -> None:
        result = Deferred(Stage.EHLO, None, "timed out")
        self.attempt(book, (result,), attempts=0, deferred={0: "ehlo: timed out"})
        line = book.log.one("attempted")
        assert ("attempt" in line, line["next"], line["reply"]) == (False, 45, "timed out")

    def test_who_expires_while_the_backend_is_away_was_not_tried(self, book: JournalBook) -> None:
        result = Deferred(Stage.CONNECT, None, "connection refused")
        self.attempt(book, (result,), attempts=0, endings={0: Ending.EXPIRED})
        assert book.log.events == ["expired"]
        assert book.log.one("expired")["reply"] == "connection refused"

    def test_doubt_names_only_those_in_doubt(self, book: JournalBook) -> None:
        results = (Bounced(Stage.RCPT, REFUSED), InDoubt("timed out"))
        settled: Settled = {"endings": {0: Ending.REFUSED}, "deferred": {1: "dot"}}
        self.attempt(book, results, **settled)
        assert book.log.one("in_doubt")["to"] == "<r1@example.net>"

    @pytest.mark.parametrize(
        ("state", "held"), [(SpoolState.DEFERRED, "no"), (SpoolState.HOLD, "yes")]
    )
    def test_doubt_is_a_line_of_its_own(
        self, book: JournalBook, state: SpoolState, held: str
    ) -> None:
        self.attempt(book, (InDoubt("timed out"),), deferred={0: "dot"}, state=state)
        line = book.log.one("in_doubt")
        assert (line["held"], line["detail"]) == (held, "timed out")


class TestReports:
    """Each report is counted with what it reports, under the class of its cause."""

    def report(self) -> Report:
        return Report(record=spool_record(is_generated=True), content=b"")

    def count(self, book: JournalBook, kind: str) -> float:
        return book.count("reports_total", **{"class": "telework", "kind": kind})

    def test_of_a_delay(self, book: JournalBook) -> None:
        report, record = self.report(), spool_record(names=TELEWORK)
        book.drain_journal.delayed(record, report, 900.0)
        line = book.log.one("delayed")
        assert (line["id"], line["age"]) == (record.queue_id, 900)
        assert line["report"] == report.record.queue_id
        assert self.count(book, "delayed") == 1

    def test_of_a_delay_that_nobody_is_told_of(self, book: JournalBook) -> None:
        book.drain_journal.delayed(spool_record(names=TELEWORK), None, 900.0)
        assert "report" not in book.log.one("delayed")
        assert self.count(book, "delayed") == 0

    def test_of_a_failure(self, book: JournalBook) -> None:
        record = spool_record(names=TELEWORK)
        settlement = Settlement(
            queue_id=record.queue_id,
            endings={0: Ending.EXPIRED},
            attempts=0,
            next_attempt_wall=WALL,
            reports=(self.report(),),
        )
        book.drain_journal.expired(record, settlement, 345600.0)
        assert self.count(book, "failed") == 1

    def test_of_a_success_that_came_with_a_failure_is_not_the_one_about_it(
        self, book: JournalBook
    ) -> None:
        record, failed = spool_record(names=TELEWORK), self.report()
        relayed = replace(self.report(), kind=ReportKind.RELAYED)
        settlement = Settlement(
            queue_id=record.queue_id,
            endings={0: Ending.EXPIRED},
            attempts=0,
            next_attempt_wall=WALL,
            reports=(relayed, failed),
        )
        book.drain_journal.expired(record, settlement, 345600.0)
        assert book.log.one("expired")["report"] == failed.record.queue_id
        line = book.log.one("reported")
        assert (line["id"], line["kind"]) == (record.queue_id, "relayed")
        assert (line["to"], line["report"]) == ("<alice@example.org>", relayed.record.queue_id)
        assert (self.count(book, "failed"), self.count(book, "relayed")) == (1, 1)

    def test_in_one_for_many(self, book: JournalBook) -> None:
        record = spool_record(names=TELEWORK, is_generated=True)
        book.drain_journal.summarised(b"alice@example.org", Report(record=record, content=b""), 40)
        line = book.log.one("reports_summarised")
        assert (line["id"], line["to"], line["nrcpt"]) == (
            record.queue_id,
            "<alice@example.org>",
            40,
        )
        assert self.count(book, "summary") == 1

    def test_that_are_too_many(self, book: JournalBook) -> None:
        assert book.count("reports_limited_total") == 0
        book.drain_journal.reports_limited(3)
        assert book.count("reports_limited_total") == 3

    def test_that_is_lost(self, book: JournalBook) -> None:
        report = replace(self.report(), kind=ReportKind.DELIVERED)
        book.drain_journal.report_lost(b"alice@example.org", report, "the spool is full")
        line = book.log.one("report_lost")
        assert (line["kind"], line["detail"]) == ("delivered", "the spool is full")
        assert self.count(book, "delivered") == 0


def test_what_was_postponed_is_counted_by_its_cause(book: JournalBook) -> None:
    record = spool_record(names=TELEWORK)
    book.drain_journal.postponed(record, "mailbox", 60.0)
    line = book.log.one("postponed")
    assert (line["id"], line["cause"], line["next"]) == (record.queue_id, "mailbox", 60)
    labels = {"class": "telework", "cause": "mailbox"}
    assert book.count("messages_postponed_total", **labels) == 1


def test_a_clock_that_was_set_is_a_line(book: JournalBook) -> None:
    book.drain_journal.clock_stepped(-3600.04)
    assert book.log.one("clock_stepped")["seconds"] == -3600


def test_our_own_faults_are_reported_once_with_a_name(book: JournalBook) -> None:
    record, error = spool_record(), RuntimeError("bug")
    book.drain_journal.attempt_failed(record, error)
    book.drain_journal.drain_failed(error)
    assert book.faults == [(f"drain {record.queue_id}", error), ("drain", error)]
