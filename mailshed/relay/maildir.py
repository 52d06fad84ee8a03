"""`MaildirBackend`: deliver into a Maildir instead of a mail server, for trials and demonstrations.

A message is written to `tmp/`, synced, renamed into `new/`, and the folder is synced: the
convention of https://cr.yp.to/proto/maildir.html, under which a reader never sees half a message
and a crash never leaves a delivered one undone. One file serves all recipients; each has its
`Delivered-To:` line. As this is the end of the mail's way, the form changes from that of the wire
to that of a file: dots are un-stuffed (RFC 5321, 4.5.2), CRLF becomes LF as Maildir readers expect,
and `Return-Path:` is added (RFC 5321, 4.4).

The file system's faults are `Deferred` with the system's words, never a refusal. Only if the last
sync fails is the outcome open, since the message may be visible already: `InDoubt`. File I/O
runs in the default executor; a cancelled delivery waits for the call under way, so that no thread
writes to a file that has been closed.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import aclosing, suppress
from itertools import count
from pathlib import Path

from mailshed.clock import Clock
from mailshed.errors import ClientGone
from mailshed.mail import reply
from mailshed.mail.delivery import (
    Deferred,
    Delivered,
    DeliveryResult,
    InDoubt,
    StageTimes,
    TransactionResult,
    everyone,
)
from mailshed.relay.backend import BackendConnections, OutboundMessage
from mailshed.terms import Stage

WRITE_OCTETS = 256 * 1024
"""How much is gathered for one call of the operating system."""


class MaildirBackend:
    """A Maildir on a local disk. Implements `mailshed.relay.backend.Backend`."""

    def __init__(self, name: str, path: Path, *, hostname: str, clock: Clock) -> None:
        self._name = name
        self._path = path
        # As the convention has it: neither a separator of paths nor one of Maildir flags.
        self._host = hostname.replace("/", "\\057").replace(":", "\\072")
        self._clock = clock
        self._numbers = count(1)
        self._busy = 0

    @property
    def name(self) -> str:
        """Name in logs and metrics."""
        return self._name

    @property
    def answers_each_recipient(self) -> bool:
        """One file, one answer."""
        return False

    async def deliver(self, message: OutboundMessage) -> TransactionResult:
        """Write `message` and say how it went; see `Backend.deliver`."""
        began = self._clock.monotonic()
        self._busy += 1
        try:
            result = await self._deliver(message)
        finally:
            self._busy -= 1
        return TransactionResult(
            recipients=everyone(result, len(message.recipients)),
            times=StageTimes(service=self._clock.monotonic() - began),
            is_backend_away=isinstance(result, Deferred) and result.stage is Stage.CONNECT,
            is_final=True,
        )

    def abandon(self) -> None:
        """Nothing to end: writing a file is over soon, and its outcome is never in doubt."""

    def connections(self) -> BackendConnections:
        """Deliveries under way; there are no connections."""
        return BackendConnections(busy=self._busy)

    async def close(self) -> None:
        """Do nothing: every delivery cleans up behind itself."""

    async def _deliver(self, message: OutboundMessage) -> DeliveryResult:
        name = self._unique_name()
        file = _File(self._path, name)
        stage = Stage.CONNECT
        try:
            await _in_thread(file.open)
            stage = Stage.DATA
            await self._write(file, message)
            if not message.may_send_dot():
                raise ClientGone("the client left before the message was delivered")
            stage = Stage.DOT
            await _in_thread(file.commit)
        except _FileFault as fault:
            if file.is_visible:
                return InDoubt(str(fault))
            return Deferred(stage, None, str(fault))
        finally:
            if not file.is_visible:
                await _in_thread(file.discard)
        return Delivered(reply.make(250, f"2.0.0 Ok: delivered to Maildir as {name}"))

    async def _write(self, file: "_File", message: OutboundMessage) -> None:
        decoder = WireDecoder()
        pending = [b"Return-Path: <%b>\n" % message.reverse_path]
        pending += [b"Delivered-To: %b\n" % path for path, _ in message.recipients]
        octets = 0
        async with aclosing(message.stream()) as chunks:
            async for chunk in chunks:
                pending.append(decoder.decode(chunk))
                octets += len(chunk)
                if octets >= WRITE_OCTETS:
                    await _in_thread(file.write, b"".join(pending))
                    pending, octets = [], 0
        pending.append(decoder.finish())
        await _in_thread(file.write, b"".join(pending))

    def _unique_name(self) -> str:
        """Unique on this host over restarts: time, process, delivery number."""
        seconds, fraction = divmod(self._clock.wall(), 1)
        micro = int(fraction * 1_000_000)
        return f"{int(seconds)}.M{micro:06d}P{os.getpid()}Q{next(self._numbers)}.{self._host}"


class WireDecoder:
    """Mail data from its form on the wire to that of a file: dots un-stuffed, LF line endings."""

    def __init__(self) -> None:
        # What may be the start of CRLF-dot waits for the next chunk; the data starts a line.
        self._carry = b"\r\n"
        self._is_at_start = True

    def decode(self, chunk: bytes) -> bytes:
        """Convert the next piece; what cannot be judged yet comes with a later one."""
        data = self._carry + chunk
        kept = 2 if data.endswith(b"\r\n") else 1 if data.endswith(b"\r") else 0
        end = len(data) - kept
        self._carry = data[end:]
        decoded = data[:end].replace(b"\r\n.", b"\r\n").replace(b"\r\n", b"\n")
        if self._is_at_start and decoded:
            self._is_at_start = False
            return decoded[1:]
        return decoded

    def finish(self) -> bytes:
        """Return what is left, so that the file ends in LF."""
        if self._carry == b"\r\n":
            return b"" if self._is_at_start else b"\n"
        return self._carry + b"\n"


class _FileFault(Exception):
    """The file system refused; told apart from the errors of the message's own source."""


class _File:
    """One message on its way into the Maildir. Blocking; run in the executor."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._tmp = path / "tmp" / name
        self._new = path / "new" / name
        self._descriptor: int | None = None
        self.is_visible = False
        """Whether readers of the Maildir can see the message."""

    def open(self) -> None:
        for folder in ("tmp", "new", "cur"):
            (self._path / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self._tmp, flags, 0o600)

    def write(self, data: bytes) -> None:
        assert self._descriptor is not None
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def commit(self) -> None:
        assert self._descriptor is not None
        os.fsync(self._descriptor)
        self._close()
        self._tmp.rename(self._new)
        self.is_visible = True
        folder = os.open(self._new.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Remove what is left of a delivery that did not happen; never raises.

        The outcome is settled, and readers of a Maildir sweep old files in `tmp/`.
        """
        with suppress(OSError):
            self._close()
        with suppress(OSError):
            self._tmp.unlink()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


async def _in_thread(work: Callable[..., None], *arguments: object) -> None:
    """Run `work` in the default executor, to its end even if the caller is cancelled.

    Raises _FileFault for an OSError.
    """
    thread = asyncio.get_running_loop().run_in_executor(None, work, *arguments)
    try:
        await asyncio.shield(thread)
    except OSError as error:
        raise _FileFault(str(error)) from error
    except asyncio.CancelledError:
        await asyncio.wait((thread,))
        if not thread.cancelled():
            thread.exception()  # looked at, so that the loop does not report it
        raise
