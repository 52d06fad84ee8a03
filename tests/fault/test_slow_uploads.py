"""Story: a crowd of clients uploads a few octets at a time, and nobody else notices.

A message is received as a whole before anything is asked of the backend, so whoever is slow holds a
session, which is bounded, and none of the backend's slots, which are few.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.fault.kill_rig import is_spooled
from tests.support.daemon import Daemon
from tests.support.ledger import Fate
from tests.support.load import Load, make_message, poisson
from tests.support.postfix import Postfix
from tests.support.processes import wait_until
from tests.support.smtp_dialog import Dialog

SLOTS = 2
UPLOADS = 60
MIX = {"clinical": 0.5, "personal": 0.5}


@contextmanager
def _uploads(port: int) -> Iterator[list[Dialog]]:
    """Sessions in the middle of their mail data."""
    with ExitStack() as stack:
        dialogs = [stack.enter_context(Dialog(port)) for _ in range(UPLOADS)]
        for number, dialog in enumerate(dialogs):
            dialog.command("EHLO slow.example", 250)
            dialog.command("MAIL FROM:<slow@telework.example>", 250)
            dialog.command(f"RCPT TO:<slow-{number}@hospital.example>", 250)
            dialog.command("DATA", 354)
            dialog.send(b"Subject: sl")
        yield dialogs


def test_slow_uploads_hold_no_slot_of_the_backend(tmp_path: Path) -> None:
    with (
        Postfix() as server,
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
        _uploads(daemon.port) as dialogs,
    ):
        wait_until(
            lambda: daemon.metrics().total("smtp_sessions") >= UPLOADS, "all uploads are under way"
        )
        assert daemon.metrics().total("backend_in_flight") == 0
        # One at a time, as many as there are slots would do if none of them was free.
        for number in range(3 * SLOTS):
            message = make_message(f"single-{number}", "personal", due=0.0)
            (single,) = Load(daemon.port, [message]).start().join()
            assert single.fate is Fate.ACKNOWLEDGED
            assert not is_spooled(single), "there was no slot for it"
        outcomes = Load(daemon.port, poisson(10.0, 3.0, MIX, seed=11)).start().join()
        for dialog in dialogs:
            dialog.send(b"ow\r\n\r\nAt last.\r\n.\r\n")
        replies = [dialog._reply() for dialog in dialogs]
        assert daemon.terminate() == 0

    assert all(each.fate is Fate.ACKNOWLEDGED for each in outcomes)
    assert all(reply.startswith("250") for reply in replies), "patience was not rewarded"
