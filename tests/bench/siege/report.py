"""One scenario as a table, for people."""

from tests.bench.siege.attackers import Tally
from tests.bench.siege.figures import Delays, Figures, Verdict, verdicts
from tests.bench.siege.scenarios import KIND_NAMES

_MEBIBYTE = 2**20


def table(of: Figures) -> str:
    """All of it."""
    columns = ("messages", "failed", "p50 ms", "p99 ms", "worst", "others failed")
    lines = [f"{of.scenario.name}: {of.scenario.text}", _row("clinical mail", *columns)]
    lines += [_delays("before", of.before), _delays("attack", of.attack)]
    lines += [_delays("after", of.after), _slowest(of), *_process(of)]
    lines.append(_row("attackers", "connected", "let in", "away", "thrown", "longest s"))
    lines += [_tally(KIND_NAMES[kind], tally) for kind, tally in of.tallies.items()]
    lines += [_verdict(each) for each in verdicts(of)]
    return "\n".join(lines) + "\n"


def _row(name: str, *cells: str) -> str:
    return f"  {name:<14}" + "".join(f"{cell:>14}" for cell in cells)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}"


def _delays(name: str, found: Delays) -> str:
    times = map(_milliseconds, (found.p50, found.p99, found.worst))
    others = f"{found.others_failed} of {found.others}"
    return _row(name, str(found.messages), str(found.failed), *times, others)


def _tally(name: str, tally: Tally) -> str:
    counts = (tally.connected, tally.let_in, tally.turned_away, tally.thrown_out)
    return _row(name, *(f"{count:,}" for count in counts), f"{tally.longest:.1f}")


def _slowest(of: Figures) -> str:
    found = (f"{took * 1e3:.0f} at {at:.0f} s" for at, took in of.attack.slowest)
    return f"  slowest under attack, ms: {', '.join(found)}"


def _process(of: Figures) -> list[str]:
    rest, peak = of.at_rest / _MEBIBYTE, of.peak / _MEBIBYTE
    lags = (_milliseconds(lag) for lag in (of.lag_before, of.lag_attack))
    return [
        f"  memory, MiB: {rest:.0f} at rest, {peak:.0f} at its peak",
        f"  most sessions: {of.most_held:,}; stress at {of.stressed} scrapes",
        f"  cores: {of.cpu_before:.2f} before, {of.cpu_attack:.2f} during",
        f"  lag of the loop, p99 in ms: {' before, '.join(lags)} during",
    ]


def _verdict(verdict: Verdict) -> str:
    mark = "reached" if verdict.is_reached else "MISSED"
    return f"  {mark:<8} {verdict.text}: {verdict.found}"
