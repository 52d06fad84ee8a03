"""The plot of a simulation: limit and use, spooled mail by class, work done. By Matplotlib.

Matplotlib comes with the extra `plots`, since nothing else here needs it.
"""

from pathlib import Path
from typing import Any

from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.simulation.result import Result

SUFFIXES = (".png", ".svg", ".pdf")
_HOUR = 3600.0
_MINUTE = 60.0
_SIZE_INCHES = (9.0, 8.0)


def check(path: Path) -> None:
    """Raise VerbFailed if nothing could be drawn there, before an hour is spent on a run."""
    if path.suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise VerbFailed(f"{path}: the name of a plot ends in one of {known}", ExitCode.USAGE)
    if not path.parent.is_dir():
        raise VerbFailed(f"{path.parent}: no such folder", ExitCode.USAGE)
    _library()


def draw(result: Result, path: Path) -> None:
    """Draw `result` into `path`."""
    plots = _library()
    figure, axes = plots.subplots(3, 1, sharex=True, figsize=_SIZE_INCHES, layout="constrained")
    points = result.trace.points
    unit, name = (_HOUR, "hours") if result.elapsed > 2 * _HOUR else (_MINUTE, "minutes")
    times = [point.time / unit for point in points]

    slots, backlog, work = axes
    slots.set_title(f"{result.scenario} (seed {result.seed})")
    slots.step(times, [point.limit for point in points], where="post", label="limit")
    slots.plot(times, [point.in_flight for point in points], linewidth=0.6, label="in flight")
    slots.set_ylabel("messages")
    spooled = zip(*(point.spooled_by_class for point in points), strict=True)
    shown = [pair for pair in zip(result.class_names, spooled, strict=True) if any(pair[1])]
    if shown:
        names, heights = zip(*shown, strict=True)
        backlog.stackplot(times, *heights, labels=names)
    backlog.set_ylabel("spooled messages")
    work.plot(times, [point.fluid_done for point in points], "--", label="possible")
    work.plot(times, [point.work_done for point in points], label="done")
    work.set_ylabel("work done (seconds of one server)")
    work.set_xlabel(f"time ({name})")
    for each in axes:
        each.set_ylim(bottom=0)
        each.grid(alpha=0.3)
        if each.get_legend_handles_labels()[0]:
            each.legend(loc="upper left")
    figure.savefig(path)
    plots.close(figure)


def _library() -> Any:
    """Matplotlib, drawing into files only. Raises VerbFailed if it is not there."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise VerbFailed(
            "plots need Matplotlib: pip install 'mailshed[plots]'", ExitCode.UNAVAILABLE
        ) from None
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt
