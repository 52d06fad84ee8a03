"""Story: hundreds of slow clients of five kinds, and clinical mail does not notice.

The bench (`python -m tests.bench.slow_sessions`) has ten thousand of them, and measures. Here the
limits are short and the crowd is small: whoever is slow is gone in time, whatever it is slow with,
and when the crowd leaves nothing of it is left.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.bench.siege.attackers import PROGRAM, attackers
from tests.bench.siege.figures import percentile
from tests.bench.siege.scenarios import SLOW, Scenario
from tests.bench.siege.site import CLINICAL, Site, site
from tests.bench.tools import build, build_or_skip
from tests.support.ledger import Fate
from tests.support.load import Outcome
from tests.support.processes import wait_until

pytestmark = pytest.mark.fault

CROWD = 300
HURRY = 2
"""Seconds that slow clients have, from the moment on at which sessions are scarce."""
SLACK = 6.0
"""Seconds that it may take besides: their own slowness to notice, and a busy machine."""
ATTACK = 6.5
POOLED = 10
"""Descriptors of connections to the mail server, which are kept for a while."""

LIMITS = {
    "sessions_max": CROWD,  # so there is stress from 240 on
    "stress_timeout": f"{HURRY}s",
    "reply_timeout": f"{HURRY}s",
}
TLS = {"handshakes_max": 100, "handshake_timeout": f"{HURRY}s"}
SCENARIO = Scenario(
    name="small", text="", sessions=CROWD, rate=300.0, pace=0.5, seconds=ATTACK, places="wide"
)


def _clinical_seconds(outcomes: Sequence[Outcome]) -> list[float]:
    """How long clinical mail took, all of which was taken."""
    clinical = [each for each in outcomes if each.message.traffic_class == CLINICAL]
    refused = [each.reply for each in clinical if each.fate is not Fate.ACKNOWLEDGED]
    assert not refused
    assert len(clinical) > 10
    return [each.ended - each.started for each in clinical]


def _open_files(place: Site) -> int:
    return sum(1 for _ in Path(f"/proc/{place.daemon.pid}/fd").iterdir())


def _is_empty(place: Site) -> bool:
    scrape = place.daemon.metrics()
    return not (scrape.total("smtp_sessions") or scrape.total("tls_open_handshakes"))


def test_slow_clients_are_gone_in_time(tmp_path: Path) -> None:
    build_or_skip()
    build(PROGRAM)
    with site(tmp_path / "s", LIMITS, TLS) as place:
        before = _clinical_seconds(place.load(1.5, seed=1).join())
        wait_until(lambda: _is_empty(place), "no session is open")
        files = _open_files(place)
        load = place.load(ATTACK, seed=2)
        with attackers(
            SCENARIO, place.daemon.port, place.tls_port, ATTACK, tmp_path / "s"
        ) as crowd:
            crowd.process.wait()
            tallies = crowd.tallies()
        under_attack = _clinical_seconds(load.join())
        # Replies that nobody has read, and sessions that were cut off, are gone as well.
        wait_until(lambda: _is_empty(place), "no session is open")
        wait_until(lambda: _open_files(place) <= files + POOLED, "descriptors are given back")
        log = place.daemon.log_text
        scrape = place.daemon.metrics()
        assert place.daemon.terminate() == 0

    assert set(tallies) == set(SLOW)
    for kind, tally in tallies.items():
        assert tally.let_in > 0, kind
        assert tally.thrown_out > 0, kind
        assert tally.longest <= HURRY + SLACK, f"{kind} lasted {tally.longest} s"
    assert "event=stress_began" in log
    assert "event=library" not in log
    assert scrape.total("smtp_sessions_overdue_total") > 0
    assert percentile(under_attack, 0.9) <= max(10 * percentile(before, 0.9), 0.5)
