"""Which reports there are: the table of RFC 3461, over both ways that mail takes, and the limit."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from mailshed.drain.report_limit import WINDOW
from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    DeliveryResult,
    NoReply,
    TransactionResult,
    everyone,
)
from mailshed.relay.backend import OutboundMessage
from mailshed.spool.store import SpoolRecipient
from mailshed.terms import QueueId, ReportKind, Stage
from tests.support.builders import OK, REFUSED, WALL, client, recipient, spool_record, wire
from tests.support.fake_backend import Answer, be_away, refuse, sort_out, take
from tests.support.middle import TRUSTED, Middle
from tests.support.reports import bounce_processor, fields, parsed, parts
from tests.support.virtual_time import in_virtual_time, settle_down, until
from tests.support.watched_spool import WatchedSpool

DSN = frozenset({b"RET", b"ENVID", b"NOTIFY", b"ORCPT"})
BOB = "bob@example.net"


def hop(name: str, answer: Answer = take) -> Answer:
    """A backend that offers DSN, or does not, or is the mailbox itself."""

    def respond(message: OutboundMessage) -> TransactionResult:
        passed_on = DSN if name == "dsn" else frozenset({b"BODY"})
        return replace(answer(message), passed_on=passed_on, is_final=name == "mailbox")

    return respond


class Made:
    """All reports that entered a spool, also those that have left it."""

    def __init__(self, spool: WatchedSpool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.actions: list[str] = []
        add, settle, note_delay = spool.add, spool.settle, spool.note_delay

        async def on_add(record: Any, content: Any) -> None:
            pieces = [piece async for piece in content]

            async def again() -> Any:
                for piece in pieces:
                    yield piece

            await add(record, again())
            if record.is_generated:
                self.note(b"".join(pieces))

        async def on_settle(settlement: Any) -> None:
            await settle(settlement)
            for report in settlement.reports:
                self.note(report.content)

        async def on_note_delay(queue_id: QueueId, report: Any) -> None:
            await note_delay(queue_id, report)
            if report is not None:
                self.note(report.content)

        monkeypatch.setattr(spool, "add", on_add)
        monkeypatch.setattr(spool, "settle", on_settle)
        monkeypatch.setattr(spool, "note_delay", on_note_delay)

    def note(self, content: bytes) -> None:
        """Remember the action of a report, or that it is a summary."""
        if parsed(content).get_content_type() == "text/plain":
            self.actions.append("summary")
            return
        _, about = fields(content)
        self.actions.append(str(about["Action"]))


@pytest.fixture
def made(spool: WatchedSpool, monkeypatch: pytest.MonkeyPatch) -> Made:
    return Made(spool, monkeypatch)


NOTIFY = {
    "nothing": (),
    "NEVER": (b"NOTIFY=NEVER",),
    "SUCCESS": (b"NOTIFY=SUCCESS",),
    "FAILURE": (b"NOTIFY=FAILURE",),
    "DELAY": (b"NOTIFY=DELAY",),
    "SUCCESS,FAILURE": (b"NOTIFY=SUCCESS,FAILURE",),
    "SUCCESS,DELAY": (b"NOTIFY=SUCCESS,DELAY",),
    "FAILURE,DELAY": (b"NOTIFY=FAILURE,DELAY",),
    "SUCCESS,FAILURE,DELAY": (b"NOTIFY=SUCCESS,FAILURE,DELAY",),
}
HOPS = ("dsn", "plain", "mailbox")
SUCCESS_OF = {"dsn": [], "plain": ["relayed"], "mailbox": ["delivered"]}


def wants(notify: str, event: str) -> bool:
    """RFC 3461, 4.1, with our choice for who says nothing: failures and delays."""
    return event in ("FAILURE", "DELAY") if notify == "nothing" else event in notify.split(",")


def table() -> Iterator[Any]:
    """What a sender says, what becomes of the mail, where it goes; and which reports that makes."""
    for notify, next_hop in product(NOTIFY, HOPS):
        success = SUCCESS_OF[next_hop] if wants(notify, "SUCCESS") else []
        failure = ["failed"] if wants(notify, "FAILURE") else []
        delayed = ["delayed"] if wants(notify, "DELAY") else []
        for outcome, expected in (
            ("delivered live", success),
            ("delivered from the spool", success),
            ("refused from the spool", failure),
            ("expired", [*delayed, *failure]),
            ("delivered late", [*delayed, *success]),
        ):
            row = (notify, outcome, next_hop, expected)
            yield pytest.param(row, id=f"{notify}-{outcome}-{next_hop}")


@pytest.mark.parametrize("row", list(table()))
@in_virtual_time
async def test_the_table_of_rfc_3461(
    middle: Middle, made: Made, row: tuple[str, str, str, list[str]]
) -> None:
    """5.2.1 to 5.2.3: to a server that offers DSN, to one that does not, to a mailbox.

    5.2.5 and 5.2.6: what is late, and what fails.
    """
    notify, outcome, next_hop, expected = row
    parameters = NOTIFY[notify]
    middle.backend.always(hop(next_hop))
    async with middle.draining():
        if outcome == "delivered live":
            to = (recipient(BOB, *parameters),)
            assert await middle.submit(client=TRUSTED, recipients=to) == OK
        else:
            about = SpoolRecipient(index=0, address=BOB.encode(), parameters=parameters)
            record = spool_record(recipients=(about,))
            if outcome == "refused from the spool":
                middle.backend.once(hop(next_hop, refuse()))
            elif outcome != "delivered from the spool":
                record = replace(record, report_wall=WALL + 30, expires_wall=WALL + 100)
                middle.backend.always(be_away)
            await middle.keep(record)
            if outcome == "delivered late":
                await asyncio.sleep(65)
                middle.backend.always(hop(next_hop))
            if outcome == "expired":
                await asyncio.sleep(100)
            await until(lambda: record.queue_id not in middle.spool)
            middle.backend.always(hop(next_hop))
        await until(lambda: not middle.spool.generated())
        await settle_down()
    assert made.actions == expected
    assert middle.spool.balance() == 0
    assert middle.faults == []
    for handed in middle.backend.handed:
        if b"multipart/report" in handed.content:
            assert handed.recipients == (b"alice@example.org",)
    reports = [each for each in middle.backend.asked if not each.reverse_path]
    assert all(each.recipients == ((b"alice@example.org", ()),) for each in reports)


class TestLive:
    """A message that passed straight through: the report comes after the client's 250."""

    TO = (
        recipient(BOB, b"NOTIFY=SUCCESS", b"ORCPT=rfc822;Bob@example.net"),
        recipient("eve@example.net"),
    )

    async def submit(self, middle: Middle, **changes: Any) -> None:
        values: dict[str, Any] = {"client": TRUSTED, "recipients": self.TO} | changes
        assert await middle.submit(**values) == OK

    @in_virtual_time
    async def test_names_whom_it_was_asked_about(self, middle: Middle) -> None:
        await self.submit(middle, parameters=(b"RET=FULL", b"ENVID=QQ314"))
        await until(middle.spool.generated)
        (report,) = middle.spool.generated()
        about_message, about = fields(report.content)
        assert about_message["Original-Envelope-Id"] == "QQ314"
        assert about["Original-Recipient"] == "rfc822; Bob@example.net"
        assert about["Action"] == "relayed"
        assert b"eve@" not in report.content
        header = parts(report.content)[2].get_payload(decode=True)
        assert isinstance(header, bytes)
        assert header.startswith(b"Received: from client.example.org")
        assert b"Subject: test\r\n" in header
        line = middle.log.one("reported")
        assert (line["id"], line["kind"]) == (middle.backend.handed_ids[0], "relayed")
        assert line["report"] == report.record.queue_id
        assert middle.spool.balance() == 0

    @in_virtual_time
    async def test_is_handed_over_like_all_mail(self, middle: Middle) -> None:
        async with middle.draining():
            await self.submit(middle)
            await until(lambda: len(middle.backend.handed) == 2)
            await settle_down()
        assert middle.backend.handed[1].recipients == (b"alice@example.org",)
        ledger = {"generated": 1, "delivered": 1}
        assert (await middle.spool.totals()).ledger == {"personal": ledger}

    @pytest.mark.parametrize(
        "changes",
        [
            {"client": client()},
            {"reverse_path": None},
            {"recipients": (recipient(BOB, b"NOTIFY=FAILURE,DELAY"), recipient(BOB))},
        ],
        ids=["stranger", "null", "not asked"],
    )
    @in_virtual_time
    async def test_is_told_to_nobody_else(self, middle: Middle, changes: dict[str, Any]) -> None:
        await self.submit(middle, **changes)
        await settle_down()
        assert middle.spool.generated() == []
        assert middle.log.of("reported") == []

    @pytest.mark.parametrize("fault", ["full", "sick"])
    @in_virtual_time
    async def test_that_cannot_be_stored_costs_the_client_nothing(
        self, middle: Middle, fault: str
    ) -> None:
        middle.spool.is_full = fault == "full"
        middle.spool.unhealthy = "disk I/O error" if fault == "sick" else None
        await self.submit(middle)
        await until(lambda: middle.log.of("report_lost"))
        assert middle.log.one("report_lost")["kind"] == "relayed"
        assert middle.faults == []
        assert len(middle.backend.handed) == 1

    @in_virtual_time
    async def test_does_not_delay_the_client(
        self, middle: Middle, spool: WatchedSpool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A disk that hangs: the 250 is the backend's, and comes at once."""

        async def hang(_record: Any, _content: Any) -> None:
            await asyncio.sleep(3600)

        monkeypatch.setattr(spool, "add", hang)
        began = middle.clock.monotonic()
        await self.submit(middle)
        assert middle.clock.monotonic() == began

    @in_virtual_time
    async def test_of_an_adopted_message_comes_with_the_late_answer(self, middle: Middle) -> None:
        middle.backend.after_dot.clear()
        async with middle.draining():
            reply = await middle.submit(client=TRUSTED, recipients=self.TO)
            assert b"queued as" in reply.wire
            assert middle.spool.generated() == []
            middle.backend.after_dot.set()
            await until(lambda: len(middle.backend.handed) == 2)
        (line,) = middle.log.of("reported")
        assert line["kind"] == "relayed"
        assert middle.spool.balance() == 0


class TestLimit:
    """Ten reports to one address in a minute; the others are summed up."""

    @in_virtual_time
    async def test_a_storm_of_failures_is_ten_reports_and_a_summary(
        self, middle: Middle, made: Made
    ) -> None:
        count, limit = 200, middle.drainer.policy.reports.per_minute
        for number in range(count):
            await middle.keep(spool_record(f"r{number}@example.net"))
        gone = {
            f"r{number}@example.net".encode(): Bounced(Stage.RCPT, REFUSED)
            for number in range(count)
        }
        verdicts: dict[bytes, DeliveryResult] = {**gone}
        middle.backend.always(sort_out(verdicts))
        async with middle.draining():
            await until(lambda: len(middle.log.of("bounced")) == count)
            await asyncio.sleep(2 * WINDOW + 1)
            await until(lambda: not middle.spool.generated())
        assert made.actions == ["failed"] * limit + ["summary"]
        ledger = (await middle.spool.totals()).ledger["personal"]
        assert (ledger["bounced"], ledger["refused"]) == (limit, count - limit)
        assert middle.book.count("reports_limited_total") == count - limit
        assert middle.log.one("reports_summarised")["nrcpt"] == count - limit
        without = [line for line in middle.log.of("bounced") if "report" not in line]
        assert len(without) == count - limit
        assert middle.spool.balance() == 0
        summary = middle.backend.handed[-1]
        assert summary.recipients == (b"alice@example.org",)
        assert b"100 more" not in summary.content
        assert b"And 90 more" in summary.content
        assert not bounce_processor(summary.content)[0]

    @in_virtual_time
    async def test_holds_for_those_that_fail_in_the_same_moment(
        self, middle: Middle, made: Made
    ) -> None:
        for number in range(50):
            await middle.keep(spool_record(f"r{number}@example.net", expires_wall=WALL + 100))
        middle.backend.always(be_away)
        async with middle.draining():
            await until(lambda: len(middle.log.of("expired")) == 50, 300)
        assert made.actions[:10] == ["failed"] * 10
        assert made.actions[10:] == ["summary"], "at the stop at the latest"
        ledger = (await middle.spool.totals()).ledger["personal"]
        assert ledger["expired"] == 50

    @in_virtual_time
    async def test_is_of_each_sender(self, middle: Middle, made: Made) -> None:
        for sender, count in ((b"a@example.org", 12), (b"b@example.org", 3)):
            for _ in range(count):
                await middle.keep(spool_record(reverse_path=sender))
        middle.backend.always(lambda m: refuse()(m) if m.reverse_path else take(m))
        async with middle.draining():
            await until(lambda: len(middle.log.of("bounced")) == 15)
        assert made.actions == ["failed"] * 13 + ["summary"]

    @in_virtual_time
    async def test_counts_successes_too(self, middle: Middle, made: Made) -> None:
        to = (recipient(BOB, b"NOTIFY=SUCCESS"),)
        for _ in range(12):
            await middle.submit(client=TRUSTED, recipients=to)
        await settle_down()
        assert made.actions == ["relayed"] * 10
        async with middle.draining():
            await settle_down()
        assert made.actions[10:] == ["summary"]
        assert middle.book.count("reports_limited_total") == 2
        text = middle.spool.generated()[-1].content
        assert text.count(b"handed over") == 2

    @in_virtual_time
    async def test_keeps_a_summary_that_cannot_be_stored(self, middle: Middle, made: Made) -> None:
        for _ in range(12):
            await middle.keep(spool_record())
        middle.backend.always(lambda m: refuse()(m) if m.reverse_path else take(m))
        async with middle.draining():
            await until(lambda: len(middle.log.of("bounced")) == 12)
            middle.spool.is_full = True
            await until(lambda: middle.log.of("report_lost"), 200)
            middle.spool.is_full = False
            await until(lambda: "summary" in made.actions, 200)
        assert made.actions.count("summary") == 1
        assert middle.log.one("reports_summarised")["nrcpt"] == 2


class TestDowngrade:
    """Mail that a backend cannot take as it is."""

    @staticmethod
    def lack(message: OutboundMessage) -> TransactionResult:
        lacking = Deferred(Stage.MAIL, None, "no SMTPUTF8", NoReply.UNSUPPORTED)
        return TransactionResult(recipients=everyone(lacking, len(message.recipients)))

    @in_virtual_time
    async def test_live_mail_waits_in_the_spool_and_comes_back_after_a_day(
        self, middle: Middle, made: Made
    ) -> None:
        middle.backend.always(lambda m: self.lack(m) if m.reverse_path else take(m))
        async with middle.draining():
            reply = await middle.submit(client=TRUSTED, parameters=(b"SMTPUTF8",))
            assert reply.code == 250
            assert middle.log.one("spooled")["reason"] == "unsupported"
            await asyncio.sleep(86_390)
            assert made.actions == []
            await until(lambda: made.actions, 100)
            assert middle.clock.monotonic() == pytest.approx(86_400, abs=61)
            await until(lambda: middle.backend.handed)
        _, about = fields(middle.backend.handed[0].content)
        assert about["Status"] == "5.6.7"
        asked = len(middle.backend.asked)
        assert 90 < asked < 400, "a try every quarter of an hour or so"
        assert middle.book.count("downgrades_total", kind="smtputf8") == asked - 1
        assert middle.gate.is_up

    @in_virtual_time
    async def test_goes_on_as_soon_as_the_backend_can(self, middle: Middle, made: Made) -> None:
        middle.backend.always(self.lack)
        async with middle.draining():
            await middle.submit(client=TRUSTED, parameters=(b"SMTPUTF8",), data=wire())
            await asyncio.sleep(3600)
            middle.backend.always(take)
            await until(lambda: middle.backend.handed, 1000)
        assert made.actions == []


def test_every_kind_of_report_is_in_the_table() -> None:
    expected = {action for row in table() for action in row.values[0][3]}
    assert expected == {kind.value for kind in ReportKind}
