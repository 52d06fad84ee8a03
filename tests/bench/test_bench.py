"""The bench itself works: every peer passes every message on, and the table can be made."""

from tests.bench.__main__ import QUICK, run, table
from tests.bench.measure import MODES
from tests.bench.tools import build_or_skip
from tests.support.debian import require, require_root


def test_a_quick_bench_measures_every_peer_in_every_mode() -> None:
    build_or_skip()
    require_root()
    require("postfix")
    require("haproxy")
    results, memory = run(QUICK)
    measured = {(result.peer, result.mode) for result in results}
    peers = ("sink", "haproxy", "postfix", "mailshed")
    assert measured == {(peer, mode) for peer in peers for mode in MODES}
    assert all(result.rate > 0 for result in results)
    assert memory.with_idle >= memory.at_rest > 0
    text = table(results, memory, QUICK)
    for peer in peers:
        assert text.count(f"\n  {peer:<10}") == len(MODES)
