"""How results are counted and called, whoever had the transaction."""

from dataclasses import replace

import pytest

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
from mailshed.mail.reply import Reply
from mailshed.results import answer_of, count_transaction, words_of
from mailshed.terms import Stage
from tests.support.builders import (
    BUSY,
    OK,
    REFUSED,
    WALL,
    deferred,
    delivered,
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


def test_a_transaction_counts_each_recipient_under_what_decided_it(book: JournalBook) -> None:
    results = (
        Delivered(OK),
        Bounced(Stage.RCPT, REFUSED),
        Deferred(Stage.RCPT, BUSY),
        Deferred(Stage.DATA, None, "timed out"),
        InDoubt("connection lost"),
    )
    result = TransactionResult(recipients=results, times=ANSWER_TIMES)
    count_transaction(book.metrics, "bulk", "exch", result, source="spool", parameters=())
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


def count(book: JournalBook, result: TransactionResult, parameters: tuple[bytes, ...] = ()) -> None:
    """Count a transaction of live mail."""
    count_transaction(
        book.metrics, "telework", "exch", result, source="live", parameters=parameters
    )


class TestDowngrades:
    """What a backend does not offer is counted where a message would have needed it."""

    EIGHT_BIT = (b"RET=HDRS", b"body=8bitmime")

    def counts(self, book: JournalBook, result: TransactionResult) -> tuple[float, float]:
        count(book, result, self.EIGHT_BIT)
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
        count(book, delivered(), (b"BODY=7BIT",))
        count(book, delivered(), ())
        assert book.count("downgrades_total", kind="8bitmime") == 0

    def test_mail_that_needs_smtputf8(self, book: JournalBook) -> None:
        lacking = Deferred(Stage.MAIL, None, "no", NoReply.UNSUPPORTED)
        assert self.counts(book, TransactionResult(recipients=(lacking,))) == (0, 1)


@pytest.mark.parametrize(
    ("result", "answer", "words"),
    [
        (Delivered(OK), OK, OK.text),
        (Bounced(Stage.RCPT, REFUSED), REFUSED, REFUSED.text),
        (Deferred(Stage.RCPT, BUSY), BUSY, BUSY.text),
        (Deferred(Stage.DATA, None, "timed out"), None, "timed out"),
        (InDoubt("connection lost"), None, "connection lost"),
    ],
)
def test_a_result_is_told_in_the_backend_s_words_or_by_what_broke(
    result: DeliveryResult, answer: Reply | None, words: str
) -> None:
    assert (answer_of(result), words_of(result)) == (answer, words)
