"""From credentials to an answer: who may be asked about, who is asked, what is remembered of it.

In this order: has this address or this login said too much that was wrong (`failures`)? Then it is
not looked at. What does the verifier say? A yes makes the login at home there, and is remembered if
the site wants that (`cache`); a no is counted. If there is no word in time, a yes that is
remembered counts, and otherwise the client is told to come back.

So many questions are out at a time, others wait (`turns`); waiting and answer together have one
deadline.
Every ending is a line in the log and a count. The login stands in the line of a success. In any
other it is cut after its first letters: what is typed there by mistake is often the password.

Whatever goes wrong in a verifier, the client hears 454 and never 5xx.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, assert_never

from mailshed.authentication.cache import VerdictCache
from mailshed.authentication.failures import Failures, place_of
from mailshed.authentication.sasl import Credentials, Mechanism
from mailshed.authentication.senders import SenderPolicy, sender_policy
from mailshed.authentication.turns import Turns
from mailshed.authentication.verdict import Accepted, Rejected, Unavailable, Verdict
from mailshed.clock import Clock
from mailshed.config.policy import AuthenticationPolicy
from mailshed.errors import CredentialsError
from mailshed.mail import reply
from mailshed.mail.address import Mailbox
from mailshed.mail.envelope import Client
from mailshed.mail.reply import Reply
from mailshed.maillog import MailLog
from mailshed.metrics import Metrics
from mailshed.metrics.labels import Authentication

SHOWN_OF_LOGIN = 3
"""Characters of a login that are logged unless it has been proved."""


class Verifier(Protocol):
    """Somebody who knows the passwords."""

    async def verify(self, credentials: Credentials, client: Client) -> Verdict:
        """Find out whether the credentials are right; may be cancelled at any time."""
        ...

    async def refresh(self) -> None:
        """Read again what it needs from files; raises ConfigError if that is of no use."""
        ...

    async def close(self) -> None:
        """Give back what is open."""
        ...


class Authenticator:
    """Judges the credentials of all sessions.

    `key` is secret and of this process; `timeout` in seconds, for waiting and answer together.
    """

    def __init__(
        self,
        policy: AuthenticationPolicy,
        *,
        verifier: Verifier | None,
        timeout: float,
        questions_max: int,
        key: bytes,
        metrics: Metrics,
        maillog: MailLog,
        clock: Clock,
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        self._verifier = verifier
        self._timeout = timeout
        self._turns = Turns(questions_max)
        self._key = key
        self._metrics = metrics
        self._maillog = maillog
        self._clock = clock
        self._on_failure = on_failure
        self._failures = Failures(policy)
        self._cache = VerdictCache(ttl=policy.cache_ttl, entries_max=policy.entries_max)
        self._senders: SenderPolicy = sender_policy(policy)
        self._failing_since: float | None = None
        self._failing_detail = ""

    def set_policy(self, policy: AuthenticationPolicy) -> None:
        """Let another policy hold from now on; what was counted stays counted."""
        self._failures.terms = policy
        self._cache.ttl, self._cache.entries_max = policy.cache_ttl, policy.entries_max
        self._senders = sender_policy(policy)

    @property
    def remembered(self) -> tuple[int, int]:
        """How many entries the fullest of the tables has, and how many it may have."""
        return max(len(self._failures), len(self._cache)), self._cache.entries_max

    @property
    def failing(self) -> tuple[str, float]:
        """Why nobody says whether passwords are right, and for how many seconds.

        An empty text if the last question had an answer, or none was asked.
        """
        if self._failing_since is None:
            return "", 0.0
        return self._failing_detail, self._clock.monotonic() - self._failing_since

    def may_send_as(self, client: Client, sender: Mailbox | None) -> bool:
        """Whether a client that has authenticated may send with this reverse-path."""
        return self._senders.allows(client.user, sender)

    async def authenticate(
        self, client: Client, said: Credentials | CredentialsError
    ) -> Client | Reply:
        """The client as the user that it has proved to be, or what it is to be told instead."""
        if isinstance(said, CredentialsError):
            self._note(client, "rejected", None, "", str(said))
            return reply.AUTH_FAILED
        verdict = await self._judge(client, said)
        if verdict is None:
            self._note(client, "limited", said.mechanism, _cut(said.login), "")
            return reply.AUTH_LIMITED
        match verdict:
            case Accepted(login):
                self._note(client, "accepted", said.mechanism, login, "")
                return replace(client, user=login, is_trusted=True)
            case Rejected(detail):
                self._note(client, "rejected", said.mechanism, _cut(said.login), detail)
                return reply.AUTH_FAILED
            case Unavailable(detail):
                self._note(client, "unavailable", said.mechanism, _cut(said.login), detail)
                return reply.AUTH_UNAVAILABLE
            case _:
                assert_never(verdict)

    async def refresh(self) -> None:
        """Read what the verifier needs from files; raises ConfigError."""
        if self._verifier is not None:
            await self._verifier.refresh()

    async def close(self) -> None:
        """Ask nobody any more."""
        if self._verifier is not None:
            await self._verifier.close()

    async def _judge(self, client: Client, credentials: Credentials) -> Verdict | None:
        """What is true; None if so much was said wrong that it is not looked at."""
        was_asked = False
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._turns.take(place_of(client.address)),
            ):
                # Not before: many sessions may have waited here, all with another password.
                if self._failures.wait(client.address, credentials.login, self._now) > 0.0:
                    return None
                was_asked = True
                verdict = await self._ask(client, credentials)
        except TimeoutError:
            verdict = Unavailable("no answer in time")
        except asyncio.CancelledError:
            if was_asked:
                self._note_left(client, credentials)
            raise
        return self._learn(client, credentials, verdict)

    def _note_left(self, client: Client, credentials: Credentials) -> None:
        """Count a client that does not wait for the answer among those who were wrong.

        Whoever knows the password again may be counting, and lock the account; so this must not be
        the way to have any number of passwords looked at.
        """
        digest = credentials.digest(self._key)
        self._failures.failed(client.address, credentials.login, digest, self._now)
        detail = "the client left before the answer"
        self._note(client, "rejected", credentials.mechanism, _cut(credentials.login), detail)

    async def _ask(self, client: Client, credentials: Credentials) -> Verdict:
        if self._verifier is None:
            return Unavailable("nobody is there to ask")
        try:
            return await self._verifier.verify(credentials, client)
        except TimeoutError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: the client hears 454, never 5xx
            self._on_failure("authentication", error)
            return Unavailable("internal error")

    def _learn(self, client: Client, credentials: Credentials, verdict: Verdict) -> Verdict:
        """Remember what was said, and say what is remembered if nothing was."""
        now, digest = self._now, credentials.digest(self._key)
        self._tell_of_verifier(verdict, now)
        match verdict:
            case Accepted():
                self._failures.succeeded(client.address, credentials.login, now)
                self._cache.put(digest, verdict, now)
            case Rejected():
                self._failures.failed(client.address, credentials.login, digest, now)
                self._cache.forget(digest)
            case Unavailable():
                return self._cache.get(digest, now) or verdict
            case _:
                assert_never(verdict)
        return verdict

    def _tell_of_verifier(self, verdict: Verdict, now: float) -> None:
        """Log when answers begin to fail, and when they are there again."""
        if isinstance(verdict, Unavailable):
            self._failing_detail = verdict.detail
            if self._failing_since is None:
                self._failing_since = now
                self._maillog.verifier_failing(detail=verdict.detail)
        elif self._failing_since is not None:
            self._maillog.verifier_works(failed_seconds=now - self._failing_since)
            self._failing_since = None

    def _note(
        self,
        client: Client,
        result: Authentication,
        mechanism: Mechanism | None,
        login: str,
        detail: str,
    ) -> None:
        self._metrics.authentication(result)
        self._maillog.auth(
            client.session_id,
            result=result,
            client=client.address_text,
            listener=client.listener,
            mechanism=None if mechanism is None else mechanism.value,
            login=login or None,
            detail=detail or None,
        )

    @property
    def _now(self) -> float:
        return self._clock.monotonic()


def _cut(login: str) -> str:
    """As much of an unproved login as may be seen."""
    return f"{login[:SHOWN_OF_LOGIN]}***"
