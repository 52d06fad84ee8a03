"""Faults of a configuration file and how they are shown: file, line, column, key, source, caret.

Every check of the file, from the reader of YAML to the rules across sections, ends in values of
one type, so that an operator sees all faults at once, in the order of the file::

    mailshed.yaml:8:5: error: limits.sesions_max: unknown key, did you mean "sessions_max"?
       8 |     sesions_max: 100
         |     ^^^^^^^^^^^
    1 error

Lines and columns count from 1 when shown and from 0 inside. Text from the file is shown with its
unprintable characters replaced, since terminals obey them.
"""

import difflib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

KeyPath = tuple[str | int, ...]
"""Where a value is: keys of mappings and indices of lists, from the top of the file."""

SOURCE_WIDTH_MAX = 120
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A piece of one line; `width` columns, at least one."""

    line: int
    column: int
    width: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong; `span` None if it is about the file as a whole."""

    span: Span | None
    path: KeyPath = ()
    message: str


def dotted(path: KeyPath) -> str:
    """Write a path the way people name a key: `classification.rules[2].class`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if _PLAIN_KEY.fullmatch(step) else json.dumps(step, ensure_ascii=False)
            text += f".{name}" if text else name
    return text


def nearest(word: str, known: Collection[str]) -> str | None:
    """Return the known word that is most like `word`, if any is like it at all."""
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(word: str, known: Collection[str]) -> str:
    """End a message about an unknown `word`: the nearest known one, or what there is."""
    if (match := nearest(word, known)) is not None:
        return f', did you mean "{match}"?'
    if not known:
        return ""
    return f" (known: {', '.join(sorted(known))})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is wrong with one file, whose source is `lines`."""

    file: Path | str
    lines: Sequence[str]
    faults: Collection[Fault]


def render(file: Path | str, lines: Sequence[str], faults: Collection[Fault]) -> str:
    """Show all `faults` of `file`, whose source is `lines`, in the order of the file."""
    return render_all([Report(file=file, lines=lines, faults=faults)])


def render_all(reports: Sequence[Report]) -> str:
    """Show the faults of several files, file by file, and how many there are."""
    parts = [
        _render_one(report.file, report.lines, fault)
        for report in reports
        for fault in sorted(dict.fromkeys(report.faults), key=_place)
    ]
    count = len(parts)
    return "\n".join([*parts, f"{count} error{'' if count == 1 else 's'}"])


def _place(fault: Fault) -> tuple[int, int]:
    return (fault.span.line, fault.span.column) if fault.span else (-1, -1)


def _render_one(file: Path | str, lines: Sequence[str], fault: Fault) -> str:
    key = f"{dotted(fault.path)}: " if fault.path else ""
    text = printable(f"error: {key}{fault.message}")
    if fault.span is None:
        return f"{file}: {text}"
    span = fault.span
    head = f"{file}:{span.line + 1}:{span.column + 1}: {text}"
    if not span.line < len(lines):
        return head
    source, margin, width = _excerpt(lines[span.line], span)
    return f"{head}\n{span.line + 1:>4} | {source}\n     | {margin}{'^' * width}"


def _excerpt(line: str, span: Span) -> tuple[str, str, int]:
    """Cut a long line around the span; return it with the margin and the width of its caret."""
    start = max(0, span.column - SOURCE_WIDTH_MAX // 2) if len(line) > SOURCE_WIDTH_MAX else 0
    source = line[start : start + SOURCE_WIDTH_MAX]
    before = source[: span.column - start]
    margin = "".join("\t" if character == "\t" else " " for character in before)
    width = max(1, min(span.width, len(source) - len(before)))
    return printable(source).rstrip(), margin, width


def printable(text: str) -> str:
    """Replace what a terminal would obey rather than show; tabs stay, for the caret's sake."""
    return "".join(c if c.isprintable() or c == "\t" else "?" for c in text)
