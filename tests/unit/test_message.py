"""The two other forms of a live message say the same as the message."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailshed.admission.routing import Share
from mailshed.classification.classifier import Verdict
from mailshed.mail.content import Content
from mailshed.mail.parameters import DeliverBy
from mailshed.message import Message, copies_of, copy_id
from mailshed.terms import QueueId, Reason, SpoolState
from tests.support.builders import (
    TELEWORK,
    WALL,
    client,
    content_store,
    envelope,
    recipient,
    wire,
)

PREFIX = b"Received: from x\r\n\tby y; now\r\n"


def content(folder: Path, data: bytes, *, per_message: int = 1 << 16) -> Content:
    made = content_store(folder, memory_per_message=per_message).new()
    assert made.write(data)
    return made


def message(
    folder: Path, data: bytes = b"", *, is_gone: bool = False, sender: str | None = "a@example.org"
) -> Message:
    made = envelope(
        sender=sender,
        client=client("2001:db8::7", is_trusted=True),
        parameters=(b"BODY=8BITMIME", b"RET=HDRS"),
        recipients=(recipient("b@example.net", b"NOTIFY=NEVER"), recipient("c@example.net")),
    )
    verdict = Verdict(TELEWORK, "some-rule")
    return Message(made, content(folder, data or wire()), PREFIX, verdict, lambda: is_gone)


def test_what_goes_to_the_backend_is_the_envelope_as_it_came(tmp_path: Path) -> None:
    made = message(tmp_path)
    outbound = made.outbound(lambda: True)
    assert outbound.queue_id == made.envelope.queue_id
    assert outbound.reverse_path == b"a@example.org"
    assert outbound.parameters == (b"BODY=8BITMIME", b"RET=HDRS")
    assert outbound.recipients == ((b"b@example.net", (b"NOTIFY=NEVER",)), (b"c@example.net", ()))
    assert not outbound.partial_ok, "the client gets one reply for all"


async def test_size_and_content_have_our_line_in_front(tmp_path: Path) -> None:
    made = message(tmp_path, wire("hello"))
    outbound = made.outbound(lambda: True)
    whole = b"".join([chunk async for chunk in outbound.stream()])
    assert whole == PREFIX + wire("hello")
    assert len(whole) == outbound.size == made.size
    assert b"".join([chunk async for chunk in made.chunks()]) == whole


async def test_content_on_disk_is_streamed(tmp_path: Path) -> None:
    store = content_store(tmp_path, memory_per_message=1000)
    body = store.new()
    data = wire("x" * 5000)
    assert not body.write(data)
    await body.spill(data)
    made = Message(envelope(), body, PREFIX, Verdict(TELEWORK, "rule"), lambda: False)
    outbound = made.outbound(lambda: True)
    assert outbound.in_memory is None
    assert b"".join([chunk async for chunk in outbound.stream()]) == PREFIX + data
    assert outbound.size == len(PREFIX + data)
    body.close()


@pytest.mark.parametrize("may_go", [True, False])
def test_whoever_hands_it_over_is_asked_before_the_dot(tmp_path: Path, may_go: bool) -> None:
    assert message(tmp_path).outbound(lambda: may_go).may_send_dot() is may_go


def test_what_is_kept_says_all_that_a_later_attempt_or_report_needs(tmp_path: Path) -> None:
    made = message(tmp_path)
    record = made.record(reason=Reason.IN_DOUBT, in_doubt=1, lifetime=3600)
    assert record.queue_id == made.envelope.queue_id
    assert (record.traffic_class, record.rank) == ("telework", 4)
    assert record.reverse_path == b"a@example.org"
    assert record.parameters == (b"BODY=8BITMIME", b"RET=HDRS")
    assert [(each.index, each.address, each.parameters) for each in record.recipients] == [
        (0, b"b@example.net", (b"NOTIFY=NEVER",)),
        (1, b"c@example.net", ()),
    ]
    assert {each.state for each in record.recipients} == {SpoolState.QUEUED}
    assert (record.received_wall, record.expires_wall) == (WALL, WALL + 3600)
    assert record.next_attempt_wall == WALL, "due at once"
    assert (record.reason, record.in_doubt, record.attempts) == (Reason.IN_DOUBT, 1, 0)
    assert (record.client_address, record.helo) == ("2001:db8::7", "client.example.org")
    assert record.is_trusted
    assert not record.is_generated


@pytest.mark.parametrize(
    ("asked", "changes", "is_wanted"),
    [
        (b"NOTIFY=SUCCESS", {}, True),
        (b"NOTIFY=FAILURE", {}, False),
        (b"NOTIFY=NEVER", {}, False),
        (b"NOTIFY=SUCCESS", {"client": client()}, False),
        (b"NOTIFY=SUCCESS", {"reverse_path": None}, False),
    ],
    ids=["asked", "another wish", "never", "stranger", "nobody"],
)
def test_a_success_is_of_interest_to_a_trusted_sender_that_asks(
    tmp_path: Path, asked: bytes, changes: dict[str, Any], is_wanted: bool
) -> None:
    made = message(tmp_path)
    to = (recipient("b@example.net"), recipient("c@example.net", asked))
    made = replace(made, envelope=replace(made.envelope, recipients=to, **changes))
    assert made.wants_success is is_wanted


def test_the_null_reverse_path_is_empty(tmp_path: Path) -> None:
    made = message(tmp_path, sender=None)
    assert made.outbound(lambda: True).reverse_path == b""
    assert made.record(reason=Reason.SATURATED, in_doubt=0, lifetime=1).reverse_path == b""


@pytest.mark.parametrize(
    ("sender", "is_trusted", "report_after", "expected"),
    [
        ("a@example.org", True, 900.0, WALL + 900),
        ("a@example.org", True, None, None),
        ("a@example.org", False, 900.0, None),
        (None, True, 900.0, None),
    ],
)
def test_a_delay_is_to_be_told_to_trusted_senders(
    tmp_path: Path,
    sender: str | None,
    is_trusted: bool,
    report_after: float | None,
    expected: float | None,
) -> None:
    verdict = Verdict(replace(TELEWORK, report_after=report_after), "rule")
    made = envelope(sender=sender, client=client(is_trusted=is_trusted))
    late = Message(made, content(tmp_path, wire()), PREFIX, verdict, lambda: False)
    record = late.record(reason=Reason.SATURATED, in_doubt=0, lifetime=3600)
    assert record.report_wall == expected


@pytest.mark.parametrize(
    ("by", "expires", "report"),
    [
        (None, 3600, 1000),
        (DeliverBy(60, is_returned=True), 60, 1000),
        (DeliverBy(7200, is_returned=True), 3600, 1000),
        (DeliverBy(60, is_returned=False), 3600, 60),
        (DeliverBy(7200, is_returned=False), 3600, 1000),
        (DeliverBy(-60, is_returned=False), 3600, 0),
    ],
)
def test_the_deadline_of_the_client_is_that_of_the_spool(
    tmp_path: Path, by: DeliverBy | None, expires: float, report: float
) -> None:
    """RFC 2852: returned at the deadline, or told of at it; the earlier of both counts."""
    made = message(tmp_path)
    telework = replace(TELEWORK, report_after=1000.0)
    made = replace(
        made, envelope=replace(made.envelope, deliver_by=by), verdict=Verdict(telework, "some-rule")
    )
    record = made.record(reason=Reason.SATURATED, in_doubt=0, lifetime=3600)
    assert (record.expires_wall, record.report_wall) == (WALL + expires, WALL + report)
    assert made.outbound(lambda: True).deadline_wall == (None if by is None else WALL + by.seconds)


def test_nobody_is_told_of_a_deadline_who_may_not_be_told_of_anything(tmp_path: Path) -> None:
    made = message(tmp_path)
    by = DeliverBy(60, is_returned=False)
    stranger = replace(made.envelope, deliver_by=by, client=client())
    record = replace(made, envelope=stranger).record(
        reason=Reason.SATURATED, in_doubt=0, lifetime=3600
    )
    assert record.report_wall is None


def test_copies_share_all_but_queue_id_recipients_and_backend(tmp_path: Path) -> None:
    record = replace(message(tmp_path), route="north").record(
        reason=Reason.SEVERAL_ROUTES, in_doubt=0, lifetime=60.0
    )
    assert record.backend == "north"
    shares = [Share("south", (1,)), Share("north", (0,))]
    first, second = copies_of(record, shares)
    assert (first.queue_id, second.queue_id) == (record.queue_id, f"{record.queue_id}02")
    assert (first.backend, second.backend) == ("south", "north")
    assert [each.index for each in first.recipients] == [1], "its place in the envelope"
    assert first.recipients + second.recipients == record.recipients[::-1]
    for each in (first, second):
        whole = replace(
            each, queue_id=record.queue_id, recipients=record.recipients, backend="north"
        )
        assert whole == record


def test_ids_of_copies_are_queue_ids_that_sort_behind_the_first() -> None:
    ids = [copy_id(QueueId("01JZX4K7T2M8Q0RB"), number) for number in range(1, 17)]
    assert sorted(ids) == ids
    assert len(set(ids)) == 16
    assert all(each.isalnum() and len(each) <= 32 for each in ids)
