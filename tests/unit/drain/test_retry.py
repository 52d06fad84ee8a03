"""What an attempt means: endings, delays, reports, doubt."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.drain.matter import EXPIRED_STATUS, ReportPolicy
from mailshed.drain.notify import ReportContext, may_report
from mailshed.drain.retry import (
    UNSUPPORTED_PATIENCE,
    RetryPolicy,
    expire,
    next_delay,
    postpone,
    previous_delay,
    retry_delay,
    settle_attempt,
)
from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    Delivered,
    DeliveryResult,
    InDoubt,
    NoReply,
    TransactionResult,
)
from mailshed.spool.store import Settlement, SpoolRecipient, SpoolRecord
from mailshed.terms import Ending, Reason, ReportKind, SpoolState, Stage
from tests.support.builders import BUSY, OK, REFUSED, WALL, queue_id, spool_record
from tests.support.reports import fields

RETRY = RetryPolicy(delay_min=30.0, delay_max=900.0)
POLICY = ReportPolicy(
    hostname="mx.example.org", postmaster="postmaster@example.org", lifetime=4 * 86400.0
)
DELIVERED = Delivered(OK)
BOUNCED = Bounced(Stage.RCPT, REFUSED)
DEFERRED = Deferred(Stage.RCPT, BUSY)
AWAY = Deferred(Stage.CONNECT, None, "connection refused")
IN_DOUBT = InDoubt("timed out")

TWO = ("a@example.net", "b@example.net")


def context(content: bytes = b"Subject: test\r\n\r\n", **changes: Any) -> ReportContext:
    made = ReportContext(
        policy=POLICY, report_id=queue_id(), success_id=queue_id(), content=content
    )
    return replace(made, **changes)


def settle(
    record: SpoolRecord,
    *results: DeliveryResult,
    unit: float = 0.5,
    passed_on: frozenset[bytes] = frozenset(),
    is_final: bool = False,
    **changes: Any,
) -> Settlement:
    arguments: dict[str, Any] = {"wall": WALL, "retry": RETRY, "report": context()} | changes
    arguments.setdefault("left", record.expires_wall - arguments["wall"])
    result = TransactionResult(recipients=results, passed_on=passed_on, is_final=is_final)
    return settle_attempt(record, result, random_unit=unit, **arguments)


class TestDelay:
    @given(
        st.integers(0, 10_000),
        st.floats(0, 1, exclude_max=True),
        st.floats(0.1, 1e4),
        st.floats(1, 1e3),
    )
    def test_is_always_between_minimum_and_maximum(
        self, attempts: int, unit: float, minimum: float, spread: float
    ) -> None:
        maximum = minimum * spread
        previous = previous_delay(attempts, minimum=minimum, maximum=maximum)
        delay = next_delay(previous, unit, minimum=minimum, maximum=maximum)
        assert minimum <= delay <= maximum

    def test_grows_by_three_up_to_the_maximum(self) -> None:
        bounds = [
            next_delay(
                previous_delay(attempts, minimum=30, maximum=900), 1.0, minimum=30, maximum=900
            )
            for attempts in range(6)
        ]
        assert bounds == [90, 270, 810, 900, 900, 900]

    def test_is_spread_evenly_even_at_the_maximum(self) -> None:
        """A delay cut at the maximum would send most of a crowd back at the same second."""
        delays = {next_delay(900, unit / 10, minimum=30, maximum=900) for unit in range(10)}
        assert len(delays) == 10

    def test_is_the_minimum_if_there_is_no_room_above(self) -> None:
        assert next_delay(60, 0.9, minimum=60, maximum=60) == 60


class TestSettleAttempt:
    def test_delivers(self) -> None:
        record = spool_record(*TWO)
        settlement = settle(record, DELIVERED, DELIVERED)
        assert settlement.endings == {0: Ending.DELIVERED, 1: Ending.DELIVERED}
        assert (settlement.deferred, settlement.reports) == ({}, ())

    def test_speaks_of_recipients_by_their_index_and_not_their_place(self) -> None:
        recipients = tuple(
            SpoolRecipient(index=index, address=b"a@example.net") for index in (3, 7)
        )
        settlement = settle(spool_record(recipients=recipients), DEFERRED, DELIVERED)
        assert (set(settlement.deferred), set(settlement.endings)) == ({3}, {7})

    def test_needs_a_result_for_every_recipient(self) -> None:
        with pytest.raises(ValueError, match="zip"):
            settle(spool_record(*TWO), DELIVERED)

    def test_defers_with_the_reply_and_tries_again_later(self) -> None:
        settlement = settle(spool_record(attempts=1), DEFERRED, unit=0.5)
        assert settlement.deferred == {0: BUSY.text}
        assert settlement.state is SpoolState.DEFERRED
        assert settlement.attempts == 2
        assert settlement.next_attempt_wall == WALL + 30 + 0.5 * (270 - 30)

    def test_sorts_out_mixed_results(self) -> None:
        record = spool_record("a@example.net", "b@example.net", "c@example.net")
        settlement = settle(record, DEFERRED, BOUNCED, DELIVERED)
        assert set(settlement.deferred) == {0}
        assert settlement.endings == {1: Ending.BOUNCED, 2: Ending.DELIVERED}
        (report,) = settlement.reports
        assert b"b@example.net" in report.content
        assert b"a@example.net" not in report.content

    def test_does_not_try_again_after_the_end_of_its_time(self) -> None:
        record = spool_record(expires_wall=WALL + 40)
        assert settle(record, DEFERRED, unit=0.9).next_attempt_wall == WALL + 40


class TestBackendAway:
    """No dialog says nothing about the message."""

    def test_does_not_count_as_an_attempt(self) -> None:
        settlement = settle(spool_record(attempts=2), AWAY)
        assert settlement.attempts == 2
        assert settlement.deferred == {0: "connect: connection refused"}

    def test_does_not_lengthen_the_delay(self) -> None:
        record = spool_record(attempts=50)
        assert settle(record, AWAY, unit=0.999).next_attempt_wall < WALL + 90
        assert settle(record, DEFERRED, unit=0.999).next_attempt_wall > WALL + 800

    def test_a_busy_greeting_is_no_dialog_either(self) -> None:
        assert settle(spool_record(), Deferred(Stage.EHLO, BUSY)).attempts == 0


class TestReports:
    def test_a_trusted_sender_is_told(self) -> None:
        record = spool_record(*TWO)
        report_context = context()
        settlement = settle(record, BOUNCED, BOUNCED, report=report_context)
        assert set(settlement.endings.values()) == {Ending.BOUNCED}
        (report,) = settlement.reports
        assert report.record == SpoolRecord(
            queue_id=report_context.report_id,
            traffic_class=record.traffic_class,
            rank=record.rank,
            reverse_path=b"",
            recipients=(SpoolRecipient(index=0, address=b"alice@example.org"),),
            size=len(report.content),
            received_wall=WALL,
            expires_wall=WALL + POLICY.lifetime,
            next_attempt_wall=WALL,
            reason=Reason.BACKEND_REFUSED,
            client_address="local",
            is_trusted=False,
            is_generated=True,
        )

    @pytest.mark.parametrize(
        "changes", [{"is_trusted": False}, {"reverse_path": b""}, {"is_generated": True}]
    )
    def test_a_stranger_nobody_and_a_report_are_not(self, changes: dict[str, Any]) -> None:
        record = spool_record(**changes)
        assert not may_report(record)
        for settlement in (
            settle(record, BOUNCED),
            expire(record, wall=WALL, report=context()),
        ):
            assert settlement.reports == ()
            assert Ending.BOUNCED not in settlement.endings.values()
        assert settle(record, BOUNCED).endings == {0: Ending.REFUSED}

    @pytest.mark.parametrize("notify", [b"NOTIFY=NEVER", b"notify=SUCCESS,DELAY"])
    def test_who_asked_not_to_be_told_is_not(self, notify: bytes) -> None:
        recipients = (
            SpoolRecipient(index=0, address=b"a@example.net", parameters=(notify,)),
            SpoolRecipient(index=1, address=b"b@example.net"),
        )
        settlement = settle(spool_record(recipients=recipients), BOUNCED, BOUNCED)
        assert settlement.endings == {0: Ending.REFUSED, 1: Ending.BOUNCED}
        (report,) = settlement.reports
        assert b"a@example.net" not in report.content
        alone = spool_record(recipients=recipients[:1])
        assert settle(alone, BOUNCED).reports == ()
        assert expire(alone, wall=WALL, report=context()).reports == ()

    def test_no_report_reports_on_a_report(self) -> None:
        (report,) = settle(spool_record(), BOUNCED).reports
        again = settle(report.record, BOUNCED)
        assert (again.reports, again.endings) == ((), {0: Ending.REFUSED})


class TestDoubt:
    def test_the_first_time_it_is_tried_again(self) -> None:
        settlement = settle(spool_record(), IN_DOUBT)
        assert settlement.deferred == {0: "dot: in doubt: timed out"}
        assert (settlement.state, settlement.in_doubt) == (SpoolState.DEFERRED, 1)
        assert settlement.attempts == 1

    def test_the_second_time_it_is_held(self) -> None:
        settlement = settle(spool_record(in_doubt=1), IN_DOUBT)
        assert (settlement.state, settlement.in_doubt) == (SpoolState.HOLD, 2)
        assert settlement.endings == {}

    def test_is_remembered_and_not_increased_by_other_endings(self) -> None:
        settlement = settle(spool_record(in_doubt=1), DEFERRED)
        assert (settlement.state, settlement.in_doubt) == (SpoolState.DEFERRED, 1)

    def test_is_not_ended_by_time(self) -> None:
        """The message may have arrived; the next look decides."""
        record = spool_record(expires_wall=WALL - 1)
        assert set(settle(record, IN_DOUBT).deferred) == {0}


class TestExpiry:
    @pytest.mark.parametrize(("left", "is_over"), [(0.001, False), (0.0, True), (-9.0, True)])
    def test_comes_with_the_instant_itself(self, left: float, is_over: bool) -> None:
        settlement = settle(spool_record(), DEFERRED, left=left)
        assert settlement.endings == ({0: Ending.EXPIRED} if is_over else {})

    def test_goes_by_what_is_left_and_not_by_the_wall_clock(self) -> None:
        """A clock that was set forwards has made nothing older, nor due at once for ever."""
        record = spool_record(expires_wall=WALL - 1000)
        settlement = settle(record, DEFERRED, left=500.0, unit=0.5)
        assert set(settlement.deferred) == {0}
        assert settlement.next_attempt_wall == WALL + 60
        assert settle(record, DEFERRED, left=10.0).next_attempt_wall == WALL + 10

    def test_ends_what_is_still_deferred_at_the_last_attempt(self) -> None:
        record = spool_record(*TWO, expires_wall=WALL)
        settlement = settle(record, DELIVERED, DEFERRED)
        assert settlement.endings == {0: Ending.DELIVERED, 1: Ending.EXPIRED}
        (report,) = settlement.reports
        assert report.record.reason is Reason.EXPIRED
        assert EXPIRED_STATUS.encode() in report.content
        assert BUSY.text.encode() in report.content

    def test_ends_all_recipients_without_an_attempt_too(self) -> None:
        recipients = tuple(
            SpoolRecipient(index=index, address=b"a@example.net", last_reply="450 4.2.0 busy")
            for index in (2, 5)
        )
        record = spool_record(recipients=recipients, attempts=7, in_doubt=1)
        settlement = expire(record, wall=WALL, report=context())
        assert settlement.endings == {2: Ending.EXPIRED, 5: Ending.EXPIRED}
        assert (settlement.attempts, settlement.in_doubt) == (7, 1)
        (report,) = settlement.reports
        assert report.record.reason is Reason.EXPIRED
        assert report.content.count(b"Action: failed") == 2

    def test_is_expired_for_strangers_too_but_nobody_is_told(self) -> None:
        settlement = expire(spool_record(is_trusted=False), wall=WALL, report=context())
        assert settlement.endings == {0: Ending.EXPIRED}
        assert settlement.reports == ()


_RESULTS = st.sampled_from([DELIVERED, BOUNCED, DEFERRED, AWAY, IN_DOUBT])


@given(
    st.lists(_RESULTS, min_size=1, max_size=6),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
    st.floats(0, 1, exclude_max=True),
)
def test_every_recipient_ends_or_stays_and_only_bounces_and_expiries_are_reported(
    results: list[DeliveryResult], is_trusted: bool, is_late: bool, in_doubt: int, unit: float
) -> None:
    record = spool_record(
        *(f"r{index}@example.net" for index in range(len(results))),
        is_trusted=is_trusted,
        in_doubt=in_doubt,
        expires_wall=WALL - 1 if is_late else WALL + 1000,
    )
    settlement = settle(record, *results, unit=unit)
    assert settlement.endings.keys() | settlement.deferred.keys() == set(range(len(results)))
    assert not settlement.endings.keys() & settlement.deferred.keys()
    reported = {Ending.BOUNCED, Ending.EXPIRED} & set(settlement.endings.values())
    assert bool(settlement.reports) == (is_trusted and bool(reported))
    assert len(settlement.reports) <= 1
    assert settlement.next_attempt_wall >= WALL
    assert replace(settlement) == settlement


class TestPostpone:
    def test_changes_nothing_but_the_time(self) -> None:
        recipients = (
            SpoolRecipient(index=2, address=b"a@example.net", last_reply="450 4.2.0 busy"),
            SpoolRecipient(index=5, address=b"b@example.net"),
        )
        record = spool_record(recipients=recipients, attempts=3, in_doubt=1)
        settlement = postpone(record, wall=WALL, left=1000.0, pause=60.0)
        assert settlement == Settlement(
            queue_id=record.queue_id,
            deferred={2: "450 4.2.0 busy", 5: ""},
            state=SpoolState.QUEUED,
            attempts=3,
            next_attempt_wall=WALL + 60,
            in_doubt=1,
        )

    def test_leaves_what_was_tried_as_tried(self) -> None:
        recipient = SpoolRecipient(index=0, address=b"a@example.net", state=SpoolState.DEFERRED)
        record = spool_record(recipients=(recipient,))
        settlement = postpone(record, wall=WALL, left=1000.0, pause=60.0)
        assert settlement.state is SpoolState.DEFERRED

    def test_is_not_longer_than_there_is_time(self) -> None:
        settlement = postpone(spool_record(), wall=WALL, left=20.0, pause=60.0)
        assert settlement.next_attempt_wall == WALL + 20


def test_a_pause_takes_the_place_of_the_growing_delay() -> None:
    """Of a mailbox that is held: when it is free, and not after as many attempts as there were."""
    settlement = settle(spool_record(attempts=9), DEFERRED, pause=12.0)
    assert settlement.next_attempt_wall == WALL + 12
    assert settlement.attempts == 10


@given(st.integers(0, 1000), st.floats(0, 1, exclude_max=True))
def test_the_delay_of_a_retry_is_within_its_policy(attempts: int, unit: float) -> None:
    assert RETRY.delay_min <= retry_delay(attempts, unit, RETRY) <= RETRY.delay_max


class TestSuccess:
    """Told in the transaction that ends the recipient, next to a failure of another."""

    ASKED = tuple(
        SpoolRecipient(index=index, address=address.encode(), parameters=(b"NOTIFY=SUCCESS",))
        for index, address in enumerate(TWO)
    )

    def test_has_a_report_if_the_sender_wants_one_and_nobody_else_tells(self) -> None:
        record = spool_record(recipients=self.ASKED)
        (report,) = settle(record, DELIVERED, DELIVERED).reports
        assert report.kind is ReportKind.RELAYED
        (report,) = settle(record, DELIVERED, DELIVERED, is_final=True).reports
        assert report.kind is ReportKind.DELIVERED
        told_by_backend = settle(record, DELIVERED, DELIVERED, passed_on=frozenset({b"NOTIFY"}))
        assert told_by_backend.reports == ()

    def test_and_a_failure_are_two_reports_with_two_ids(self) -> None:
        failing = SpoolRecipient(index=1, address=b"b@example.net")
        record = spool_record(recipients=(self.ASKED[0], failing))
        failure, success = settle(record, DELIVERED, BOUNCED).reports
        assert (failure.kind, success.kind) == (ReportKind.FAILED, ReportKind.RELAYED)
        assert failure.record.queue_id != success.record.queue_id
        assert b"a@example.net" not in failure.content
        assert b"b@example.net" not in success.content

    def test_of_a_recipient_that_is_still_tried_is_told_later(self) -> None:
        record = spool_record(recipients=self.ASKED)
        assert settle(record, DEFERRED, IN_DOUBT).reports == ()


class TestUnsupported:
    """A backend without SMTPUTF8: nothing is sent, and it has a day to learn it."""

    LACKING = Deferred(Stage.MAIL, None, "no SMTPUTF8", NoReply.UNSUPPORTED)

    def settle(self, record: SpoolRecord, age: float, **changes: Any) -> Settlement:
        left = record.expires_wall - record.received_wall - age
        return settle(record, self.LACKING, left=left, wall=WALL + age, **changes)

    def test_waits_like_all_mail(self) -> None:
        settlement = self.settle(spool_record(), 3600.0)
        assert settlement.deferred == {0: "mail: no SMTPUTF8"}
        assert settlement.reports == ()

    def test_is_tried_once_more_at_the_end_of_the_day(self) -> None:
        settlement = self.settle(spool_record(attempts=50), UNSUPPORTED_PATIENCE - 5, unit=0.9)
        assert settlement.next_attempt_wall == WALL + UNSUPPORTED_PATIENCE

    def test_is_returned_after_a_day_with_the_reason(self) -> None:
        settlement = self.settle(spool_record(), UNSUPPORTED_PATIENCE)
        assert settlement.endings == {0: Ending.BOUNCED}
        (report,) = settlement.reports
        _, about = fields(report.content)
        assert (about["Action"], about["Status"]) == ("failed", "5.6.7")
        assert about["Diagnostic-Code"] == "x-mailshed; no SMTPUTF8"
        assert about["Remote-MTA"] is None

    def test_is_returned_so_if_it_may_not_live_for_a_day(self) -> None:
        record = spool_record(expires_wall=WALL + 600)
        settlement = self.settle(record, 600.0)
        assert settlement.endings == {0: Ending.BOUNCED}
        (report,) = settlement.reports
        assert fields(report.content)[1]["Status"] == "5.6.7"

    def test_of_a_stranger_is_refused(self) -> None:
        settlement = self.settle(spool_record(is_trusted=False), UNSUPPORTED_PATIENCE)
        assert (settlement.endings, settlement.reports) == ({0: Ending.REFUSED}, ())

    def test_is_measured_by_the_age_that_everything_goes_by(self) -> None:
        """The wall clock was set forwards by a week: the message has become no older."""
        record = spool_record()
        settlement = settle(
            record, self.LACKING, left=4 * 86400.0 - 60, wall=WALL + 7 * 86400, unit=0.0
        )
        assert settlement.endings == {}


class TestDeadline:
    """DELIVERBY with R: back at the time that the sender has set (RFC 2852)."""

    def record(self, seconds: int, lifetime: float) -> SpoolRecord:
        return spool_record(
            parameters=(b"BY=%d;R" % seconds,), expires_wall=WALL + min(seconds, lifetime)
        )

    def status(self, settlement: Settlement) -> str:
        assert settlement.endings == {0: Ending.EXPIRED}
        (report,) = settlement.reports
        about_message, about = fields(report.content)
        assert "Deliver-By-Date" in about_message
        assert about["Action"] == "failed"
        return str(about["Status"])

    def test_is_a_failure_of_its_own_kind(self) -> None:
        record = self.record(600, 4 * 86400)
        for settlement in (
            settle(record, DEFERRED, wall=WALL + 600),
            expire(record, wall=WALL + 600, report=context()),
        ):
            assert self.status(settlement) == "5.4.7"

    def test_that_is_later_than_the_spool_keeps_mail_is_not_the_reason(self) -> None:
        record = self.record(10 * 86400, 4 * 86400)
        assert self.status(expire(record, wall=WALL + 4 * 86400, report=context())) == "4.4.7"

    def test_to_be_told_of_is_no_reason_either(self) -> None:
        record = spool_record(parameters=(b"BY=600;N",))
        assert self.status(expire(record, wall=WALL, report=context())) == "4.4.7"


def test_a_sender_that_has_had_enough_reports_gets_none() -> None:
    """The ledger then says what is true: refused, and nobody was told."""
    limited = context(is_limited=True)
    settlement = settle(spool_record(*TWO), BOUNCED, BOUNCED, report=limited)
    assert settlement.endings == {0: Ending.REFUSED, 1: Ending.REFUSED}
    assert settlement.reports == ()
    expired = expire(spool_record(), wall=WALL, report=limited)
    assert (expired.endings, expired.reports) == ({0: Ending.EXPIRED}, ())
