"""So many reports to one address in any minute, and nothing is forgotten silently."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.drain.report_limit import (
    LINES_MAX,
    LINES_TOTAL_MAX,
    WINDOW,
    ReportLimit,
    Untold,
)
from mailshed.terms import QueueId, ReportKind

ALICE, BOB = b"alice@example.org", b"bob@example.org"


def line(number: int = 0) -> Untold:
    return Untold(ReportKind.FAILED, QueueId(f"Q{number}"), b"x@example.net", "550 5.1.1 no")


def keep(limit: ReportLimit, addressee: bytes, count: int, rank: int = 1) -> None:
    lines = [line(number) for number in range(count)]
    limit.note_untold(addressee, lines, "bulk" if rank == 5 else "personal", rank)


def test_allows_so_many_in_any_minute() -> None:
    limit = ReportLimit()
    for number in range(10):
        assert limit.allows(ALICE, 10, float(number))
        limit.note_sent(ALICE, float(number))
    assert not limit.allows(ALICE, 10, 59.9)
    assert limit.allows(BOB, 10, 59.9), "each address for itself"
    assert limit.allows(ALICE, 11, 59.9), "the limit in force counts"
    assert limit.allows(ALICE, 10, 60.0), "the first is a minute old"


@given(st.lists(st.floats(0.0, 30.0), max_size=200), st.integers(1, 12))
def test_no_window_of_a_minute_holds_more(pauses: list[float], per_minute: int) -> None:
    limit, now = ReportLimit(), 0.0
    sent: list[float] = []
    for pause in pauses:
        now += pause
        if limit.allows(ALICE, per_minute, now):
            limit.note_sent(ALICE, now)
            sent.append(now)
    for at in sent:
        assert sum(at - WINDOW < other <= at for other in sent) <= per_minute


def test_what_was_not_told_waits_for_its_summary_and_goes_first() -> None:
    limit = ReportLimit()
    for _ in range(2):
        limit.note_sent(ALICE, 0.0)
    keep(limit, ALICE, 3)
    assert limit.take_due(2, 59.0) == []
    assert not limit.allows(ALICE, 2, 61.0), "the summary is not overtaken"
    (summary,) = limit.take_due(2, 61.0)
    assert (summary.addressee, summary.total, summary.more) == (ALICE, 3, 0)
    assert summary.lines == (line(0), line(1), line(2))
    assert limit.take_due(2, 61.0) == []
    assert limit.allows(ALICE, 2, 61.0)
    limit.note_sent(ALICE, 61.0)
    assert not limit.allows(ALICE, 2, 61.0), "the summary counted"


def test_a_summary_has_so_many_lines_and_then_a_number() -> None:
    limit = ReportLimit()
    keep(limit, ALICE, LINES_MAX - 1)
    keep(limit, ALICE, 50)
    (summary,) = limit.take_due(10, 0.0)
    assert (len(summary.lines), summary.more, summary.total) == (LINES_MAX, 49, LINES_MAX + 49)


def test_a_summary_is_as_urgent_as_the_best_of_it() -> None:
    limit = ReportLimit()
    for rank in (5, 1, 5):
        keep(limit, ALICE, 1, rank)
    (summary,) = limit.take_due(10, 0.0)
    assert (summary.traffic_class, summary.rank) == ("personal", 1)


def test_at_the_end_all_summaries_go() -> None:
    limit = ReportLimit()
    for addressee in (ALICE, BOB):
        limit.note_sent(addressee, 0.0)
        keep(limit, addressee, 1)
    assert limit.take_due(1, 1.0) == []
    assert [each.addressee for each in limit.take_due(1, 1.0, is_last=True)] == [ALICE, BOB]


def test_a_summary_that_could_not_be_stored_comes_back() -> None:
    limit = ReportLimit()
    keep(limit, ALICE, LINES_MAX + 5)
    (summary,) = limit.take_due(10, 0.0)
    keep(limit, ALICE, 2, rank=5)
    limit.put_back(summary)
    (again,) = limit.take_due(10, 61.0)
    assert again.total == LINES_MAX + 7
    assert (again.traffic_class, again.rank) == ("personal", 1)


def test_lines_are_bounded_over_all_senders() -> None:
    limit = ReportLimit()
    senders = LINES_TOTAL_MAX // LINES_MAX + 5
    for number in range(senders):
        keep(limit, b"s%d@example.org" % number, LINES_MAX)
    summaries = limit.take_due(10, 0.0)
    assert sum(len(each.lines) for each in summaries) == LINES_TOTAL_MAX
    assert sum(each.total for each in summaries) == senders * LINES_MAX
    assert len(summaries) == senders, "who has no line has a number"


class TestTable:
    def test_forgets_who_has_been_quiet(self) -> None:
        limit = ReportLimit()
        limit.note_sent(ALICE, 0.0)
        limit.note_sent(BOB, 30.0)
        limit.forget_quiet(59.0)
        assert len(limit) == 2
        limit.forget_quiet(61.0)
        assert len(limit) == 1
        assert not limit.allows(BOB, 1, 61.0)

    def test_keeps_who_waits_for_a_summary(self) -> None:
        limit = ReportLimit()
        keep(limit, ALICE, 1)
        limit.forget_quiet(1e6)
        assert len(limit) == 1

    def test_is_bounded_and_forgets_the_quiet_ones_first(self) -> None:
        limit = ReportLimit(senders_max=3)
        keep(limit, ALICE, 4)
        for number in range(10):
            limit.note_sent(b"s%d@example.org" % number, 0.0)
        assert len(limit) == 3
        assert limit.forgotten == 0
        (summary,) = limit.take_due(10, 0.0)
        assert summary.total == 4

    def test_counts_what_it_had_to_forget(self) -> None:
        limit = ReportLimit(senders_max=2)
        keep(limit, ALICE, LINES_MAX + 1)
        keep(limit, BOB, 2)
        keep(limit, b"carol@example.org", 3)
        assert (len(limit), limit.forgotten) == (2, LINES_MAX + 1)
        assert sum(each.total for each in limit.take_due(10, 0.0)) == 5


_STEPS = st.lists(
    st.tuples(st.sampled_from(["fail", "look", "lose"]), st.integers(0, 3), st.floats(0.0, 40.0)),
    max_size=120,
)


@settings(deadline=None)
@given(_STEPS, st.integers(1, 4))
def test_everyone_is_told_once_and_nobody_too_often(
    steps: list[tuple[str, int, float]], per_minute: int
) -> None:
    """Whatever comes: each failure is in one report or one summary."""
    limit, now = ReportLimit(), 0.0
    failures = told = 0
    sent: dict[bytes, list[float]] = {}
    for step, who, pause in steps:
        now += pause
        addressee = b"s%d@example.org" % who
        if step == "fail":
            failures += 1
            if limit.allows(addressee, per_minute, now):
                limit.note_sent(addressee, now)
                sent.setdefault(addressee, []).append(now)
                told += 1
            else:
                keep(limit, addressee, 1)
            continue
        for summary in limit.take_due(per_minute, now):
            if step == "lose":
                limit.put_back(summary)
            else:
                told += summary.total
                sent.setdefault(summary.addressee, []).append(now)
        limit.forget_quiet(now)
    told += sum(each.total for each in limit.take_due(per_minute, now, is_last=True))
    assert (told, limit.forgotten) == (failures, 0)
    for times in sent.values():
        for at in times:
            assert sum(at - WINDOW < other <= at for other in times) <= per_minute
