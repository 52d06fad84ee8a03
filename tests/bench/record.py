"""The record of a run: figures as JSON, tables between two marks in docs/performance.md, plots.

A run of some loads replaces those in the record and leaves the others, as long as it is the same
machine; each load says when it was measured. The tables are made from the JSON file and from
nothing else, so that a figure in the page is one that was measured.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from tests.bench import report
from tests.bench.loads import LOADS
from tests.bench.results import Measured
from tests.bench.targets import judge
from tests.tidy.project import ROOT

FOLDER = ROOT / "docs/performance"
RESULTS = FOLDER / "throughput.json"
PAGE = ROOT / "docs/performance.md"
BEGIN, END = "<!-- throughput: begin -->", "<!-- throughput: end -->"

_SAME = ("cpu", "cores", "python")
"""What makes a machine the same one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What was measured of each load, and on what."""

    command: str
    machine: Mapping[str, Any]
    effort: str
    """How long, in words."""
    dates: Mapping[str, str]
    """When each load was measured."""
    loads: Mapping[str, Measured]

    def as_tree(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "command": self.command,
            "machine": dict(self.machine),
            "effort": self.effort,
            "dates": dict(self.dates),
            "loads": {name: each.as_tree() for name, each in self.loads.items()},
        }

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Self:
        """From JSON."""
        loads = {name: Measured.from_tree(each) for name, each in tree["loads"].items()}
        return cls(**{**tree, "loads": loads})

    def over(self, older: "Record") -> "Record":
        """This record, and what only the older one has if that is of the same machine."""
        if any(self.machine[key] != older.machine[key] for key in _SAME):
            return self
        return replace(
            self, dates={**older.dates, **self.dates}, loads={**older.loads, **self.loads}
        )


def load() -> Record | None:
    """The last run that was recorded."""
    return Record.from_tree(json.loads(RESULTS.read_text())) if RESULTS.exists() else None


def save(record: Record) -> None:
    """Record a run: the figures, and the page's tables."""
    FOLDER.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record.as_tree(), indent=1) + "\n")
    PAGE.write_text(rewrite(PAGE.read_text(), record))


def rewrite(page: str, record: Record) -> str:
    """The page with the tables of the record between its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"{PAGE.name} has no mark where its figures begin"
    assert end, f"{PAGE.name} has no mark where its figures end"
    return f"{before}{BEGIN}\n\n{_tables(record)}\n{END}{after}"


def _tables(record: Record) -> str:
    machine = record.machine
    parts = [
        (
            f"Recorded {_span(sorted(set(record.dates.values())))} by `{record.command}`\n"
            f"({record.effort}), {machine['cores']} cores ({machine['cpu']}), "
            f"Linux {machine['kernel']}, Python {machine['python']}; "
            f"load average {machine['load_average']} before it began.\n"
        ),
        report.targets_markdown(judge(record.loads)),
    ]
    parts += [
        report.markdown(each, record.loads[each.name])
        for each in LOADS
        if each.name in record.loads
    ]
    return "\n".join(parts)


def _span(dates: Sequence[str]) -> str:
    return dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
