"""An open-loop load generator: messages leave at their time, whether earlier ones are done or not.

A closed loop (next message after the last reply) slows down with the server and so hides overload;
people and machines who send mail do not wait for one another. Arrivals are Poisson with a seed, the
mix of classes is by share, every message has its own connection, as user agents make it.

Each message is one lock-step SMTP dialog written out here, so that the moment after which the
message may have been taken (the final dot) is known exactly. Times are Unix times.
"""

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.support.corpus import dot_stuffed
from tests.support.ledger import Fate, Ledger

DOMAIN = "hospital.example"
"""Recipients' domain; the identity of a message is the local part."""

CLASS_SENDERS: Mapping[str, str] = {
    "clinical": "lab@clinical.example",
    "personal": "someone@personal.example",
    "telework": "someone@telework.example",
    "bulk": "news@newsletter.example",
}
"""The reverse-path by which the tests' configuration knows a class (bulk has a List-Id besides)."""

PATIENCE = 300.0
"""Seconds that a client waits for a reply; a client that runs out of it fails the test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message to one recipient; `due` is in seconds after the start of the load."""

    identity: str
    sender: str
    wire: bytes
    traffic_class: str = "personal"
    due: float = 0.0
    is_undeliverable: bool = False
    """Whether the mail server does not know the mailbox; then its sender is to be told."""

    @property
    def stored(self) -> bytes:
        """What a Maildir must have of it."""
        return self.wire.replace(b"\r\n", b"\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What its client saw."""

    message: Message
    fate: Fate
    reply: str
    """The last reply, or the error that ended the connection."""
    started: float
    ended: float
    dot_at: float | None = None
    """When the final dot was sent; None if it never was."""


def make_message(
    identity: str, traffic_class: str, octets: int = 2048, due: float = 0.0
) -> Message:
    """A message of about `octets`, recognisable by sender and header as of its class."""
    sender = CLASS_SENDERS[traffic_class]
    header = [
        f"From: <{sender}>",
        f"To: <{identity}@{DOMAIN}>",
        f"Subject: message {identity}",
        f"Message-Id: <{identity}@test.example>",
    ]
    if traffic_class == "bulk":
        header.append("List-Id: News <news.newsletter.example>")
    line = f"{identity} " + "." * (70 - len(identity))
    lines = [*header, "", *[line] * max(1, octets // (len(line) + 2))]
    wire = "".join(f"{text}\r\n" for text in lines).encode("ascii")
    return Message(
        identity=identity, sender=sender, wire=wire, traffic_class=traffic_class, due=due
    )


def poisson(
    rate: float,
    seconds: float,
    mix: Mapping[str, float],
    seed: int,
    *,
    octets: int = 2048,
    prefix: str = "",
) -> list[Message]:
    """Arrivals at `rate` a second for `seconds`, classes drawn by their share in `mix`.

    Identities begin with `prefix`, which keeps several loads of one test apart.
    """
    chooser = random.Random(seed)
    messages: list[Message] = []
    due = chooser.expovariate(rate)
    while due < seconds:
        (traffic_class,) = chooser.choices(list(mix), list(mix.values()))
        identity = f"{prefix}{traffic_class}-{len(messages):05d}"
        messages.append(make_message(identity, traffic_class, octets, due))
        due += chooser.expovariate(rate)
    return messages


class SmtpReplyError(Exception):
    """The server did not say what the dialog needs to go on."""


async def _command(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes, expected: int
) -> str:
    if data:
        writer.write(data)
        await writer.drain()
    lines = []
    while True:
        line = await reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("the server closed the connection")
        lines.append(line.decode("latin-1").rstrip())
        if line[3:4] != b"-":
            break
    reply = " / ".join(lines)
    if int(lines[-1][:3]) != expected:
        raise SmtpReplyError(reply)
    return reply


async def send(
    port: int,
    message: Message,
    helo: str = "workstation.example",
    patience: float = PATIENCE,
    source: str = "",
) -> Outcome:
    """Send one message over its own connection and say what came of it.

    `patience` is how many seconds the client gives the whole of it; `source` the address that it
    has, any by default.
    """
    started = time.time()
    fate = Fate.NOT_SENT
    dot_at: float | None = None
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, local_addr=(source, 0) if source else None
            )
            await _command(reader, writer, b"", 220)
            await _command(reader, writer, f"EHLO {helo}\r\n".encode(), 250)
            await _command(reader, writer, f"MAIL FROM:<{message.sender}>\r\n".encode(), 250)
            recipient = f"{message.identity}@{DOMAIN}"
            await _command(reader, writer, f"RCPT TO:<{recipient}>\r\n".encode(), 250)
            await _command(reader, writer, b"DATA\r\n", 354)
            content = dot_stuffed(message.wire)
            writer.write(content[:-2])
            await writer.drain()
            fate, dot_at = Fate.IN_DOUBT, time.time()
            reply = await _command(reader, writer, b"\r\n.\r\n", 250)
            ended = time.time()
            fate = Fate.ACKNOWLEDGED
            writer.write(b"QUIT\r\n")
    except SmtpReplyError as error:
        fate, reply, ended = Fate.REFUSED, str(error), time.time()
    except TimeoutError:
        reply, ended = f"no reply within {patience:g} s", time.time()
    except OSError as error:
        reply, ended = f"{type(error).__name__}: {error}", time.time()
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    return Outcome(
        message=message, fate=fate, reply=reply, started=started, ended=ended, dot_at=dot_at
    )


class Load:
    """A load that runs in its own thread and loop, while the test does things to the servers."""

    def __init__(
        self,
        port: int,
        messages: Iterable[Message],
        patience: float = PATIENCE,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        """`sources` are the addresses that the clients of a class have, any by default."""
        self._port = port
        self._patience = patience
        self._sources = sources or {}
        self._messages = sorted(messages, key=lambda message: message.due)
        self.outcomes: list[Outcome] = []
        self.started = 0
        """Messages whose time has come."""
        self._is_stopped = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")

    def start(self) -> "Load":
        """Begin; messages are due from now on."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Begin no more messages; those that are under way go on to their outcomes."""
        self._is_stopped = True

    def ends_within(self, seconds: float) -> bool:
        """Wait up to `seconds`; whether every message has its outcome by then."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def join(self) -> list[Outcome]:
        """Wait until every message that was begun has its outcome, in order of their ends."""
        self._thread.join()
        wanted = self.started if self._is_stopped else len(self._messages)
        assert len(self.outcomes) == wanted, "the load generator itself failed"
        return self.outcomes

    async def _run(self) -> None:
        origin = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for message in self._messages:
                await asyncio.sleep(origin + message.due - time.monotonic())
                if self._is_stopped:
                    return
                self.started += 1
                group.create_task(self._one(message))

    async def _one(self, message: Message) -> None:
        source = self._sources.get(message.traffic_class, "")
        self.outcomes.append(
            await send(self._port, message, patience=self._patience, source=source)
        )


def book(ledger: Ledger, outcomes: Sequence[Outcome]) -> None:
    """Enter outcomes into the ledger."""
    for outcome in outcomes:
        message = outcome.message
        ledger.enter(
            message.identity,
            message.stored,
            outcome.fate,
            reported_to=message.sender if message.is_undeliverable else None,
        )
