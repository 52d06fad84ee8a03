"""Nobody else writes into the log: one event is one line, and reads back as it was.

A log that can be forged hides an attack, and a terminal that shows it obeys what is in it. Whatever
is said in a command, in AUTH, in XCLIENT or in a reply of the backend: as many lines as events,
printable ASCII alone, each in the grammar of its format, and none of an event that did not happen.
"""

import base64
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.logline import VALUE_MAX
from mailshed.mail.delivery import TransactionResult, everyone
from mailshed.mail.reply import from_backend
from mailshed.maillog import Delays, LogFormat, Mail, MailLog
from mailshed.relay.envelope import outcome
from mailshed.terms import Reason, Stage
from tests.support.intensity import tried
from tests.support.live_dialog import LiveDialog
from tests.unit.test_logline import parse

FORGERY = "\n2026-11-22T09:31:02.123Z info 01JZX4K7T2M8Q0RB event=delivered class=clinical"
PIECES = st.one_of(
    st.sampled_from(
        [
            *(
                "\x00",
                "\r",
                "\n",
                "\r\n",
                "\x1b[2J\x1b[31m",
                "\x07",
                "\x08",
                "\x7f",
                "\x85",
                "\x9b31m",
            ),
            *("\u2028", "\u2029", "\u202e", "\ufeff", "\U000e0041", "\ud800", '"', "\\", "=", " "),
            *(FORGERY, " event=delivered", '" event="delivered', "<a@b.example>", "x" * 400),
        ]
    ),
    st.text(max_size=6),
)
HOSTILE = st.lists(PIECES, min_size=1, max_size=6).map("".join)
PRINTABLE = re.compile(r"[ -~]*")


def octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def assert_honest(lines: Sequence[str], is_json: bool = False) -> list[dict[str, Any]]:
    """The events of these lines, which nobody but us has written."""
    events: list[dict[str, Any]] = []
    for line in lines:
        assert PRINTABLE.fullmatch(line), line
        found: dict[str, Any] = json.loads(line) if is_json else dict(parse(line + "\n"))
        for name, value in found.items():
            assert len(str(value)) <= VALUE_MAX or name == "traceback", (name, value)
        events.append(found)
    return events


COMMANDS: list[Callable[[bytes], bytes]] = [
    lambda hostile: b"EHLO " + hostile,
    lambda hostile: b"HELO " + hostile,
    lambda hostile: b"MAIL FROM:<" + hostile + b"@example.org>",
    lambda hostile: b"MAIL FROM:<a@example.org> " + hostile,
    lambda hostile: b"MAIL FROM:" + hostile,
    lambda hostile: b"RCPT TO:<" + hostile + b"@example.net>",
    lambda hostile: b'RCPT TO:<"' + hostile + b'"@elsewhere.example>',
    lambda hostile: b"RCPT TO:<b@example.net> ORCPT=rfc822;" + hostile,
    lambda hostile: b"AUTH PLAIN " + base64.b64encode(b"\0" + hostile + b"\0x"),
    lambda hostile: b"XCLIENT LOGIN=" + hostile,
    lambda hostile: b"STARTTLS " + hostile,
    lambda hostile: hostile,
]


@tried(120)
@given(st.lists(st.tuples(st.sampled_from(COMMANDS), HOSTILE), min_size=1, max_size=5))
def _commands_write_nothing(live: LiveDialog, said: list[tuple[Any, str]]) -> None:
    live.say(b"RSET")
    live.say(b"HELO client.example.org")
    live.take_log()
    for make, hostile in said:
        line = make(octets(hostile)) + b"\r\n"
        live.say_all(line, line.count(b"\n"))
        events = assert_honest(live.take_log())
        assert {each["event"] for each in events} <= {"rejected"}
        assert len(events) <= line.count(b"\n")
        if live.is_over:
            live.begin_again()
            live.say(b"HELO client.example.org")
    live.take_log()


def test_no_command_writes_into_the_log(tmp_path: Path) -> None:
    with LiveDialog(tmp_path) as live:
        _commands_write_nothing(live)


REPLY_TEXTS = st.lists(
    st.one_of(HOSTILE.map(octets), st.binary(max_size=30)), min_size=1, max_size=4
)


@tried(120)
@given(code=st.sampled_from([b"250", b"450", b"550", b"354", b"999"]), texts=REPLY_TEXTS)
def _replies_write_nothing(live: LiveDialog, code: bytes, texts: list[bytes]) -> None:
    lines = [code + b"-" + text for text in texts[:-1]] + [code + b" " + texts[-1]]
    answer = from_backend(lines)
    if answer is None or answer.code == 354:
        return
    result = outcome(answer, None, is_dot_sent=True)
    live.path.backend.results.append(TransactionResult(recipients=everyone(result, 1)))
    live.say(b"RSET")
    live.take_log()
    live.say(b"MAIL FROM:<a@example.org>")
    live.say(b"RCPT TO:<b@example.net>")
    live.say(b"DATA")
    told = live.say(b"Subject: x\r\n\r\nx\r\n.")
    assert re.fullmatch(rb"(?:[2-5][0-9]{2}-[^\r\n]*\r\n)*[2-5][0-9]{2} [^\r\n]*\r\n", told)
    assert live.say(b"NOOP") == b"250 2.0.0 Ok\r\n", "one reply to one command"
    (event,) = assert_honest(live.take_log())
    assert event["event"] in ("delivered", "spooled", "deferred", "refused")
    live.path.backend.taken.clear()


def test_no_reply_of_a_backend_writes_into_the_log_or_says_more_than_one_thing(
    tmp_path: Path,
) -> None:
    with LiveDialog(tmp_path) as live:
        live.say(b"HELO client.example.org")
        _replies_write_nothing(live)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_events_with_hostile_fields_read_back(log_format: LogFormat) -> None:
    """Those that carry what others have said, with all of it hostile at once."""
    is_json = log_format == "json"

    @tried(80)
    @given(HOSTILE, HOSTILE, HOSTILE)
    def each_is_one_line(one: str, two: str, three: str) -> None:
        stream = io.StringIO()
        log = MailLog(stream, log_format, "debug", wall=lambda: 1.0)
        mail = Mail("01JZX4K7T2M8Q0RB", "bulk", octets(one), (octets(two),) * 3, 5, three)
        log.auth(
            "s1",
            result="failed",
            listener="smtp",
            client="::1",
            mechanism=None,
            login=one,
            detail=two,
        )
        log.tls_failed(
            "s1", listener="smtp", client="::1", result="failed", detail=one, is_stranger=False
        )
        log.rejected(
            "s1",
            stage=Stage.RCPT,
            listener="smtp",
            client=two,
            reply=one,
            sender=octets(three),
            recipient=octets(two),
        )
        log.session_refused(
            client="::1", cause="proxy_header", times=1, listener="smtp", reply=None, detail=one
        )
        log.delivered(mail, backend="b", delays=Delays(), reply=one)
        log.spooled(mail, reason=Reason.ROOM, delays=Delays(), reply=two, detail=three)
        log.bounced(mail, reply=three, report=None)
        log.library(one, "error", two, RuntimeError(three))
        log.operator(verb=one, user=two, request="r", result={"n": three}, ids=["x"], reason=one)
        events = assert_honest(stream.getvalue().split("\n")[:-1], is_json)
        assert [each["event"] for each in events] == [
            *("auth", "tls_failed", "rejected", "session_refused", "delivered", "spooled"),
            *("bounced", "library", "operator"),
        ]

    each_is_one_line()
