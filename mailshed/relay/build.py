"""From a backend's section of the configuration to what speaks with it.

A backend is a mail server or, for trials, a Maildir, which has every mailbox and is never away:
nobody asks it about either. All connections go to one address under one name; those for questions
(about mailboxes, or whether the backend is there again) have shorter timeouts than those for mail
and are not part of its pool. Building connects to nothing.
"""

import random
from collections.abc import Awaitable, Callable
from functools import partial

from mailshed.clock import Clock
from mailshed.config.back import Backend as Section
from mailshed.control.limit import Limit
from mailshed.mail.delivery import Deferred, TransactionResult
from mailshed.relay.backend import Backend, OutboundMessage
from mailshed.relay.call_ahead import CallAhead, question_timeouts
from mailshed.relay.connection import Address, Connection, open_connection
from mailshed.relay.gate import Gate
from mailshed.relay.maildir import MaildirBackend
from mailshed.relay.presets import PRESETS
from mailshed.relay.probe import Prober
from mailshed.relay.smtp import SmtpBackend
from mailshed.relay.verify import is_pressed

OnFailure = Callable[[str, BaseException], None]
"""Told when a task ends with an exception nobody expected, with the task's name."""


def target_of(section: Section) -> str:
    """Where mail goes, for people."""
    if section.maildir is not None:
        return f"Maildir {section.maildir}"
    assert section.host is not None, "the schema asks for a host or a Maildir"
    return host_port(section.host, section.port)


def host_port(host: str, port: int) -> str:
    """An endpoint as people write it, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def build_backend(
    section: Section,
    hostname: str,
    *,
    clock: Clock,
    on_result: Callable[[OutboundMessage, TransactionResult], None],
    on_crowded: Callable[[int], None],
) -> Backend:
    """What takes messages; `hostname` is our own name, the other two are as of `SmtpBackend`."""
    if section.maildir is not None:
        return MaildirBackend(section.name, section.maildir, hostname=hostname, clock=clock)
    assert section.host is not None, "the schema asks for a host or a Maildir"
    return SmtpBackend(
        section.name,
        section.host,
        section.port,
        hostname=hostname,
        connect_timeout=section.connect_timeout,
        command_timeout=section.command_timeout,
        dot_timeout=section.dot_timeout,
        idle_timeout=section.idle_timeout,
        messages_per_connection=section.messages_per_connection,
        clock=clock,
        on_result=on_result,
        on_crowded=on_crowded,
    )


def build_prober(section: Section, hostname: str, on_failure: OnFailure) -> Prober | None:
    """What asks a backend that is away; None for a Maildir."""
    connect = _connector(section, hostname)
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
    section: Section, hostname: str, *, gate: Gate, clock: Clock, on_failure: OnFailure
) -> CallAhead | None:
    """What asks the backend about recipients; None for a Maildir."""
    connect = _connector(section, hostname)
    if connect is None:
        return None
    pressed = partial(is_pressed, gate)
    return CallAhead(connect, is_pressed=pressed, clock=clock, on_failure=on_failure)


def _connector(
    section: Section, hostname: str
) -> Callable[[], Awaitable[Connection | Deferred]] | None:
    """What opens a connection for questions."""
    if section.host is None:
        return None
    address = Address(host=section.host, port=section.port, hostname=hostname)
    return partial(open_connection, address, question_timeouts(section.command_timeout))
