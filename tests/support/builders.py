"""Values for tests: each builder makes a whole, plausible object; a test names what matters to it.

Addresses and domains are those of RFC 2606; networks are those of RFC 5737. The classes are the
shipped ones that tests speak of most, with their shipped numbers.
"""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import count
from pathlib import Path
from typing import Any

from mailshed.classification.subject import Subject, subject_of
from mailshed.config.policy import (
    ClassificationPolicy,
    RelayPolicy,
    Rule,
    SessionLimits,
    VerificationPolicy,
)
from mailshed.mail.address import Mailbox, parse_mailbox
from mailshed.mail.content import Budget, ContentStore
from mailshed.mail.delivery import Deferred, Delivered, DeliveryResult, TransactionResult, everyone
from mailshed.mail.domains import DomainSet
from mailshed.mail.envelope import RANDOM_BITS, Client, Envelope, Recipient, make_queue_id
from mailshed.mail.header import HeaderView
from mailshed.mail.networks import NetworkSet
from mailshed.mail.reply import Reply, make
from mailshed.relay.backend import OutboundMessage
from mailshed.spool.store import SpoolRecipient, SpoolRecord
from mailshed.terms import ClientKind, QueueId, Reason, Stage, TrafficClass

WALL = 1_700_000_000.0
"""The instant of arrival of everything that is built here, unless the test says another."""

_queue_numbers = count(1)


def traffic_class(name: str = "personal", rank: int = 1, **changes: Any) -> TrafficClass:
    """A class that may use the whole limit and waits 10 s for a mail server, 5 s for a person."""
    made = TrafficClass(
        name=name,
        rank=rank,
        threshold=1.0,
        wait_max_mta=10.0,
        wait_max_user_agent=5.0,
        objective=120.0,
    )
    return replace(made, **changes)


CLINICAL = traffic_class("clinical", 0, wait_max_mta=2.0, wait_max_user_agent=2.0, objective=10.0)
PERSONAL = traffic_class("personal", 1, threshold=0.95, guarantee=0.2, weight=8.0, defer_fill=0.9)
TELEWORK = traffic_class(
    "telework",
    4,
    threshold=0.8,
    wait_max_mta=5.0,
    wait_max_user_agent=3.0,
    objective=900.0,
    guarantee=0.1,
    weight=3.0,
    defer_fill=0.7,
    defers_over_quota=True,
)
BULK = traffic_class(
    "bulk",
    5,
    threshold=0.6,
    wait_max_mta=0.0,
    wait_max_user_agent=0.0,
    objective=14400.0,
    defer_fill=0.5,
    defers_over_quota=True,
)
CLASSES = (CLINICAL, PERSONAL, TELEWORK, BULK)


def queue_id(wall: float = WALL) -> QueueId:
    """A queue id that no other call returns."""
    return make_queue_id(wall, next(_queue_numbers) % 2**RANDOM_BITS)


def mailbox(address: str = "alice@example.org") -> Mailbox:
    """A mailbox as the listener's parser makes it."""
    return parse_mailbox(address, is_utf8=True)


def recipient(address: str = "bob@example.net", *parameters: bytes) -> Recipient:
    """One forward-path."""
    return Recipient(mailbox=mailbox(address), parameters=parameters)


def client(address: str = "192.0.2.1", **changes: Any) -> Client:
    """A mail server in nobody's trusted network."""
    made = Client(
        session_id="s1",
        listener="smtp",
        address=ip_address(address),
        port=40000,
        is_trusted=False,
        kind=ClientKind.MTA,
    )
    return replace(made, **changes)


def envelope(
    *to: str, sender: str | None = "alice@example.org", wall: float = WALL, **changes: Any
) -> Envelope:
    """A transaction by EHLO from `sender` (None: the null reverse-path) to `to`, or to Bob."""
    made = Envelope(
        queue_id=queue_id(wall),
        client=client(),
        helo="client.example.org",
        is_extended=True,
        reverse_path=None if sender is None else mailbox(sender),
        recipients=tuple(recipient(address) for address in to or ("bob@example.net",)),
        received_wall=wall,
    )
    return replace(made, **changes)


def wire(body: str = "Hello.", **fields: str) -> bytes:
    """Mail data in wire form: the header `fields` (`_` stands for `-`) and a body, dot-stuffed."""
    shown = {"From": "alice@example.org", "Subject": "test"} | fields
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in shown.items()]
    lines += ["", *body.splitlines()]
    stuffed = ["." + line if line.startswith(".") else line for line in lines]
    return "".join(line + "\r\n" for line in stuffed).encode("latin-1")


def content_store(
    folder: Path,
    *,
    memory: int = 1 << 20,
    disk: int = 1 << 24,
    memory_per_message: int = 256 * 1024,
) -> ContentStore:
    """A place for mail data with budgets of a size for tests."""
    return ContentStore(
        memory=Budget(memory),
        disk=Budget(disk),
        memory_per_message=memory_per_message,
        folder=folder,
    )


