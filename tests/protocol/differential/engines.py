"""The two engines, each between a client and a mail server of its own, and what came of a session.

Both stand on the same path (handler, pipeline, gate, journal, a spool in memory); only what holds
the dialogs differs, in front and behind. The mail server does as the addresses say, so that its
script does not depend on how often it is asked::

    MAIL FROM:<dot-451@example.org>       it says 451 to the final dot
    RCPT TO:<rcpt-550-7@example.net>      and 550 to this recipient

A client's step is one write: commands, or a `Text` (mail data with its dot, and perhaps commands
behind it), which is sent only after a 354. The next step follows when all replies have come.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from mailshed.clock import SystemClock
from mailshed.listener.server import Factory, SessionFactory
from mailshed.listener.stock import StockFactory
from mailshed.relay.backend import Backend
from mailshed.relay.connection import Address, Timeouts
from mailshed.relay.smtp import SmtpBackend
from mailshed.relay.stock import StockBackend
from mailshed.terms import QueueId, Stage
from tests.support.builders import content_store, relay_policy
from tests.support.front import DEADLINE, HOSTNAME, Front, Peer, until
from tests.support.live_path import LivePath
from tests.support.scripted_backend import (
    CLOSE,
    RESET,
    Action,
    ScriptedBackend,
    Session,
    bye,
    say,
)

VERDICTS: dict[str, Action] = {
    "550": say("550 5.7.1 no"),
    "554": say("554-5.7.1 no,", "554-5.7.1 für niemanden", "554 5.7.1 at all"),
    "450": say("450 4.2.0 later"),
    "451": say("451 not now"),
    "452": say("452-4.3.1 no room", "452 4.3.1 left"),
    "421": bye("421 4.3.2 going down"),
    "close": CLOSE,
    "reset": RESET,
    "long": say(f"550 5.7.1 {400 * 'x'}"),
}
"""What the mail server does where an address says so."""

ODD: dict[str, Action] = {
    "spaces": say("550 5.7.1  two here, one there "),
    "252": say("252 2.0.0 perhaps"),
}
"""The same, where the engines do not agree about it."""

NO_RECIPIENTS = say("554 5.5.1 no valid recipients")
_ADDRESSED = re.compile(rb"<(mail|rcpt|data|dot)-([a-z0-9]+)[-@]")
_STAGES = {b"mail": Stage.MAIL, b"rcpt": Stage.RCPT, b"data": Stage.DATA, b"dot": Stage.DOT}
_TRACE = re.compile(
    rb"\A(Received: [^\r]*\r\n\t[^\r]* id )[0-9A-Z]+((?:\r\n\t[^\r]*)?;\r\n\t)[^\r]*"
)
_QUEUED = re.compile(rb"queued as [0-9A-Za-z]+")


class AddressedBackend(ScriptedBackend):
    """A mail server that is told by the addresses what to do; see the module."""

    def __init__(self) -> None:
        super().__init__()
        self._script: dict[Stage, Action] = {}

    async def _mail(self, session: Session, argument: bytes) -> None:
        self._script = {}
        self._read(argument)
        await super()._mail(session, argument)

    async def _rcpt(self, session: Session, argument: bytes) -> None:
        self._script.pop(Stage.RCPT, None)
        self._read(argument)
        await super()._rcpt(session, argument)

    def _read(self, argument: bytes) -> None:
        if match := _ADDRESSED.search(argument):
            self._script[_STAGES[match[1]]] = (VERDICTS | ODD)[match[2].decode()]

    def _action(self, stage: Stage, plain: Action) -> Action:
        return plain if plain == NO_RECIPIENTS else self._script.get(stage, plain)


@dataclass(frozen=True, slots=True)
class Text:
    """Mail data on the wire with its dot, and perhaps commands behind that."""

    wire: bytes


Step = bytes | Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a client does."""

    steps: Sequence[Step]
    cuts: Callable[[int], tuple[int, ...]] = field(default=lambda _octets: ())
    """Where a write of so many octets is cut."""
    is_trusted: bool = True


@dataclass(frozen=True, slots=True)
class Exchange:
    """A command line, or None for mail data, and the reply; empty if the session ended instead."""

    said: bytes | None
    reply: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A message in the spool, but for its id and its times."""

    reason: str
    reverse_path: bytes
    recipients: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a session."""

    exchanges: list[Exchange]
    received: list[tuple[bytes, list[bytes], bytes, bool]]
    """By the mail server: envelope, mail data with our trace masked, whether it was accepted."""
    senders: list[bytes]
    """What MAIL said to it."""
    kept: list[Kept]


