"""The comparison of the engines: a daemon of two of them serves, and the table has all figures."""

from pathlib import Path

from tests.bench import engines
from tests.bench.tools import Sink, build_or_skip


def test_a_daemon_of_mixed_engines_relays(tmp_path: Path) -> None:
    build_or_skip()
    with Sink(tmp_path) as sink, engines._daemon(tmp_path, sink.port, "own", "stock") as daemon:
        assert engines._round(daemon, "reuse", 1024, 20) > 0
        assert sink.taken == 20
        assert daemon.metrics().total("messages_accepted_total", disposition="relayed") == 20


def test_the_table_has_a_line_for_each_pair() -> None:
    by_load = dict.fromkeys(engines.LOADS, 1234.4)
    shown = engines.table({"own own": by_load, "own stock": by_load}).splitlines()
    assert len(shown) == 4
    assert shown[3] == "| own | stock | " + " | ".join(["1,234"] * len(by_load)) + " |"
