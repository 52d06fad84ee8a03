"""Story: an operator's hands on the queue while the mail server is away, and after.

Mail of four classes waits. It is looked at, held, released, deleted and exported, each time exactly
what the filter says; then the mail server comes back, and exactly the right mail arrives there. The
books balance with what was deleted, the audit log has who did what and why, and with the service
down the queue can still be read and exported, but not changed.
"""

import json
import os
import stat
from collections import Counter
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.ledger import Fate
from tests.support.load import CLASS_SENDERS, DOMAIN, Load, Message, make_message
from tests.support.operator import NO_MATCH, UNAVAILABLE, USAGE, Operator
from tests.support.postfix import Postfix
from tests.support.processes import wait_until

ROOT = Path(__file__).parents[2]
COUNTS = {"clinical": 2, "personal": 4, "telework": 2, "bulk": 4}
WHY = ("--reason", "newsletter sent by mistake")


class QueueOperator(Operator):
    """Somebody who looks after the queue."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon, "queue")

    def names(self, *words: str) -> set[str]:
        """Which messages `queue list` lists: local parts of their recipients."""
        listed = self.json("list", *words)["messages"]
        return {each["recipients"][0]["address"].partition("@")[0] for each in listed}

    def ids(self, *words: str) -> list[str]:
        return [each["queue_id"] for each in self.json("list", *words)["messages"]]

    def counted(self, *words: str) -> Counter[str]:
        """Messages by class."""
        counts = Counter[str]()
        for each in self.json("count", *words)["classes"]:
            counts[each["class"]] += each["messages"]
        return counts


@pytest.mark.e2e
def test_an_operator_sorts_out_the_queue(tmp_path: Path) -> None:
    messages = {
        message.identity: message
        for traffic_class, number in COUNTS.items()
        for message in (make_message(f"{traffic_class}-{n}", traffic_class) for n in range(number))
    }
    with Postfix() as server:
        server.kill()
        with Daemon(folder=tmp_path / "mailshed", backend_port=server.port) as daemon:
            outcomes = Load(daemon.port, list(messages.values())).start().join()
            assert {outcome.fate for outcome in outcomes} == {Fate.ACKNOWLEDGED}
            operator = QueueOperator(daemon)
            _look(operator, messages)
            released = _hold_and_release(operator)
            _delete(operator)
            _export(operator, tmp_path / "out", messages)
            assert operator.json("retry", "--all", "--yes", *WHY)["changed"] == 0

            server.start()
            expected = {name for name in messages if name.startswith(("clinical", "personal"))}
            server.wait_delivered(len(expected) + 1)
            wait_until(
                lambda: operator.counted() == {"bulk": 3}, lambda: f"left: {operator.counted()}"
            )
            arrived = [each.recipient.partition("@")[0] for each in server.delivered()]
            assert sorted(arrived) == sorted({*expected, released})
            _check_books(daemon)
            assert daemon.terminate() == 0
            _work_without_the_service(operator, tmp_path / "offline")

            daemon.start()
            assert operator.json("release", "--state", "hold", "--yes", *WHY)["changed"] == 3
            daemon.wait_spool_empty()
            server.wait_delivered(len(messages) - COUNTS["telework"])
            arrived = [each.recipient.partition("@")[0] for each in server.delivered()]
            assert sorted(arrived) == [name for name in sorted(messages) if "telework" not in name]
            _check_audit_log(tmp_path / "mailshed/spool/audit.log")
            assert daemon.log_text.count("event=operator verb=delete user=root") == 1


def _look(operator: QueueOperator, messages: dict[str, Message]) -> None:
    """Each condition finds what it says, in the text form and as JSON."""
    assert operator.names() == set(messages)
    assert operator.names("--class", "clinical,telework") == {
        name for name in messages if name.startswith(("clinical", "telework"))
    }
    bulk = {name for name in messages if name.startswith("bulk")}
    assert operator.names("--from", CLASS_SENDERS["bulk"].upper()) == bulk
    assert operator.names("--from", "@newsletter.example", "--class", "bulk") == bulk
    assert operator.names("--rcpt", f"personal-2@{DOMAIN}") == {"personal-2"}
    assert operator.names("--rcpt", f"@{DOMAIN}", "--younger-than", "1h") == set(messages)
    operator.run("list", "--rcpt", f"@.{DOMAIN}", expected=NO_MATCH)
    operator.run("list", "--older-than", "1h", expected=NO_MATCH)
    operator.run("list", "--class", "nonsense", expected=USAGE)
    assert "no such class: nonsense; configured: clinical" in operator.errors
    assert operator.counted("--class", "personal,bulk") == {"personal": 4, "bulk": 4}
    text = operator.run("list", "--class", "clinical")
    assert text.splitlines()[-1].startswith("2 messages, 2 recipients")

    (queue_id,) = operator.ids("--rcpt", f"personal-1@{DOMAIN}")
    text = operator.run("show", queue_id, "--headers")
    assert f"to          personal-1@{DOMAIN}" in text
    assert "spooled     backend_away" in text
    assert "header      subject: (18 characters)" in text
    assert "message personal-1" not in text
    operator.run("show", "0123456789ABCDEF", expected=NO_MATCH)
    assert operator.errors == "mailshed: not in the queue: 0123456789ABCDEF\n"


def _hold_and_release(operator: QueueOperator) -> str:
    """All newsletters are held, and one of them is let go; returns its name."""
    operator.run("hold", "--class", "bulk", "--yes", expected=USAGE)
    assert operator.errors == "mailshed: --reason: say why, for the audit log\n"
    operator.run("hold", "--yes", *WHY, expected=USAGE)
    assert "no message is named" in operator.errors
    told = operator.run("hold", "--class", "bulk", *WHY, expected=USAGE)
    assert told.startswith("4 messages would be held\n")
    assert "say --yes" in operator.errors
    assert operator.counted("--state", "queued", "--class", "bulk") == {"bulk": 4}
    operator.run("hold", "--class", "bulk", "--max", "3", "--yes", *WHY, expected=USAGE)
    assert "more than 3 messages match" in operator.errors

    assert operator.run("hold", "--class", "bulk", "--yes", *WHY) == "4 messages held\n"
    assert operator.counted("--state", "hold") == {"bulk": 4}
    again = operator.run("hold", "--class", "bulk", "--yes", *WHY)
    assert "4 messages skipped: nothing to change" in again
    first, *_ = operator.json("list", "--class", "bulk")["messages"]
    assert operator.run("release", first["queue_id"], *WHY) == "1 message released\n"
    assert operator.counted("--state", "hold") == {"bulk": 3}
    name: str = first["recipients"][0]["address"]
    return name.partition("@")[0]


def _delete(operator: QueueOperator) -> None:
    telework = operator.ids("--class", "telework")
    operator.run("delete", *telework, *WHY, expected=USAGE)
    assert operator.counted("--class", "telework") == {"telework": 2}
    deleted = operator.json("delete", *telework, "--yes", *WHY)
    assert (deleted["matched"], deleted["changed"]) == (2, 2)
    operator.run("list", "--class", "telework", expected=NO_MATCH)
    operator.run("delete", *telework, "--yes", *WHY, expected=NO_MATCH)


def _export(operator: QueueOperator, folder: Path, messages: dict[str, Message]) -> None:
    told = operator.json("export", "--class", "personal", "--to", str(folder), *WHY)
    assert (told["matched"], told["exported"], told["damaged"]) == (4, 4, [])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    seen = set()
    for file in folder.glob("*.eml"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        envelope = json.loads(file.with_suffix(".json").read_text())
        name = envelope["recipients"][0]["address"].partition("@")[0]
        content = file.read_bytes()
        assert content.startswith(b"Received: from ")
        assert content.endswith(messages[name].wire)
        assert envelope["sender"] == CLASS_SENDERS["personal"]
        seen.add(name)
    assert seen == {f"personal-{n}" for n in range(4)}
    operator.run("export", "--class", "personal", "--to", str(folder), *WHY, expected=74)
    assert "nothing is overwritten" in operator.errors
    assert len(list(folder.iterdir())) == 8


def _check_books(daemon: Daemon) -> None:
    """The conservation law, with what was deleted."""

    def term(name: str, **labels: str) -> float:
        return daemon.metrics().total("recipients_ledger_total", term=name, **labels)

    total = sum(COUNTS.values())
    wait_until(lambda: term("removed") == COUNTS["telework"], "the deleted ones are counted")
    assert term("removed", **{"class": "telework"}) == COUNTS["telework"]
    assert term("accepted") == total
    wait_until(
        lambda: term("delivered") == total - COUNTS["telework"] - 3,
        lambda: f"{term('delivered')} are counted as delivered",
    )
    assert daemon.metrics().total("queue_messages", state="hold") == 3


def _work_without_the_service(operator: QueueOperator, folder: Path) -> None:
    assert operator.counted() == {"bulk": 3}
    assert "reading the spool at" in operator.errors
    ids = operator.ids("--state", "hold")
    shown = operator.json("show", *ids)["messages"]
    assert [each["state"] for each in shown] == ["hold"] * 3
    operator.run("release", *ids, *WHY, expected=UNAVAILABLE)
    assert "start it first" in operator.errors
    operator.run("list", "--class", "clinical", expected=NO_MATCH)
    told = operator.run("export", *ids[:2], "--to", str(folder), *WHY)
    assert told == f"2 messages exported to {folder}\n"
    assert {file.stem for file in folder.iterdir()} == set(ids[:2])


def _check_audit_log(log: Path) -> None:
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    requested = [line for line in lines if line["event"] == "requested"]
    outcomes = {line["request"]: line["result"] for line in lines if line["event"] == "done"}
    assert all(line["uid"] == os.getuid() and line["reason"] == WHY[1] for line in requested)
    told = [(line["verb"], line["total"], outcomes[line["request"]]) for line in requested]
    assert [(verb, total) for verb, total, _ in told] == [
        ("hold", 4),
        ("hold", 4),
        ("release", 1),
        ("delete", 2),
        ("export", 4),
        ("export", 4),
        ("retry", 10),
        ("export", 2),
        ("release", 3),
    ]
    assert [result.get("changed") for _, _, result in told] == [4, 0, 1, 2, None, None, 0, None, 3]
    assert requested[0]["filter"] == {"class": ["bulk"]}
    assert len(requested[3]["ids"]) == 2
    assert told[4][2] == {"exported": 4, "damaged": 0, "gone": 0, "error": ""}
    assert "nothing is overwritten" in told[5][2]["error"]
