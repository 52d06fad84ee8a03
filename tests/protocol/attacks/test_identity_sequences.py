"""Who a client is, after any sequence of STARTTLS, AUTH, XCLIENT and mail, against a model.

`test_state_machine` compares the commands of a mail transaction, which may be pipelined. Here come
those that change who speaks: RFC 3207, RFC 4954 and Postfix's XCLIENT_README, forty lines. Each
message is compared with whom it was taken from, so a name that was said in clear, or before the
proxy spoke of somebody else, would be seen where it counts. Commands are sent one by one, cut
anywhere; what the model takes for the end of a session is followed by a new one.
"""

import asyncio
import base64
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from ipaddress import ip_address
from pathlib import Path

import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from mailshed.authentication.sasl import Credentials
from mailshed.config.policy import AuthMode, ListenerPolicy, ProxyMode, TlsMode
from mailshed.errors import CredentialsError
from mailshed.listener.protocol import SmtpSession
from mailshed.mail.content import Content
from mailshed.mail.reply import AUTH_FAILED, Reply
from mailshed.mail.xclient import Introduction
from tests.support.certificates import Authority, make_authority
from tests.support.front import DEADLINE, Front, ScriptedHandler
from tests.support.intensity import tried
from tests.support.tls import TlsPeer, client_context, new_handshakes

HERE = "127.0.0.1"
Who = tuple[str, str, bool]
"""Address, user, and whether TLS protects what is said."""


@dataclass(slots=True)
class Model:
    """What a session remembers of its client, and the code of each reply."""

    is_proxy: bool
    is_tls_required: bool
    is_auth_required: bool
    is_tls: bool = False
    greeting: bytes = b""
    address: str = HERE
    user: str = ""
    has_sender: bool = False
    recipients: int = 0
    chunks: bool = False
    taken: list[Who] = field(default_factory=list)

    @property
    def is_passed_on(self) -> bool:
        return (self.address, self.user) != (HERE, "")

    def reset(self) -> None:
        self.has_sender, self.recipients, self.chunks = False, 0, False

    def greet(self, verb: bytes) -> int:
        self.reset()
        self.greeting = verb
        return 250

    def keywords(self) -> set[bytes]:
        return {
            *([] if self.is_tls or self.is_passed_on else [b"STARTTLS"]),
            *([b"AUTH"] if self.is_tls and not self.user else []),
            *([b"XCLIENT"] if self.is_proxy else []),
        }

    def mail(self) -> int:
        if not self.greeting or self.has_sender:
            return 503
        if (self.is_tls_required and not self.is_tls) or (self.is_auth_required and not self.user):
            return 530
        self.has_sender = True
        return 250

    def rcpt(self) -> int:
        if not self.has_sender or self.chunks:
            return 503
        self.recipients += 1
        return 250

    def data(self) -> int:
        if not self.has_sender or self.chunks:
            return 503
        return 354 if self.recipients else 554

    def end(self) -> int:
        self.taken.append((self.address, self.user, self.is_tls))
        self.reset()
        return 250

    def bdat(self, *, is_last: bool) -> int:
        if not self.recipients:
            return 554 if self.has_sender else 503
        self.chunks = True
        return self.end() if is_last else 250

    def starttls(self) -> int:
        if self.is_tls or self.is_passed_on:
            return 503
        self.reset()
        self.is_tls, self.greeting = True, b""
        return 220

    def auth(self, said: "Said") -> int:
        if not self.is_tls:
            return 538
        if self.greeting != b"EHLO" or self.user or self.has_sender:
            return 503
        self.user = said.user
        return said.code

    def xclient(self, told: dict[str, str] | None) -> int:
        if not self.is_proxy:
            return 550
        if self.has_sender:
            return 503
        if told is None:
            return 501
        self.reset()
        self.greeting = b""
        if "ADDR" in told:
            self.address, self.user = told["ADDR"], ""
        self.user = told.get("LOGIN", self.user)
        return 220


@dataclass(frozen=True, slots=True)
class Said:
    """A whole AUTH conversation, and what a server that would listen answers last."""

    lines: tuple[bytes, ...]
    code: int
    user: str = ""


def _plain(blob: bytes) -> bytes:
    return b"AUTH PLAIN " + base64.b64encode(blob)


