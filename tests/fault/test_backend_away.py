"""Story: Postfix is gone for 20 seconds while mail arrives, and no sender notices.

Postfix is killed, as a power switch would, and started again on the same port. Every message is
acknowledged all the same, and every one is delivered, once; a second copy is allowed only where
mailshed itself counted a transaction in doubt (its final dot had no answer).
"""

from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.ledger import Fate, Ledger
from tests.support.load import Load, book, poisson
from tests.support.postfix import Postfix
from tests.support.processes import wait_until

RATE = 8.0
LOAD_SECONDS = 32.0
AWAY_FROM_SECONDS = 5.0
AWAY_SECONDS = 20.0
MIX = {"clinical": 0.25, "personal": 0.25, "telework": 0.25, "bulk": 0.25}
DRAIN_SECONDS = 180.0


def test_nothing_is_lost_while_the_mail_server_is_away(tmp_path: Path) -> None:
    messages = poisson(RATE, LOAD_SECONDS, MIX, seed=3)
    with (
        Postfix() as server,
        Daemon(folder=tmp_path / "mailshed", backend_port=server.port) as daemon,
    ):
        load = Load(daemon.port, messages).start()
        load.ends_within(AWAY_FROM_SECONDS)
        server.kill()
        wait_until(
            lambda: daemon.metrics().total("backend_up") == 0, "/metrics says the backend is away"
        )
        load.ends_within(AWAY_SECONDS)
        assert daemon.metrics().total("queue_messages") > 0, "nothing waits for the mail server"
        assert daemon.get("/healthz")[0] == 200, "a mail server away is no reason to restart us"
        server.start()
        outcomes = load.join()
        daemon.wait_spool_empty(DRAIN_SECONDS)
        ledger = Ledger()
        book(ledger, outcomes)
        wait_until(
            lambda: server.is_queue_empty and not ledger.judge(server.delivered()).lost,
            lambda: f"lost {ledger.judge(server.delivered()).lost}:\n{daemon.log_tail}",
        )
        at_end = daemon.metrics()
        verdict = ledger.judge(server.delivered())

    assert ledger.count(Fate.ACKNOWLEDGED) == len(messages), "a client saw an error"
    verdict.assert_nothing_lost_or_made_up()
    assert verdict.duplicates <= at_end.total("in_doubt_total"), verdict.duplicated
    assert at_end.total("backend_up") == 1
