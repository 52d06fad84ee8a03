"""The figures for people: a table for each mail server, the targets, the simulator beside."""

from collections.abc import Sequence

from tests.bench.overload.backends import Kind
from tests.bench.overload.figures import Delays, Figures
from tests.bench.overload.plan import FULL, HALF, TOP, Plan
from tests.bench.overload.simulated import Gap
from tests.bench.overload.targets import Target

_HEAD = (
    f"{'peer':<18}{'class':<10}{'messages':>9}{'p50':>8}{'p99':>8}{'max':>8}"
    f"{'p99 full':>10}{'p99 half':>10}{'errors':>8}{'lost':>6}{'waiting':>9}{'twice':>7}"
    f"{'goodput':>9}{'drain':>8}{'idle':>6}"
)

_IDLE_MIN = 0.1
"""With less of the CPU left while the load came, everybody had to wait for it."""


def table(kind: Kind, plan: Plan, results: Sequence[Figures]) -> str:
    """All peers before one mail server."""
    bounds = results[0].bounds
    rate, weak = kind.normal.rate, kind.weak.rate
    lines = [
        f"{kind.name}: {rate:.1f} messages/s, {weak:.1f} in the middle third of the load;",
        f"{plan.overload:g} times as many for {plan.seconds:g} s. Seconds from the first connect:",
        "",
        _HEAD,
    ]
    for result in results:
        end = f"{result.goodput:>9.1%}{'' if result.is_done else '>':>1}{result.drain:>7.1f}"
        end += f"{result.cpu_idle:>6.0%}"
        for name, row in result.classes.items():
            lines.append(
                f"{result.peer:<18}{name:<10}{row.messages:>9}{_delays(row.delays)}"
                f"{row.by_stretch[FULL].p99:>10.2f}{row.by_stretch[HALF].p99:>10.2f}"
                f"{row.errors:>8}{row.lost:>6}{row.waiting:>9}{row.duplicates:>7}{end}"
            )
            end = ""
    oracle = bounds.oracle
    lines.append(
        f"{'oracle':<18}{TOP:<10}{'':>9}{_delays(oracle[TOP])}"
        f"{oracle[FULL].p99:>10.2f}{oracle[HALF].p99:>10.2f}"
    )
    lines.append(
        f"{'bound':<18}{TOP:<10}{'':>33}{bounds.top_p99[FULL]:>10.2f}"
        f"{bounds.top_p99[HALF]:>10.2f}{'':>30}{1:>9.1%}{bounds.drain:>8.1f}"
    )
    busy = [result.peer for result in results if result.cpu_idle < _IDLE_MIN]
    if busy:
        lines.append(
            f"No CPU was left during {', '.join(busy)}: delays are the machine's as well. "
            "Run it again when nothing else runs."
        )
    return "\n".join(lines) + "\n"


def _delays(delays: Delays) -> str:
    return f"{delays.p50:>8.2f}{delays.p99:>8.2f}{delays.most:>8.2f}"


def targets(found: Sequence[Target]) -> str:
    """One line for each target."""
    lines = []
    for each in found:
        sign = "<=" if each.at_most else ">="
        verdict = "reached" if each.is_reached else "MISSED"
        lines.append(
            f"{verdict:<9}{each.backend:<14}{each.peer:<18}{each.name:<36}"
            f"{each.value:>9.3f} {sign} {each.limit:.3f}"
        )
    return "\n".join(lines) + "\n"


def gaps(found: Sequence[Gap]) -> str:
    """The simulator's figures beside the sockets'."""
    head = f"{'backend':<14}{'peer':<18}{'figure':<28}{'simulated':>11}{'sockets':>10}{'gap':>9}"
    lines = [head]
    for each in found:
        mark = "  <- over 20 %" if each.is_wide else ""
        lines.append(
            f"{each.backend:<14}{each.peer:<18}{each.name:<28}{each.simulated:>11.3f}"
            f"{each.measured:>10.3f}{each.share:>+9.0%}{mark}"
        )
    return "\n".join(lines) + "\n"
