"""Asking Dovecot's authentication service whether a password is right, over its socket.

The protocol is lines of fields between tabs (Dovecot's documents, "Authentication Protocol",
version 1.x). Both ends say VERSION; the server tells its mechanisms (MECH) and ends with DONE. Then
each question is `AUTH id mechanism parameters`, and is answered, in any order, by OK, by FAIL, or
by CONT if the mechanism wants more. All questions share one connection, which stays open; if it
breaks, the next question opens another. One that was under way then is asked again, once: that is
what a restart or a reload of Dovecot looks like.

- We say `secured`, since no password comes to us in clear; `nologin`, since nobody asks for what a
  login would need; `no-penalty`, since here every user comes from the same place, and the failures
  of clients are counted by us (`failures`). Without that, one user's typing error would slow down
  the logins of all by seconds.
- `resp` comes last: Dovecot reads nothing after it, so nothing could be smuggled in behind.
- The number by which we say who we are (CPID) must be nobody else's on that socket, so it is
  random: process ids are only unique in one container.
- FAIL with `temp_fail` is no answer. Any other FAIL is a no: wrong, disabled, or expired. And so is
  OK with `nologin`, which a password database says of users who may not log in.

The socket is a local one: whoever can open it may ask about passwords, and that is all. Lines are
at most 16 KiB, as in Dovecot.
"""

import asyncio
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mailshed.authentication.sasl import Credentials, login_of
from mailshed.authentication.verdict import Accepted, Rejected, Unavailable, Verdict
from mailshed.errors import CredentialsError
from mailshed.mail.envelope import Client
from mailshed.supervisor import Supervisor

LINE_OCTETS_MAX = 16384
"""Octets of one line, from either side."""
HANDSHAKE_LINES_MAX = 100
_MAJOR, _MINOR = 1, 2
_ID_MAX = 2**31 - 1
_ID = re.compile(rb"[0-9]{1,10}")
_ANSWERS = frozenset({b"OK", b"FAIL", b"CONT"})
UNREAD_OCTETS_MAX = 64 * 1024
"""Octets of questions that the server may leave unread before it is given up."""

# Dovecot's escapes: what follows \x01 (str_tabescape).
_ESCAPE = re.compile(rb"\x01(.)", re.DOTALL)
_ESCAPED = {b"0": b"\0", b"1": b"\x01", b"t": b"\t", b"r": b"\r", b"n": b"\n", b"l": b"\n"}
_TEMPORARY = frozenset({b"temp", b"code=temp_fail"})
_REASON = re.compile(rb"code=([a-z_]{1,40})|(authz|user_disabled|pass_expired)")


class _Broken(Exception):
    """The connection is of no use any more; the text says why."""


class _Answer(NamedTuple):
    """A line of the server about one question."""

    command: bytes
    fields: list[bytes]


