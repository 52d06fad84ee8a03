"""Sessions made by copying, sockets with advice, and a server that closes what it opened."""

import asyncio
import errno
import gc
import socket
from typing import Any
from unittest.mock import Mock

import pytest
import uvloop
from aiosmtpd.smtp import SMTP

from mailshed.config.policy import ListenerPolicy
from mailshed.errors import StartError
from mailshed.listener.protocol import SmtpSession
from mailshed.listener.server import (
    SessionFactory,
    SmtpServer,
    bind,
    finish_sessions,
)
from tests.support.builders import session_limits
from tests.support.front import HOSTNAME, Front, settle

SHARED = {
    *("limits", "_patient"),
    "_consumer",  # a function of a module
}
"""Objects that sessions may have in common: nobody changes them."""

ATTRIBUTES_MAX = 30
"""More of them, and each session has a dictionary of its own (SHARED_KEYS_MAX_SIZE in CPython)."""


def new_factory(**limits: Any) -> SessionFactory:
    return SessionFactory(
        policy=ListenerPolicy(name="smtp"),
        hostname=HOSTNAME,
        handler=Mock(),
        limits=session_limits(**limits),
    )


def constructed() -> SMTP:
    """A session as the library's own constructor makes it."""
    return SMTP(
        object(),
        hostname=HOSTNAME,
        ident="mailshed",
        data_size_limit=session_limits().message_size_max,
        timeout=session_limits().command_timeout,
        loop=asyncio.get_running_loop(),
    )


# The copied session.


async def test_a_session_has_what_a_constructed_one_has() -> None:
    """Else an inherited method breaks; but for what belongs to streams, which a session has not."""
    session, stock = new_factory()(), vars(constructed())
    loop = asyncio.get_running_loop()
    of_streams = vars(asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop)))
    missing = {name for name in stock if not hasattr(session, name)}
    assert missing <= of_streams.keys()
    plain = (str, int, float, bool, type(None))
    compared = {name for name, value in stock.items() if isinstance(value, plain)}
    compared -= of_streams.keys()
    assert compared >= {"hostname", "data_size_limit", "transport", "session", "_timeout_duration"}
    assert {name: getattr(session, name) for name in compared} == {
        name: stock[name] for name in compared
    }


async def test_two_sessions_share_nothing_that_changes() -> None:
    """Connected, as they are when they collect anything."""
    async with Front() as front:
        await front.in_transaction()
        await front.in_transaction()
        one, two = (vars(session) for session in front.handler.sessions)
        immutable = (str, int, float, bool, bytes, tuple, type(None))
        same = {
            name
            for name, value in one.items()
            if value is two[name] and not isinstance(value, immutable)
        }
        assert same <= SHARED
        assert len(one) <= ATTRIBUTES_MAX


async def test_what_listeners_have_they_do_not_share() -> None:
    one, two = new_factory()(), new_factory()()
    assert one.handler is not two.handler
    for name in ("_smtp_methods", "_auth_methods", "_handle_hooks"):
        assert getattr(one, name) == {}, "bound to the template in the library"