CONVERSATIONS = [
    Said((_plain(b"\0alice\0right"),), 235, "alice"),
    Said((_plain(b"bob\0bob\0right"),), 235, "bob"),
    Said((b"AUTH LOGIN", base64.b64encode(b"carol"), base64.b64encode(b"right")), 235, "carol"),
    Said((_plain(b"\0alice\0wrong"),), 535),
    Said((_plain(b"\0alice\0right\0more"),), 535),
    Said((_plain(b"root\0alice\0right"),), 535),
    Said((_plain(b"\0ali\r\nce\0right"),), 535),
    Said((b"AUTH PLAIN", b"*"), 501),
    Said((b"AUTH PLAIN", b"MAIL FROM:<a@b.example>"), 501),
    Said((b"AUTH GSSAPI",), 504),
    Said((b"AUTH XOAUTH2 =",), 504),
]
INTRODUCTIONS: list[tuple[bytes, dict[str, str] | None]] = [
    (b"ADDR=192.0.2.7", {"ADDR": "192.0.2.7"}),
    (b"ADDR=192.0.2.7 LOGIN=dave", {"ADDR": "192.0.2.7", "LOGIN": "dave"}),
    (b"LOGIN=erin NAME=ward.example", {"LOGIN": "erin"}),
    (b"ADDR=127.0.0.1", {"ADDR": HERE}),
    (b"LOGIN=[UNAVAILABLE]", {"LOGIN": ""}),
    (b"ADDR=nonsense", None),
    (b"LOGIN=a LOGIN=b", None),
    (b"LOGIN=a+0D+0AMAIL", None),
    (b"", None),
]


@dataclass(eq=False, slots=True)
class Believing(ScriptedHandler):
    """Does with an introduction what the real one does, and notes of whom a message is."""

    taken_from: list[Who] = field(default_factory=list)

    def introduced(self, session: SmtpSession, said: Introduction) -> Reply | None:
        client = session.client
        address, user = client.address, client.user
        if "ADDR" in said.told:
            address, user = said.address or ip_address("0.0.0.0"), ""
        if "LOGIN" in said.told:
            user = said.login or ""
        session.client = replace(client, address=address, user=user)
        return None

    async def authenticate(
        self, session: SmtpSession, said: Credentials | CredentialsError
    ) -> Reply:
        if isinstance(said, Credentials) and not said.responses[-1].endswith(b"right"):
            return AUTH_FAILED
        return await ScriptedHandler.authenticate(self, session, said)

    async def work(self, session: SmtpSession, content: Content) -> Reply | None:
        client = session.client
        self.taken_from.append((client.address_text, client.user, client.tls is not None))
        return await ScriptedHandler.work(self, session, content)


@cache
def authority() -> tuple[Authority, tuple[Path, Path], ssl.SSLContext]:
    """One for all sequences."""
    made = make_authority(Path(tempfile.mkdtemp()))
    return made, made.issue(), client_context(made)


