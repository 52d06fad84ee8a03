"""Story: somebody else fills the disk that the spool is on, at the worst moments.

The daemon has its spool on a real disk of 64 MiB, and the test takes the space: while mail is
accepted, while it is drained, while the log of the database is to be moved into it. Clients hear
250, 452 or 451, never 5xx and never nothing. Clinical mail has the last of the room. Nothing is
lost and nothing comes twice, also not when the daemon is killed and started on the full disk. When
there is space again, mail is taken again within 10 seconds.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.fault.small_disk import SmallDisk
from tests.support.daemon import Daemon
from tests.support.ledger import Fate, Ledger
from tests.support.load import Load, Outcome, book, make_message, poisson, send
from tests.support.postfix import Postfix
from tests.support.processes import wait_until

MIB = 1024 * 1024
DISK_OCTETS = 64 * MIB
RESERVE_OCTETS = 8 * MIB
ABOVE_RESERVE = RESERVE_OCTETS + MIB
"""Room for clinical mail only: a quarter of the reserve, beyond it, is for that alone."""

RESUME_SECONDS = 10.0
REPLY_SECONDS = 30.0
"""No client may wait so long, whatever the disk does."""
IN_FLIGHT_MAX = 4
POLICY_SECONDS = 0.03
MIX = {"clinical": 0.2, "personal": 0.3, "bulk": 0.5}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path, DISK_OCTETS) as made:
        yield made


def _daemon(folder: Path, disk: SmallDisk, server: Postfix) -> Daemon:
    backend = {
        "name": "postfix",
        "host": "127.0.0.1",
        "port": server.port,
        "in_flight_max": IN_FLIGHT_MAX,
    }
    return Daemon(
        folder=folder / "mailshed",
        backend_port=server.port,
        overrides={
            "backends": [backend],
            "spool": {"path": str(disk.path / "spool"), "disk_reserve": f"{RESERVE_OCTETS}B"},
            "limits": {"content_memory_per_message": "256KiB"},
        },
    )


# Full for this class, or so nearly full that its senders had better keep it.
_NOT_NOW = ("452 4.3.1 ", "451 4.3.2 ")


class Clients:
    """Clients that send one message at a time, and the book of what they were told."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.ledger = Ledger()
        self._count = 0

    def send(self, traffic_class: str, octets: int = 2048) -> str:
        """The reply to one message, of which the first four characters are the code."""
        self._count += 1
        message = make_message(f"m-{self._count}", traffic_class, octets)
        outcome = asyncio.run(send(self._daemon.port, message))
        self.book([outcome])
        return outcome.reply

    def book(self, outcomes: Sequence[Outcome]) -> None:
        """Enter outcomes, none of which may be anything but 250, 451 or 452, in time."""
        for outcome in outcomes:
            assert outcome.fate in {Fate.ACKNOWLEDGED, Fate.REFUSED}, outcome
            assert outcome.reply[:4] in {"250 ", "451 ", "452 "}, outcome
            assert outcome.ended - outcome.started < REPLY_SECONDS, outcome
        book(self.ledger, outcomes)

    def seconds_until_taken(self, traffic_class: str, octets: int = 2048) -> float:
        """How long it takes until a message is acknowledged."""
        began = time.monotonic()
        wait_until(lambda: self.send(traffic_class, octets).startswith("250 "), "taken again")
        return time.monotonic() - began

    def check_delivered(self, server: Postfix) -> None:
        """All that was promised has arrived, once."""
        self._daemon.wait_spool_empty()
        wait_until(
            lambda: server.is_queue_empty and not self.ledger.judge(server.delivered()).lost,
            lambda: f"lost {self.ledger.judge(server.delivered()).lost}:\n{self._daemon.log_tail}",
        )
        verdict = self.ledger.judge(server.delivered())
        verdict.assert_nothing_lost_or_made_up()
        assert not verdict.duplicated


def test_on_a_disk_that_fills_clinical_mail_has_the_last_room_and_mail_is_taken_again(
    tmp_path: Path, disk: SmallDisk
) -> None:
    with Postfix() as server, _daemon(tmp_path, disk, server) as daemon:
        server.kill()
        clients = Clients(daemon)
        assert clients.send("bulk").startswith("250 ")

        disk.fill(leave=ABOVE_RESERVE)
        wait_until(lambda: clients.send("bulk").startswith(_NOT_NOW), "bulk mail is refused")
        assert clients.send("personal").startswith(_NOT_NOW)
        assert clients.send("clinical").startswith("250 ")

        disk.fill()
        wait_until(lambda: clients.send("clinical").startswith("452 4.3.1 "), "all is refused")
        wait_until(lambda: daemon.get("/readyz")[0] == 503, "/readyz says 503")
        assert "full" in daemon.get("/readyz")[1]
        full = daemon.metrics()
        assert full.total("spool_disk_free_bytes") < full.total("spool_disk_reserve_bytes")
        assert full.total("saturation_ratio", resource="spool_disk") >= 1
        assert full.total("spool_healthy") == 1, "a full disk is no sickness"
        assert "SPOOL FULL" in daemon.command("status")
        wait_until(lambda: "event=spool_full" in daemon.log_text, "the log says so")

        disk.release()
        assert clients.seconds_until_taken("bulk") < RESUME_SECONDS
        wait_until(lambda: daemon.get("/readyz")[0] == 200, "/readyz says 200")
        server.start()
        clients.check_delivered(server)


