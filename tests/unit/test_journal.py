"""Each thing that becomes of a message is one line of the log and its counts, and they agree."""

from dataclasses import replace
from pathlib import Path

import pytest

from mailshed.classification.classifier import Classifier, Verdict
from mailshed.classification.subject import subject_of
from mailshed.mail import reply as replies
from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    DeliveryResult,
    InDoubt,
    StageTimes,
    TransactionResult,
)
from mailshed.mail.header import HeaderView
from mailshed.mail.reply import Reply, make
from mailshed.message import Message
from mailshed.terms import Reason, Stage
from tests.support.builders import (
    BUSY,
    OK,
    REFUSED,
    TELEWORK,
    WALL,
    classification_policy,
    client,
    content_store,
    envelope,
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


def test_a_fault_of_ours_is_reported_once_with_a_name(book: JournalBook) -> None:
    made, error = envelope(), RuntimeError("bug")
    book.journal.failed(made, error)
    assert book.faults == [(f"message {made.queue_id}", error)]


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
