"""The bench of the queue itself works: every measurement is made and the table has it."""

from tests.bench.queue import QUICK, run
from tests.bench.tools import build_or_skip
from tests.support.debian import require, require_root


def test_a_quick_bench_of_the_queue_measures_everything() -> None:
    build_or_skip()
    require_root()
    require("postfix")
    text = run(QUICK)
    for messages in QUICK.queues:
        assert f"\n  {messages:>8,}" in text
    for connections in QUICK.connections:
        assert f"\n  {connections:>11}" in text
    assert "spool_sync_seconds" in text
    assert "commits until it was stored, at most: 1 alone, " in text
