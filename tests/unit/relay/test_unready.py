"""Whatever fails at the beginning of a connection is about it, and about no message."""

import ssl

import pytest
from aiosmtplib import SMTPConnectError, SMTPResponseException

from mailshed.errors import BackendError, ConnectionLost, ProtocolViolation, TimedOut
from mailshed.mail.delivery import NoReply
from mailshed.mail.reply import make
from mailshed.relay import unready
from mailshed.terms import Stage

NAME = "mail.test:25"


def test_only_a_transient_reply_is_kept() -> None:
    later = unready.not_greeted(NAME, SMTPResponseException(421, "4.3.2 too many\nconnections"))
    assert later.reply is not None
    assert later.reply.wire == b"421-4.3.2 too many\r\n421 connections\r\n"
    never = unready.not_greeted(NAME, SMTPResponseException(554, "5.7.1 go away"))
    assert never.reply is None
    assert never.detail == "mail.test:25 said: 554 5.7.1 go away"
    odd = unready.not_greeted(NAME, SMTPResponseException(-1, "Malformed: \x1b[31m" + "x" * 999))
    assert odd.no_reply is NoReply.NOT_SMTP
    assert odd.detail.isprintable()
    assert len(odd.detail) < 300
    assert unready.unwelcome(NAME, make(451, "4.3.0 later")).reply is not None
    assert unready.unwelcome(NAME, make(550, "5.7.1 not you")).reply is None


@pytest.mark.parametrize(("command", "other"), [("EHLO", "lmtp"), ("LHLO", "smtp")])
def test_who_does_not_know_the_greeting_may_speak_the_other_protocol(
    command: str, other: str
) -> None:
    unknown = unready.unwelcome(NAME, make(502, "5.5.2 Error: command not recognized"), command)
    assert f"set protocol to {other}" in unknown.detail
    assert "protocol" not in unready.unwelcome(NAME, make(550, "no"), command).detail


@pytest.mark.parametrize(
    ("error", "detail", "why"),
    [
        (OSError(111, "Connection refused"), ": Connection refused", NoReply.NO_CONNECTION),
        (TimeoutError(), "no greeting from mail.test:25 in time", NoReply.TIMED_OUT),
        (ssl.SSLError(1, "x"), ": TLS failed: unknown reason", NoReply.NO_CONNECTION),
        (ValueError("strange"), ": strange", NoReply.NO_CONNECTION),
        (ValueError(), ": ValueError", NoReply.NO_CONNECTION),
    ],
)
def test_the_innermost_cause_is_told(error: Exception, detail: str, why: NoReply) -> None:
    wrapped = SMTPConnectError("Error connecting to what on port which: and so on")
    wrapped.__cause__ = error
    found = unready.not_connected(NAME, wrapped, "mail.test")
    assert found.detail.endswith(detail)
    assert found.no_reply is why
    assert found.stage is Stage.CONNECT


@pytest.mark.parametrize(
    ("fault", "detail", "why"),
    [
        (TimedOut("late", Stage.EHLO), "no reply to EHLO from", NoReply.TIMED_OUT),
        (ProtocolViolation("what?", Stage.EHLO), "other than a reply to EHLO", NoReply.NOT_SMTP),
        (ConnectionLost("gone", Stage.EHLO), "closed the connection", NoReply.NO_CONNECTION),
        (None, "closed the connection", NoReply.NO_CONNECTION),
    ],
)
def test_a_dialog_that_broke_says_how(
    fault: BackendError | None, detail: str, why: NoReply
) -> None:
    found = unready.silent(NAME, fault, "EHLO")
    assert detail in found.detail
    assert found.no_reply is why
    assert found.reply is None
