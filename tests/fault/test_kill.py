"""Story: mailshed is killed (kill -9) again and again under load, and no acknowledged mail is lost.

The limit is small and the load above what the backend takes, so at the moment of each kill some
mail is being relayed and some is being spooled or drained. After each kill it is started again on
the same spool and drains; then the harness's own book is compared with what Postfix has.

A second copy can only come from a message that Postfix had taken and mailshed had not yet marked,
so each kill makes at most as many as there were slots. A client whose connection broke after its
final dot knows nothing; either outcome is correct for it, and it does not try again here.

The number of kills is MAILSHED_TEST_KILLS (default 10): run thousands to believe it.
"""

import os
import random
import sys
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.ledger import Fate, Ledger
from tests.support.load import Load, book, poisson
from tests.support.postfix import Postfix
from tests.support.processes import wait_until

KILLS = int(os.environ.get("MAILSHED_TEST_KILLS", "10"))
IN_FLIGHT_MAX = 4
POLICY_SECONDS = 0.05  # about 70 messages a second with four slots
RATE = 120.0
LOAD_SECONDS = 1.5
KILL_SECONDS = (0.3, 2.5)
"""When the kill comes: within the load, or while what it left in the spool is drained."""
MIX = {"clinical": 0.15, "personal": 0.25, "telework": 0.2, "bulk": 0.4}
DRAIN_SECONDS = 120.0


def test_no_acknowledged_mail_is_lost_however_often_it_is_killed(tmp_path: Path) -> None:
    chooser = random.Random(KILLS)
    ledger = Ledger()
    spooled = duplicates = in_doubt = 0
    with (
        Postfix(policy_delay=POLICY_SECONDS) as server,
        Daemon(
            folder=tmp_path / "mailshed",
            backend_port=server.port,
            overrides={
                "backends": [
                    {
                        "name": "postfix",
                        "host": "127.0.0.1",
                        "port": server.port,
                        "in_flight_max": IN_FLIGHT_MAX,
                    }
                ]
            },
        ) as daemon,
    ):
        for kill in range(KILLS):
            load = Load(
                daemon.port, poisson(RATE, LOAD_SECONDS, MIX, seed=kill, prefix=f"kill{kill}-")
            ).start()
            load.ends_within(chooser.uniform(*KILL_SECONDS))
            daemon.kill()
            book(ledger, load.join())
            daemon.start()
            daemon.wait_spool_empty(DRAIN_SECONDS)
            wait_until(
                lambda: server.is_queue_empty and not ledger.judge(server.delivered()).lost,
                lambda: f"lost {ledger.judge(server.delivered()).lost}:\n{daemon.log_tail}",
            )
            verdict = ledger.judge(server.delivered())
            verdict.assert_nothing_lost_or_made_up()
            at_end = daemon.metrics()
            spooled += int(at_end.total("deliveries_total", source="spool", result="delivered"))
            in_doubt += int(at_end.total("in_doubt_total"))
            more = verdict.duplicates - duplicates
            assert more <= IN_FLIGHT_MAX, f"kill {kill} made {more} second copies"
            duplicates = verdict.duplicates

    sys.stdout.write(
        f"\n{KILLS} kills: {ledger.count(Fate.ACKNOWLEDGED)} acknowledged, "
        f"{ledger.count(Fate.IN_DOUBT)} in doubt for their clients, {spooled} delivered from the "
        f"spool after a kill, 0 lost, {duplicates} second copies\n"
    )
    assert ledger.count(Fate.REFUSED) == 0, "a client was refused"
    assert ledger.count(Fate.ACKNOWLEDGED) > KILLS * 20, "too little mail to prove anything"
    assert spooled > 0, "nothing was in the spool at any kill"
    assert in_doubt == 0, "Postfix was never away"
