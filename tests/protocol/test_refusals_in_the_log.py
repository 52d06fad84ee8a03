"""Whatever a client is refused, or gives up, before there is a message is one line in the log."""

import json
from pathlib import Path
from typing import Any

import pytest

from mailshed.maillog import MailLog
from tests.support.builders import content_store, relay_policy
from tests.support.front import Front, Peer, until
from tests.support.live_path import LivePath

EHLO = "EHLO client.example.org"
MAIL = "MAIL FROM:<alice@example.org>"
RCPT = "RCPT TO:<bob@example.net>"


@pytest.fixture
def path(tmp_path: Path) -> LivePath:
    return in_json(LivePath(tmp_path))


def in_json(path: LivePath) -> LivePath:
    """Let the log be read back exactly."""
    vars(path.pipeline)["_journal"]._log = MailLog(path.log, "json", "debug")
    return path


def lines(path: LivePath) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.log.getvalue().splitlines()]


async def refused_data(front: Front, data: bytes, code: int) -> Peer:
    """Send mail data that is refused with `code`."""
    peer = await front.in_data()
    await peer.send(data)
    assert (await peer.reply()).startswith(str(code).encode())
    return peer


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        (b"a\nb\r\n.\r\n", 550, "content"),
        (b"a\rb\r\n.\r\n", 550, "content"),
        (b"a\0b\r\n.\r\n", 550, "content"),
        (b"x" * 1500 + b"\r\n.\r\n", 552, "too_large"),
        (b"x" * 5000, 552, "too_large"),
    ],
    ids=["LF", "CR", "NUL", "too large", "without end"],
)
async def test_refused_mail_data_is_a_line_under_the_session_id(
    path: LivePath, data: bytes, code: int, reason: str
) -> None:
    async with Front(path.handler, message_size_max=1000) as front:
        await refused_data(front, data, code)
        (line,) = lines(path)
    assert (line["event"], line["reason"]) == ("refused", reason)
    assert line["reply"].startswith(str(code))
    assert line["id"].startswith("s")
    assert (line["from"], line["to"]) == ("<alice@example.org>", "<bob@example.net>")
    assert line["client"] == "127.0.0.1"
    assert line["size"] == len(data.removesuffix(b".\r\n"))


async def test_no_room_for_mail_data_is_a_line(tmp_path: Path) -> None:
    full = content_store(tmp_path, memory=0, disk=0)
    path = in_json(LivePath(tmp_path, contents=full))
    async with Front(path.handler) as front:
        await refused_data(front, b"a\r\n.\r\n", 452)
        (line,) = lines(path)
    assert (line["event"], line["reason"]) == ("deferred", "no_memory")


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
async def test_a_client_that_disappears_in_the_middle_of_data_is_a_line(
    path: LivePath, how: str
) -> None:
    async with Front(path.handler) as front:
        peer = await front.in_data()
        await peer.send(b"Subject: half\r\n")
        await until(lambda: path.contents.memory.used > 0, "the data has arrived")
        getattr(peer, how)()
        await until(lambda: path.is_at_rest, "everything is given back")
    (line,) = lines(path)
    assert (line["event"], line["stage"]) == ("aborted", "data")
    assert 0 < line["size"] <= 15
    assert (line["from"], line["to"]) == ("<alice@example.org>", "<bob@example.net>")
    assert "reply" not in line


async def test_a_client_that_times_out_in_the_middle_of_data_is_a_line(path: LivePath) -> None:
    async with Front(path.handler, data_timeout=0.05) as front:
        peer = await front.in_data()
        assert (await peer.rest()).startswith(b"421 4.4.2 Timeout")
        await until(lambda: path.is_at_rest, "everything is given back")
    (line,) = lines(path)
    assert (line["event"], line["stage"]) == ("aborted", "data")
    assert line["reply"].startswith("421 4.4.2 Timeout")


async def test_a_fault_of_ours_in_the_middle_of_data_is_not_the_client_s(
    path: LivePath, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader of the log must not think that it was the client who left."""

    def fail(_self: object, _limits: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("mailshed.listener.mail_data.MailDataReceiver._flaw", fail)
    async with Front(path.handler) as front:
        peer = await front.in_data()
        await peer.send(b"Subject: x\r\n.\r\n")
        assert (await peer.rest()).startswith(b"451")
    (line,) = lines(path)
    assert (line["event"], line["reason"]) == ("deferred", "internal")
    assert "SMTP session failed" in caplog.text


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ("MAIL FROM:<alice@example.org> SIZE=1001", 552, "too_large"),
        ("MAIL FROM:<alice@example.org> SMTPUTF8", 555, None),
        ("MAIL FROM:<alice@example.org> SIZE=x", 501, None),
        ("MAIL FROM:<alice@example.org", 501, None),
        ("MAIL FROM:<al\xefce@example.org>", 553, None),
    ],
)
async def test_a_refused_mail_is_a_line(
    path: LivePath, command: str, code: int, reason: str | None
) -> None:
    async with Front(path.handler, message_size_max=1000) as front:
        peer = await front.peer()
        await peer.greet()
        await peer.command(command, code)
        (line,) = lines(path)
    assert (line["event"], line["stage"], line.get("reason")) == ("rejected", "mail", reason)
    assert line["from"].startswith("<al")
    assert "to" not in line
    assert (line["client"], line["listener"]) == ("127.0.0.1", "smtp")
    assert line["reply"].startswith(str(code))


@pytest.mark.parametrize(
    ("command", "code", "to", "reason"),
    [
        ("RCPT TO:<bob@example.net> FOO=1", 555, "<bob@example.net>", None),
        ("RCPT TO:<bob@@example.net>", 501, "<bob@@example.net>", None),
        ("RCPT TO:<b\xf6b@example.net>", 553, "<b\\xf6b@example.net>", None),
        ("RCPT TO:<eve@elsewhere.example>", 554, "<eve@elsewhere.example>", "relay_denied"),
    ],
)
async def test_a_refused_rcpt_is_one_line(
    tmp_path: Path, command: str, code: int, to: str, reason: str | None
) -> None:
    path = in_json(LivePath(tmp_path, relay=relay_policy(trusted=())))
    async with Front(path.handler) as front:
        peer = await front.in_transaction()
        await peer.command(command, code)
        (line,) = lines(path)
    assert (line["event"], line["stage"], line.get("reason")) == ("rejected", "rcpt", reason)
    assert (line["from"], line["to"]) == ("<alice@example.org>", to)
    assert line["listener"] == "smtp"


async def test_recipients_that_are_too_many_are_one_line_a_transaction(path: LivePath) -> None:
    """They are no errors, so their number does not end the session, and may not fill the log."""
    async with Front(path.handler, recipients_max=1) as front:
        peer = await front.in_transaction()
        for _ in range(30):
            await peer.command("RCPT TO:<carol@example.net>", 452)
        assert len(lines(path)) == 1
        await peer.command("RSET", 250)
        await peer.command(MAIL, 250)
        await peer.command(RCPT, 250)
        await peer.command("RCPT TO:<carol@example.net>", 452)
        assert [line["event"] for line in lines(path)] == ["rejected"] * 2


async def test_lines_of_refused_commands_are_bounded_by_the_errors_of_a_session(
    path: LivePath,
) -> None:
    async with Front(path.handler, errors_max=5) as front:
        peer = await front.peer()
        await peer.greet()
        await peer.send(b"MAIL FROM:<alice@example.org> FOO\r\n" * 1000)
        await peer.rest()
    assert len(lines(path)) == 5
