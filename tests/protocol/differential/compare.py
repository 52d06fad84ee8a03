"""Holds a session with both engines, and says what is not alike and not known."""

from dataclasses import replace
from pathlib import Path

from tests.protocol.differential.differences import KEPT, is_explained
from tests.protocol.differential.engines import OWN, STOCK, Kept, Outcome, Script, hold
from tests.protocol.differential.sessions import RECIPIENTS_MAX


async def held_with_both(script: Script, folder: Path) -> tuple[Outcome, Outcome]:
    """Ours first, then the stock engine's."""
    ours = await hold(OWN, script, folder, recipients_max=RECIPIENTS_MAX)
    return ours, await hold(STOCK, script, folder, recipients_max=RECIPIENTS_MAX)


def assert_alike(ours: Outcome, stock: Outcome, name: str) -> None:
    """Same replies, same envelopes, same bytes, but for what is known."""
    for one, other in zip(ours.exchanges, stock.exchanges, strict=True):
        assert is_explained(one, other), f"{name}: {one.said!r}\n{one.reply!r}\n{other.reply!r}"
    assert ours.received == stock.received, name
    assert ours.senders == stock.senders, name
    assert len(ours.kept) == len(stock.kept), name
    for kept, other_kept in zip(ours.kept, stock.kept, strict=True):
        is_known = kept.reason == other_kept.reason or (kept.reason, other_kept.reason) in KEPT
        assert is_known, f"{name}: {kept.reason} and {other_kept.reason}"
        assert _without_reason(kept) == _without_reason(other_kept), name


def _without_reason(kept: Kept) -> Kept:
    return replace(kept, reason="")
