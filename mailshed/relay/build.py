"""From a backend's section of the configuration to what speaks with it.

A backend is a mail server or, for trials, a Maildir, which has every mailbox and is never away:
nobody asks it about either. All connections go to one address under one name; those for questions
(about mailboxes, or whether the backend is there again) have shorter timeouts than those for mail
and are not part of its pool. Building connects to nothing.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from mailshed.clock import Clock
from mailshed.config.back import Backend as Section
from mailshed.control.limit import Limit
from mailshed.mail.delivery import Deferred, TransactionResult
from mailshed.maillog import MailLog
from mailshed.relay.backend import Backend, OutboundMessage
from mailshed.relay.call_ahead import CallAhead, question_timeouts
from mailshed.relay.connection import Address, Connection, Timeouts, open_connection
from mailshed.relay.gate import Gate
from mailshed.relay.maildir import MaildirBackend
from mailshed.relay.manner import Identity, Manner
from mailshed.relay.presets import PRESETS
from mailshed.relay.probe import Prober
from mailshed.relay.security import BackendTls, Security, SecurityPolicy
from mailshed.relay.smtp import SmtpBackend
from mailshed.relay.stock import StockBackend
from mailshed.relay.verify import is_pressed

OnFailure = Callable[[str, BaseException], None]
"""Told when a task ends with an exception nobody expected, with the task's name."""


def target_of(section: Section) -> str:
    """Where mail goes, for people."""
    if section.maildir is not None:
        return f"Maildir {section.maildir}"
    if section.socket is not None:
        return f"socket {section.socket}"
    assert section.host is not None, "the schema asks for one of the three"
    return host_port(section.host, section.port)


def host_port(host: str, port: int) -> str:
    """An endpoint as people write it, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def build_address(
    section: Section,
    hostname: str,
    *,
    clock: Clock,
    maillog: MailLog,
    on_hello: Callable[[Sequence[str]], None],
) -> Address | None:
    """Where the backend is and how it is spoken to; None for a Maildir, which is not.

    `hostname` is our own name, `on_hello` is told what the server offers. The files that the
    section names are not read yet, see `Security`.
    """
    if section.maildir is not None:
        return None
    is_network = section.socket is None
    host = section.host or ""
    policy = SecurityPolicy(
        tls=BackendTls(section.tls) if is_network else BackendTls.NONE,
        is_verified=section.tls_verify is not False,
        name=section.tls_name or host,
        ca_file=section.ca_file,
        credentials_file=section.credentials_file,
    )
    security = Security(
        policy,
        clock=clock,
        on_clear=partial(_tell_clear, maillog, section.name),
        on_login_refused=partial(_tell_login_refused, maillog, section.name),
    )
    return Address(
        host=host,
        port=section.port,
        socket=section.socket,
        protocol=section.protocol,
        hostname=hostname,
        proxy_protocol=section.proxy_protocol,
        security=security,
        on_hello=on_hello,
    )


def _tell_clear(maillog: MailLog, backend: str, detail: str, seconds: float) -> None:
    maillog.backend_in_clear(backend, detail=detail, next_try_seconds=seconds)


def _tell_login_refused(maillog: MailLog, backend: str, detail: str, seconds: float) -> None:
    maillog.backend_login_refused(backend, detail=detail, next_try_seconds=seconds)


def _tell_identity(maillog: MailLog, backend: str, detail: str) -> None:
    if detail:
        maillog.backend_identity_refused(backend, detail=detail)
    else:
        maillog.backend_identity_taken(backend)


def build_backend(
    section: Section,
    hostname: str,
    address: Address | None,
    *,
    clock: Clock,
    on_result: Callable[[OutboundMessage, TransactionResult], None],
    on_crowded: Callable[[int], None],
    maillog: MailLog,
) -> Backend:
    """What takes messages; `hostname` is our own name, the others are as of `SmtpBackend`."""
    if section.maildir is not None:
        return MaildirBackend(section.name, section.maildir, hostname=hostname, clock=clock)
    assert address is not None, "only a Maildir has none"
    return SmtpBackend(
        section.name,
        address,
        connect_timeout=section.connect_timeout,
        command_timeout=section.command_timeout,
        dot_timeout=section.dot_timeout,
        idle_timeout=section.idle_timeout,
        messages_per_connection=section.messages_per_connection,
        clock=clock,
        on_result=on_result,
        on_crowded=on_crowded,
        manner=Manner(
            is_lmtp=section.protocol == "lmtp",
            identity=Identity(section.identity),
            is_chunking=section.chunking == "auto",
        ),
        on_trouble=partial(_tell_identity, maillog, section.name),
    )


def build_stock_backend(
    section: Section,
    hostname: str,
    address: Address | None,
    *,
    clock: Clock,
    on_result: Callable[[OutboundMessage, TransactionResult], None],
    **others: Any,
) -> Backend:
    """The same, with aiosmtplib's own client for a server; a Maildir has no dialog."""
    if address is None:
        return build_backend(section, hostname, address, clock=clock, on_result=on_result, **others)
    timeouts = Timeouts(
        connect=section.connect_timeout, command=section.command_timeout, dot=section.dot_timeout
    )
    return StockBackend(section.name, address, timeouts, clock=clock, on_result=on_result)


def build_prober(section: Section, address: Address | None, on_failure: OnFailure) -> Prober | None:
    """What asks a backend that is away; None for a Maildir."""
    connect = _connector(section, address)
    if connect is None:
        return None
    return Prober(connect, on_failure=on_failure, preset=PRESETS[section.preset])


def build_gate(
    section: Section, *, limit: Limit, prober: Prober | None, clock: Clock, rng: random.Random
) -> Gate:
    """The door to the backend."""
    preset = PRESETS[section.preset]
    return Gate(limit=limit, clock=clock, rng=rng, preset=preset, prober=prober)


def build_call_ahead(
    section: Section,
    address: Address | None,
    *,
    gate: Gate,
    clock: Clock,
    on_failure: OnFailure,
) -> CallAhead | None:
    """What asks the backend about recipients; None for a Maildir."""
    connect = _connector(section, address)
    if connect is None:
        return None
    pressed = partial(is_pressed, gate)
    return CallAhead(connect, is_pressed=pressed, clock=clock, on_failure=on_failure)


def _connector(
    section: Section, address: Address | None
) -> Callable[[], Awaitable[Connection | Deferred]] | None:
    """What opens a connection for questions."""
    if address is None:
        return None
    return partial(open_connection, address, question_timeouts(section.command_timeout))
