"""A pytest plugin that puts our session in the place of aiosmtpd's, for aiosmtpd's own tests.

Those tests make a server as aiosmtpd's users do: `SMTP(handler, **options)`, mostly by way of its
`Controller`. Here that name makes a session of ours, with the options that it has a word for, and a
`MailHandler` that asks the test's handler what its `handle_DATA` says. Options that we have no
counterpart of (hooks for commands, limits for each command, other names of mechanisms) are ignored;
the tests of those are in `aiosmtpd_differences.toml`.

Where a test allows passwords in clear, the session is told that its connection is protected: we
have no such switch, and the dialog of AUTH is worth being tested.
"""

import json
import os
from inspect import isawaitable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiosmtpd.controller
import aiosmtpd.smtp
import pytest
from aiosmtpd.testing.statuscodes import StatusCode

from mailshed.authentication.sasl import Credentials, Mechanism
from mailshed.config.policy import AuthMode, ListenerPolicy, TlsMode, TlsPolicy
from mailshed.errors import CredentialsError
from mailshed.listener.handshakes import Handshakes
from mailshed.listener.protocol import SmtpSession
from mailshed.listener.server import SessionFactory
from mailshed.listener.tls import Certificates
from mailshed.mail.content import Content
from mailshed.mail.envelope import TlsState
from mailshed.mail.reply import AUTH_FAILED, AUTHENTICATED, Reply, make
from tests.support.builders import session_limits
from tests.support.front import ScriptedHandler
from tests.third_party.aiosmtpd_outcomes import VARIABLE

ANY_SIZE = 1 << 30

_AUTH_OPTIONS = {"auth_callback", "authenticator", "auth_require_tls"}
_Envelope = aiosmtpd.smtp.Envelope
_TLS = TlsState("TLSv1.3", "TLS_AES_256_GCM_SHA384")


class _Bridge(ScriptedHandler):
    """Asks a handler of aiosmtpd's kind."""

    def __init__(self, handler: Any, options: dict[str, Any]) -> None:
        is_clear = options.get("auth_require_tls", True)
        is_utf8 = options.get("enable_SMTPUTF8", False)
        super().__init__(
            tls=None if is_clear else _TLS,
            offered_behind=frozenset({"SMTPUTF8"} if is_utf8 else ()),
        )
        self.theirs = handler
        self.options = options

    async def work(self, session: SmtpSession, content: Content) -> Reply | None:
        """Give it the message as it would have it."""
        wire = b"".join([chunk async for chunk in content.chunks()])
        content.close()
        lines = (b"\r\n" + wire).replace(b"\r\n..", b"\r\n.")[2:]
        envelope = _Envelope()
        assert session.envelope.mail is not None
        mailbox = session.envelope.mail.mailbox
        envelope.mail_from = "" if mailbox is None else str(mailbox)
        envelope.mail_options = [each.decode() for each in session.envelope.mail.parameters]
        envelope.rcpt_tos = [str(each.mailbox) for each in session.envelope.recipients]
        envelope.original_content = lines
        is_decoded = self.options.get("decode_data")
        envelope.content = lines.decode("utf-8", "surrogateescape") if is_decoded else lines
        ask = getattr(self.theirs, "handle_DATA", None)
        if ask is None:
            return make(250, "OK")
        said = ask(session, session.session, envelope)
        text = str(await said if isawaitable(said) else said)
        return make(int(text[:3]), text[4:])

    async def authenticate(
        self, session: SmtpSession, said: Credentials | CredentialsError
    ) -> Reply:
        """Ask its callback, old or new."""
        if isinstance(said, CredentialsError):
            return AUTH_FAILED
        fields = b"\0".join(said.responses).split(b"\0")  # of PLAIN and LOGIN
        name, secret = fields[-2:]
        callback = self.options.get("auth_callback")
        authenticator = self.options.get("authenticator")
        if callback is not None:
            is_good = callback(said.mechanism.value, name, secret)
        elif authenticator is not None:
            login = aiosmtpd.smtp.LoginPassword(name, secret)
            is_good = authenticator(
                session, session.session, session.envelope, said.mechanism.value, login
            ).success
        else:
            is_good = False
        self.auth_answer = AUTHENTICATED if is_good else AUTH_FAILED
        return await super().authenticate(session, said)


class Server:
    """What the tests call `SMTP`."""

    def __new__(cls, handler: Any, **options: Any) -> SmtpSession:  # type: ignore[misc]
        """Make a session of ours."""
        bridge = _Bridge(handler, options)
        context = options.get("tls_context")
        auth = AuthMode.OFFERED if not _AUTH_OPTIONS.isdisjoint(options) else AuthMode.NONE
        if options.get("auth_required"):
            auth = AuthMode.REQUIRED
        factory = SessionFactory(
            policy=ListenerPolicy(
                name="smtp",
                tls=TlsMode.NONE if context is None else TlsMode.STARTTLS,
                is_tls_required=bool(options.get("require_starttls")),
                auth=auth,
                mechanisms=(Mechanism.PLAIN, Mechanism.LOGIN),
            ),
            hostname=options.get("hostname") or "mail.example.com",
            handler=bridge,
            limits=session_limits(
                message_size_max=options.get("data_size_limit", 33554432) or ANY_SIZE,
                command_timeout=options.get("timeout", 300.0),
            ),
            handshakes=None if context is None else _handshakes(context),
        )
        session = factory()
        bridge.open_sessions.add(session)
        return session


def _handshakes(context: Any) -> Handshakes:
    return Handshakes(
        cast("Certificates", SimpleNamespace(context=context)),
        TlsPolicy(certificate=Path(), key=Path()),
        is_clinical=lambda _client: True,
        note=lambda _ended: None,
    )


for _module in (aiosmtpd.smtp, aiosmtpd.controller):
    vars(_module)["SMTP"] = Server


def _has_code(status: tuple[int, bytes], reply: Any) -> bool:
    """Of a reply only the code is compared: its text is for people (RFC 5321, 4.2)."""
    return bool(status[0] == reply[0])


def _hash(status: tuple[int, bytes]) -> int:
    return hash(status[0])


for _name, _method in (("__eq__", _has_code), ("__hash__", _hash)):
    setattr(StatusCode, _name, _method)

_outcomes: dict[str, str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the worst of a test's three phases, with the first line of why."""
    key = report.nodeid.rpartition("tests/")[2]
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        _outcomes[key] = str(getattr(crash, "message", "failed")).split("\n")[0]
    elif report.when == "call" or report.skipped:
        _outcomes.setdefault(key, "skipped" if report.skipped else "")


def pytest_sessionfinish() -> None:
    """Hand the outcomes over."""
    Path(os.environ[VARIABLE]).write_text(json.dumps(_outcomes, indent=1))
