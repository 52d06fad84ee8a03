"""Every listed difference is there, and is the one that is meant."""

from pathlib import Path

import pytest

from tests.protocol.differential.compare import held_with_both
from tests.protocol.differential.differences import KEPT, REPLIES, REWRITTEN, is_explained
from tests.protocol.differential.engines import Script, Step
from tests.protocol.differential.sessions import DATA, EHLO, MAIL, RCPT, TEXT


@pytest.mark.parametrize("name", REPLIES)
async def test_a_difference_in_replies_is_seen(name: str, tmp_path: Path) -> None:
    """A new version of a library may have come nearer to us, or we to it."""
    difference = REPLIES[name]
    ours, stock = await held_with_both(Script(steps=difference.steps), tmp_path)
    for one, other in zip(ours.exchanges, stock.exchanges, strict=False):
        if one.reply != other.reply and difference.fits(one, other):
            return
        assert is_explained(one, other), f"{one.said!r}\n{one.reply!r}\n{other.reply!r}"
    pytest.fail(f"both engines do the same: {difference.why}")


@pytest.mark.parametrize("path", REWRITTEN)
async def test_the_library_rewrites_addresses_and_we_do_not(path: bytes, tmp_path: Path) -> None:
    """Two programs that disagree about an address is how mail reaches the wrong mailbox."""
    steps: list[Step] = [EHLO, MAIL, b"RCPT TO:<" + path + b">\r\n", DATA, TEXT]
    ours, stock = await held_with_both(Script(steps=steps), tmp_path)
    assert [each[1] for each in ours.received] == [[path]]
    assert [each[1] for each in stock.received] == [[REWRITTEN[path]]]


@pytest.mark.parametrize("reasons", KEPT)
async def test_a_difference_in_reasons_is_seen(reasons: tuple[str, str], tmp_path: Path) -> None:
    steps: list[Step] = [EHLO, b"MAIL FROM:<data-close@example.org>\r\n", RCPT, DATA, TEXT]
    ours, stock = await held_with_both(Script(steps=steps), tmp_path)
    assert ([each.reason for each in ours.kept], [each.reason for each in stock.kept]) == (
        [reasons[0]],
        [reasons[1]],
    )
