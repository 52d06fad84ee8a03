"""The figures for people: a table for each load and one of the targets, as text and as Markdown."""

from collections.abc import Iterator, Sequence

from tests.bench.loads import MAILSHED, MIB, Load
from tests.bench.results import Measured, Result
from tests.bench.targets import Target

_NONE = "-"


def text(load: Load, measured: Measured) -> str:
    """One load on a terminal."""
    head, *rows = _cells(load, measured)
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [f"{load.name}: {_title(load, measured)}"]
    for first, *others in (head, *rows):
        cells = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join((f"  {first:<{widths[0]}}", *cells)))
    lines += [f"  without {name}: {reason}" for name, reason in measured.missing.items()]
    return "\n".join(lines) + "\n"


def markdown(load: Load, measured: Measured) -> str:
    """One load in a page."""
    head, *rows = _cells(load, measured)
    lines = [f"**{load.name}**: {_title(load, measured)}", "", _row(head), _rule(head)]
    for first, *others in rows:
        cells = [first, *others]
        lines.append(_row([f"**{cell}**" for cell in cells] if first == MAILSHED else cells))
    if measured.missing:
        lines.append("")
        lines += [f"Without {name}: {reason}" for name, reason in measured.missing.items()]
    return "\n".join(lines) + "\n"


def targets_text(targets: Sequence[Target]) -> str:
    """The targets on a terminal."""
    return "".join(
        f"{each.verdict:<14}{each.load:<18}{each.name:<32}{_value(each):>8} {_limit(each)}\n"
        for each in targets
    )


def targets_markdown(targets: Sequence[Target]) -> str:
    """The targets in a page."""
    head = ("load", "what", "measured", "target", "")
    lines = [_row(head), _rule(head)]
    lines += [
        _row((each.load, each.name, _value(each), _limit(each), each.verdict)) for each in targets
    ]
    return "\n".join(lines) + "\n"


def _title(load: Load, measured: Measured) -> str:
    rate = measured.paced_rate
    return load.title if rate is None else f"{load.title} ({rate:,.0f} a second)"


def _cells(load: Load, measured: Measured) -> Iterator[tuple[str, ...]]:
    """The head of the table, then its rows."""
    is_large = load.octets >= MIB
    size = ("MB/s",) if is_large else ()
    yield (
        *("peer", "messages/s", *size, "CPU us/msg", "p50 ms", "p99 ms"),
        *("mailshed has", "and costs"),
    )
    ours = measured.of(MAILSHED)
    all_take_the_same = measured.paced_rate is not None
    for each in measured.results:
        megabytes = (_figure(each.rate * load.octets / 1e6),) if is_large else ()
        yield (
            *(each.peer, _figure(each.rate), *megabytes, _figure(each.cpu_microseconds)),
            *(_milliseconds(each.p50_milliseconds), _milliseconds(each.p99_milliseconds)),
            _NONE if all_take_the_same else _times(ours, each, "rate"),
            _times(ours, each, "cpu_microseconds"),
        )


def _figure(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _milliseconds(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"


def _times(ours: Result | None, theirs: Result, figure: str) -> str:
    """How many times theirs; CPU time is counted in ticks, and a quick run may have none."""
    if ours is None:
        return _NONE
    mine, other = getattr(ours, figure), getattr(theirs, figure)
    return f"{mine / other:.2f}x" if mine is not None and other else _NONE


def _value(target: Target) -> str:
    return _NONE if target.value is None else f"{target.value:.2f}"


def _limit(target: Target) -> str:
    return f"{'<=' if target.at_most else '>='} {target.limit:g}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(cells: Sequence[str]) -> str:
    return "|" + "---|" * len(cells)
