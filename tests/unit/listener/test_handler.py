"""Values for the pipeline, replies for the session, and exceptions that end here."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from io import StringIO
from ipaddress import ip_address, ip_network
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mailshed.admission.sessions import Standing, Visitor
from mailshed.authentication.sasl import Credentials, Mechanism, credentials
from mailshed.config.policy import ListenerPolicy, ProxyMode, SessionLimits
from mailshed.errors import ClientGone, CredentialsError
from mailshed.listener.handler import MESSAGES_PER_TURN, Handler
from mailshed.listener.protocol import SmtpSession
from mailshed.listener.transaction import PendingTransaction
from mailshed.mail import reply
from mailshed.mail.address import PathArgument
from mailshed.mail.content import Content, ContentStore
from mailshed.mail.envelope import Client, Envelope
from mailshed.mail.networks import NetworkSet
from mailshed.mail.parameters import DeliverBy, MailParameters
from mailshed.mail.proxy_protocol import Endpoint
from mailshed.mail.reply import Reply
from mailshed.maillog import MailLog
from mailshed.metrics import Metrics, new_registry
from mailshed.supervisor import Supervisor
from mailshed.terms import ClientKind, Stage
from tests.support.builders import (
    OK,
    content_store,
    mailbox,
    recipient,
    relay_policy,
    session_limits,
)
from tests.support.clock import ManualClock
from tests.support.front import until

CLINICAL = ip_network("10.1.0.0/16")


@dataclass
class ScriptedPipeline:
    """Screening and pipeline in one, whose outcome is the test's."""

    outcome: Reply | BaseException = OK
    after: BaseException | None = None
    """What goes wrong when the client has its reply."""
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    envelopes: list[Envelope] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    is_client_gone: Callable[[], bool] = lambda: False
    failures: list[tuple[Envelope, BaseException]] = field(default_factory=list)
    asked: list[tuple[Client, bytes, bytes]] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    rejected: list[tuple[str, Stage, Reply, bytes, bytes | None]] = field(default_factory=list)
    discarded: list[tuple[Envelope, int, Reply | None]] = field(default_factory=list)
    delay: float = 0.0
    priorities: list[int | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.policies = SimpleNamespace(
            relay=relay_policy(trusted=("127.0.0.0/8", "10.0.0.0/8"), proxies=("10.9.0.0/16",)),
            clinical_networks=NetworkSet([CLINICAL]),
            is_clinical=lambda client: client.address in CLINICAL,
        )
        self.may_end.set()

    def on_rejected(
        self, client: Client, stage: Stage, answer: Reply, *, sender: bytes, recipient: bytes | None
    ) -> None:
        self.rejected.append((client.session_id, stage, answer, sender, recipient))

    def on_discarded(self, envelope: Envelope, size: int, answer: Reply | None) -> None:
        self.discarded.append((envelope, size, answer))

    def on_mail(self, client: Client, *, sender: bytes, priority: int | None) -> float:
        self.priorities.append(priority)
        self.asked.append((client, b"", sender))
        return self.delay

    def on_rcpt(
        self, client: Client, mailbox: Any, *, sender: bytes, waited: float, priority: int | None
    ) -> Reply | None:
        self.priorities.append(priority)
        self.asked.append((client, mailbox.raw, sender))
        self.waited.append(waited)
        return reply.RELAY_DENIED if mailbox.domain == "elsewhere.example" else None

    async def on_content(
        self,
        envelope: Envelope,
        content: Content,
        *,
        is_client_gone: Callable[[], bool],
        answer: Callable[[Reply], None],
    ) -> None:
        self.envelopes.append(envelope)
        self.is_client_gone = is_client_gone
        self.data.append(await content.read_head())
        await self.may_end.wait()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        answer(self.outcome)
        if self.after is not None:
            raise self.after

    def on_failure(self, envelope: Envelope, error: BaseException) -> None:
        self.failures.append((envelope, error))


@dataclass(eq=False)
class FakeSession:
    """What the handler reads of a session."""

    transport: Any
    envelope: PendingTransaction
    listener: str = "smtp"
    session: Any = field(
        default_factory=lambda: SimpleNamespace(host_name="client.example.org", extended_smtp=True)
    )
    is_client_gone: bool = False
    peer: Endpoint | None = None
    visitor: Visitor | None = None
    limits: SessionLimits = field(default_factory=session_limits)
    is_hurried: bool = False

    def hurry(self, *, is_hurried: bool) -> None:
        """Remember it."""
        self.is_hurried = is_hurried


@dataclass
class Bench:
    """A handler with everything around it within reach."""

    handler: Handler
    pipeline: ScriptedPipeline
    store: ContentStore
    supervisor: Supervisor
    clock: ManualClock
    metrics: Metrics
    failures: list[BaseException]

    def session(self, peer: tuple[Any, ...] | None = ("127.0.0.1", 40000)) -> SmtpSession:
        """A session as far as the handler looks at one, one recipient accepted."""
        transport = SimpleNamespace(get_extra_info=lambda _name: peer)
        pending = PendingTransaction()
        pending.mail = PathArgument(mailbox("alice@example.org"), (b"BODY=8BITMIME",))
        pending.recipients = [recipient("bob@example.net")]
        pending.started_at = 990.0
        return cast("SmtpSession", FakeSession(transport, pending))

    def connected(self, peer: tuple[Any, ...] = ("127.0.0.1", 40000)) -> SmtpSession:
        """A session that the handler knows."""
        session = self.session(peer)
        assert self.handler.connected(session) is None
        return session

    def content(self) -> Content:
        """A message of twelve octets."""
        content = self.store.new()
        assert content.write(b"Subject: x\r\n")
        return content

    async def hand_over(self, session: SmtpSession) -> Reply | None:
        """Hand a message over, and wait for the answer."""
        answers: list[Reply | None] = []
        self.handler.content(session, self.content(), answers.append)
        await until(lambda: bool(answers), "the message is answered")
        (answer,) = answers
        return answer

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        """The values of a counter that are not 0, by the values of its labels."""
        return {
            tuple(sample.labels.values()): sample.value
            for metric in self.metrics.collect()
            for sample in metric.samples
            if sample.name == name and sample.value
        }


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    failures: list[BaseException] = []
    pipeline, store, clock = ScriptedPipeline(), content_store(tmp_path), ManualClock()
    supervisor = Supervisor(lambda _name, error: failures.append(error))
    metrics = Metrics(new_registry())
    handler = Handler(
        screening=cast("Any", pipeline),
        pipeline=cast("Any", pipeline),
        contents=store,
        supervisor=supervisor,
        metrics=metrics,
        maillog=MailLog(StringIO()),
        clock=clock,
        rng=random.Random(7),
        client_kinds={"smtp": ClientKind.DEVICE},
    )
    yield Bench(handler, pipeline, store, supervisor, clock, metrics, failures)
    assert await supervisor.join(10.0) == 0
    assert (store.memory.used, store.disk.used) == (0, 0), "all mail data was closed"


# Who speaks.


@pytest.mark.parametrize(
    ("peer", "address", "is_trusted"),
    [
        (("127.0.0.1", 1), "127.0.0.1", True),
        (("192.0.2.7", 2), "192.0.2.7", False),
        (("::ffff:10.2.3.4", 3, 0, 0), "10.2.3.4", True),
        (("2001:db8::1", 4, 0, 0), "2001:db8::1", False),
        (("fe80::1%eth0", 5, 0, 2), "fe80::1", False),
    ],
)
async def test_a_client_is_known_by_its_address(
    bench: Bench, peer: tuple[Any, ...], address: str, *, is_trusted: bool
) -> None:
    """An IPv4 client on an IPv6 socket is an IPv4 client, and in its network."""
    client = bench.connected(peer).client
    assert client.address == ip_address(address)
    assert (client.port, client.is_trusted) == (peer[1], is_trusted)
    assert (client.kind, client.listener) == (ClientKind.DEVICE, "smtp")
    assert bench.counted("mailshed_smtp_connections_total") == {("smtp", "accepted"): 1}


async def test_each_session_has_its_own_id(bench: Bench) -> None:
    ids = {bench.connected().client.session_id for _ in range(20)}
    assert len(ids) == 20


async def test_session_ids_are_short_and_not_given_out_again_after_a_restart(bench: Bench) -> None:
    """Here a second after the first start, and at any time in the following decades."""
    ids = {bench.connected().client.session_id for _ in range(20)}
    for later in (2.0, 86400.0, 20 * 365 * 86400.0):
        clock = ManualClock(wall=bench.clock.wall() + later)
        again = replace_handler(bench, clock)
        for _ in range(20):
            session = bench.session()
            assert again.connected(session) is None
            ids.add(session.client.session_id)
    assert len(ids) == 80
    assert max(map(len, ids)) == len("s5KX2Q1-14")


def replace_handler(bench: Bench, clock: ManualClock) -> Handler:
    """The handler of the next run, with its own clock."""
    return Handler(
        screening=cast("Any", bench.pipeline),
        pipeline=cast("Any", bench.pipeline),
        contents=bench.store,
        supervisor=bench.supervisor,
        metrics=bench.metrics,
        maillog=MailLog(StringIO()),
        clock=clock,
        rng=random.Random(7),
        client_kinds={"smtp": ClientKind.DEVICE},
    )


async def test_a_client_that_left_before_we_looked_gets_no_session(bench: Bench) -> None:
    refused = bench.handler.connected(bench.session(peer=None))
    assert refused is reply.SHUTTING_DOWN
    assert bench.counted("mailshed_smtp_connections_total") == {}


async def test_sessions_are_known_while_they_are_open(bench: Bench) -> None:
    session = bench.connected()
    bench.handler.open_sessions = {session}
    bench.handler.disconnected(session)
    bench.handler.disconnected(session)
    assert bench.handler.open_sessions == set()


async def test_connections_over_a_cap_and_replies_are_counted(bench: Bench) -> None:
    visitor = stranger(bench)
    assert bench.handler.caps.enter(visitor, "smtp", session_limits(sessions_max=1)) is None
    refusal = bench.handler.caps.enter(visitor, "smtp", session_limits(sessions_max=1))
    assert refusal is reply.TOO_MANY_SESSIONS
    bench.handler.replied(bench.connected(), "rcpt", reply.RELAY_DENIED)
    assert bench.counted("mailshed_smtp_connections_total") == {
        ("smtp", "refused"): 1,
        ("smtp", "accepted"): 1,
    }
    assert bench.counted("mailshed_smtp_replies_total") == {
        ("smtp", "connect", "421"): 1,
        ("smtp", "rcpt", "554"): 1,
    }
    assert bench.counted("mailshed_smtp_connections_refused_total") == {("total",): 1}


async def test_a_session_that_ends_gives_its_place_back_once(bench: Bench) -> None:
    session = bench.connected()
    session.visitor = stranger(bench)
    assert bench.handler.caps.enter(session.visitor, "smtp", session.limits) is None
    bench.handler.disconnected(session)
    bench.handler.disconnected(session)
    assert bench.handler.caps.open == 0


@pytest.mark.parametrize(
    ("address", "proxy", "is_proxied", "standing"),
    [
        ("192.0.2.1", ProxyMode.NONE, False, Standing.STRANGER),
        ("10.2.0.1", ProxyMode.NONE, False, Standing.TRUSTED),
        ("10.1.0.1", ProxyMode.NONE, False, Standing.CLINICAL),
        ("10.9.0.1", ProxyMode.NONE, False, Standing.TRUSTED),
        ("10.9.0.1", ProxyMode.XCLIENT, False, Standing.PROXY),
        ("10.9.0.1", ProxyMode.PROXY_PROTOCOL, False, Standing.PROXY),
        ("10.9.0.1", ProxyMode.PROXY_PROTOCOL, True, Standing.TRUSTED),
        ("192.0.2.1", ProxyMode.PROXY_PROTOCOL, False, Standing.STRANGER),
    ],
)
async def test_only_a_trusted_proxy_may_speak_for_others_and_only_where_it_is_asked(
    bench: Bench, address: str, proxy: ProxyMode, is_proxied: bool, standing: Standing
) -> None:
    policy = ListenerPolicy(name="smtp", proxy=proxy)
    visitor = bench.handler.visitor(ip_address(address), policy, is_proxied=is_proxied)
    assert visitor == Visitor(ip_address(address), standing)


async def test_the_client_is_who_the_proxy_says_it_is(bench: Bench) -> None:
    session = bench.session(("10.9.0.1", 40000))
    session.peer = Endpoint(address=ip_address("192.0.2.7"), port=7)
    assert bench.handler.connected(session) is None
    assert (session.client.address_text, session.client.port) == ("192.0.2.7", 7)
    assert not session.client.is_trusted


async def test_under_stress_only_clients_that_nobody_vouches_for_are_hurried(bench: Bench) -> None:
    sessions = {
        "stranger": bench.connected(("192.0.2.1", 1)),
        "trusted": bench.connected(("10.2.0.1", 1)),
        "clinical": bench.connected(("10.1.0.1", 1)),
        "proxy": bench.connected(("192.0.2.1", 1)),
        "authenticated": bench.connected(("192.0.2.1", 1)),
    }
    sessions["proxy"].visitor = Visitor(ip_address("192.0.2.1"), Standing.PROXY)
    known = sessions["authenticated"]
    known.client = replace(known.client, user="alice", is_trusted=True)
    bench.handler.open_sessions.update(sessions.values())
    limits = session_limits(sessions_max=10)
    visitors = [stranger(bench) for _ in range(8)]
    for visitor in visitors:
        bench.handler.caps.enter(visitor, "smtp", limits)
    assert bench.handler.caps.is_stressed
    late = bench.connected(("192.0.2.2", 1))
    hurried = {name for name, session in sessions.items() if vars(session)["is_hurried"]}
    assert hurried == {"stranger"}
    assert vars(late)["is_hurried"]
    for visitor in visitors:
        bench.handler.caps.leave(visitor, limits)
    assert not any(vars(session)["is_hurried"] for session in sessions.values())


def stranger(bench: Bench) -> Visitor:
    """A client that nobody knows."""
    policy = ListenerPolicy(name="smtp")
    return bench.handler.visitor(ip_address("192.0.2.1"), policy, is_proxied=False)


# What it asks.


async def test_the_pipeline_says_whose_reply_is_late(bench: Bench) -> None:
    session = bench.connected()
    assert bench.handler.mail(session) is None, "there is no place for slow replies"
    assert bench.pipeline.asked == []
    bench.handler.slow_replies.limit = 1
    assert bench.handler.mail(session) is None
    bench.pipeline.delay = 0.001
    rest = bench.handler.mail(session)
    assert rest is not None
    await rest()
    assert bench.handler.slow_replies.total == 1
    assert bench.pipeline.asked == [(session.client, b"", b"alice@example.org")] * 2


async def test_the_pipeline_says_who_may_send_where(bench: Bench) -> None:
    session = bench.connected()
    session.envelope.waited = 1.5
    assert bench.handler.recipient(session, mailbox("bob@example.net")) is None
    refused = bench.handler.recipient(session, mailbox("eve@elsewhere.example"))
    assert refused is reply.RELAY_DENIED
    assert bench.pipeline.waited == [1.5, 1.5]
    alice = b"alice@example.org"
    assert bench.pipeline.asked == [
        (session.client, b"bob@example.net", alice),
        (session.client, b"eve@elsewhere.example", alice),
    ]


@pytest.mark.parametrize(
    ("stage", "argument", "sender", "recipient"),
    [
        (Stage.MAIL, b"FROM:<a@b> SIZE=99999999999", b"a@b", None),
        (Stage.MAIL, b"FROM:<> FOO", b"", None),
        (Stage.MAIL, b"FROM:a@b", b"a@b", None),
        (Stage.MAIL, b"nonsense", b"nonsense", None),
        (Stage.RCPT, b"TO:<b\xc3\xb6b@x>", b"alice@example.org", b"b\xc3\xb6b@x"),
        (Stage.RCPT, b"TO:<bob@x", b"alice@example.org", b"bob@x"),
    ],
)
async def test_a_refused_command_is_noted_with_what_is_known(
    bench: Bench, stage: Stage, argument: bytes, sender: bytes, recipient: bytes | None
) -> None:
    session = bench.connected()
    bench.handler.rejected(session, stage, argument, reply.TOO_LARGE)
    noted = (session.client.session_id, stage, reply.TOO_LARGE, sender, recipient)
    assert bench.pipeline.rejected == [noted]


async def test_discarded_mail_data_is_noted_under_the_session_id(bench: Bench) -> None:
    session = bench.connected()
    bench.handler.discarded(session, 77, reply.BARE_LINE_ENDING)
    ((envelope, size, answer),) = bench.pipeline.discarded
    assert envelope.queue_id == session.client.session_id
    assert (size, answer) == (77, reply.BARE_LINE_ENDING)
    assert envelope.sender == "<alice@example.org>"
    assert [each.mailbox.raw for each in envelope.recipients] == [b"bob@example.net"]
    assert envelope.started_at == 990.0


@pytest.mark.parametrize(("address", "is_privileged"), [("10.1.2.3", True), ("10.2.2.3", False)])
async def test_clinical_networks_may_use_the_reserved_room(
    bench: Bench, address: str, *, is_privileged: bool
) -> None:
    content = bench.handler.new_content(bench.connected((address, 1)))
    assert content._is_privileged is is_privileged
    content.close()


async def test_the_pipeline_gets_the_envelope_as_the_session_collected_it(bench: Bench) -> None:
    session = bench.connected()
    session.envelope.recipients.append(recipient("carol@example.net", b"NOTIFY=never"))
    bench.clock.advance(5.0)
    assert await bench.hand_over(session) is OK
    (envelope,) = bench.pipeline.envelopes
    assert envelope.client is session.client
    assert (envelope.helo, envelope.is_extended) == ("client.example.org", True)
    assert envelope.sender == "<alice@example.org>"
    assert envelope.parameters == (b"BODY=8BITMIME",)
    shown = [(each.mailbox.raw, each.parameters) for each in envelope.recipients]
    assert shown == [(b"bob@example.net", ()), (b"carol@example.net", (b"NOTIFY=never",))]
    assert envelope.received_wall == bench.clock.wall()
    assert (envelope.started_at, envelope.received_at) == (990.0, bench.clock.monotonic())
    assert bench.pipeline.data == [b"Subject: x\r\n"]


async def test_what_the_parameters_mean_goes_with_them(bench: Bench) -> None:
    session = bench.connected()
    by = DeliverBy(90, is_returned=True)
    session.envelope.meaning = MailParameters(priority=7, is_utf8=True, deliver_by=by)
    assert bench.handler.recipient(session, mailbox("bob@example.net")) is None
    assert bench.pipeline.priorities == [7]
    await bench.hand_over(session)
    (envelope,) = bench.pipeline.envelopes
    assert (envelope.priority, envelope.is_utf8, envelope.deliver_by) == (7, True, by)


async def test_the_mail_servers_behind_are_asked_what_they_offer(bench: Bench) -> None:
    assert not bench.handler.is_offered_behind("SMTPUTF8"), "nobody knows"


async def test_the_null_reverse_path_and_helo_arrive_as_such(bench: Bench) -> None:
    session = bench.connected()
    session.envelope.mail = PathArgument(None, ())
    assert session.session is not None
    session.session.extended_smtp = False
    await bench.hand_over(session)
    (envelope,) = bench.pipeline.envelopes
    assert (envelope.reverse_path, envelope.sender, envelope.is_extended) == (None, "<>", False)


async def test_the_envelope_does_not_change_with_the_session(bench: Bench) -> None:
    """The session may collect its next message while the outcome of this one is settled."""
    session = bench.connected()
    pending = session.envelope
    await bench.hand_over(session)
    pending.recipients.append(recipient("eve@example.net"))
    assert len(bench.pipeline.envelopes[0].recipients) == 1


async def test_queue_ids_are_distinct_and_sort_by_time(bench: Bench) -> None:
    session = bench.connected()
    for _ in range(10):
        await bench.hand_over(session)
        bench.clock.advance(1.0)
    ids = [envelope.queue_id for envelope in bench.pipeline.envelopes]
    assert ids == sorted(set(ids))


# How it ends.


async def test_a_client_that_is_gone_gets_no_reply(bench: Bench) -> None:
    bench.pipeline.outcome = ClientGone()
    assert await bench.hand_over(bench.connected()) is None
    assert bench.pipeline.failures == []


async def test_a_fault_is_451_and_noted_with_its_envelope(bench: Bench) -> None:
    bench.pipeline.outcome = error = RuntimeError("secret detail")
    assert await bench.hand_over(bench.connected()) is reply.INTERNAL
    assert bench.pipeline.failures == [(bench.pipeline.envelopes[0], error)]
    assert bench.failures == [], "the supervisor has nothing left to report"


async def test_the_pipeline_sees_whether_the_client_is_still_there(bench: Bench) -> None:
    session = bench.connected()
    await bench.hand_over(session)
    assert not bench.pipeline.is_client_gone()
    cast("Any", session).is_client_gone = True
    assert bench.pipeline.is_client_gone()


async def test_many_messages_that_end_together_are_begun_with_a_few_at_a_time(
    bench: Bench,
) -> None:
    """The loop turns in between; all are answered, and the first come first."""
    count, answers = 3 * MESSAGES_PER_TURN, list[Reply | None]()
    sessions = [bench.connected(("127.0.0.1", number)) for number in range(1, count + 1)]
    for session in sessions:
        bench.handler.content(session, bench.content(), answers.append)
    begun = []
    while len(answers) < count:
        await asyncio.sleep(0)
        begun.append(len(bench.pipeline.envelopes))
    steps = [after - before for before, after in pairwise([0, *begun])]
    assert max(steps) == MESSAGES_PER_TURN
    ports = [envelope.client.port for envelope in bench.pipeline.envelopes]
    assert ports == list(range(1, count + 1))
    assert answers == [OK] * count


async def test_the_reply_goes_to_the_session_at_once_and_only_once(bench: Bench) -> None:
    """The work may go on when the client has its reply, and fail then: nobody hears of that."""
    bench.pipeline.may_end.clear()
    bench.pipeline.after = RuntimeError("when all was said")
    answers: list[Reply | None] = []
    bench.handler.content(bench.connected(), bench.content(), answers.append)
    assert (len(bench.supervisor), bench.pipeline.envelopes) == (1, []), "it begins in its own turn"
    await until(lambda: len(bench.pipeline.data) == 1, "the work has begun")
    assert answers == []
    assert bench.store.memory.used > 0, "the mail data is still needed"
    bench.pipeline.may_end.set()
    assert await bench.supervisor.join(10.0) == 0
    assert answers == [OK]
    assert bench.store.memory.used == 0
    assert [error for _, error in bench.pipeline.failures] == [bench.pipeline.after]


async def test_work_is_named_for_its_message(bench: Bench) -> None:
    bench.pipeline.may_end.clear()
    bench.handler.content(bench.connected(), bench.content(), lambda _: None)
    await until(lambda: len(bench.pipeline.data) == 1, "the work has begun")
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert f"message {bench.pipeline.envelopes[0].queue_id}" in names
    bench.pipeline.may_end.set()
    assert await bench.supervisor.join(10.0) == 0


# Users.


class Doorman:
    """An authenticator that knows alice."""

    def __init__(self) -> None:
        self.asked: list[Client] = []

    async def authenticate(
        self, client: Client, said: Credentials | CredentialsError
    ) -> Client | Reply:
        self.asked.append(client)
        if isinstance(said, CredentialsError):
            return reply.AUTH_FAILED
        return replace(client, user=said.login, is_trusted=True)

    def may_send_as(self, client: Client, sender: Any) -> bool:
        return sender is None or str(sender).startswith(f"{client.user}@")


ALICE = credentials(Mechanism.LOGIN, (b"alice", b"x"))


async def test_a_client_that_has_proved_who_it_is_is_another(bench: Bench) -> None:
    bench.handler._authenticator = cast("Any", Doorman())
    session = bench.connected(("192.0.2.1", 40000))
    before = session.client

    assert await bench.handler.authenticate(session, CredentialsError("x")) is reply.AUTH_FAILED
    assert session.client is before
    assert await bench.handler.authenticate(session, ALICE) is reply.AUTHENTICATED
    assert (session.client.user, session.client.is_trusted) == ("alice", True)
    assert session.client.session_id == before.session_id


async def test_as_whom_it_may_send_is_asked_of_whoever_knows(bench: Bench) -> None:
    bench.handler._authenticator = cast("Any", Doorman())
    session = bench.connected()
    await bench.handler.authenticate(session, ALICE)

    assert bench.handler.sender(session) is None
    session.envelope.mail = PathArgument(mailbox("bob@example.org"), ())
    assert bench.handler.sender(session) is reply.SENDER_NOT_OWNED
    session.envelope.mail = PathArgument(None, ())
    assert bench.handler.sender(session) is None


async def test_where_nobody_can_be_asked_nobody_is_refused_for_good(bench: Bench) -> None:
    session = bench.connected()

    assert await bench.handler.authenticate(session, ALICE) is reply.AUTH_UNAVAILABLE
    assert bench.handler.sender(session) is None
