"""Is this recipient one that the backend takes? Asked at RCPT, answered from what is known.

The rules are in `admission.recipients`; this shell adds the clock, the waiting and the counting.
Nearly always the answer is in the cache, which deliveries fill for free (`learn`), and RCPT is
answered at once. For an address that nobody knows, `CallAhead` asks the backend; meanwhile the
session waits (`Later`), and how long depends on who is there:

- a trusted client, or one of a clinical network, for a moment (`wait_trusted` for all recipients of
  its transaction together). Then it is believed, since its mail can be reported if it fails. While
  the backend is short of room nothing is asked for it at all: a question costs the backend as much
  as the envelope of a message, and clinical mail must not wait for it.
- a stranger up to `wait_stranger`; then 450, and it comes back.

After a question that got no answer in time, nobody else waits: a breaker lets one question probe,
after 1, 2, 4 ... 30 seconds, and until one is answered everyone is treated as above, at once. While
the gate's own breaker is open, or the service stops, nothing is asked. None of this feeds limit or
breaker of the gate: questions are not mail.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from mailshed.admission.decision import Defer, Reject
from mailshed.admission.recipients import (
    ANY_ADDRESS,
    KNOWN,
    SLOW_SECONDS,
    CatchAlls,
    Finding,
    Known,
    Pace,
    RecipientCache,
    Unknown,
    UnknownBudget,
    Unsure,
    key_of,
    lesson_of,
    refusal,
    unverified,
)
from mailshed.clock import Clock
from mailshed.config.policy import VerificationPolicy
from mailshed.control.backoff import Backoff
from mailshed.mail import reply
from mailshed.mail.address import Mailbox, domain_of
from mailshed.mail.delivery import Delivered, TransactionResult
from mailshed.mail.envelope import Client
from mailshed.maillog import MailLog
from mailshed.metrics import Metrics
from mailshed.metrics.labels import Verification
from mailshed.relay.backend import OutboundMessage
from mailshed.relay.call_ahead import CallAhead
from mailshed.relay.gate import Gate

SILENCES_TO_TELL = 3
"""Silences in a row (some seven seconds) after which the log says that questions fail."""

Ruling = Reject | Defer | None
"""What RCPT is refused with; None: it is not."""
Later = Callable[[], Awaitable[Ruling]]
"""Call it to wait for the ruling."""

_UNLISTED = Unknown(reply.UNKNOWN_RECIPIENT)
_POSTMASTER = b"postmaster@"


@dataclass(eq=False, slots=True)
class Knowledge:
    """What is known of recipients and of those who ask for them, whichever backend said it."""

    entries_max: int
    cache: RecipientCache = field(init=False)
    catch_alls: CatchAlls = field(default_factory=CatchAlls)
    budget: UnknownBudget = field(default_factory=UnknownBudget)

    def __post_init__(self) -> None:
        self.cache = RecipientCache(self.entries_max)


def _any_domain(_: str) -> bool:
    return True


@dataclass(eq=False, slots=True)
class _Question:
    """A question that is out. `probe` is its number at the breaker, 0 if it is none."""

    key: bytes
    answer: "asyncio.Future[Finding]"
    asked_at: float
    probe: int
    has_failed: bool = False
    """Somebody has waited for it in vain, and the breaker knows."""
    waiting: int = 0
    """Sessions that wait for the answer."""


class RecipientVerifier:
    """Verifies the recipients of one backend.

    Without `call_ahead` (a Maildir has every mailbox) only a list of recipients is consulted. Where
    there are several backends, `knowledge` is common to all, and `serves` says which domains are
    this one's own; `name` is its name then, for the log.
    """

    def __init__(
        self,
        policy: VerificationPolicy,
        *,
        call_ahead: CallAhead | None,
        gate: Gate,
        metrics: Metrics,
        maillog: MailLog,
        clock: Clock,
        rng: random.Random,
        knowledge: Knowledge | None = None,
        serves: Callable[[str], bool] = _any_domain,
        name: str | None = None,
    ) -> None:
        self._name = name
        self._serves = serves
        self._call_ahead = call_ahead
        self._gate = gate
        self._metrics = metrics
        self._log = maillog
        self._clock = clock
        self._rng = rng
        known = Knowledge(policy.entries_max) if knowledge is None else knowledge
        self._cache, self._catch_alls, self._budget = known.cache, known.catch_alls, known.budget
        self._breaker = Backoff()
        self._questions: dict[bytes, _Question] = {}
        self._silences = 0
        self._first_silence = 0.0
        self.policy = policy

    @property
    def policy(self) -> VerificationPolicy:
        """What a reload replaces. What is known stays known."""
        return self._policy

    @policy.setter
    def policy(self, policy: VerificationPolicy) -> None:
        self._policy = policy
        self._cache.resize(policy.entries_max)
        self._is_calling = policy.is_calling and self._call_ahead is not None
        self._is_verifying = self._is_calling or policy.recipients is not None
        if self._call_ahead is not None:
            self._call_ahead.sender = policy.sender

    @property
    def cached(self) -> tuple[int, int]:
        """Addresses that are remembered, and how many may be."""
        return len(self._cache), self._cache.entries_max

    def stop(self) -> None:
        """Ask nothing more; sessions that wait for an answer get none."""
        if self._call_ahead is not None:
            self._call_ahead.stop()

    async def close(self) -> None:
        """Stop, and close the connections of questions."""
        if self._call_ahead is not None:
            await self._call_ahead.close()

    # At RCPT.

    def check(self, client: Client, mailbox: Mailbox, waited: float = 0.0) -> Ruling | Later:
        """Say whether mail for `mailbox` is taken; `Later` if somebody has to be asked first.

        `waited` is how long this transaction's recipients have waited already (seconds).
        """
        policy = self._policy
        if not self._is_verifying or mailbox.domain not in policy.domains:
            return None
        if policy.recipients is not None:
            return self._check_list(client, mailbox)
        if not mailbox.is_ascii:
            # Asked without SMTPUTF8, a server would refuse the script and not the mailbox.
            is_privileged = self._is_privileged(client)
            return None if self._gate.is_up else self._unverified(None, is_privileged=is_privileged)
        key = key_of(mailbox.raw)
        found = self._cache.look_up(key, self._clock.monotonic())
        if found is KNOWN:
            self._metrics.verification("cached_known")
            return None
        if isinstance(found, Unknown):
            return self._refuse(client, found, "cached_unknown")
        return self._check_unknown(client, mailbox, key, found, waited)

    def _check_list(self, client: Client, mailbox: Mailbox) -> Ruling | Later:
        """All mailboxes are listed, but for the one that RFC 5321, 4.5.1 demands."""
        path, recipients = mailbox.raw, self._policy.recipients
        assert recipients is not None
        if path in recipients or path[: len(_POSTMASTER)].lower() == _POSTMASTER:
            self._metrics.verification("listed")
            return None
        return self._refuse(client, _UNLISTED, "unlisted")

    def _check_unknown(
        self, client: Client, mailbox: Mailbox, key: bytes, found: Finding | None, waited: float
    ) -> Ruling | Later:
        """Nothing certain is known of it: ask the backend if that is possible now."""
        policy, domain = self._policy, mailbox.domain
        is_privileged = self._is_privileged(client)
        may_ask = not isinstance(found, Unsure) and self._may_ask(is_privileged=is_privileged)
        if self._catch_alls.accepts_all(domain):
            if may_ask:
                self._try_domain(domain)
            self._metrics.verification("accepts_all")
            return None
        question = self._questions.get(key)
        if may_ask and question is None:
            question = self._ask(key)
            self._try_domain(domain)
        wait = policy.wait_trusted - waited if is_privileged else policy.wait_stranger
        if question is None or question.has_failed or wait <= 0:
            return self._unverified(found, is_privileged=is_privileged)
        return partial(self._wait, client, question, wait, found, is_privileged=is_privileged)

    def _is_privileged(self, client: Client) -> bool:
        return client.is_trusted or client.address in self._policy.clinical_networks

    def _may_ask(self, *, is_privileged: bool) -> bool:
        gate = self._gate
        if gate.is_closed or not gate.is_up or (is_privileged and is_pressed(gate)):
            return False
        return self._breaker.may_enter(self._clock.monotonic())

    async def _wait(
        self,
        client: Client,
        question: _Question,
        wait: float,
        found: Finding | None,
        *,
        is_privileged: bool,
    ) -> Ruling:
        """Wait for the answer, for at most `wait` seconds; `found` is what was known before."""
        question.waiting += 1
        try:
            await asyncio.wait((question.answer,), timeout=wait)
        finally:
            question.waiting -= 1
        if not question.answer.done():
            self._note_silence(question, f"no answer within {wait:g} s")
            self._drop_if_in_the_way(question)
            return self._unverified(found, is_privileged=is_privileged)
        match question.answer.result():
            case Known():
                self._metrics.verification("known")
                return None
            case Unknown() as unknown:
                ruling = self._refuse(client, unknown, "unknown")
                return await ruling() if callable(ruling) else ruling
            case unsure:
                known = found if isinstance(found, Known) else unsure
                return self._unverified(known, is_privileged=is_privileged)

    def _unverified(self, found: Finding | None, *, is_privileged: bool) -> Defer | None:
        ruling = unverified(found, is_privileged=is_privileged)
        self._metrics.verification("unverified_taken" if ruling is None else "unverified_deferred")
        return ruling

    def _refuse(self, client: Client, unknown: Unknown, result: Verification) -> Ruling | Later:
        """There is no such mailbox; a stranger who asks for many such hears it late."""
        self._metrics.verification(result)
        if self._is_privileged(client):
            return refusal(unknown, Pace.AT_ONCE)
        pace = self._budget.spend(client.address, self._clock.monotonic(), self._policy)
        ruling = refusal(unknown, pace)
        return partial(_after, SLOW_SECONDS, ruling) if pace is Pace.SLOWLY else ruling

    # Asking.

    def _ask(self, key: bytes) -> _Question:
        """Send a question on its way; the answer is remembered whoever still waits for it."""
        assert self._call_ahead is not None
        now = self._clock.monotonic()
        is_entered = self._breaker.try_enter(now)
        assert is_entered, "the breaker said that somebody may enter"
        question = _Question(key, self._call_ahead.ask(key), now, self._breaker.probe)
        self._questions[key] = question
        question.answer.add_done_callback(partial(self._answered, question))
        return question

    def _answered(self, question: _Question, answer: "asyncio.Future[Finding]") -> None:
        del self._questions[question.key]
        found, now = answer.result(), self._clock.monotonic()
        if isinstance(found, Unsure) and found.reply is None:
            self._note_silence(question, found.detail)
            return
        self._breaker.on_success()
        self._note_answers(now)
        self._metrics.call_ahead(now - question.asked_at)
        self._cache.remember(question.key, found, now, self._policy)

    def _drop_if_in_the_way(self, question: _Question) -> None:
        """An answer that nobody waits for is worth having, but not while the mail needs room."""
        if not question.waiting and is_pressed(self._gate):
            assert self._call_ahead is not None
            self._call_ahead.settle(question.key, Unsure(None))

    def _note_silence(self, question: _Question, detail: str) -> None:
        """Nobody is to wait for the next questions; told once for each question."""
        if question.has_failed or self._gate.is_closed:
            return
        question.has_failed = True
        now = self._clock.monotonic()
        self._breaker.on_failure(now, self._rng.random(), question.probe)
        if not (self._silences == 0 or question.probe):
            return  # asked before the breaker opened: it says nothing new
        self._first_silence = self._first_silence if self._silences else now
        self._silences += 1
        if self._silences == SILENCES_TO_TELL and self._gate.is_up:
            self._log.call_ahead_failing(detail=detail, backend=self._name)

    def _note_answers(self, now: float) -> None:
        if self._silences >= SILENCES_TO_TELL:
            failed = now - self._first_silence
            self._log.call_ahead_works(failed_seconds=failed, backend=self._name)
        self._silences = 0

    def _try_domain(self, domain: str) -> None:
        """Find out whether the backend takes any address, if due: ask about one nobody has."""
        assert self._call_ahead is not None
        if self._catch_alls.begin(domain, self._clock.monotonic()):
            local = f"no-such-mailbox-{self._rng.getrandbits(64):016x}"
            answer = self._call_ahead.ask(f"{local}@{domain}".encode())
            answer.add_done_callback(partial(self._domain_tried, domain))

    def _domain_tried(self, domain: str, answer: "asyncio.Future[Finding]") -> None:
        is_news = self._catch_alls.conclude(domain, answer.result(), self._clock.monotonic())
        if is_news and self._catch_alls.accepts_all(domain):
            self._log.catch_all_found(domain)
            self._settle_domain(domain)
        elif is_news:
            self._log.catch_all_gone(domain)

    def _settle_domain(self, domain: str) -> None:
        """Answer the questions about a domain that takes every address: nobody need wait for it."""
        assert self._call_ahead is not None
        end = f"@{domain}".encode()
        for key in [each for each in self._questions if each.endswith(end)]:
            self._call_ahead.settle(key, ANY_ADDRESS)

    # From deliveries.

    def learn(self, message: OutboundMessage, result: TransactionResult) -> None:
        """Remember what the end of a delivery says of its recipients."""
        if not self._is_calling:
            return
        policy, now = self._policy, self._clock.monotonic()
        # Nearly always the mailbox is known, and known for long: then there is nothing to do.
        long_enough = now + policy.positive_ttl / 2
        for (path, _), fared in zip(message.recipients, result.recipients, strict=True):
            key = key_of(path)
            if isinstance(fared, Delivered) and self._cache.is_known_until(key, long_enough):
                continue
            lesson = lesson_of(fared)
            if lesson is None:
                continue
            domain = domain_of(key)
            if domain in policy.domains and self._serves(domain):
                self._cache.remember(key, lesson, now, policy)


def is_pressed(gate: Gate) -> bool:
    """Whether the backend is short of room: all slots are in use, or somebody waits for one."""
    return gate.waiting > 0 or gate.in_flight >= gate.limit


async def _after(seconds: float, ruling: Ruling) -> Ruling:
    await asyncio.sleep(seconds)
    return ruling