class _Link:
    """One connection after its handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._last_id = 0
        self._questions: dict[int, asyncio.Queue[_Answer | None]] = {}
        self.mechanisms: frozenset[str] = frozenset()
        self.fault: str | None = None
        """Why it is of no use any more; None as long as it is good."""

    async def shake_hands(self) -> None:
        """Say who we are, and read what the server has; raises _Broken."""
        self._write(f"VERSION\t{_MAJOR}\t{_MINOR}\nCPID\t{1 + secrets.randbelow(_ID_MAX)}\n")
        found: set[str] = set()
        for _ in range(HANDSHAKE_LINES_MAX):
            command, *fields = await self._line()
            if command == b"VERSION" and fields[:1] != [b"%d" % _MAJOR]:
                raise _Broken(f"it speaks another version than {_MAJOR}")
            if command == b"MECH" and fields:
                found.add(fields[0].decode("latin-1").upper())
            if command == b"DONE":
                self.mechanisms = frozenset(found)
                return
        raise _Broken("its handshake does not end")

    async def run(self) -> None:
        """Hand answers to those who wait for them, until the connection ends."""
        try:
            while True:
                command, *fields = await self._line()
                if command not in _ANSWERS or not fields or not _ID.fullmatch(fields[0]):
                    continue
                # An answer that nobody waits for is of a client that has left.
                if (waiting := self._questions.get(int(fields[0]))) is not None:
                    waiting.put_nowait(_Answer(command, fields[1:]))
        except _Broken as error:
            self.close(str(error))

    async def ask(self, credentials: Credentials, client: Client) -> _Answer:
        """Ask about credentials that are said in one of the mechanisms; raises _Broken."""
        self._last_id = number = self._last_id % _ID_MAX + 1
        answers = self._questions[number] = asyncio.Queue()
        first, *others = (each.decode("ascii") for each in credentials.encoded)
        try:
            self._write(
                f"AUTH\t{number}\t{credentials.mechanism.value}\tservice=smtp\tnologin\tsecured"
                f"\tno-penalty\trip={client.address_text}\tresp={first}\n"
            )
            while (answer := await answers.get()) is not None:
                if answer.command != b"CONT":
                    return answer
                # A question beyond the mechanism's, as XOAUTH2's reason of a refusal, gets nothing.
                self._write(f"CONT\t{number}\t{others.pop(0) if others else ''}\n")
        finally:
            del self._questions[number]
        raise _Broken(self.fault or "it closed the connection")

    def close(self, fault: str = "closed") -> None:
        """Give the connection up; who waits for an answer is told."""
        if self.fault is None:
            self.fault = fault
        for waiting in self._questions.values():
            waiting.put_nowait(None)
        self._writer.close()

    def _write(self, text: str) -> None:
        if self.fault is not None:
            raise _Broken(self.fault)
        line = text.encode("ascii")
        assert len(line) <= LINE_OCTETS_MAX, "bounded by the responses that a client may send"
        if self._writer.transport.get_write_buffer_size() > UNREAD_OCTETS_MAX:
            self.close("it does not read what we ask")
            raise _Broken(self.fault)
        self._writer.write(line)

    async def _line(self) -> list[bytes]:
        try:
            line = await self._reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            raise _Broken("it closed the connection") from None
        except asyncio.LimitOverrunError:
            raise _Broken(f"it sent a line of more than {LINE_OCTETS_MAX} octets") from None
        except OSError as error:
            raise _Broken(error.strerror or "the connection broke") from None
        return [_unescaped(each) for each in line[:-1].split(b"\t")]


class DovecotVerifier:
    """Asks the service at `socket`, over one connection at a time."""

    def __init__(self, socket: Path, *, on_failure: Callable[[str, BaseException], None]) -> None:
        self._socket = socket
        self._tasks = Supervisor(on_failure)
        self._link: _Link | None = None
        self._connecting = asyncio.Lock()

    async def refresh(self) -> None:
        """Nothing is read from files."""

    async def verify(self, credentials: Credentials, client: Client) -> Verdict:
        """Ask, on the connection that there is or on a new one."""
        try:
            link, is_new = await self._connected()
            try:
                return await _ask(link, credentials, client)
            except _Broken:
                if is_new:
                    raise
            link, _ = await self._connected()
            return await _ask(link, credentials, client)
        except _Broken as error:
            return Unavailable(f"{self._socket}: {error}")

    async def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            self._link.close()
        await self._tasks.cancel_all()

    async def _connected(self) -> tuple[_Link, bool]:
        """A connection that is good as far as is known, and whether it is new; raises _Broken."""
        async with self._connecting:
            if self._link is not None and self._link.fault is None:
                return self._link, False
            try:
                reader, writer = await asyncio.open_unix_connection(
                    os.fspath(self._socket), limit=LINE_OCTETS_MAX
                )
            except OSError as error:
                raise _Broken(error.strerror or "no connection") from None
            link = _Link(reader, writer)
            try:
                await link.shake_hands()
            except BaseException:
                link.close()
                raise
            self._link = link
            self._tasks.spawn(link.run(), "dovecot")
            return link, True


async def _ask(link: _Link, credentials: Credentials, client: Client) -> Verdict:
    """One question; raises _Broken."""
    said = credentials.sayable(link.mechanisms)
    if said is None:
        has = ", ".join(sorted(link.mechanisms)) or "nothing"
        return Unavailable(f"it has {ascii(has[:80])[1:-1]}, and not {credentials.mechanism.value}")
    command, fields = await link.ask(said, client)
    if command == b"OK":
        # The password is right, and the account closed: what a login process has to look at.
        is_closed = any(each.partition(b"=")[0] == b"nologin" for each in fields)
        return Rejected("nologin") if is_closed else _accepted(fields, credentials)
    if not _TEMPORARY.isdisjoint(fields):
        return Unavailable("it said temp_fail")
    reasons = [found for each in fields if (found := _REASON.fullmatch(each))]
    return Rejected(" ".join((each[1] or each[2]).decode("ascii") for each in reasons))


def _accepted(fields: list[bytes], credentials: Credentials) -> Verdict:
    """The user as Dovecot knows him, which may be another name than the one that was typed."""
    for each in fields:
        if each.startswith(b"user="):
            try:
                return Accepted(login_of(each.removeprefix(b"user=")))
            except CredentialsError as error:
                return Unavailable(f"the name it gives is of no use: {error}")
    return Accepted(credentials.login)


def _unescaped(field: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), field)