def subject(
    *to: str, sender: str | None = "alice@example.org", head: bytes = b"\r\n", **changes: Any
) -> Subject:
    """A complete message with this header section; `changes` are those of the subject itself."""
    made = subject_of(envelope(*to, sender=sender), HeaderView(head), size=len(head))
    return replace(made, **changes)


def rule(name: str = "rule", names: TrafficClass = BULK, **conditions: Any) -> Rule:
    """A rule that names class `names`; networks may be given as text."""
    for key in ("client_networks", "not_client_networks"):
        if key in conditions:
            conditions[key] = tuple(ip_network(network) for network in conditions[key])
    return Rule(name=name, traffic_class=names, **conditions)


def classification_policy(
    *rules: Rule, default: TrafficClass = PERSONAL, classes: Sequence[TrafficClass] = CLASSES
) -> ClassificationPolicy:
    """The shipped classes with these rules."""
    return ClassificationPolicy(classes=tuple(classes), rules=rules, default=default)


def relay_policy(
    *domains: str, trusted: Sequence[str] = ("127.0.0.0/8",), proxies: Sequence[str] = ()
) -> RelayPolicy:
    """Anyone may send to `domains` (by default example.net), `trusted` networks to all."""
    return RelayPolicy(
        domains=DomainSet(domains or ("example.net",)),
        trusted_networks=NetworkSet(ip_network(network) for network in trusted),
        trusted_proxies=NetworkSet(ip_network(network) for network in proxies),
    )


def verification_policy(*domains: str, **changes: Any) -> VerificationPolicy:
    """The backend is asked about recipients in `domains` (by default example.net); as shipped."""
    made = VerificationPolicy(
        domains=DomainSet(domains or ("example.net",)),
        is_calling=True,
        recipients=None,
        sender=b"",
        wait_trusted=2.0,
        wait_stranger=5.0,
        positive_ttl=86400.0,
        negative_ttl=600.0,
        entries_max=1000,
        unknown_max=20,
        unknown_window=600.0,
        clinical_networks=NetworkSet(),
    )
    return replace(made, **changes)


def session_limits(**changes: Any) -> SessionLimits:
    """Bounds that no ordinary dialog meets."""
    made = SessionLimits(
        sessions_max=100,
        sessions_per_address=1_000_000,
        sessions_per_trusted_address=1_000_000,
        sessions_per_network=1_000_000,
        connection_rate_max=0,
        message_size_max=1 << 20,
        recipients_max=100,
        errors_max=20,
        command_timeout=60.0,
        line_timeout=60.0,
        reply_timeout=60.0,
        session_idle_max=3600.0,
        proxy_timeout=5.0,
        stress_timeout=10.0,
        stress_errors_max=3,
        data_timeout=60.0,
        data_rate_min=0,
        data_rate_grace=60.0,
        line_octets_max=0,
        normalize_networks=NetworkSet(),
    )
    return replace(made, **changes)


OK = make(250, "2.0.0 Ok: queued as 12345")
BUSY = make(450, "4.2.0 Mailbox busy")
REFUSED = make(550, "5.1.1 No such user")


def delivered(recipients: int = 1, answer: Reply = OK) -> TransactionResult:
    """The backend took the message for everyone."""
    return TransactionResult(recipients=everyone(Delivered(answer), recipients))


def deferred(
    recipients: int = 1, answer: Reply | None = BUSY, stage: Stage = Stage.RCPT
) -> TransactionResult:
    """The backend said 4xx to everyone; `answer` None: it broke off without a word."""
    return TransactionResult(recipients=everyone(Deferred(stage, answer), recipients))


def away(recipients: int = 1) -> TransactionResult:
    """There was no dialog with the backend."""
    result: DeliveryResult = Deferred(Stage.CONNECT, None, "connection refused")
    return TransactionResult(recipients=everyone(result, recipients), is_backend_away=True)


def outbound(data: bytes = b"Subject: test\r\n\r\nHello.\r\n", **changes: Any) -> OutboundMessage:
    """A message with one recipient and its content in memory, as a backend is to receive it."""
    made = OutboundMessage(
        queue_id=queue_id(),
        reverse_path=b"alice@example.org",
        recipients=((b"bob@example.net", ()),),
        size=len(data),
        in_memory=[data],
    )
    return replace(made, **changes)


def spool_record(
    *to: str, names: TrafficClass = PERSONAL, wall: float = WALL, **changes: Any
) -> SpoolRecord:
    """A message that was spooled at `wall` since no slot came free; it is due at once."""
    made = SpoolRecord(
        queue_id=queue_id(wall),
        traffic_class=names.name,
        rank=names.rank,
        reverse_path=b"alice@example.org",
        recipients=tuple(
            SpoolRecipient(index=index, address=address.encode())
            for index, address in enumerate(to or ("bob@example.net",))
        ),
        received_wall=wall,
        expires_wall=wall + 4 * 86400,
        next_attempt_wall=wall,
        reason=Reason.SATURATED,
        client_address="192.0.2.1",
        helo="client.example.org",
        is_trusted=True,
    )
    return replace(made, **changes)
