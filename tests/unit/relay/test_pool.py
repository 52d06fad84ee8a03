"""Which connection is used, kept and closed; then the pool that obeys."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mailshed.control.limit import SlotEnding
from mailshed.mail.delivery import Deferred, NoReply, TransactionResult
from mailshed.relay.backend import BackendConnections
from mailshed.relay.connection import Address, Connection, Timeouts, open_connection
from mailshed.relay.endings import ending_of
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


async def test_a_connection_that_the_server_wants_no_more_of_is_closed(
    pool: Pool, server: ScriptedBackend
) -> None:
    """RFC 9422, MAILMAX: the next message would be answered with 421, or worse."""
    server.extensions = ("LIMITS MAILMAX=2",)
    connection = await opened(pool)
    connection.messages = 1
    pool.give_back(connection)
    assert pool.take_idle() is connection
    connection.messages = 2
    pool.give_back(connection)
    assert pool.take_idle() is None
    await eventually(lambda: b"QUIT" in server.commands)
    await pool.close()


async def test_a_connection_that_is_spent_is_closed_politely(
    pool: Pool, server: ScriptedBackend
) -> None:
    """Whose session it is, nobody knows any more."""
    connection = await opened(pool)
    connection.is_spent = True
    pool.give_back(connection)
    assert pool.take_idle() is None
    assert pool.connections() == BackendConnections(opened_total=1)
    await eventually(lambda: b"QUIT" in server.commands)
    await pool.close()


async def test_a_connection_that_does_not_suit_its_message_is_closed_politely(
    pool: Pool, server: ScriptedBackend
) -> None:
    pool.give_back(await opened(pool))
    connection = pool.take_idle()
    assert connection is not None
    pool.retire(connection)
    assert pool.connections() == BackendConnections(opened_total=1, reused_total=1)
    await eventually(lambda: b"QUIT" in server.commands)
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
    await pool.close()
    assert pool.connections() == BackendConnections(), "nor does its attempt"


class Dials:
    """Connections that are opened when the test says so."""

    def __init__(self, server: ScriptedBackend) -> None:
        self._server = server
        self._answers: list[asyncio.Future[Connection | Deferred]] = []
        self.begun = 0

    async def connect(self) -> Connection | Deferred:
        self.begun += 1
        answer: asyncio.Future[Connection | Deferred] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        return await answer

    async def succeed(self) -> None:
        where = Address(host=self._server.host, port=self._server.port, hostname="relay.test")
        timeouts = Timeouts(connect=DEADLINE, command=DEADLINE, dot=DEADLINE)
        self._answers.pop(0).set_result(await open_connection(where, timeouts))
        await asyncio.sleep(0)

    def answer_at_once(self, answer: Connection | Deferred) -> None:
        """Let the first attempt end before anybody else has a turn."""
        self._answers.pop(0).set_result(answer)

    async def fail(self, why: NoReply = NoReply.TIMED_OUT) -> None:
        self._answers.pop(0).set_result(Deferred(Stage.CONNECT, None, "no greeting", why))
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_a_fault_of_ours_counts_as_a_backend_that_is_away(clock: ManualClock) -> None:
    """Or nothing would pace the next attempt, and the one after that."""
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))

    async def connect() -> Connection | Deferred:
        raise RuntimeError("ours")

    pool = Pool(connect, POLICY, clock)
    found = await pool.open()
    assert isinstance(found, Deferred)
    assert ending_of(TransactionResult(recipients=(found,))) is SlotEnding.REFUSED
    await eventually(lambda: bool(faults))
    await pool.close()


class TestCrowd:
    """More messages than the server greets connections."""

    @pytest.fixture
    def dials(self, server: ScriptedBackend) -> Dials:
        return Dials(server)

    @pytest.fixture
    def told(self) -> list[int]:
        return []

    @pytest.fixture
    def pool(self, dials: Dials, clock: ManualClock, told: list[int]) -> Pool:
        return Pool(dials.connect, POLICY, clock, on_crowded=told.append)

    async def wait(self, pool: Pool) -> "asyncio.Task[Connection | Deferred]":
        task = asyncio.get_running_loop().create_task(pool.open())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task

    async def first(self, pool: Pool, dials: Dials) -> Connection:
        task = await self.wait(pool)
        await dials.succeed()
        found = await task
        assert isinstance(found, Connection)
        return found

    async def test_who_waits_takes_what_comes_first(
        self, pool: Pool, dials: Dials, clock: ManualClock
    ) -> None:
        used = await self.first(pool, dials)
        waiting = [await self.wait(pool), await self.wait(pool)]
        clock.advance(2.0)
        used.messages = 1
        pool.give_back(used)
        assert await waiting[0] is used
        assert used.connect_seconds == 2.0, "it has waited so long for it"
        await dials.succeed()
        other = await waiting[1]
        assert isinstance(other, Connection)
        assert other is not used
        assert pool.connections() == BackendConnections(busy=2, opened_total=2, reused_total=1)
        await dials.succeed()
        assert pool.connections().idle == 1, "which is there for the next one"
        pool.drop(used)
        pool.drop(other)
        await pool.close()

    async def test_no_more_connections_are_opened_than_messages_wait(
        self, pool: Pool, dials: Dials
    ) -> None:
        used = await self.first(pool, dials)
        for number in range(5):
            task = await self.wait(pool)
            used.messages = 1
            pool.give_back(used)
            assert await task is used, number
        assert dials.begun == 2, "one attempt is still under way"
        pool.drop(used)
        await pool.close()

    async def test_failure_is_told_to_one_for_whom_no_other_attempt_is_left(
        self, pool: Pool, dials: Dials
    ) -> None:
        waiting = [await self.wait(pool), await self.wait(pool)]
        await dials.fail()
        assert isinstance(await waiting[0], Deferred)
        assert not waiting[1].done()
        await dials.succeed()
        found = await waiting[1]
        assert isinstance(found, Connection)
        pool.drop(found)
        await pool.close()

    async def test_a_connection_that_has_carried_its_messages_is_handed_to_nobody(
        self, pool: Pool, dials: Dials, server: ScriptedBackend
    ) -> None:
        used = await self.first(pool, dials)
        task = await self.wait(pool)
        used.messages = POLICY.messages_per_connection
        pool.give_back(used)
        await eventually(lambda: b"QUIT" in server.commands)
        assert not task.done()
        await dials.succeed()
        found = await task
        assert isinstance(found, Connection)
        pool.drop(found)
        await pool.close()

    async def test_one_that_is_not_greeted_while_others_are_served_is_told(
        self, pool: Pool, dials: Dials, clock: ManualClock, told: list[int]
    ) -> None:
        used = [await self.first(pool, dials) for _ in range(3)]
        task = await self.wait(pool)
        clock.advance(5.0)
        pool.give_back(used[0])
        assert await task is used[0]
        clock.advance(5.0)
        await dials.fail()
        assert told == [3]
        for each in used:
            pool.drop(each)
        await pool.close()

    @pytest.mark.parametrize("why", [NoReply.NO_CONNECTION, NoReply.TIMED_OUT])
    async def test_a_server_that_serves_nobody_is_not_crowded(
        self, pool: Pool, dials: Dials, clock: ManualClock, told: list[int], why: NoReply
    ) -> None:
        used = await self.first(pool, dials)
        task = await self.wait(pool)
        clock.advance(10.0)
        await dials.fail(why)
        assert isinstance(await task, Deferred)
        assert told == []
        pool.drop(used)
        await pool.close()

    async def test_one_that_is_cancelled_in_the_moment_of_its_connection_returns_it(
        self, pool: Pool, dials: Dials
    ) -> None:
        used = await self.first(pool, dials)
        task, other = await self.wait(pool), await self.wait(pool)
        task.cancel()
        pool.give_back(used)
        assert await other is used, "not to the one who is about to leave"
        with pytest.raises(asyncio.CancelledError):
            await task
        late = await self.wait(pool)
        pool.give_back(used)
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        assert pool.connections().idle == 1
        await pool.close()

    async def test_one_that_breaks_on_its_way_to_the_next_message_is_not_used(
        self, pool: Pool, dials: Dials
    ) -> None:
        """As when a server closes it right after its last reply."""
        used = await self.first(pool, dials)
        task = await self.wait(pool)
        used.messages = 1
        pool.give_back(used)
        used.wire.abort()
        await asyncio.sleep(0)
        await dials.succeed()
        found = await task
        assert isinstance(found, Connection)
        assert found is not used
        assert pool.connections().busy == 1
        pool.drop(found)
        await pool.close()

    async def test_whoever_has_left_takes_no_failure_of_those_who_wait(
        self, pool: Pool, dials: Dials
    ) -> None:
        gone, other = await self.wait(pool), await self.wait(pool)
        await asyncio.sleep(0)
        dials.answer_at_once(Deferred(Stage.CONNECT, None, "no greeting", NoReply.TIMED_OUT))
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        await asyncio.sleep(0)
        assert not other.done(), "the other attempt is for him"
        await dials.succeed()
        found = await other
        assert isinstance(found, Connection)
        pool.drop(found)
        await pool.close()

    async def test_at_the_end_nobody_waits_any_longer(self, pool: Pool, dials: Dials) -> None:
        task = await self.wait(pool)
        pool.abandon()
        found = await task
        assert isinstance(found, Deferred)
        assert found.no_reply is NoReply.OUR_CHOICE
        await pool.close()


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
