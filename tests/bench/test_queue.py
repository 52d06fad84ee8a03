"""The bench of the queue itself works: every measurement is made and the table has it."""

from pathlib import Path

from tests.bench.beside import measure_beside
from tests.bench.queue import QUICK, run
from tests.bench.tools import build_or_skip
from tests.support.debian import require, require_root


def test_a_quick_bench_of_the_queue_measures_everything() -> None:
    build_or_skip()
    require_root()
    require("postfix")
    text = run(QUICK)
    for messages in QUICK.queues:
        assert f"\n  {messages:>9,}  median " in text
    for connections in QUICK.connections:
        assert f"\n  {connections:>11}" in text
    assert "spool_sync_seconds" in text
    assert "the disk alone makes 64 KiB durable in" in text
    assert "commits begun until it was stored, at most: " in text


async def test_a_small_clinical_message_waits_for_one_group_at_most(tmp_path: Path) -> None:
    found = await measure_beside(
        tmp_path, large_messages=2, large_octets=5 * 1024 * 1024, small_messages=20
    )
    assert found.groups > 10, "the large messages were stored at once"
    assert found.commits_alone == 1
    assert found.commits_max <= 2
