"""Which connection is used, kept and closed; then the pool that obeys."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mailshed.mail.delivery import Deferred
from mailshed.relay.backend import BackendConnections
from mailshed.relay.connection import Address, Connection, Timeouts, open_connection
from mailshed.relay.pool import IdleStack, Pool, PoolPolicy
from mailshed.terms import Stage
from tests.support.clock import ManualClock
from tests.support.outbound import DEADLINE, eventually
from tests.support.scripted_backend import STALL, ScriptedBackend

POLICY = PoolPolicy(idle_timeout=10.0, messages_per_connection=3)


class TestIdleStack:
    def test_the_connection_used_last_is_used_first(self) -> None:
        """So that under little load the others grow old and go."""
        stack: IdleStack[str] = IdleStack(POLICY)
        stack.put("a", 1, now=0)
        stack.put("b", 1, now=1)
        assert stack.take(now=2) == "b"
        stack.put("b", 2, now=3)
        assert [stack.take(now=4), stack.take(now=4), stack.take(now=4)] == ["b", "a", None]

    def test_a_connection_that_has_carried_its_messages_is_not_kept(self) -> None:
        stack: IdleStack[str] = IdleStack(POLICY)
        assert stack.put("a", 2, now=0)
        assert not stack.put("b", 3, now=0)
        assert len(stack) == 1

    def test_a_connection_is_not_used_after_its_idle_timeout(self) -> None:
        stack: IdleStack[str] = IdleStack(POLICY)
        stack.put("a", 1, now=0)
        assert stack.take(now=10) is None
        assert len(stack) == 1, "it waits for expire, which closes it"

    def test_expire_returns_the_old_ones_only(self) -> None:
        stack: IdleStack[str] = IdleStack(POLICY)
        for when, name in enumerate("abc"):
            stack.put(name, 1, now=when)
        assert stack.next_expiry() == 10
        assert stack.expire(now=9.9) == []
        assert stack.expire(now=11) == ["a", "b"]
        assert stack.next_expiry() == 12
        assert stack.clear() == ["c"]
        assert stack.next_expiry() is None

    def test_remove_takes_one_out_wherever_it_is(self) -> None:
        stack: IdleStack[str] = IdleStack(POLICY)
        a, b, c = "first", "second", "third"
        for name in (a, b, c):
            stack.put(name, 1, now=0)
        stack.remove(b)
        stack.remove("nobody")
        assert stack.clear() == [a, c]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def server() -> AsyncIterator[ScriptedBackend]:
    async with ScriptedBackend() as running:
        yield running


@pytest.fixture
def pool(server: ScriptedBackend, clock: ManualClock) -> Pool:
    where = Address(host=server.host, port=server.port, hostname="relay.test")
    timeouts = Timeouts(connect=DEADLINE, command=DEADLINE, dot=DEADLINE)
    return Pool(lambda: open_connection(where, timeouts), POLICY, clock)


async def opened(pool: Pool) -> Connection:
    connection = await pool.open()
    assert isinstance(connection, Connection)
    return connection


async def test_a_connection_comes_back_and_is_taken_again(pool: Pool, clock: ManualClock) -> None:
    connection = await opened(pool)
    connection.connect_seconds = 0.5
    pool.give_back(connection)
    assert pool.connections() == BackendConnections(idle=1, opened_total=1)
    assert pool.take_idle() is connection
    assert connection.connect_seconds == 0, "its first message has paid for connecting"
    assert pool.connections() == BackendConnections(busy=1, opened_total=1, reused_total=1)
    pool.give_back(connection)
    await pool.close()


async def test_a_connection_with_an_unread_reply_never_comes_back(pool: Pool) -> None:
    connection = await opened(pool)
    connection.wire.expect((Stage.MAIL,))
    pool.give_back(connection)
    assert connection.wire.fault is not None
    assert pool.take_idle() is None
    assert pool.connections() == BackendConnections(opened_total=1)


async def test_a_dropped_connection_is_aborted(pool: Pool, server: ScriptedBackend) -> None:
    pool.drop(await opened(pool))
    await eventually(lambda: server.open_sessions == 0)
    assert b"QUIT" not in server.commands
    assert pool.connections() == BackendConnections(opened_total=1)


async def test_a_connection_that_has_served_gets_quit_without_anybody_waiting(
    pool: Pool, server: ScriptedBackend
) -> None:
    server.once(Stage.QUIT, STALL)
    connection = await opened(pool)
    connection.messages = POLICY.messages_per_connection
    pool.give_back(connection)
    assert pool.take_idle() is None
    assert pool.connections() == BackendConnections(opened_total=1)
    await eventually(lambda: b"QUIT" in server.commands)
    connection.wire.abort()
    await pool.close()


async def test_idle_connections_are_swept(
    pool: Pool, server: ScriptedBackend, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = [await opened(pool), await opened(pool)]
    pool.give_back(connections[0])
    clock.advance(POLICY.idle_timeout / 2)
    pool.give_back(connections[1])
    clock.advance(POLICY.idle_timeout / 2)
    pool._sweep()
    assert pool.connections().idle == 1
    await eventually(lambda: server.commands.count(b"QUIT") == 1)
    assert pool.take_idle() is connections[1]
    pool.give_back(connections[1])
    await pool.close()
    assert server.commands.count(b"QUIT") == 2


@pytest.mark.parametrize("octets", [b"421 4.3.2 shutting down\r\n", b"25"])
async def test_unsolicited_data_takes_an_idle_connection_out(
    pool: Pool, server: ScriptedBackend, octets: bytes
) -> None:
    pool.give_back(await opened(pool))
    server.push(octets)
    await eventually(lambda: pool.connections().idle == 0)
    assert pool.take_idle() is None


async def test_an_idle_connection_that_ends_is_taken_out(
    pool: Pool, server: ScriptedBackend
) -> None:
    pool.give_back(await opened(pool))
    server.hang_up()
    await eventually(lambda: pool.connections().idle == 0)


async def test_a_failure_to_open_is_counted(pool: Pool, server: ScriptedBackend) -> None:
    await server.stop()
    assert isinstance(await pool.open(), Deferred)
    assert pool.connections() == BackendConnections(failed_total=1)


async def test_a_cancelled_open_counts_as_nothing(pool: Pool, server: ScriptedBackend) -> None:
    server.once(Stage.CONNECT, STALL)
    task = asyncio.get_running_loop().create_task(pool.open())
    await eventually(lambda: server.open_sessions == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pool.connections() == BackendConnections()


async def test_close_says_quit_and_opens_no_more(pool: Pool, server: ScriptedBackend) -> None:
    busy = await opened(pool)
    pool.give_back(await opened(pool))
    await pool.close()
    assert server.commands.count(b"QUIT") == 1
    assert isinstance(await pool.open(), Deferred)
    pool.give_back(busy)
    await pool.close()
    assert server.commands.count(b"QUIT") == 2
    assert pool.connections() == BackendConnections(opened_total=2)
