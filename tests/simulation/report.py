"""The comparison as tables for docs/shedding.md, and as plots.

The tables stand between two marks in that page and are made from docs/simulation/results.json, so
that a figure in the text is one that was measured (`tests/simulation/test_compare.py`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.simulation.experiments import EXPERIMENTS
from tests.simulation.figures import NEVER
from tests.tidy.project import ROOT

RESULTS = ROOT / "docs/simulation/results.json"
PAGE = ROOT / "docs/shedding.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

DRAWN_EVERY = 5
"""Of the points of a trace, which are a second apart."""

Document = dict[str, Any]
Row = Mapping[str, Sequence[float]]

_COLUMNS = (
    ("controller", ""),
    ("work", "work"),
    ("clinical p50, p99", "p50"),
    ("of the oracle's", "ratio"),
    ("limit", "limit"),
    ("drain", "drain"),
    ("refused", "refused"),
    ("fair", "fair"),
)


def load() -> Document:
    """The figures of the last run that was recorded."""
    document: Document = json.loads(RESULTS.read_text())
    return document


def save(document: Document) -> None:
    """Record the figures of a run."""
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


def tables(document: Document) -> str:
    """One table for each experiment and kind of server, in Markdown."""
    messages, minutes = document["messages"] / 1e6, document["cpu_seconds"] / 60
    recorded = (
        f"Recorded {document['date']} by `{document['command']}`: {document['runs']} runs,\n"
        f"{messages:.1f} million messages, {minutes:.0f} CPU minutes.\n"
    )
    parts = [recorded]
    for name, experiment in EXPERIMENTS.items():
        for model in experiment.models:
            found = document["cells"].get(f"{name}/{model}", {})
            rows = {each: found[each] for each in experiment.controllers if each in found}
            if rows:
                parts.append(f"**{name}, {model}: {experiment.title}** ({_seeds(rows)} seeds)\n")
                parts.append("\n".join(_table(rows)) + "\n")
    return "\n".join(parts)


def rewrite(page: str, document: Document) -> str:
    """The page with the tables of `document` between its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"{PAGE.name} has no mark where its figures begin"
    assert end, f"{PAGE.name} has no mark where its figures end"
    return f"{before}{BEGIN}\n\n{tables(document)}\n{END}{after}"


def _seeds(rows: Mapping[str, Row]) -> int:
    return int(max(row["seeds"][0] for row in rows.values()))


def _table(rows: Mapping[str, Row]) -> Iterator[str]:
    columns = [
        title for title, name in _COLUMNS if not name or any(name in r for r in rows.values())
    ]
    used = {name for title, name in _COLUMNS if title in columns}
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    for controller, row in rows.items():
        cells = [controller] + [_cell(name, row) for _, name in _COLUMNS[1:] if name in used]
        yield "| " + " | ".join(cells) + " |"


def _cell(name: str, row: Row) -> str:
    if name not in row:
        return "-"
    mean, low, high = row[name]
    texts = {
        "work": lambda: f"{mean:.3f} (least {low:.3f})",
        "p50": lambda: f"{_seconds(mean)}, {_seconds(row['p99'][0])}",
        "ratio": lambda: f"{row['ratio50'][0]:.2f}, {mean:.2f}",
        "limit": lambda: f"{row['limit_min'][1]:.0f} / {mean:.1f} / {row['limit_max'][2]:.0f}",
        "drain": lambda: f"{mean:.2f} (most {high:.2f})" if high < NEVER else "not done",
        "refused": lambda: f"{mean:.1f}",
        "fair": lambda: f"{mean:.3f}",
    }
    return texts[name]()


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def draw(document: Document, folder: Path, traces: Mapping[str, Any]) -> list[Path]:
    """Draw the comparison; needs the extra `plots`."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow to import

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    mpl.rcParams["svg.hashsalt"] = "mailshed"
    figure, (work, wait) = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    rows = document["cells"]["E1/servers"]
    names = [each for each in reversed(EXPERIMENTS["E1"].controllers) if each in rows]
    work.barh(names, [rows[name]["work"][0] for name in names], color="#5b7a9d")
    work.set_xlabel("work done, of the server's capacity")
    work.set_xlim(0, 1.05)
    wait.barh(names, [rows[name]["p99"][0] for name in names], color="#a0522d")
    wait.set_xscale("log")
    wait.set_xlim(left=0.1)
    wait.set_xlabel("clinical mail, 99th percentile, s")
    figure.tight_layout()
    bars = folder / "step.svg"
    figure.savefig(bars, metadata={"Date": None})
    figure, (limits, spooled) = plt.subplots(2, 1, figsize=(9, 5), sharex=True)
    for name, every in traces.items():
        points = every[::DRAWN_EVERY]
        times = [point.time / 60 for point in points]
        limits.plot(times, [point.limit for point in points], label=name, linewidth=1)
        spooled.plot(times, [point.spooled for point in points], label=name, linewidth=1)
    limits.set_ylabel("limit")
    limits.set_yscale("log")
    limits.legend(ncols=3, fontsize=8)
    spooled.set_ylabel("messages in the spool")
    spooled.set_xlabel("minutes")
    figure.tight_layout()
    course = folder / "course.svg"
    figure.savefig(course, metadata={"Date": None})
    return [bars, course]