def test_a_disk_that_is_full_again_and_again_under_load_loses_and_doubles_nothing(
    tmp_path: Path, disk: SmallDisk
) -> None:
    with (
        Postfix(policy_delay=POLICY_SECONDS) as server,
        _daemon(tmp_path, disk, server) as daemon,
    ):
        clients = Clients(daemon)
        load = Load(daemon.port, poisson(240.0, 6.0, MIX, seed=5)).start()
        fillings = 0
        while not load.ends_within(0.7):
            disk.fill()
            fillings += 1
            load.ends_within(0.7)
            disk.release()
        outcomes = load.join()
        clients.book(outcomes)
        at_end = daemon.metrics()
        assert at_end.total("spool_healthy") == 1
        clients.check_delivered(server)
    assert fillings >= 3
    refused = [each for each in outcomes if each.reply.startswith("452 4.3.1 ")]
    assert refused, "the disk was never full for a client"
    assert clients.ledger.count(Fate.ACKNOWLEDGED) > len(outcomes) // 3


def test_a_disk_that_fills_during_the_drain_doubles_nothing(
    tmp_path: Path, disk: SmallDisk
) -> None:
    with (
        Postfix(policy_delay=POLICY_SECONDS) as server,
        _daemon(tmp_path, disk, server) as daemon,
    ):
        server.kill()
        clients = Clients(daemon)
        clients.book(Load(daemon.port, poisson(150.0, 1.0, MIX, seed=4)).start().join())
        queued = clients.ledger.count(Fate.ACKNOWLEDGED)
        assert queued > 80
        server.start()
        wait_until(lambda: server.delivered_count > 5, "the drain begins")
        disk.fill()
        filled_at = server.delivered_count
        assert filled_at < queued, "it was drained before the disk was full"
        wait_until(
            lambda: server.is_queue_empty and _is_at_rest(daemon, server), "the drain ends or stops"
        )
        assert not clients.ledger.judge(server.delivered()).duplicated
        disk.release()
        clients.check_delivered(server)


def _is_at_rest(daemon: Daemon, server: Postfix) -> bool:
    """Whether a second passes without a delivery."""
    before = server.delivered_count
    time.sleep(1.0)
    return server.delivered_count == before and daemon.metrics().total("backend_in_flight") == 0


def test_a_log_that_cannot_be_moved_into_the_database_is_kept_even_over_a_kill(
    tmp_path: Path, disk: SmallDisk
) -> None:
    database = disk.path / "spool/spool.db"
    log = disk.path / "spool/spool.db-wal"
    with Postfix() as server, _daemon(tmp_path, disk, server) as daemon:
        server.kill()
        clients = Clients(daemon)
        before = database.stat().st_size
        # Below what makes a checkpoint due at once; it comes after a second of silence.
        while log.stat().st_size < MIB:
            assert clients.send("personal", octets=100_000).startswith("250 ")
        assert database.stat().st_size == before, "there was a checkpoint already"
        disk.fill()
        wait_until(lambda: _has_tried_to_checkpoint(daemon), "the silence of a checkpoint")
        assert database.stat().st_size < log.stat().st_size, "it was moved all the same"
        assert daemon.metrics().total("spool_healthy") == 1
        queued = daemon.metrics().total("queue_messages")
        assert queued == clients.ledger.count(Fate.ACKNOWLEDGED)

        daemon.kill()
        daemon.start()
        assert daemon.metrics().total("queue_messages") == queued
        assert clients.send("clinical").startswith("452 4.3.1 ")
        disk.release()
        assert clients.seconds_until_taken("bulk") < RESUME_SECONDS
        server.start()
        clients.check_delivered(server)


def _has_tried_to_checkpoint(daemon: Daemon) -> bool:
    """Whether the daemon has had the second of silence after which it tidies up, and one more."""
    log = daemon.folder / "mailshed.log"
    return time.time() - log.stat().st_mtime > 2.0


def test_without_inodes_small_mail_is_taken_and_large_mail_hears_452(
    tmp_path: Path, disk: SmallDisk
) -> None:
    large = 1000 * 1024  # over what is kept in memory, so it needs a file while it arrives
    with Postfix() as server, _daemon(tmp_path, disk, server) as daemon:
        server.kill()
        clients = Clients(daemon)
        assert clients.send("personal", large).startswith("250 ")
        disk.use_up_inodes()
        assert clients.send("personal", large).startswith("452 4.3.1 ")
        assert clients.send("personal").startswith("250 ")
        disk.release()
        assert clients.seconds_until_taken("personal", large) < RESUME_SECONDS
        server.start()
        clients.check_delivered(server)