async def test_the_library_is_constructed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its constructor costs more than all the rest of a short session."""
    calls = []
    original = SMTP.__init__

    def counted(self: SMTP, *arguments: Any, **options: Any) -> None:
        calls.append(self)
        original(self, *arguments, **options)

    monkeypatch.setattr(SMTP, "__init__", counted)
    factory = new_factory()
    sessions = [factory() for _ in range(10)]
    assert len(calls) == 1
    assert all(isinstance(session, SmtpSession) for session in sessions)


async def test_new_sessions_take_the_limits_of_the_moment() -> None:
    """A reload changes the factory; sessions that are open keep what they began with."""
    factory = new_factory(errors_max=5)
    before = factory()
    factory.limits = session_limits(errors_max=7)
    after = factory()
    assert (before.limits.errors_max, after.limits.errors_max) == (5, 7)


# Sockets.


def test_a_taken_port_is_a_start_error_with_advice() -> None:
    with bind("smtp", "127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(StartError) as caught:
            bind("submission", "127.0.0.1", port)
    text = str(caught.value)
    assert f"listener submission: cannot listen on 127.0.0.1 port {port}: Address alre" in text
    assert f"`ss -ltnp 'sport = :{port}'` shows which" in text


def test_an_address_that_is_not_ours_is_a_start_error() -> None:
    with pytest.raises(StartError, match=r"cannot listen on 192\.0\.2\.1 port 2525") as caught:
        bind("smtp", "192.0.2.1", 2525)
    assert "192.0.2.1 is not an address of this host; `ip addr`" in str(caught.value)
    assert "ss -ltnp" not in str(caught.value)


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.EACCES, ". A port below 1024 needs root or CAP_NET_BIND_SERVICE."), (errno.EIO, "")],
)
def test_other_failures_are_advised_on_by_their_cause(
    number: int, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "what the kernel says")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(StartError) as caught:
        bind("smtp", "127.0.0.1", 25)
    assert str(caught.value).endswith(f"port 25: what the kernel says{advice}")


def test_both_families_can_be_bound() -> None:
    for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        with bind("smtp", host, 0) as listening:
            assert listening.family is family
            assert not listening.getblocking()
            assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


async def test_replies_that_are_not_read_are_bounded_in_the_kernel_too() -> None:
    """Accepted sockets inherit it; it is what ends connections that a session has closed."""
    async with Front(reply_timeout=7.5) as front:
        await front.peer()
        taken = front.session.transport.get_extra_info("socket")  # type: ignore[union-attr]
        assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7500


async def test_a_port_can_be_bound_again_right_after_its_server() -> None:
    """Connections in TIME_WAIT do not keep a restarted service from its port."""
    async with Front() as front:
        peer = await front.peer()
        front.session.transport.close()  # type: ignore[union-attr]
        await peer.rest()
        port = front.port
    bind("smtp", "127.0.0.1", port).close()


async def test_a_server_that_never_started_closes_its_socket() -> None:
    listening = bind("smtp", "127.0.0.1", 0)
    server = SmtpServer(new_factory(), listening, handler=Mock(open_sessions=set()))
    assert server.port == listening.getsockname()[1] > 0
    server.stop_accepting()
    server.stop_accepting()
    assert listening.fileno() == -1


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_can_be_closed_after_the_server_without_a_word(new_loop: Any) -> None:
    """No task, no socket and no warning is left, with sessions in every state at the end."""

    async def serve() -> None:
        async with Front() as front:
            await front.peer()
            await front.in_transaction()
            await front.in_data()
            waiting = await front.in_data()
            front.handler.may_answer.clear()
            await waiting.send(b"x\r\n.\r\n")
            await settle()
            assert len(front.handler.open_sessions) == 4
        assert len(asyncio.all_tasks()) == 1

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve())
    gc.collect()  # warnings of unclosed resources are errors


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_can_be_closed_behind_sessions_that_are_cut_off(new_loop: Any) -> None:
    """A service that dies of another fault must not hang over its sessions."""
    peers = []

    async def serve() -> None:
        front = await Front().__aenter__()
        peers.append(await front.in_data())
        front.handler.may_answer.clear()
        await peers[0].send(b"x\r\n.\r\n")
        peers.append(await front.peer())
        await settle()
        front.server.stop_accepting()
        assert await finish_sessions(front.handler.open_sessions, 0.0) == 2
        await settle()
        assert len(asyncio.all_tasks()) == 1

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve())
    gc.collect()  # warnings of unclosed resources are errors
    for peer in peers:
        peer.close()


# Stopping.


async def test_there_is_nothing_to_wait_for_without_sessions() -> None:
    assert await finish_sessions(set(), 60.0) == 0
    assert await finish_sessions(set(), 0.0) == 0


async def test_without_time_to_finish_sessions_are_cut_off_at_once() -> None:
    async with Front() as front:
        peer = await front.in_data()
        assert await finish_sessions(front.handler.open_sessions, 0.0) == 1
        assert await peer.rest() == b""
