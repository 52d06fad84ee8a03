"""Story: Postfix is gone for 20 seconds while mail arrives, and no sender notices.

Postfix is killed, as a power switch would, with all slots in use and clients waiting, and started
again on the same port. Every message is acknowledged all the same,
and every one is delivered, once; a second copy is allowed only where mailshed itself counted a
transaction in doubt (its final dot had no answer).

When Postfix is back, the next probe finds it, and from then on the backlog is drained within 1.25
times the fluid bound, plus the longest pause of a single message.
"""

import sys
import time
from pathlib import Path

from tests.fault.fluid import drain_bound, measure_capacity
from tests.support.daemon import Daemon
from tests.support.ledger import Fate, Ledger
from tests.support.load import Load, book, make_message, poisson
from tests.support.postfix import Postfix
from tests.support.processes import wait_until

RATE = 8.0
LOAD_SECONDS = 32.0
AWAY_FROM_SECONDS = 5.0
AWAY_SECONDS = 20.0
MIX = {"clinical": 0.25, "personal": 0.25, "telework": 0.25, "bulk": 0.25}
DRAIN_SECONDS = 180.0

SLOTS = 4
POLICY_SECONDS = 0.05  # for the envelope, and once more for the final dot
BURST = 40
"""Messages that all arrive right before the kill: enough to keep the slots in use until then."""
PROBE_SECONDS = 4.0
"""A backend that refuses connections is asked every 2 s, with a jitter of 20 %; the rest is for a
loaded machine."""
PAUSE_SECONDS = 6.0
"""A message that broke off in its dialog rests for retry_max (2 s); mail comes back with two slots,
and has all four after two windows of a second; a snapshot of the metrics is up to 0.25 s old, and
the last messages take their service time."""


def test_nothing_is_lost_while_the_mail_server_is_away(tmp_path: Path) -> None:
    burst = [
        make_message(f"burst-{number}", "clinical", due=AWAY_FROM_SECONDS)
        for number in range(BURST)
    ]
    messages = [*poisson(RATE, LOAD_SECONDS, MIX, seed=3), *burst]
    with (
        Postfix(policy_delay=POLICY_SECONDS, is_slow_at_dot=True) as server,
        Daemon(
            folder=tmp_path / "mailshed",
            backend_port=server.port,
            overrides={
                "backends": [
                    {
                        "name": "postfix",
                        "host": "127.0.0.1",
                        "port": server.port,
                        "in_flight_max": SLOTS,
                    }
                ]
            },
        ) as daemon,
    ):
        capacity = measure_capacity(server, SLOTS)
        load = Load(daemon.port, messages).start()
        load.ends_within(AWAY_FROM_SECONDS)
        wait_until(
            lambda: daemon.metrics().total("backend_in_flight") == SLOTS, "all slots are in use"
        )
        killed_at = time.time()
        server.kill()
        wait_until(
            lambda: daemon.metrics().total("backend_up") == 0, "/metrics says the backend is away"
        )
        load.ends_within(AWAY_SECONDS)
        assert daemon.metrics().total("queue_messages") > 0, "nothing waits for the mail server"
        assert daemon.get("/healthz")[0] == 200, "a mail server away is no reason to restart us"
        server.start()
        came_back = time.monotonic()
        wait_until(lambda: daemon.metrics().total("backend_up") == 1, "/metrics says it is back")
        drain_began, backlog = time.monotonic(), int(daemon.metrics().total("queue_messages"))
        daemon.wait_spool_empty(DRAIN_SECONDS)
        drained = time.monotonic()
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
        # Again: on a machine that has become slower, so has the drain.
        capacity = min(capacity, measure_capacity(server, SLOTS))

    in_doubt = int(at_end.total("in_doubt_total"))
    bound = drain_bound(backlog, capacity, RATE)
    sys.stdout.write(
        f"\n{len(outcomes)} messages, 0 lost, {verdict.duplicates} duplicates, {in_doubt} in doubt"
        f"; capacity {capacity:.1f}/s; found after {drain_began - came_back:.1f} s, backlog of "
        f"{backlog} drained in {drained - drain_began:.1f} s (bound {bound:.1f} s and "
        f"{PAUSE_SECONDS:g} s of pauses)\n"
    )
    assert ledger.count(Fate.ACKNOWLEDGED) == len(messages), "a client saw an error"
    verdict.assert_nothing_lost_or_made_up()
    is_open = [each for each in outcomes if each.started < killed_at < each.ended]
    assert len(is_open) >= SLOTS, "the kill hit no mail in flight"
    assert verdict.duplicates <= in_doubt, verdict.duplicated
    assert at_end.total("backend_up") == 1
    assert drain_began - came_back <= PROBE_SECONDS
    assert drained - drain_began <= bound + PAUSE_SECONDS
