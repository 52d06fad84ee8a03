"""Story: mailshed is killed (kill -9) again and again under load, and no acknowledged mail is lost.

The load is above what the backend takes, so at the moment of each kill some mail is being received,
some relayed, some spooled and some drained, and reports about what cannot be delivered are on their
way. After each kill it is started again on the same spool and drains; then the harness's own book
is compared with what Postfix has. `kill_rig` says how, and what it takes to be a hit.

A second copy can only come from a message that Postfix had taken and mailshed had not yet marked,
so each kill makes at most as many as there were slots. A client whose connection broke after its
final dot knows nothing; either outcome is correct for it, and it does not try again here.

`make test-kill` makes 30 kills, `make test-kill N=1000` as many as one wants (about three seconds
each), `SEED=` other ones.
"""

import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fault.kill_rig import IN_FLIGHT_MAX, KillRig, Round
from tests.support.daemon import Scrape

KILLS = int(os.environ.get("MAILSHED_TEST_KILLS", "8"))
SEED = int(os.environ.get("MAILSHED_TEST_SEED", "1"))

SPOOLED_SHARE_MIN = 0.30
OPEN_SHARE_MIN = 2 / 3


def test_no_acknowledged_mail_is_lost_however_often_it_is_killed(tmp_path: Path) -> None:
    began = time.monotonic()
    rounds: list[Round] = []
    with (
        KillRig.make_server() as server,
        KillRig.make_daemon(tmp_path / "mailshed", server) as daemon,
    ):
        rig = KillRig(server, daemon, random.Random(SEED))
        for number in range(KILLS):
            made = rig.round()
            rounds.append(made)
            assert made.duplicates <= 2 * IN_FLIGHT_MAX * made.kills + made.doubts, (
                f"kill {number} made {made.duplicates} second copies"
            )
        rig.refused_mailboxes()
        ledger = daemon.metrics()
    sys.stdout.write(_summary(rounds, time.monotonic() - began))

    acknowledged = sum(each.acknowledged for each in rounds)
    assert acknowledged > KILLS * 20, "too little mail to prove anything"
    spooled = sum(each.spooled for each in rounds)
    assert spooled >= SPOOLED_SHARE_MIN * acknowledged, f"only {spooled} were spooled"
    is_open = sum(each.is_open for each in rounds)
    assert is_open >= OPEN_SHARE_MIN * KILLS, f"only {is_open} kills hit an open transaction"
    assert any(each.unanswered for each in rounds), "no kill hit an unanswered final dot"
    assert any(each.is_draining for each in rounds), "no kill hit the drain"
    assert any(each.is_reporting for each in rounds), "no kill hit a report"
    assert sum(each.reports for each in rounds) > KILLS, "hardly any reports"
    assert sum(each.doubts for each in rounds) == 0, "Postfix was never away"
    _assert_conservation(ledger)


def _assert_conservation(scrape: Scrape) -> None:
    """The daemon's own ledger, which survives the kills, adds up as well."""
    came = sum(
        scrape.total("recipients_ledger_total", term=term) for term in ("accepted", "generated")
    )
    total = scrape.total("recipients_ledger_total")
    assert came > 0
    assert total == 2 * came, f"{came:g} recipients came, {total - came:g} left"


def _summary(rounds: Sequence[Round], seconds: float) -> str:
    def total(name: str) -> int:
        return sum(int(getattr(each, name)) for each in rounds)

    acknowledged, spooled = total("acknowledged"), total("spooled")
    return (
        f"\n{len(rounds)} kills (seed {SEED}), {total('kills') - len(rounds)} more at the start: "
        f"{acknowledged} acknowledged, {spooled} of them by the spool "
        f"({spooled / acknowledged:.0%}), {total('reports')} reports; "
        f"kills in open transactions {total('is_open')}, with unanswered dots "
        f"{sum(each.unanswered > 0 for each in rounds)}, during drain {total('is_draining')}, "
        f"during reports {total('is_reporting')}; {total('unanswered')} clients in doubt; "
        f"0 lost, 0 altered, 0 phantom, {total('duplicates')} duplicates (at most "
        f"{max(each.duplicates for each in rounds)} in one round); "
        f"{seconds / len(rounds):.1f} s a kill\n"
    )
