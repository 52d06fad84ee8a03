"""What one process may use, judged on what was measured. Pure."""

from collections.abc import Iterator

from tests.bench.process.blocks import BLOCK_MAX, Blocks
from tests.bench.process.idle import Idle
from tests.bench.process.memory import Large, TlsRest
from tests.bench.targets import Target

_KIB = 1024
_MIB = 1024 * 1024

IDLE_MEBIBYTES = 256.0
IDLE_P99_RATIO = 1.5
TLS_KIBIBYTES = 48.0
LARGE_MEBIBYTES = 1.0


def judge_idle(found: Idle) -> Iterator[Target]:
    """Of idle sessions, and the mail beside them."""
    yield _target("idle", "resident, MiB", found.resident / _MIB, IDLE_MEBIBYTES)
    yield _target("idle", "p99 beside, times alone", found.p99_ratio, IDLE_P99_RATIO)


def judge_tls(found: list[TlsRest]) -> Iterator[Target]:
    """Of TLS sessions at rest."""
    for each in found:
        if each.way != "plain":
            yield _target("tls", f"{each.way}, KiB a session", each.octets / _KIB, TLS_KIBIBYTES)


def judge_large(found: Large) -> Iterator[Target]:
    """Of large messages."""
    for each in found.peaks:
        name = f"{each.messages} at once, {each.way}, MiB each"
        yield _target("large", name, each.per_message / _MIB, LARGE_MEBIBYTES)


def judge_blocks(found: list[Blocks]) -> Iterator[Target]:
    """Of the event loop."""
    for each in found:
        worst = 0.0 if each.worst is None else each.worst.block
        yield _target("loop", f"{each.load}, ms", worst * 1e3, BLOCK_MAX * 1e3)


def _target(load: str, name: str, value: float, limit: float) -> Target:
    return Target(load=load, name=name, value=value, limit=limit, at_most=True)
