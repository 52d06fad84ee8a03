"""TLS between a connection and a session, with both ends in memory: every octet is in sight."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.listener.tls import load
from mailshed.listener.tls_connection import PIECE, TlsConnection
from tests.support.certificates import Authority, make_authority
from tests.support.front import settle
from tests.support.tls import client_context, tls_policy
from tests.support.virtual_time import in_virtual_time


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def contexts(authority: Authority) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and the client's."""
    return load(tls_policy(authority.issue())).context, client_context(authority)


class Below(asyncio.Transport):
    """A connection that remembers what is done to it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 25)})
        self.sent = bytearray()
        self.calls: list[str] = []
        self.protocol: Any = None
        self.is_over = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: Any) -> None:
        assert not self.is_over
        self.sent += data

    def is_closing(self) -> bool:
        return self.is_over

    def close(self) -> None:
        self.is_over = True
        self.calls.append("close")

    def abort(self) -> None:
        self.is_over = True
        self.calls.append("abort")

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def get_write_buffer_size(self) -> int:
        return 7


class Above(asyncio.Protocol):
    """A session that remembers what it is told."""

    def __init__(self, *, keeps_open: bool = True) -> None:
        self.heard = bytearray()
        self.calls: list[str] = []
        self._keeps_open = keeps_open

    def data_received(self, data: bytes) -> None:
        assert 0 < len(data) <= PIECE
        self.heard += data

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return self._keeps_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append(f"lost {exc!r}")

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")


class Line:
    """A client, and the server's side under test, with nothing in between."""

    def __init__(
        self, contexts: tuple[ssl.SSLContext, ssl.SSLContext], *, keeps_open: bool = True
    ) -> None:
        server, client = contexts
        self.below, self.above = Below(), Above(keeps_open=keeps_open)
        self.connection = TlsConnection(self.below, self.above, server)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def step(self) -> bytes:
        """Let the client do what it can; return what it wants to send."""
        self.incoming.write(bytes(self.below.sent))
        self.below.sent.clear()
        with suppress(ssl.SSLWantReadError):
            self.client.do_handshake()
        return self.outgoing.read()

    async def shaken(self, *, first: bytes = b"", size: int = 1 << 20) -> None:
        """Do the handshake; what the client sends arrives in pieces of `size`."""
        async with asyncio.TaskGroup() as group:
            server = group.create_task(self.shake(5.0))
            await settle()
            for _ in range(4):
                said = self.step()
                if first and self.client.version() and not self.below.sent:
                    try:
                        self.client.write(first)
                        said, first = said + self.outgoing.read(), b""
                    except ssl.SSLWantReadError:
                        pass
                for start in range(0, len(said), size):
                    self.below.protocol.data_received(said[start : start + size])
        assert server.result().version() == "TLSv1.3"
        self.step()  # the tickets

    def shake(self, timeout: float, first: bytes = b"") -> Coroutine[Any, Any, ssl.SSLObject]:
        """Let the server's side begin and hear `first`; what is returned is its handshake."""
        self.connection.begin()
        if first:
            self.below.protocol.data_received(first)
        return self.connection.shake_hands(timeout)

    def send(self, data: bytes) -> bytes:
        """Encrypt what the client says."""
        self.client.write(data)
        return self.outgoing.read()

    def read(self) -> bytes:
        """Decrypt what the client has been told."""
        self.incoming.write(bytes(self.below.sent))
        self.below.sent.clear()
        found = b""
        while True:
            try:
                piece = self.client.read(PIECE)
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                return found
            if not piece:
                return found
            found += piece


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


async def test_who_drips_a_hello_costs_no_tls_before_its_first_record(contexts: Contexts) -> None:
    """A handshake under way takes some 45 KiB, whatever has come of it."""
    line = Line(contexts)
    hello = line.step()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(line.shake(5.0))
        await settle()
        for octet in hello[:-1]:
            line.below.protocol.data_received(bytes([octet]))
            assert not hasattr(line.connection, "_tls")
        line.below.protocol.data_received(hello[-1:])
        assert line.below.sent, "the server has not answered"
        task.cancel()


