"""Story: two hospitals behind one mailshed, and the one helps the other out.

Mail goes by the domains of its recipients, a message to both hospitals arrives once at each. One
server goes away: its mail waits, that of the other one does not. The service is stopped and started
again with mail for both in the spool. In the second story the outage lasts, so the neighbour takes
the mail, and gives the rest back to its owner when that has returned.
"""

import smtplib
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.processes import free_port, wait_until
from tests.support.smtp_sink import SmtpSink

HERE, NORTH = "hospital.example", "north.example"
BREAKER_OPENS = 3
"""Failures in a row that are an outage."""


class Hospitals:
    """Two mail servers, of which each can be away, behind one service."""

    def __init__(self, folder: Path, stack: ExitStack, **north: Any) -> None:
        self._stack = stack
        self.ports = {HERE: free_port(), NORTH: free_port()}
        self._open: dict[str, ExitStack] = {}
        self._seen: dict[str, list[SmtpSink]] = {HERE: [], NORTH: []}
        backends = [
            {"name": "north", "host": "127.0.0.1", "port": self.ports[NORTH], "domains": [NORTH]},
            {"name": "here", "host": "127.0.0.1", "port": self.ports[HERE]},
        ]
        backends[0] |= north
        self.daemon = Daemon(
            folder=folder,
            backend_port=0,
            overrides={"domains": [HERE, NORTH], "backends": backends},
            program=("tests.support.planted", "hasty") if north else ("mailshed",),
        )

    def come_up(self, domain: str) -> None:
        opened = self._open[domain] = self._stack.enter_context(ExitStack())
        self._seen[domain].append(opened.enter_context(SmtpSink(self.ports[domain])))

    def go_away(self, domain: str) -> None:
        self._open.pop(domain).close()

    def send(self, subject: str, *to: str) -> None:
        """Send one message; it has to be acknowledged."""
        with smtplib.SMTP("127.0.0.1", self.daemon.port, timeout=30) as client:
            refused = client.sendmail(
                "alice@personal.example", to, f"Subject: {subject}\r\n\r\nHello.\r\n"
            )
        assert refused == {}

    def arrived(self, domain: str) -> Counter[str]:
        """What the server of this hospital has taken so far: subject and recipients."""
        return Counter(
            f"{_subject(message.data)} {_recipients(message.rcpt)}"
            for sink in self._seen[domain]
            for message in sink.messages
        )

    def wait_for(self, domain: str, *expected: str) -> None:
        """Wait until exactly these have arrived, each once."""
        wait_until(
            lambda: self.arrived(domain) == Counter(expected),
            lambda: f"{domain} has {self.arrived(domain)}\n{self.daemon.log_tail}",
        )

    def screen(self) -> str:
        """The status, without the spaces that align it."""
        return " ".join(self.daemon.command("status").split())


def _subject(data: bytes) -> str:
    return data.partition(b"Subject: ")[2].partition(b"\r\n")[0].decode()


def _recipients(commands: tuple[bytes, ...]) -> str:
    found = (each.partition(b"<")[2].partition(b">")[0].decode() for each in commands)
    return ",".join(sorted(found))


@pytest.mark.e2e
def test_each_hospital_gets_its_own_mail_whatever_becomes_of_the_other(tmp_path: Path) -> None:
    with ExitStack() as stack:
        hospitals = Hospitals(tmp_path / "m", stack)
        hospitals.come_up(HERE)
        hospitals.come_up(NORTH)
        daemon = stack.enter_context(hospitals.daemon)
        hospitals.send("one", f"a@{HERE}")
        hospitals.send("two", f"a@{NORTH}", f"b@{NORTH}")
        hospitals.send("both", f"x@{HERE}", f"y@{NORTH}", f"z@{HERE}")
        north = [f"two a@{NORTH},b@{NORTH}", f"both y@{NORTH}"]
        here = [f"one a@{HERE}", f"both x@{HERE},z@{HERE}"]
        hospitals.wait_for(NORTH, *north)
        hospitals.wait_for(HERE, *here)
        daemon.wait_spool_empty()
        assert "BACKEND north up" in hospitals.screen()
        assert "BACKEND here up" in hospitals.screen()
        assert daemon.log_text.count("reason=several_routes") == 2
        daemon.wait_logged(" copy_of=")

        hospitals.go_away(NORTH)
        for number in range(BREAKER_OPENS + 1):
            hospitals.send(f"late {number}", f"a@{NORTH}")
        hospitals.send("both later", f"x@{HERE}", f"y@{NORTH}")
        hospitals.send("prompt", f"a@{HERE}")
        here += [f"both later x@{HERE}", f"prompt a@{HERE}"]
        hospitals.wait_for(HERE, *here)
        wait_until(lambda: "BACKEND north AWAY" in hospitals.screen(), hospitals.screen)
        assert "BACKEND here up" in hospitals.screen()
        counted = daemon.command_json("queue", "count", "--backend", "north")
        assert sum(each["messages"] for each in counted["classes"]) == BREAKER_OPENS + 2

        hospitals.go_away(HERE)
        hospitals.send("to nobody", f"a@{HERE}", f"a@{NORTH}")
        assert daemon.terminate() == 0
        hospitals.come_up(HERE)
        hospitals.come_up(NORTH)
        daemon.start()
        north += [f"late {number} a@{NORTH}" for number in range(BREAKER_OPENS + 1)]
        hospitals.wait_for(NORTH, *north, f"both later y@{NORTH}", f"to nobody a@{NORTH}")
        hospitals.wait_for(HERE, *here, f"to nobody a@{HERE}")
        daemon.wait_spool_empty()
        assert hospitals.screen().endswith(" OK"), "the books balance"


@pytest.mark.e2e
def test_a_neighbour_takes_the_mail_of_one_that_is_away_for_long(tmp_path: Path) -> None:
    with ExitStack() as stack:
        hospitals = Hospitals(tmp_path / "m", stack, fallback="here", fallback_after="1s")
        hospitals.come_up(HERE)
        daemon = stack.enter_context(hospitals.daemon)
        waiting = [f"waits {number}" for number in range(BREAKER_OPENS + 1)]
        for subject in waiting:
            hospitals.send(subject, f"a@{NORTH}")
        helped = [f"{subject} a@{NORTH}" for subject in waiting]
        hospitals.wait_for(HERE, *helped)
        assert "mail of north goes to here since " in hospitals.screen()
        assert daemon.metrics().total("backend_fallback_active", backend="north") == 1
        hospitals.send("helped", f"a@{NORTH}")
        hospitals.send("mine", f"a@{HERE}")
        helped += [f"helped a@{NORTH}", f"mine a@{HERE}"]
        hospitals.wait_for(HERE, *helped)

        hospitals.come_up(NORTH)
        wait_until(
            lambda: "event=fallback_ended" in daemon.log_text,
            lambda: f"it does not end:\n{daemon.log_tail}",
        )
        hospitals.send("back", f"a@{NORTH}")
        hospitals.wait_for(NORTH, f"back a@{NORTH}")
        hospitals.wait_for(HERE, *helped)
        assert "goes to here" not in hospitals.screen()
        daemon.wait_logged(" event=fallback_began backend=north fallback=here ")
        daemon.wait_logged(" cause=back ")
        daemon.wait_spool_empty()
