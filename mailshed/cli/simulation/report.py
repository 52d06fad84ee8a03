"""The table of a simulation: what became of each class, and how the mail server was used."""

from collections.abc import Iterator
from math import inf

from mailshed.cli.table import Column, Table, count, format_age
from mailshed.simulation.result import Part, Result

_COLUMNS = (
    Column("CLASS", 12),
    Column("IN", 8, is_number=True),
    Column("OUT", 8, is_number=True),
    Column("P50", 6, is_number=True),
    Column("P99", 6, is_number=True),
    Column("MAX", 6, is_number=True),
    Column("SPOOLED", 8, is_number=True),
    Column("4XX", 6, is_number=True),
    Column("ERR", 5, is_number=True),
    Column("EMPTY", 6, is_number=True),
)
_AGES_FROM = 60.0
"""Seconds from which on a delay is written as an age."""


def lines(result: Result) -> Iterator[str]:
    """Write `result` for people, in at most 80 columns."""
    parts = result.classes
    yield f"{result.scenario} (seed {result.seed}): {_span(result.elapsed)} of mail"
    yield ""
    table = Table(_COLUMNS)
    for part in parts:
        table.add(*_row(part))
    yield from table.lines()
    yield ""
    yield "IN, OUT: recipients sent and delivered. P50, P99, MAX: time from the sender to"
    yield "the mail server. SPOOLED: messages. 4XX: replies; ERR: those that people saw."
    yield "EMPTY: when the last message left the spool, after the start."
    yield ""
    yield from _backend(result)
    yield from _trouble(result)


def _row(part: Part) -> tuple[object, ...]:
    times = part.sojourn
    return (
        part.name,
        part.offered,
        part.delivered,
        _span(times.quantile(0.5)),
        _span(times.quantile(0.99)),
        _span(times.largest),
        part.spooled + part.adopted,
        part.deferred,
        part.errors,
        _empty(part),
    )


def _empty(part: Part) -> str:
    if part.in_spool:
        return "never"
    return "-" if part.drained_at is None else _span(part.drained_at)


def _backend(result: Result) -> Iterator[str]:
    least, mean, most = result.limits()
    yield (
        f"The mail server did {result.work_ratio:.1%} of what it could have done with this mail,"
    )
    yield f"with a limit of {least} to {most} messages in flight, {mean:.1f} on average."
    refused = count(result.refused, "connection")
    yield f"It refused {refused} of {result.attempts} ({result.refused_ratio:.3%})."
    if not result.is_drained:
        yield "At the end mail still waits: in the spool, or with senders that try again."
    if 0 < result.drain_time < inf:
        yield f"From its largest, the backlog was gone after {_span(result.drain_time)};"
        yield f"the soonest that is possible is {_span(result.drain_bound)}."


def _trouble(result: Result) -> Iterator[str]:
    doubts = sum(part.in_doubt for part in result.classes)
    copies = sum(part.duplicates for part in result.classes)
    lost = sum(part.lost for part in result.classes)
    if doubts:
        twice = f"{count(copies, 'recipient')} got a message twice"
        yield f"{count(doubts, 'transaction')} ended in doubt; {twice}."
    if lost:
        yield f"{count(lost, 'message')} of devices got a 4xx, and devices do not try again."


def _span(seconds: float) -> str:
    """Write `0.052s`, `1.20s`, `59.0s`, `4m10s`, `3h16m`."""
    if seconds >= _AGES_FROM:
        return format_age(seconds)
    digits = 3 if seconds < 1 else 2 if seconds < 10 else 1
    return f"{seconds:.{digits}f}s" if seconds else "0s"
