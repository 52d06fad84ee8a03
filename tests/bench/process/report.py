"""What was found, as tables for people."""

from collections.abc import Iterable, Sequence

from tests.bench.process.blocks import BLOCK_MAX, Blocks
from tests.bench.process.idle import Idle
from tests.bench.process.memory import Large, TlsRest
from tests.bench.targets import Target

_KIB = 1024
_MIB = 1024 * 1024


def idle(found: Idle) -> str:
    """Idle sessions."""
    lines = [
        f"{found.sessions:,} idle sessions:",
        f"  {'':<8}{'MiB':>8}{'p50 ms':>10}{'p99 ms':>10}",
        f"  {'without':<8}{found.rest / _MIB:>8.0f}{_ms(found.p50_alone)}{_ms(found.p99_alone)}",
        f"  {'with':<8}{found.resident / _MIB:>8.0f}{_ms(found.p50_beside)}{_ms(found.p99_beside)}",
        f"  {'after':<8}{found.left / _MIB:>8.0f}",
        f"  ({found.messages:,} messages each, in turn)",
    ]
    return _text(lines)


def tls(found: Sequence[TlsRest]) -> str:
    """Sessions at rest."""
    lines = [f"{found[0].sessions:,} sessions at rest after one message, KiB each:"]
    lines += [f"  {each.way:<10}{each.octets / _KIB:>8.1f}" for each in found]
    return _text(lines)


def large(found: Large) -> str:
    """Large messages."""
    lines = [
        "messages of 25 MiB:",
        f"  {'way':<10}{'at once':>8}{'rest MiB':>10}{'peak MiB':>10}{'over the limit, each':>22}",
    ]
    lines += [
        f"  {each.way:<10}{each.messages:>8}{each.rest / _MIB:>10.1f}{each.peak / _MIB:>10.1f}"
        f"{each.per_message / _MIB:>22.2f}"
        for each in found.peaks
    ]
    lines.append(f"  passed on and forgotten: {found.left / _MIB:.1f} MiB")
    return _text(lines)


def blocks(found: Sequence[Blocks]) -> str:
    """The event loop."""
    lines = [
        f"the event loop, longest turn in ms, and how many over {BLOCK_MAX * 1e3:.0f}:",
        (
            f"  {'load':<13}{'longest':>8}{'of it run':>11}{'waited':>8}{'over':>6}"
            f"{'garbage':>9}{'latest':>8}{'seconds':>9}"
        ),
    ]
    lines += [_block(each) for each in found]
    lines.append("  latest: with what the machine took for other work")
    return _text(lines)


def _block(found: Blocks) -> str:
    worst = found.worst
    block, ran = (0.0, 0.0) if worst is None else (worst.block, min(worst.ran, worst.block))
    milliseconds = (
        f"{seconds * 1e3:>{width}.1f}"
        for seconds, width in (
            *((block, 8), (ran, 11), (block - ran, 8)),
            *((found.collected, 9), (found.latest, 8)),
        )
    )
    longest, run, waited, garbage, latest = milliseconds
    return (
        f"  {found.load:<13}{longest}{run}{waited}{len(found.over):>6}{garbage}{latest}"
        f"{found.seconds:>9.1f}  {found.text}"
    )


def stacks(found: Sequence[Blocks], at_most: int = 5) -> str:
    """What the loop was at when it was late: the longest blocks of each load."""
    lines = []
    for each in found:
        for beat in sorted(each.over, key=lambda beat: -beat.block)[:at_most]:
            waited = max(0.0, beat.block - beat.ran)
            lines.append(
                f"{each.load}: {beat.block * 1e3:.1f} ms, {waited * 1e3:.1f} of them waited"
            )
            lines += [f"    {seen}" for seen in beat.seen]
    return _text(lines)


def targets(found: Iterable[Target]) -> str:
    """Reached or missed."""
    lines = [
        f"  {each.verdict:<8}{each.load:<7}{each.name}: {each.value:.2f} (at most {each.limit:g})"
        for each in found
    ]
    return _text(["targets:", *lines])


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:>10.2f}"


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"
