"""Why a message that passed here is of its class: from memory, or from the spool."""

import json
from pathlib import Path
from typing import Any

import pytest

from mailshed.admin.explain import NOT_STORED, Explainer
from mailshed.classification.classifier import Classifier
from mailshed.classification.decisions import DecisionRing
from mailshed.classification.subject import subject_of
from mailshed.mail.envelope import Envelope
from mailshed.mail.header import HeaderView
from mailshed.terms import Reason
from tests.support.builders import (
    BULK,
    CLINICAL,
    PERSONAL,
    TELEWORK,
    classification_policy,
    envelope,
    rule,
    spool_record,
    wire,
)
from tests.support.spools import pieces, sqlite_spool

OLD = Classifier(classification_policy(rule("old", BULK, headers=(("list-id", ()),))))
NEW = Classifier(classification_policy(rule("new", TELEWORK, headers=(("list-id", ()),))))
HEAD = wire(List_Id="<n.example>")


def decided(ring: DecisionRing, made: Envelope) -> None:
    one = subject_of(made, HeaderView(HEAD))
    ring.add(OLD, one, made, OLD.classify(one))


def test_the_last_messages_are_explained_with_the_rules_of_their_time(tmp_path: Path) -> None:
    ring, made = DecisionRing(), envelope()
    decided(ring, made)
    ring.end(made.queue_id, "spooled", Reason.SATURATED, "250 2.0.0 Ok: queued")
    document = Explainer(ring, lambda: NEW, tmp_path).explain(made.queue_id)
    assert (document["known"], document["basis"], document["queue_id"]) == (
        True,
        "memory",
        made.queue_id,
    )
    assert (document["class"], document["rule"]) == ("bulk", "old")
    assert document["decided"] == {"class": "bulk", "rule": "old"}
    assert document["decision"] == {
        "action": "spooled",
        "reason": "saturated",
        "reply": "250 2.0.0 Ok: queued",
    }
    assert document["received"] == "2023-11-14T22:13:20Z"


def test_a_message_that_is_not_done_is_open(tmp_path: Path) -> None:
    ring, made = DecisionRing(), envelope()
    decided(ring, made)
    document = Explainer(ring, lambda: NEW, tmp_path).explain(made.queue_id)
    assert document["decision"] == {"action": "open", "reason": None, "reply": ""}


def test_patients_are_masked_in_the_reply_too(tmp_path: Path) -> None:
    patient = "189027512345678@patient.mssante.fr"
    ring, made = DecisionRing(), envelope(patient, sender=patient)
    decided(ring, made)
    ring.end(made.queue_id, "refused", Reason.BACKEND_REFUSED, f"550 5.1.1 <{patient}> unknown")
    document = Explainer(ring, lambda: NEW, tmp_path).explain(made.queue_id)
    assert "189027512345678" not in json.dumps(document)


async def spooled(path: Path, head: bytes = HEAD, **changes: Any) -> str:
    spool, record = sqlite_spool(path), spool_record(names=BULK, **changes)
    await spool.open()
    await spool.add(record, pieces(head))
    await spool.close()
    return record.queue_id


async def test_what_waits_in_the_spool_is_explained_with_the_rules_of_today(
    tmp_path: Path,
) -> None:
    queue_id = await spooled(tmp_path)
    document = Explainer(DecisionRing(), lambda: NEW, tmp_path).explain(queue_id)
    assert (document["basis"], document["note"]) == ("spool", NOT_STORED)
    assert (document["class"], document["rule"]) == ("telework", "new")
    assert document["decided"] == {"class": "bulk", "rule": None}
    assert document["decision"] == {"action": "spooled", "reason": "saturated", "reply": None}
    assert document["message"]["recipients"] == ["bob@example.net"]
    assert document["message"]["trusted"] is True


@pytest.mark.parametrize(
    "sender", [b"", b"Postmaster", b"a@b.example", "é@bücher.example".encode(), b"\xff@b"]
)
async def test_any_message_of_the_spool_can_be_explained(sender: bytes, tmp_path: Path) -> None:
    """Our own reports among them, which no client sent."""
    queue_id = await spooled(
        tmp_path, b"no header", reverse_path=sender, client_address="", is_generated=True
    )
    document = Explainer(DecisionRing(), lambda: NEW, tmp_path).explain(queue_id)
    assert document["class"] == PERSONAL.name


async def test_the_priority_is_that_of_the_envelope(tmp_path: Path) -> None:
    """The listener keeps the parameter only of a peer whose word counts."""
    by_priority = Classifier(classification_policy(rule("urgent", CLINICAL, priority_min=5)))
    for parameters, name in (((b"MT-PRIORITY=7",), "clinical"), ((b"mt-priority=x",), "personal")):
        folder = tmp_path / name
        folder.mkdir()
        queue_id = await spooled(folder, parameters=parameters)
        document = Explainer(DecisionRing(), lambda: by_priority, folder).explain(queue_id)
        assert document["class"] == name


async def test_what_is_in_neither_is_not_known(tmp_path: Path) -> None:
    await spooled(tmp_path)
    document = Explainer(DecisionRing(), lambda: NEW, tmp_path).explain("GONE")
    assert (document["known"], document["queue_id"]) == (False, "GONE")