@dataclass(frozen=True, slots=True)
class Engine:
    """What holds the dialogs."""

    new_factory: Callable[..., Factory]
    new_backend: Callable[[Address, Timeouts], Backend]


def _own_backend(address: Address, timeouts: Timeouts) -> Backend:
    return SmtpBackend(
        "scripted",
        address,
        connect_timeout=timeouts.connect,
        command_timeout=timeouts.command,
        dot_timeout=timeouts.dot,
        idle_timeout=60.0,
        messages_per_connection=100,
        clock=SystemClock(),
    )


def _stock_backend(address: Address, timeouts: Timeouts) -> Backend:
    return StockBackend(
        "scripted", address, timeouts, clock=SystemClock(), on_result=lambda _message, _result: None
    )


OWN = Engine(SessionFactory, _own_backend)
STOCK = Engine(StockFactory, _stock_backend)


async def hold(engine: Engine, script: Script, folder: Path, **limits: Any) -> Outcome:
    """Hold a session with everything of its own, and wait until nothing of it is under way."""
    async with AddressedBackend() as server:
        address = Address(host="127.0.0.1", port=server.port, hostname=HOSTNAME)
        backend = engine.new_backend(address, Timeouts(connect=DEADLINE, command=5.0, dot=5.0))
        path = LivePath(
            folder,
            behind=backend,
            relay=relay_policy(trusted=("127.0.0.0/8",) if script.is_trusted else ()),
            contents=content_store(folder, memory_per_message=1 << 20),
        )
        front = Front(path.handler, **({"errors_max": 1000} | limits))
        front.new_factory = engine.new_factory
        async with front:
            peer = await front.peer(greeted=False)
            exchanges = [Exchange(b"", await peer.reply())]
            for step in script.steps:
                exchanges += await _play(peer, step, script, exchanges[-1].reply[:3])
                if not exchanges[-1].reply:
                    break
            peer.close()
            await until(lambda: path.is_at_rest, "the session has ended and left nothing")
        await backend.close()
        assert path.failures == []
        kept = [_kept(path, queue_id) for queue_id in path.spool.added]
    return Outcome(
        exchanges=[
            Exchange(each.said, _QUEUED.sub(b"queued as X", each.reply)) for each in exchanges
        ],
        received=[
            (each.reverse_path, each.forward_paths, masked(each.data), each.is_accepted)
            for each in server.received
        ],
        senders=_senders(server.commands),
        kept=kept,
    )


async def _play(peer: Peer, step: Step, script: Script, code: bytes) -> list[Exchange]:
    """Do one step after a reply with `code`; what was exchanged."""
    said: list[bytes | None]
    if isinstance(step, Text):
        if code != b"354":
            return []
        octets = step.wire
        behind = (b"\r\n" + octets).partition(b"\r\n.\r\n")[2]
        said = [None, *behind.splitlines()]
    else:
        octets = step
        said = [*octets.splitlines()]
    await peer.send(octets, cuts=script.cuts(len(octets)))
    exchanges: list[Exchange] = []
    for each in said:
        exchanges.append(Exchange(each, await peer.reply()))
        if not exchanges[-1].reply:
            break
    return exchanges


def _kept(path: LivePath, queue_id: QueueId) -> Kept:
    record = path.spool.record(queue_id)
    return Kept(
        reason=record.reason.value,
        reverse_path=record.reverse_path,
        recipients=tuple(each.address for each in record.recipients),
        data=masked(path.spool.raw_content(queue_id)),
    )


def masked(data: bytes) -> bytes:
    """Mail data without what differs from one run to the next in our trace line: id and date."""
    return _TRACE.sub(rb"\1ID\2DATE", data)


def _senders(commands: Sequence[bytes]) -> list[bytes]:
    """What MAIL said, its parameters in upper case as the library has them.

    Once, where our engine said it again over a new connection since the old one had died.
    """
    parts = (each.rpartition(b">") for each in commands if each.startswith(b"MAIL"))
    said = (path + bracket + parameters.upper() for path, bracket, parameters in parts)
    return [sender for sender, _ in groupby(said)]