@pytest.mark.parametrize(
    "octets", [b"E", b"\x16\x03\x01\xff\xff"], ids=["no record", "a record beyond all bounds"]
)
async def test_what_begins_no_handshake_is_not_waited_for(
    contexts: Contexts, octets: bytes
) -> None:
    line = Line(contexts)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(outcome_of(line.shake(5.0)))
        await settle()
        line.below.protocol.data_received(octets)
        assert hasattr(line.connection, "_tls")
        task.cancel()


@pytest.mark.parametrize("size", [1, 3, 100, 1 << 20])
async def test_octets_arrive_in_both_directions(contexts: Contexts, size: int) -> None:
    line = Line(contexts)
    await line.shaken(size=size)
    said = line.send(b"EHLO client\r\n")
    for start in range(0, len(said), size):
        line.below.protocol.data_received(said[start : start + size])
    assert line.above.heard == b"EHLO client\r\n"
    line.connection.write(b"250 mail.example.com\r\n")
    assert b"mail.example.com" not in line.below.sent
    assert line.read() == b"250 mail.example.com\r\n"


async def test_what_comes_with_the_handshakes_last_message_is_heard(contexts: Contexts) -> None:
    line = Line(contexts)
    await line.shaken(first=b"EHLO client\r\n")
    assert line.above.heard == b"EHLO client\r\n"


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(0, 3 * PIECE), max_size=4), cut=st.integers(1, 100_000))
def test_any_octets_arrive_as_they_are(contexts: Contexts, sizes: list[int], cut: int) -> None:
    async def go() -> None:
        line = Line(contexts)
        await line.shaken()
        messages = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
        said = b"".join(line.send(each) for each in messages if each)
        for start in range(0, len(said), cut):
            line.below.protocol.data_received(said[start : start + cut])
        assert line.above.heard == b"".join(messages)
        for each in messages:
            line.connection.write(memoryview(each))
        assert line.read() == b"".join(messages)

    asyncio.run(go())


async def test_what_was_read_before_belongs_to_the_handshake(contexts: Contexts) -> None:
    line = Line(contexts)
    hello = line.step()
    async with asyncio.TaskGroup() as group:
        group.create_task(line.shake(5.0, hello[:20]))
        await settle()
        line.below.protocol.data_received(hello[20:])
        line.below.protocol.data_received(line.step())
    assert line.below.protocol is line.connection


# The end.


async def test_our_goodbye_waits_for_nobody(contexts: Contexts) -> None:
    line = Line(contexts)
    await line.shaken()
    line.connection.write(b"221 Bye\r\n")
    line.connection.close()
    assert line.below.calls == ["resume", "close"]
    assert line.read() == b"221 Bye\r\n"
    assert line.client.read(1) == b"", "the client has our goodbye"
    line.connection.close()
    line.connection.write(b"too late")
    assert not line.below.sent
    line.below.protocol.connection_lost(None)
    assert line.above.calls == ["lost None"]


async def test_a_client_that_said_goodbye_is_still_answered(contexts: Contexts) -> None:
    line = Line(contexts)
    await line.shaken()
    said = line.send(b"QUIT\r\n")
    with pytest.raises(ssl.SSLWantReadError):
        line.client.unwrap()
    line.below.protocol.data_received(said + line.outgoing.read())
    assert line.above.heard == b"QUIT\r\n"
    assert line.above.calls == ["eof"]
    assert line.below.protocol.eof_received() is True
    assert line.above.calls == ["eof"], "it is told once"
    line.connection.write(b"221 Bye\r\n")
    assert len(line.below.sent) > 0
    line.connection.close()


async def test_a_session_that_wants_it_is_closed_with_the_client(contexts: Contexts) -> None:
    line = Line(contexts, keeps_open=False)
    await line.shaken()
    assert line.below.protocol.eof_received() is False
    assert line.below.calls[-1] == "close"


async def test_garbage_ends_it_with_an_alert(contexts: Contexts) -> None:
    line = Line(contexts)
    await line.shaken()
    line.below.protocol.data_received(b"MAIL FROM:<mallory@example.org>\r\n")
    assert line.below.calls[-1] == "close"
    assert not line.above.heard
    with pytest.raises(ssl.SSLError):
        line.read()
    line.below.protocol.data_received(b"more of it")
    line.connection.write(b"too late")


