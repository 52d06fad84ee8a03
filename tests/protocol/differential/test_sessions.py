"""Sessions by name and by seed, held with both engines: same replies, same bytes.

`MAILSHED_TEST_DIFFERENTIAL` is how many sessions are made; `make test-differential` makes many.
"""

import os
from pathlib import Path

import pytest

from tests.protocol.differential.compare import assert_alike, held_with_both
from tests.protocol.differential.engines import Script, Text
from tests.protocol.differential.sessions import NAMED, made

SEEDS = int(os.environ.get("MAILSHED_TEST_DIFFERENTIAL", "60"))
AT_ONCE = 10
"""Sessions in one test."""


@pytest.mark.parametrize("name", NAMED)
async def test_a_session_by_name(name: str, tmp_path: Path) -> None:
    ours, stock = await held_with_both(Script(steps=NAMED[name]), tmp_path)
    assert_alike(ours, stock, name)


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
async def test_sessions_by_seed(first: int, tmp_path: Path) -> None:
    for seed in range(first, min(first + AT_ONCE, SEEDS)):
        ours, stock = await held_with_both(made(seed), tmp_path)
        assert_alike(ours, stock, f"seed {seed}")


def test_the_made_sessions_have_what_they_should() -> None:
    """Among a hundred: all verdicts, recipients by the handful, mail data of all sizes, cuts."""
    scripts = [made(seed) for seed in range(100)]
    steps = [step for script in scripts for step in script.steps]
    texts = [step.wire for step in steps if isinstance(step, Text)]
    said = b"".join(step for step in steps if not isinstance(step, Text))
    for mark in (b"<>", b"mail-", b"rcpt-", b"data-", b"dot-", b"8BITMIME", b"elsewhere", b"RSET"):
        assert mark in said
    assert any(step.count(b"RCPT TO") > 3 for step in steps if not isinstance(step, Text))
    assert min(map(len, texts)) < 10
    assert max(map(len, texts)) > 100_000
    assert any(b"\r\n..\r\n" in text for text in texts)
    assert any(not text.isascii() for text in texts)
    assert any(b"\n" in text.replace(b"\r\n", b"") for text in texts)
    assert {bool(script.cuts(1000)) for script in scripts} == {True, False}
    assert {script.is_trusted for script in scripts} == {True, False}
