"""Story: the disk fails to sync, once in a while and then for good, and no promise is broken.

strace makes fdatasync(2) of the real daemon return EIO. Once in a while: after each failure the
spool makes no promise before it has been opened anew and verified; meanwhile mail is relayed, and
who cannot be relayed hears 451. For good: the spool stays sick, mail that the backend takes is
still relayed, and after a restart on a disk that works all that was promised is there.

Order is taken from the system calls (`sync_audit`) and from the log; loss from the harness's book.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from tests.fault import straces
from tests.fault.kill_rig import is_spooled
from tests.fault.sync_audit import CALLS, PRINTED_OCTETS, audit
from tests.support.daemon import Daemon
from tests.support.ledger import Fate, Ledger
from tests.support.load import Load, Outcome, book, poisson
from tests.support.postfix import Postfix
from tests.support.processes import wait_until

IN_FLIGHT_MAX = 2
POLICY_SECONDS = 0.03  # some 50 messages a second with two slots
RATE = 80.0
LOAD_SECONDS = 4.0
MIX = {"clinical": 0.2, "personal": 0.2, "bulk": 0.6}

# Counted in the thread that writes. The first few belong to the start.
ONCE_IN_A_WHILE = "25+40"
FOR_GOOD = "25+"

_EVENT = re.compile(r" event=(spooled|spool_sick|spool_recovered) ")


def _daemon(folder: Path, server: Postfix, when: str) -> Daemon:
    return Daemon(
        folder=folder / "mailshed",
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
        wrapper=straces.command(
            folder / "trace",
            CALLS,
            *("-s", str(PRINTED_OCTETS)),
            *("-e", f"inject=fdatasync:error=EIO:when={when}"),
        ),
    )


def _check_replies(outcomes: Sequence[Outcome]) -> None:
    """A sick spool is our fault, so it is 451 and never 5xx."""
    refused = [each for each in outcomes if each.fate is not Fate.ACKNOWLEDGED]
    assert all(each.fate is Fate.REFUSED for each in refused), refused[0]
    assert all(each.reply.startswith("451 4.") for each in refused), refused[0].reply


def _check_log(daemon: Daemon) -> list[str]:
    """Nothing is spooled between a `spool_sick` and its `spool_recovered`; the events in order."""
    names = _EVENT.findall(daemon.log_text)
    is_sick = False
    for name in names:
        assert not (is_sick and name == "spooled"), "a message was spooled into a sick spool"
        if name != "spooled":
            assert is_sick == (name == "spool_recovered")
            is_sick = not is_sick
    return names


def test_no_promise_is_made_between_a_failed_sync_and_the_next_verification(
    tmp_path: Path,
) -> None:
    with (
        Postfix(policy_delay=POLICY_SECONDS) as server,
        _daemon(tmp_path, server, ONCE_IN_A_WHILE) as daemon,
    ):
        outcomes = Load(daemon.port, poisson(RATE, LOAD_SECONDS, MIX, seed=6)).start().join()
        _check_replies(outcomes)
        daemon.wait_spool_empty()
        ledger = Ledger()
        book(ledger, outcomes)
        wait_until(
            lambda: server.is_queue_empty and not ledger.judge(server.delivered()).lost,
            lambda: f"lost {ledger.judge(server.delivered()).lost}:\n{daemon.log_tail}",
        )
        at_end = daemon.metrics()
        assert daemon.terminate() == 0
        verdict = ledger.judge(server.delivered())

    verdict.assert_nothing_lost_or_made_up()
    assert verdict.duplicates <= at_end.total("in_doubt_total"), verdict.duplicated
    assert at_end.total("spool_healthy") == 1
    found = audit(straces.read(tmp_path / "trace"))
    assert found.failures >= 2, "the disk hardly failed"
    spooled = sum(is_spooled(each) for each in outcomes)
    assert spooled > 20, "hardly anything was spooled"
    assert len(found.promises) == spooled
    assert {queue_id: each for queue_id, each in found.promises.items() if each != "kept"} == {}
    events = _check_log(daemon)
    assert events.count("spool_sick") == events.count("spool_recovered") >= 1
    assert "spooled" in events[events.index("spool_recovered") :], "it never spooled again"


def test_a_disk_that_never_syncs_again_leaves_relaying_and_no_promises(tmp_path: Path) -> None:
    with (
        Postfix(policy_delay=POLICY_SECONDS) as server,
        _daemon(tmp_path, server, FOR_GOOD) as daemon,
    ):
        load = Load(daemon.port, poisson(RATE, LOAD_SECONDS, MIX, seed=7)).start()
        wait_until(lambda: "event=spool_sick" in daemon.log_text, "the spool falls sick")
        during = load.join()
        relaying = Load(daemon.port, poisson(10.0, 2.0, {"clinical": 1.0}, 8, prefix="relay-"))
        relayed = relaying.start().join()
        wait_until(lambda: "relay-only" in daemon.get("/readyz")[1], "/readyz says it is sick")
        assert daemon.get("/readyz")[0] == 200, "it can relay, so it is ready"
        server.kill()
        alone = Load(daemon.port, poisson(10.0, 1.0, MIX, 9, prefix="alone-")).start().join()
        daemon.kill()
        server.start()
        daemon.wrapper = ()
        daemon.start()
        daemon.wait_spool_empty()
        ledger = Ledger()
        for outcomes in (during, relayed, alone):
            _check_replies(outcomes)
            book(ledger, outcomes)
        wait_until(
            lambda: server.is_queue_empty and not ledger.judge(server.delivered()).lost,
            lambda: f"lost {ledger.judge(server.delivered()).lost}:\n{daemon.log_tail}",
        )
        verdict = ledger.judge(server.delivered())

    verdict.assert_nothing_lost_or_made_up()
    assert verdict.duplicates <= IN_FLIGHT_MAX, verdict.duplicated
    assert any(is_spooled(each) for each in during), "nothing was spooled before"
    assert all(each.fate is Fate.ACKNOWLEDGED for each in relayed), "it does not relay"
    assert not any(is_spooled(each) for each in relayed), "a sick spool made a promise"
    assert all(each.fate is Fate.REFUSED for each in alone), "nobody had this mail"
    events = _check_log(daemon)
    assert "spooled" not in events[events.index("spool_sick") :]
    assert "spool_recovered" not in events, "well, on a disk that does not sync"
    found = audit(straces.read(tmp_path / "trace"))
    assert {queue_id: each for queue_id, each in found.promises.items() if each != "kept"} == {}