async def test_a_record_that_was_changed_is_not_heard(contexts: Contexts) -> None:
    line = Line(contexts)
    await line.shaken()
    said = bytearray(line.send(b"RCPT TO:<bob@example.net>\r\n"))
    said[-1] ^= 1
    line.below.protocol.data_received(bytes(said))
    assert not line.above.heard
    assert line.below.calls[-1] == "close"


async def test_it_can_be_cut_off(contexts: Contexts) -> None:
    line = Line(contexts)
    await line.shaken()
    line.connection.abort()
    assert line.below.calls[-1] == "abort"
    line.below.protocol.connection_lost(ConnectionResetError())
    assert line.above.calls == ["lost ConnectionResetError()"]


# Handshakes that fail: the session is told nothing, who waits for it is.


async def test_a_client_hears_why_its_handshake_failed(contexts: Contexts) -> None:
    server, _ = contexts
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("AES128-SHA")
    line = Line((server, client))
    with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
        await line.shake(5.0, line.step())
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        line.step()
    assert line.below.calls[-1] == "close"
    line.below.protocol.connection_lost(None)
    assert line.above.calls == []


async def failure_of(line: Line, *, when: Callable[[], object]) -> BaseException:
    """What the handshake ends with after something has happened in the middle of it."""
    async with asyncio.TaskGroup() as group:
        shaking = group.create_task(outcome_of(line.shake(5.0, line.step())))
        await settle()
        when()
    return shaking.result()


async def outcome_of(work: Awaitable[object]) -> BaseException:
    """The exception that it ends with."""
    try:
        await work
    except OSError as error:
        return error
    raise AssertionError("it has ended well")


@pytest.mark.parametrize("error", [None, ConnectionResetError(104, "reset"), OSError(113, "route")])
async def test_a_connection_that_is_lost_ends_the_handshake(
    contexts: Contexts, error: OSError | None
) -> None:
    line = Line(contexts)
    found = await failure_of(line, when=lambda: line.connection.connection_lost(error))
    assert found is error or isinstance(found, ConnectionResetError)
    assert line.above.calls == []


async def test_a_half_closed_connection_ends_the_handshake(contexts: Contexts) -> None:
    line = Line(contexts)
    assert isinstance(
        await failure_of(line, when=line.connection.eof_received), ConnectionResetError
    )
    assert line.above.calls == []


async def test_a_connection_that_is_closing_is_not_waited_for(contexts: Contexts) -> None:
    line = Line(contexts)
    line.below.close()
    with pytest.raises(ConnectionResetError):
        await line.shake(5.0)


@in_virtual_time
async def test_a_handshake_has_a_deadline(contexts: Contexts) -> None:
    line = Line(contexts)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        await line.shake(15.0, line.step()[:40])
    assert loop.time() - began == pytest.approx(15.0)
    assert line.below.calls[-1] == "abort"
    line.below.protocol.connection_lost(None)
    assert line.above.calls == []


# Flow control.


async def test_a_client_that_does_not_read_is_not_read(contexts: Contexts) -> None:
    line = Line(contexts)
    await line.shaken()
    line.below.calls.clear()
    line.below.protocol.pause_writing()
    assert (line.below.calls, line.above.calls) == (["pause"], ["pause"])
    line.connection.pause_reading()
    line.below.protocol.resume_writing()
    assert line.below.calls == ["pause", "pause", "pause"], "the session has not asked for more"
    line.connection.resume_reading()
    assert line.below.calls[-1] == "resume"
    assert line.above.calls == ["pause", "resume"]


async def test_on_a_closed_connection_reading_is_left_alone(contexts: Contexts) -> None:
    """Uvloop's would raise."""
    line = Line(contexts)
    await line.shaken()
    line.connection.abort()
    line.below.calls.clear()
    line.connection.pause_reading()
    line.connection.resume_reading()
    assert line.below.calls == []
    assert not line.connection.is_reading()


async def test_the_connection_below_is_asked_what_it_knows(contexts: Contexts) -> None:
    line = Line(contexts)
    assert line.connection.get_extra_info("peername") == ("192.0.2.1", 25)
    assert line.connection.get_extra_info("nothing", "else") == "else"
    assert line.connection.get_write_buffer_size() == 7
    assert line.connection.get_protocol() is line.above
    assert not line.connection.can_write_eof()
