"""Each thing that becomes of a message is one line of the log and its counts, and they agree."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailshed.classification.classifier import Classifier, Verdict
from mailshed.classification.subject import subject_of
from mailshed.mail import reply as replies
from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    Delivered,
    DeliveryResult,
    InDoubt,
    NoReply,
    StageTimes,
    TransactionResult,
)
from mailshed.mail.header import HeaderView
from mailshed.mail.reply import Reply, make
from mailshed.message import Message
from mailshed.spool.store import Report, Settlement
from mailshed.terms import Ending, Reason, ReportKind, SpoolState, Stage
from tests.support.builders import (
    BUSY,
    OK,
    REFUSED,
    TELEWORK,
    WALL,
    classification_policy,
    client,
    content_store,
    deferred,
    delivered,
    envelope,
    spool_record,
    wire,
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


@pytest.fixture
def message(tmp_path: Path, clock: ManualClock) -> Message:
    """Two recipients, 1 s to receive, complete 2 s ago."""
    content = content_store(tmp_path).new()
    assert content.write(wire())
    made = envelope("a@example.net", "b@example.net", received_at=998.0, started_at=997.0)
    return Message(made, content, b"Received: x\r\n", Verdict(TELEWORK, "rule"), lambda: False)


def test_every_line_of_a_message_has_the_login_that_was_proved(
    book: JournalBook, message: Message
) -> None:
    """The sender may be anybody: who sent ten thousand messages is asked by login."""
    client = replace(message.envelope.client, user="alice@example.org")
    hers = replace(message, envelope=replace(message.envelope, client=client))
    book.journal.delivered(hers, "exch", OK, ANSWER_TIMES, 0.0)
    book.journal.turned_away(hers, REFUSED, Reason.BACKEND_REFUSED)
    assert [line["login"] for line in book.log.lines] == ["alice@example.org"] * 2
    book.journal.spooled(message, Reason.SATURATED)
    assert "login" not in book.log.one("spooled")


def test_every_line_of_a_message_says_whose_it_is(book: JournalBook, message: Message) -> None:
    journal = book.journal
    journal.delivered(message, "exch", OK, ANSWER_TIMES, 0.0)
    journal.spooled(message, Reason.SATURATED)
    journal.turned_away(message, BUSY, Reason.BACKEND_DEFERRED)
    journal.turned_away(message, REFUSED, Reason.BACKEND_REFUSED)
    journal.aborted(message)
    journal.in_doubt(message, "exch", "connection lost")
    events = ["delivered", "spooled", "deferred", "refused", "aborted", "in_doubt"]
    assert book.log.events == events
    for line in book.log.lines:
        assert line["id"] == message.envelope.queue_id
        assert line["class"] == "telework"
        assert (line["from"], line["to"]) == (
            "<alice@example.org>",
            "<a@example.net>,<b@example.net>",
        )
        assert (line["size"], line["client"]) == (message.size, "192.0.2.1")


def test_delays_are_reception_waiting_connect_transmission(
    book: JournalBook, message: Message
) -> None:
    book.journal.delivered(message, "exch", OK, ANSWER_TIMES, 0.75)
    line = book.log.one("delivered")
    assert line["delays"] == "1.00/0.75/0.50/1.50"
    assert line["delay"] == 3.75


def test_a_commit_counts_as_waiting(book: JournalBook, message: Message) -> None:
    book.journal.spooled(message, Reason.SATURATED)
    assert book.log.one("spooled")["delays"] == "1.00/2.00/0.00/0.00"


def tried(*results: DeliveryResult) -> TransactionResult:
    return TransactionResult(recipients=results, times=ANSWER_TIMES)


@pytest.mark.parametrize("event", ["spooled", "deferred", "refused"])
def test_the_time_with_the_backend_was_no_waiting(
    book: JournalBook, message: Message, event: str
) -> None:
    """2 s since the final dot, 0.5 of them to connect and 1.5 in the dialog."""
    result, journal = tried(Deferred(Stage.DOT, BUSY)), book.journal
    match event:
        case "spooled":
            journal.spooled(message, Reason.BACKEND_DEFERRED, result)
        case "deferred":
            journal.turned_away(message, BUSY, Reason.BACKEND_DEFERRED, result)
        case _:
            journal.turned_away(message, REFUSED, Reason.BACKEND_REFUSED, result)
    assert book.log.one(event)["delays"] == "1.00/0.00/0.50/1.50"
    assert book.log.one(event)["delay"] == 3.0


@pytest.mark.parametrize(
    ("results", "said", "detail"),
    [
        ((Deferred(Stage.CONNECT, make(421, "4.3.2 too many"), ""),), "421 4.3.2 too many", None),
        ((Deferred(Stage.CONNECT, None, "connection refused"),), None, "connection refused"),
        ((InDoubt("timed out"), InDoubt("timed out")), None, "timed out"),
        (
            (
                Bounced(Stage.RCPT, REFUSED),
                Deferred(Stage.RCPT, None, "other recipients were refused"),
                Deferred(Stage.RCPT, BUSY),
                Deferred(Stage.RCPT, BUSY),
            ),
            f"{REFUSED.text} / {BUSY.text}",
            None,
        ),
    ],
    ids=["greeting", "no connection", "no answer", "mixed"],
)
def test_a_spooled_line_says_what_the_backend_did(
    book: JournalBook,
    message: Message,
    results: tuple[DeliveryResult, ...],
    said: str | None,
    detail: str | None,
) -> None:
    book.journal.spooled(message, Reason.BACKEND_AWAY, tried(*results))
    line = book.log.one("spooled")
    assert (line.get("reply"), line.get("detail")) == (said, detail)


class TestBeforeThereIsAMessage:
    @pytest.mark.parametrize(
        ("answer", "event", "reason"),
        [
            (replies.BARE_LINE_ENDING, "refused", "content"),
            (replies.TOO_LARGE, "refused", "too_large"),
            (replies.NO_ROOM_FOR_CONTENT, "deferred", "no_memory"),
            (replies.INTERNAL, "deferred", "internal"),
            (replies.TIMED_OUT, "aborted", None),
            (replies.TOO_SLOW, "aborted", None),
            (replies.SHUTTING_DOWN, "aborted", None),
            (None, "aborted", None),
        ],
    )
    def test_mail_data_that_is_no_message_is_one_line(
        self, book: JournalBook, answer: Reply | None, event: str, reason: str | None
    ) -> None:
        made = envelope("a@example.net", received_at=998.0, started_at=997.0)
        book.journal.discarded(made, 77, answer)
        (line,) = book.log.lines
        assert (line["event"], line.get("reason")) == (event, reason)
        assert line.get("reply") == (answer.text if answer else None)
        assert (line["id"], line["size"]) == (made.queue_id, 77)
        assert (line["from"], line["to"]) == ("<alice@example.org>", "<a@example.net>")
        if event == "aborted":
            assert line["stage"] == "data"
        else:
            assert line["delays"] == "1.00/0.00/0.00/0.00"

    def test_it_has_no_class_to_be_counted_under(self, book: JournalBook) -> None:
        book.journal.discarded(envelope(), 1, replies.TOO_LARGE)
        assert "class" not in book.log.one("refused")
        names = {metric.name for metric in book.metrics.collect() if metric.samples}
        assert "mailshed_decisions" not in names

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [(replies.TOO_LARGE, "too_large"), (replies.NON_ASCII_ADDRESS, None)],
    )
    def test_a_refused_command_says_who_and_why(
        self, book: JournalBook, answer: Reply, reason: str | None
    ) -> None:
        who = client()
        book.journal.rejected(who, Stage.MAIL, answer, sender="jürg@b".encode())
        line = book.log.one("rejected")
        assert (line["id"], line["listener"], line["client"]) == (
            who.session_id,
            who.listener,
            who.address_text,
        )
        assert (line["stage"], line["from"], line["reply"]) == ("mail", "<jürg@b>", answer.text)
        assert (line.get("reason"), line.get("to")) == (reason, None)


@pytest.mark.parametrize(
    ("event", "action", "reason"),
    [
        ("delivered", "relay", Reason.ROOM),
        ("spooled", "spool", Reason.BACKEND_AWAY),
        ("deferred", "defer", Reason.SPOOL_FULL),
        ("refused", "reject", Reason.LOOP),
    ],
)
def test_each_end_is_one_decision_and_one_transaction(
    book: JournalBook, message: Message, event: str, action: str, reason: Reason
) -> None:
    journal = book.journal
    match event:
        case "delivered":
            journal.delivered(message, "exch", OK, ANSWER_TIMES, 0.0)
        case "spooled":
            journal.spooled(message, reason)
        case "deferred":
            journal.turned_away(message, BUSY, reason)
        case _:
            journal.turned_away(message, REFUSED, reason)
    labels = {"class": "telework", "action": action, "reason": reason.value}
    assert book.count("decisions_total", **labels) == 1
    ended = {"class": "telework", "outcome": "rejected" if event == "refused" else event}
    assert book.count("transaction_duration_seconds_count", **ended) == 1
    assert book.count("transaction_duration_seconds_sum", **ended) == 3.0
    accepted = {"delivered": "relayed", "spooled": "spooled"}.get(event)
    for disposition in ("relayed", "spooled"):
        labels = {"class": "telework", "disposition": disposition}
        assert book.count("messages_accepted_total", **labels) == (disposition == accepted)
    recipients = book.count("recipients_accepted_total", **{"class": "telework"})
    assert recipients == (2 if accepted else 0)
    assert journal.relayed["telework"] == (event == "delivered")
    assert journal.spooled_count["telework"] == (event == "spooled")


def test_a_message_that_was_taken_live_counts_by_its_time_since_arrival(
    book: JournalBook, message: Message, clock: ManualClock
) -> None:
    """Two seconds passed before the test begins."""
    telework = {"class": "telework"}
    book.metrics.promise({"telework": 2.5}, 1.0)
    book.journal.waited(message)
    book.journal.delivered(message, "exch", OK, ANSWER_TIMES, 0.0)
    clock.advance(1.0)
    book.journal.delivered(message, "exch", OK, ANSWER_TIMES, 0.0)
    for timeliness in ("on_time", "late"):
        assert book.count("delivered_messages_total", **telework, timeliness=timeliness) == 1
    assert book.count("delivered_bytes_total", **telework) == 2 * message.size
    assert book.count("slot_wait_seconds_sum", **telework) == 2.0


def test_a_transaction_counts_each_recipient_under_what_decided_it(book: JournalBook) -> None:
    results = (
        Delivered(OK),
        Bounced(Stage.RCPT, REFUSED),
        Deferred(Stage.RCPT, BUSY),
        Deferred(Stage.DATA, None, "timed out"),
        InDoubt("connection lost"),
    )
    result = TransactionResult(recipients=results, times=ANSWER_TIMES)
    book.journal.transaction("bulk", "exch", "spool", result)
    fates = {"delivered": 1, "bounced": 1, "deferred": 2, "in_doubt": 1}
    for fate, number in fates.items():
        labels = {"class": "bulk", "source": "spool", "result": fate}
        assert book.count("deliveries_total", **labels) == number
    replies = {("dot", "2xx"): 1, ("rcpt", "5xx"): 1, ("rcpt", "4xx"): 1, ("data", "none"): 1}
    for (stage, code_class), number in replies.items():
        labels = {"backend": "exch", "stage": stage, "code_class": code_class}
        assert book.count("backend_replies_total", **labels) == number
    assert book.count("in_doubt_total", **{"class": "bulk"}) == 1, "a message, not its recipients"
    service = {"backend": "exch", "stage": "service"}
    assert book.count("delivery_stage_seconds_sum", **service) == 1.5


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
        book.journal.attempted(record, "exch", result, settlement, 12.0)

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
        book.journal.delayed(record, report, 900.0)
        line = book.log.one("delayed")
        assert (line["id"], line["age"]) == (record.queue_id, 900)
        assert line["report"] == report.record.queue_id
        assert self.count(book, "delayed") == 1

    def test_of_a_delay_that_nobody_is_told_of(self, book: JournalBook) -> None:
        book.journal.delayed(spool_record(names=TELEWORK), None, 900.0)
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
        book.journal.expired(record, settlement, 345600.0)
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
        book.journal.expired(record, settlement, 345600.0)
        assert book.log.one("expired")["report"] == failed.record.queue_id
        line = book.log.one("reported")
        assert (line["id"], line["kind"]) == (record.queue_id, "relayed")
        assert (line["to"], line["report"]) == ("<alice@example.org>", relayed.record.queue_id)
        assert (self.count(book, "failed"), self.count(book, "relayed")) == (1, 1)

    def test_in_one_for_many(self, book: JournalBook) -> None:
        record = spool_record(names=TELEWORK, is_generated=True)
        book.journal.summarised(b"alice@example.org", Report(record=record, content=b""), 40)
        line = book.log.one("reports_summarised")
        assert (line["id"], line["to"], line["nrcpt"]) == (
            record.queue_id,
            "<alice@example.org>",
            40,
        )
        assert self.count(book, "summary") == 1

    def test_that_are_too_many(self, book: JournalBook) -> None:
        assert book.count("reports_limited_total") == 0
        book.journal.reports_limited(3)
        assert book.count("reports_limited_total") == 3

    def test_that_is_lost(self, book: JournalBook) -> None:
        report = replace(self.report(), kind=ReportKind.DELIVERED)
        book.journal.report_lost(b"alice@example.org", report, "the spool is full")
        line = book.log.one("report_lost")
        assert (line["kind"], line["detail"]) == ("delivered", "the spool is full")
        assert self.count(book, "delivered") == 0


class TestDowngrades:
    """What a backend does not offer is counted where a message would have needed it."""

    EIGHT_BIT = (b"RET=HDRS", b"body=8bitmime")

    def counts(self, book: JournalBook, result: TransactionResult) -> tuple[float, float]:
        book.journal.transaction("telework", "exch", "live", result, self.EIGHT_BIT)
        eight_bit = book.count("downgrades_total", kind="8bitmime")
        return eight_bit, book.count("downgrades_total", kind="smtputf8")

    def test_eight_bit_mail_without_its_label(self, book: JournalBook) -> None:
        assert self.counts(book, delivered()) == (1, 0)

    def test_not_if_the_label_was_passed_on(self, book: JournalBook) -> None:
        result = replace(delivered(), passed_on=frozenset({b"BODY"}))
        assert self.counts(book, result) == (0, 0)

    def test_not_in_a_mailbox(self, book: JournalBook) -> None:
        assert self.counts(book, replace(delivered(), is_final=True)) == (0, 0)

    def test_not_of_mail_that_was_not_taken(self, book: JournalBook) -> None:
        assert self.counts(book, deferred()) == (0, 0)

    def test_not_of_seven_bit_mail(self, book: JournalBook) -> None:
        book.journal.transaction("telework", "exch", "live", delivered(), (b"BODY=7BIT",))
        book.journal.transaction("telework", "exch", "live", delivered())
        assert book.count("downgrades_total", kind="8bitmime") == 0

    def test_mail_that_needs_smtputf8(self, book: JournalBook) -> None:
        lacking = Deferred(Stage.MAIL, None, "no", NoReply.UNSUPPORTED)
        assert self.counts(book, TransactionResult(recipients=(lacking,))) == (0, 1)


def test_what_was_postponed_is_counted_by_its_cause(book: JournalBook) -> None:
    record = spool_record(names=TELEWORK)
    book.journal.postponed(record, "mailbox", 60.0)
    line = book.log.one("postponed")
    assert (line["id"], line["cause"], line["next"]) == (record.queue_id, "mailbox", 60)
    labels = {"class": "telework", "cause": "mailbox"}
    assert book.count("messages_postponed_total", **labels) == 1


def test_a_clock_that_was_set_is_a_line(book: JournalBook) -> None:
    book.journal.clock_stepped(-3600.04)
    assert book.log.one("clock_stepped")["seconds"] == -3600


def test_our_own_faults_are_reported_once_with_a_name(book: JournalBook) -> None:
    made, record, error = envelope(), spool_record(), RuntimeError("bug")
    book.journal.failed(made, error)
    book.journal.attempt_failed(record, error)
    book.journal.drain_failed(error)
    names = [f"message {made.queue_id}", f"drain {record.queue_id}", "drain"]
    assert book.faults == [(name, error) for name in names]


class TestDecisions:
    """What `mailshed explain` reads is written where the log is, and says the same."""

    def classified(self, book: JournalBook, message: Message) -> None:
        one = subject_of(message.envelope, HeaderView(wire()))
        classifier = Classifier(classification_policy())
        book.journal.classified(classifier, one, message.envelope, message.verdict)

    def ended(self, book: JournalBook, message: Message) -> tuple[str, Reason | None, str]:
        decision = book.journal.decisions.get(message.envelope.queue_id)
        assert decision is not None
        return decision.action, decision.reason, decision.reply

    def test_a_relayed_message_has_the_reply_of_the_backend(
        self, book: JournalBook, message: Message
    ) -> None:
        self.classified(book, message)
        assert self.ended(book, message) == ("", None, "")
        book.journal.delivered(message, "exch", OK, ANSWER_TIMES, 0.0)
        assert self.ended(book, message) == ("delivered", Reason.ROOM, OK.text)

    def test_a_spooled_message_has_ours(self, book: JournalBook, message: Message) -> None:
        self.classified(book, message)
        book.journal.spooled(message, Reason.SATURATED)
        reply = f"250 2.0.0 Ok: queued as {message.envelope.queue_id}"
        assert self.ended(book, message) == ("spooled", Reason.SATURATED, reply)

    def test_one_that_was_turned_away_has_what_the_client_heard(
        self, book: JournalBook, message: Message
    ) -> None:
        self.classified(book, message)
        book.journal.turned_away(message, REFUSED, Reason.BACKEND_REFUSED)
        assert self.ended(book, message) == ("refused", Reason.BACKEND_REFUSED, REFUSED.text)

    def test_one_whose_client_has_left_was_told_nothing(
        self, book: JournalBook, message: Message
    ) -> None:
        self.classified(book, message)
        book.journal.aborted(message)
        assert self.ended(book, message) == ("aborted", None, "")