class Identities(RuleBasedStateMachine):
    """One session after the other, and the model beside it."""

    new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    model: Model
    peer: TlsPeer

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner(loop_factory=type(self).new_loop)
        self._front: Front | None = None

    @initialize(
        proxy=st.booleans(),
        needs=st.sampled_from([(False, False), (False, False), (True, False), (True, True)]),
    )
    def begin(self, *, proxy: bool, needs: tuple[bool, bool]) -> None:
        needs_tls, needs_auth = needs
        self.model = Model(proxy, needs_tls, needs_auth)
        handler = Believing(is_trusted=False, proxy_hosts=(HERE,) if proxy else ())
        self._front = Front(handler, errors_max=10**6, auth_failures_max=10**6)
        self._front.policy = ListenerPolicy(
            name="smtp",
            tls=TlsMode.STARTTLS,
            is_tls_required=needs_tls,
            auth=AuthMode.REQUIRED if needs_auth else AuthMode.OFFERED,
            proxy=ProxyMode.XCLIENT,
        )
        self._front.handshakes = new_handshakes(authority()[1])
        self._runner.run(self._begin())

    async def _begin(self) -> None:
        assert self._front is not None
        await self._front.__aenter__()
        await self._connect()

    async def _connect(self) -> None:
        assert self._front is not None
        self.peer = TlsPeer(self._front.port)
        self._front.on_exit(self.peer.close)
        await self.peer.connect()
        assert (await self.peer.reply()).startswith(b"220 ")

    def _say(self, line: bytes, cut: float = 0.0, behind: bytes = b"") -> bytes:
        octets = line + b"\r\n" + behind
        place = int(cut * len(octets))

        async def exchange() -> bytes:
            async with asyncio.timeout(DEADLINE):
                await self.peer.send(octets, cuts=(place,) if place else ())
                return await self.peer.reply()

        return self._runner.run(exchange())

    @rule(verb=st.sampled_from([b"EHLO", b"EHLO", b"HELO"]), cut=st.floats(0, 0.99))
    def greet(self, verb: bytes, cut: float) -> None:
        answer = self._say(verb + b" client.example.org", cut)
        assert int(answer[:3]) == self.model.greet(verb)
        if verb == b"EHLO":
            offered = {line[4:].split(b" ")[0].strip() for line in answer.splitlines()}
            assert offered & {b"STARTTLS", b"AUTH", b"XCLIENT"} == self.model.keywords()

    @rule(cut=st.floats(0, 0.99))
    def mail(self, cut: float) -> None:
        assert int(self._say(b"MAIL FROM:<a@b.example>", cut)[:3]) == self.model.mail()

    @rule()
    def rcpt(self) -> None:
        assert int(self._say(b"RCPT TO:<b@b.example>")[:3]) == self.model.rcpt()

    @rule()
    def rset(self) -> None:
        self.model.reset()
        assert self._say(b"RSET").startswith(b"250 ")

    @rule(is_whole=st.booleans())
    def message(self, *, is_whole: bool) -> None:
        """A transaction as far as it goes."""
        self.mail(0.0)
        self.rcpt()
        if is_whole:
            self.data()

    @rule()
    def data(self) -> None:
        code = int(self._say(b"DATA")[:3])
        assert code == self.model.data()
        if code == 354:
            # The text looks like what changes who speaks.
            text = b"STARTTLS\r\nXCLIENT LOGIN=x\r\nAUTH PLAIN AGEAcmlnaHQ=\r\n."
            assert int(self._say(text)[:3]) == self.model.end()

    @rule(is_last=st.booleans())
    def chunk(self, *, is_last: bool) -> None:
        text = b"STARTTLS\r\nXCLIENT LOGIN=mallory\r\n"
        line = b"BDAT %d%b" % (len(text), b" LAST" if is_last else b"")
        assert int(self._say(line, behind=text)[:3]) == self.model.bdat(is_last=is_last)

    @rule(cut=st.floats(0, 0.99))
    def starttls(self, cut: float) -> None:
        code = int(self._say(b"STARTTLS", cut)[:3])
        assert code == self.model.starttls()
        if code == 220:
            self._runner.run(self.peer.begin_tls(authority()[2]))
            self._ask_what_is_remembered()

    def _ask_what_is_remembered(self) -> None:
        """Nothing of the transaction or the greeting."""
        self.rcpt()
        self.mail(0.0)

    @rule()
    def starttls_in_a_transaction(self) -> None:
        """As who hopes that its beginning counts afterwards."""
        self.greet(b"EHLO", 0.0)
        self.message(is_whole=False)
        self.starttls(0.0)

    @rule(injected=st.sampled_from([b"EHLO x\r\n", b"AUTH PLAIN AGEAcmlnaHQ=\r\n", b"RSET\r\n"]))
    def starttls_and_more(self, injected: bytes) -> None:
        """What is said behind it is never answered; the session ends, and another begins."""
        if self.model.is_tls or self.model.is_passed_on:
            return
        assert self._say(b"STARTTLS", behind=injected).startswith(b"554 5.5.0 ")
        assert self._runner.run(self.peer.rest()) == b""
        model = self.model
        self.model = Model(model.is_proxy, model.is_tls_required, model.is_auth_required)
        self.model.taken = model.taken
        self._runner.run(self._connect())

    @rule(said=st.sampled_from(CONVERSATIONS), cut=st.floats(0, 0.99))
    def auth(self, said: Said, cut: float) -> None:
        answer = self._say(said.lines[0], cut)
        for line in said.lines[1:]:
            if not answer.startswith(b"334"):
                break
            answer = self._say(line)
        assert int(answer[:3]) == self.model.auth(said)

    @rule(introduction=st.sampled_from(INTRODUCTIONS), cut=st.floats(0, 0.99))
    def xclient(self, introduction: tuple[bytes, dict[str, str] | None], cut: float) -> None:
        said, told = introduction
        code = int(self._say(b"XCLIENT " + said, cut)[:3])
        assert code == self.model.xclient(told)
        if code == 220:
            self._ask_what_is_remembered()

    def teardown(self) -> None:
        """Nothing more is said, and each message is of whom the model takes it to be."""
        if self._front is None:
            return
        assert isinstance(handler := self._front.handler, Believing)
        is_silent = self._runner.run(self.peer.is_silent())
        self._runner.run(self._front.__aexit__())
        self._runner.close()
        assert is_silent
        assert handler.taken_from == self.model.taken


class IdentitiesOnUvloop(Identities):
    """The same on the loop of the service."""

    new_loop = uvloop.new_event_loop


_QUICK = settings(tried(25), stateful_step_count=25)
TestIdentities = Identities.TestCase
TestIdentities.settings = _QUICK
TestIdentitiesOnUvloop = IdentitiesOnUvloop.TestCase
TestIdentitiesOnUvloop.settings = _QUICK
