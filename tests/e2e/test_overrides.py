"""Story: an operator holds a class, the service is killed, and nobody has to remember anything.

A newsletter is held back for hours; other mail passes. The service is killed with -9 and started
again: the hold is still there. It is cut short, ends by itself, and the newsletter is delivered. In
between what makes no sense is refused. The audit log and the log have who, what and why, from the
start to the end. Other overrides are ended by hand, or go with their class.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.daemon import Daemon
from tests.support.ledger import Fate
from tests.support.load import Load, make_message
from tests.support.operator import NO_MATCH, OK, UNAVAILABLE, USAGE, Operator
from tests.support.processes import wait_until
from tests.support.smtp_sink import SmtpSink

ROOT = Path(__file__).parents[2]
WHY = ("--reason", "newsletter RH")


def in_force(operator: Operator) -> list[str]:
    """What `override list` lists, service or not."""
    found = operator.json("override", "list", expected=(OK, NO_MATCH))["overrides"]
    return [f"{each['kind']} {each['traffic_class']}" for each in found]


class Traffic:
    """Mail of three classes, and what of it has arrived."""

    def __init__(self, daemon: Daemon, sink: SmtpSink) -> None:
        self._daemon = daemon
        self._sink = sink

    def send(self, *names: str) -> None:
        """Send a message for each name, which begins with its class; all are acknowledged."""
        messages = [make_message(name, name.partition("-")[0]) for name in names]
        outcomes = Load(self._daemon.port, messages).start().join()
        assert [each.fate for each in outcomes] == [Fate.ACKNOWLEDGED] * len(names)

    def arrived(self) -> list[str]:
        """Names of what the mail server has, in order."""
        return [
            each.rcpt[0].partition(b"<")[2].partition(b"@")[0].decode()
            for each in self._sink.messages
        ]

    def wait_for(self, *names: str) -> None:
        """Wait until exactly these have arrived."""
        wait_until(
            lambda: sorted(self.arrived()) == sorted(names),
            lambda: f"arrived: {self.arrived()}\n{self._daemon.log_tail}",
        )


@pytest.mark.e2e
def test_a_class_is_held_over_a_crash_and_let_go_by_itself(tmp_path: Path) -> None:
    with SmtpSink() as sink, Daemon(folder=tmp_path / "m", backend_port=sink.port) as daemon:
        operator, traffic = Operator(daemon), Traffic(daemon, sink)
        operator.run("override", "list", expected=NO_MATCH)
        told = operator.run("class", "hold", "bulk", "--for", "2h", *WHY)
        assert told.startswith("override 1: mail of class bulk is accepted and stays in the spool")
        traffic.send("clinical-1", "bulk-1", "personal-1")
        traffic.wait_for("clinical-1", "personal-1")
        _check_what_is_seen(operator, daemon)
        _refuse_nonsense(operator)
        assert sorted(traffic.arrived()) == ["clinical-1", "personal-1"]

        daemon.kill()
        assert in_force(operator) == ["hold bulk"]
        operator.run("override", "cancel", "1", *WHY, expected=UNAVAILABLE)
        daemon.start()
        assert in_force(operator) == ["hold bulk"]
        traffic.send("bulk-2")
        bulk = {"class": "bulk"}
        wait_until(
            lambda: daemon.metrics().total("queue_messages", **bulk) == 2,
            lambda: f"{daemon.metrics().total('queue_messages', **bulk)} are queued",
        )
        assert daemon.metrics().total("override_active", kind="hold", **bulk) == 1
        assert len(traffic.arrived()) == 2

        told = operator.run("class", "hold", "bulk", "--for", "1s", *WHY)
        assert "it replaces override 1\n" in told
        traffic.wait_for("clinical-1", "personal-1", "bulk-1", "bulk-2")
        assert in_force(operator) == []
        wait_until(
            lambda: not daemon.metrics().has("override_active"),
            lambda: "an override that has ended is still exported",
        )
        _check_logs(daemon)


def reload(daemon: Daemon) -> None:
    """Let the daemon have the configuration that it should have by now."""
    daemon.write_configuration()
    daemon.reload()
    wait_until(lambda: "event=reloaded" in daemon.log_text, lambda: daemon.log_tail)


def _check_what_is_seen(operator: Operator, daemon: Daemon) -> None:
    # What is shown may be a quarter of a second old.
    wait_until(lambda: "OVERRIDE 1" in operator.run("status"), lambda: daemon.log_tail)
    screen = operator.run("status")
    assert "OVERRIDE 1: hold bulk, " in screen
    assert "left (root: newsletter RH)" in screen
    assert '"reason": "newsletter RH"' in operator.run("status", "--json")
    listed = operator.run("class", "list")
    assert any(line.split()[:3] == ["bulk", "5", "held"] for line in listed.splitlines())
    daemon.wait_logged("reason=override")


def _refuse_nonsense(operator: Operator) -> None:
    operator.run("class", "hold", "clinical", *WHY, expected=USAGE)
    assert "never kept back" in operator.errors
    operator.run("class", "release", "bulk", *WHY, expected=USAGE)
    assert "held by override 1 (root: newsletter RH)" in operator.errors
    operator.run("class", "hold", "blk", *WHY, expected=USAGE)
    assert "there is no 'blk', only clinical" in operator.errors
    operator.run("override", "cancel", "9", *WHY, expected=USAGE)
    assert in_force(operator) == ["hold bulk"]


def _check_logs(daemon: Daemon) -> None:
    """The audit log tells the whole story, and so does the log."""
    lines = (daemon.folder / "spool/audit.log").read_text().splitlines()
    entries: list[dict[str, Any]] = [json.loads(line) for line in lines]
    first = entries[0]["request"]
    story = [each for each in entries if each["request"] == first]
    assert [each["event"] for each in story] == ["requested", "done", "ended"]
    requested, done, ended = story
    last = entries[-1]
    assert (requested["verb"], requested["class"]) == ("override hold", "bulk")
    assert (requested["user"], requested["reason"]) == ("root", "newsletter RH")
    assert done["result"] == {"override": 1, "error": ""}
    assert (ended["verb"], ended["override"]) == ("override replaced", 1)
    assert (last["event"], last["verb"], last["override"]) == ("ended", "override expired", 2)
    events = [line.split("event=")[1].split()[0] for line in daemon.log_text.splitlines()]
    told = [each for each in events if each.startswith("override_")]
    assert told == [
        *("override_set", "override_restored"),
        *("override_set", "override_ended", "override_ended"),
    ]
    assert "task_failed" not in events


@pytest.mark.e2e
def test_a_class_is_let_go_by_hand_and_by_the_configuration(tmp_path: Path) -> None:
    with SmtpSink() as sink, Daemon(folder=tmp_path / "m", backend_port=sink.port) as daemon:
        operator, traffic = Operator(daemon), Traffic(daemon, sink)
        operator.run("class", "hold", "telework", *WHY)
        operator.run("class", "limit", "personal", "--slots", "1", *WHY)
        traffic.send("telework-1", "personal-1")
        traffic.wait_for("personal-1")
        assert operator.run("override", "cancel", "1", "--reason", "sent").startswith(
            "override 1 is ended: hold telework"
        )
        traffic.wait_for("personal-1", "telework-1")

        operator.run("shed", "level", "0", "--for", "10m", *WHY)
        # `shed status` reads the picture that the service renews four times a second.
        wait_until(
            lambda: operator.run("shed", "status").startswith("level 0 of 4, forced"),
            lambda: operator.run("shed", "status"),
        )
        operator.run("class", "hold", "bulk", *WHY)
        assert in_force(operator) == ["limit personal", "level ", "hold bulk"]
        operator.run("shed", "auto", "--reason", "calm again")
        operator.run("shed", "auto", "--reason", "calm again", expected=NO_MATCH)
        assert in_force(operator) == ["limit personal", "hold bulk"]

        shipped = yaml.safe_load((ROOT / "config/mailshed.yaml").read_text())["classes"]
        daemon.overrides = {"classes": [each for each in shipped if each["name"] != "bulk"]}
        reload(daemon)
        wait_until(lambda: "cause=not_configured" in daemon.log_text, lambda: daemon.log_tail)
        assert in_force(operator) == ["limit personal"]


@pytest.mark.e2e
def test_while_observing_an_override_is_kept_and_acts_on_nothing(tmp_path: Path) -> None:
    observing = {"mode": "observe"}
    with (
        SmtpSink() as sink,
        Daemon(folder=tmp_path / "m", backend_port=sink.port, overrides=observing) as daemon,
    ):
        operator, traffic = Operator(daemon), Traffic(daemon, sink)
        operator.run("class", "hold", "bulk", *WHY)
        assert "mode observe" in operator.errors
        traffic.send("bulk-1")
        traffic.wait_for("bulk-1")

        daemon.overrides = {}
        reload(daemon)
        traffic.send("bulk-2")
        # What is scraped may be a quarter of a second old.
        wait_until(lambda: daemon.metrics().total("override_active") == 1, lambda: daemon.log_tail)
        assert traffic.arrived() == ["bulk-1"]
        operator.run("override", "cancel", "1", "--reason", "sent")
        traffic.wait_for("bulk-1", "bulk-2")
