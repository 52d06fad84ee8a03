"""Plots of a record for docs/performance.md, by Matplotlib, which comes with the extra `plots`.

- `rates.svg`: messages a second at 10 KiB, connections reused and one for each message.
- `cpu.svg`: CPU time of a message by its size: what a peer costs, whatever bounds the rate.
- `ratios.svg`: mailshed's rate over HAProxy's and over Postfix's, for every load.

The same record gives the same files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bench.loads import HAPROXY, LOADS, MAILSHED, MIB, PEERS, POSTFIX, load
from tests.bench.results import Measured

_RATES = ("10k-reuse", "10k-new")
_SIZES = ("1k-reuse", "10k-reuse", "1m-reuse", "25m-reuse")
_OURS, _THEIRS, _SECOND = "#a0522d", "#5b7a9d", "#c9a227"


class NoLibraryError(Exception):
    """Matplotlib is missing; the text says how to get it."""


def library() -> Any:
    """Matplotlib, drawing into SVG files; raises NoLibraryError."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        raise NoLibraryError("plots need Matplotlib: pip install 'mailshed[plots]'") from None
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mailshed"
    mpl.rcParams["svg.fonttype"] = "none"  # letters as letters: a third of the size
    from matplotlib import pyplot as plt  # noqa: PLC0415

    return plt


def draw(measured: Mapping[str, Measured], folder: Path) -> list[Path]:
    """Draw what there are figures for; the files."""
    plt = library()
    drawn = []
    for name, plot in (("rates", _rates), ("cpu", _cpu), ("ratios", _ratios)):
        figure = plot(plt, measured)
        figure.tight_layout()
        path = folder / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
        drawn.append(path)
    return drawn


def _rates(plt: Any, measured: Mapping[str, Measured]) -> Any:
    figure, axes = plt.subplots(1, len(_RATES), figsize=(9, 3.4))
    for axis, name in zip(axes, _RATES, strict=True):
        results = measured[name].results[::-1] if name in measured else ()
        bars = axis.barh(
            [each.peer for each in results],
            [each.rate for each in results],
            color=[_OURS if each.peer == MAILSHED else _THEIRS for each in results],
        )
        axis.bar_label(bars, fmt=lambda rate: f"{rate:,.0f}", padding=3, fontsize=8)
        axis.margins(x=0.2)
        axis.set_title(load(name).title, fontsize=9)
        axis.set_xlabel("messages a second")
    return figure


def _cpu(plt: Any, measured: Mapping[str, Measured]) -> Any:
    figure, axis = plt.subplots(figsize=(9, 4.2))
    for peer in PEERS:
        points = []
        for name in _SIZES:
            result = measured[name].of(peer) if name in measured else None
            if result is not None and result.cpu_microseconds:
                points.append((load(name).octets, result.cpu_microseconds))
        if points:
            style = {"color": _OURS, "linewidth": 2.5} if peer == MAILSHED else {"linewidth": 1.0}
            axis.plot(*zip(*points, strict=True), "o-", markersize=4, label=peer, **style)
    sizes = [load(name).octets for name in _SIZES]
    labels = [f"{size // MIB} MiB" if size >= MIB else f"{size // 1024} KiB" for size in sizes]
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(sizes, labels, minor=False)
    axis.minorticks_off()
    axis.set_ylabel("CPU µs a message")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _ratios(plt: Any, measured: Mapping[str, Measured]) -> Any:
    figure, axis = plt.subplots(figsize=(9, 4.6))
    names = [each.name for each in LOADS[::-1] if each.name in measured and not each.is_paced]
    for peer, color in ((HAPROXY, _THEIRS), (POSTFIX, _SECOND)):
        points = []
        for height, name in enumerate(names):
            ours, theirs = measured[name].of(MAILSHED), measured[name].of(peer)
            if ours is not None and theirs is not None:
                points.append((ours.rate / theirs.rate, height))
        if points:
            axis.scatter(*zip(*points, strict=True), color=color, label=f"over {peer}", zorder=2)
    axis.set_yticks(range(len(names)), names)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.axvline(1, color="black", linewidth=0.8)
    axis.grid(alpha=0.3)
    axis.set_xlabel("mailshed's rate")
    axis.legend(fontsize=8)
    return figure
