"""MT-PRIORITY (RFC 6710) from the command to the class, the reply and the mail server behind.

The real handler, pipeline and gate; the spool is said to be as full as the test wants.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from mailshed.classification.classifier import Classifier
from mailshed.config.policy import AdmissionPolicy
from tests.support.builders import BULK, CLINICAL, away, classification_policy, relay_policy, rule
from tests.support.front import Front, Peer, until
from tests.support.live_path import LivePath

RULES = (rule("urgent", CLINICAL, priority_min=5), rule("no-hurry", BULK, priority_max=-1))


def live_path(folder: Path, *, is_trusted: bool) -> LivePath:
    trusted = ("127.0.0.0/8",) if is_trusted else ()
    path = LivePath(folder, relay=relay_policy(trusted=trusted))
    path.policies = replace(
        path.policies,
        classifier=Classifier(classification_policy(*RULES)),
        admission=AdmissionPolicy(lowest_defer_fill=0.5),
    )
    return path


async def send(peer: Peer, parameters: str, to: str = "bob@example.net") -> list[bytes]:
    """Send one message; the replies to MAIL, RCPT and, if there is one, its last chunk."""
    replies = []
    commands = (f"MAIL FROM:<a@b.example> {parameters}", f"RCPT TO:<{to}>", "BDAT 0 LAST")
    for command in commands:
        await peer.send(command.encode() + b"\r\n")
        replies.append(await peer.reply())
        if not replies[-1].startswith(b"250"):
            await peer.command("RSET", 250)
            break
    return replies


async def test_a_priority_names_the_class_and_goes_on(tmp_path: Path) -> None:
    path = live_path(tmp_path, is_trusted=True)
    async with Front(path.handler) as front:
        peer = await front.peer()
        await peer.greet()
        for number in (9, 0, -9):
            assert (await send(peer, f"MT-PRIORITY={number}"))[-1].startswith(b"250")
        await until(lambda: path.log.getvalue().count("event=delivered") == 3, "all are logged")
    classes = [line.split(" class=")[1].split()[0] for line in path.log.getvalue().splitlines()]
    assert classes == ["clinical", "personal", "bulk"]
    assert [each.parameters for each in path.backend.asked] == [
        (b"MT-PRIORITY=9",),
        (b"MT-PRIORITY=0",),
        (b"MT-PRIORITY=-9",),
    ]


async def test_the_priority_of_a_stranger_names_nothing_and_ends_here(tmp_path: Path) -> None:
    path = live_path(tmp_path, is_trusted=False)
    async with Front(path.handler) as front:
        peer = await front.peer()
        await peer.greet()
        replies = await send(peer, "MT-PRIORITY=9")
        assert replies[0].startswith(b"250 2.3.6 0 ")
        assert replies[-1].startswith(b"250")
        await until(lambda: "event=delivered" in path.log.getvalue(), "it is logged")
    assert " class=personal " in path.log.getvalue()
    assert path.backend.asked[0].parameters == ()


@pytest.mark.parametrize("priority", [-9, -1])
async def test_what_is_shed_hears_of_its_level_before_the_upload(
    tmp_path: Path, priority: int
) -> None:
    """No rule but that of the priority can name its class any more."""
    path = live_path(tmp_path, is_trusted=True)
    path.spool_fill = 0.7
    path.backend.results.extend([away()] * 20)
    async with Front(path.handler) as front:
        peer = await front.peer()
        await peer.greet()
        while path.gate.is_up:
            assert (await send(peer, "MT-PRIORITY=9"))[-1].startswith(b"250 2.0.0 Ok: queued")
        replies = await send(peer, f"MT-PRIORITY={priority}")
        assert replies[-1] == b"450 4.7.15 Priority level is too low for now, try again later\r\n"
        assert len(replies) == 2, "it is RCPT that is answered so"
        assert (await send(peer, "MT-PRIORITY=9"))[-1].startswith(b"250 2.0.0 Ok: queued")


async def test_a_deadline_is_that_of_the_spool(tmp_path: Path) -> None:
    """RFC 2852: the command sets when the message goes back, or when its sender is told."""
    path = live_path(tmp_path, is_trusted=True)
    path.backend.results.extend([away()] * 3)
    async with Front(path.handler) as front:
        peer = await front.peer()
        await peer.greet()
        for parameters in ("BY=90;R", "BY=90;N", "BY=-90;NT"):
            assert b"queued" in (await send(peer, parameters))[-1]
    returned, told, late = (path.spool.record(queue_id) for queue_id in path.spool.added)
    assert returned.expires_wall == pytest.approx(returned.received_wall + 90)
    assert told.expires_wall > told.received_wall + 3600
    assert told.report_wall == pytest.approx(told.received_wall + 90)
    assert late.report_wall == late.received_wall
    assert path.backend.asked[0].deadline_wall == returned.expires_wall
