"""The checker itself: it finds each kind of fault, and only those."""

import pytest

from tests.support.ledger import Fate, Ledger, Verdict
from tests.support.postfix import Delivered

STORED = b"Subject: x\nReceived: from elsewhere by its own Postfix\n\nhello\n"


def _delivered(
    identity: str, *, queue_id: str = "0A1", stored: bytes = STORED, is_proxied: bool = True
) -> Delivered:
    trace = (
        f"Return-Path: <a@personal.example>\nX-Original-To: {identity}@hospital.example\n"
        f"Delivered-To: {identity}@hospital.example\nReceived: from x (localhost [127.0.0.1])\n"
        f"\tby mx.hospital.example (Postfix) with ESMTP id {queue_id};\n\tdate\n"
    )
    if is_proxied:
        trace += "Received: from y ([127.0.0.1])\n\tby z (mailshed) with ESMTP id 0B;\n\tdate\n"
    return Delivered(f"{identity}@hospital.example", trace.encode() + stored, 0.0)


def _ledger(fate: Fate) -> Ledger:
    ledger = Ledger()
    ledger.enter("m", STORED, fate)
    return ledger


CLEAN = Verdict(lost=(), duplicated={}, phantom=(), altered=())


@pytest.mark.parametrize("is_proxied", [True, False])
def test_accepts_what_was_acknowledged_and_came_once_and_unaltered(is_proxied: bool) -> None:
    delivered = [_delivered("m", is_proxied=is_proxied)]
    assert _ledger(Fate.ACKNOWLEDGED).judge(delivered) == CLEAN


def test_finds_a_lost_message() -> None:
    verdict = _ledger(Fate.ACKNOWLEDGED).judge([])
    assert verdict.lost == ("m",)
    with pytest.raises(AssertionError, match="lost 1"):
        verdict.assert_nothing_lost_or_made_up()


def test_counts_second_copies_but_not_those_that_postfix_made_itself() -> None:
    ledger = _ledger(Fate.ACKNOWLEDGED)
    twice_by_postfix = [_delivered("m"), _delivered("m")]
    assert ledger.judge(twice_by_postfix) == CLEAN
    twice_by_us = [*twice_by_postfix, _delivered("m", queue_id="0A2")]
    assert ledger.judge(twice_by_us).duplicates == 1


@pytest.mark.parametrize("fate", [Fate.REFUSED, Fate.NOT_SENT])
def test_finds_a_delivered_message_that_its_client_was_told_is_refused(fate: Fate) -> None:
    assert _ledger(fate).judge([_delivered("m")]).phantom == ("m",)


def test_finds_a_message_that_nobody_sent() -> None:
    verdict = _ledger(Fate.ACKNOWLEDGED).judge([_delivered("m"), _delivered("ghost")])
    assert verdict.phantom == ("ghost",)


def test_finds_an_altered_message() -> None:
    delivered = [_delivered("m", stored=STORED.replace(b"hello", b"hullo"))]
    assert _ledger(Fate.ACKNOWLEDGED).judge(delivered).altered == ("m",)


def test_a_message_in_doubt_for_its_client_may_have_come_or_not() -> None:
    assert _ledger(Fate.IN_DOUBT).judge([]) == CLEAN
    assert _ledger(Fate.IN_DOUBT).judge([_delivered("m")]) == CLEAN


SENDER = "a@personal.example"


def _report(
    about: str = "m", *, number: int = 1, to: str = SENDER, queue_id: str = "0B1", path: str = "<>"
) -> Delivered:
    text = (
        f"Return-Path: {path}\nX-Original-To: {to}\nDelivered-To: {to}\n"
        f"Received: from x\n\tby mx (Postfix) with ESMTP id {queue_id};\n\tdate\n"
        f"Message-ID: <{number}@mailshed.example>\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\n\n'
        "--b\nContent-Type: text/plain\n\nsorry\n"
        "--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\n"
        f"Final-Recipient: rfc822; {about}@hospital.example\nAction: failed\nStatus: 5.1.1\n\n"
        "--b--\n"
    )
    return Delivered(to, text.encode(), 0.0)


def _undeliverable(fate: Fate = Fate.ACKNOWLEDGED, reported_to: str = SENDER) -> Ledger:
    ledger = Ledger()
    ledger.enter("m", STORED, fate, reported_to=reported_to)
    return ledger


def test_an_undeliverable_message_is_lost_until_its_sender_is_told() -> None:
    assert _undeliverable().judge([]).lost == ("m",)
    assert _undeliverable().judge([_report()]) == CLEAN
    assert _undeliverable(Fate.IN_DOUBT).judge([_report()]) == CLEAN


def test_what_came_from_the_null_reverse_path_ends_in_silence() -> None:
    assert _undeliverable(reported_to="").judge([]) == CLEAN
    assert _undeliverable(reported_to="").judge([_report()]).false_reports


def test_two_copies_of_a_report_are_a_duplicate_and_two_reports_are_one_too_many() -> None:
    copies = _undeliverable().judge([_report(), _report(queue_id="0B2")])
    assert copies.duplicates == 1
    assert not copies.false_reports
    twice = _undeliverable().judge([_report(), _report(number=2, queue_id="0B2")])
    assert twice.duplicates == 0
    assert twice.false_reports == ("m: 2 reports",)


@pytest.mark.parametrize("fate", [Fate.REFUSED, Fate.NOT_SENT])
def test_finds_a_report_although_the_client_itself_was_told(fate: Fate) -> None:
    assert _undeliverable(fate).judge([_report()]).false_reports


@pytest.mark.parametrize("report", [_report(to="b@personal.example"), _report(path="<p@x>")])
def test_finds_a_report_that_goes_astray(report: Delivered) -> None:
    assert len(_undeliverable().judge([report]).false_reports) == 1


def test_finds_a_report_about_a_message_that_could_be_delivered() -> None:
    assert _ledger(Fate.ACKNOWLEDGED).judge([_delivered("m"), _report()]).false_reports
