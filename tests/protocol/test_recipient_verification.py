"""RCPT that has to wait for an answer: order of replies, and whoever leaves or stops meanwhile.

Behind the session stands the real path up to the backend; the server that is asked about mailboxes
is scripted, and knows nobody whose name begins with `no`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mailshed.listener.server import finish_sessions
from mailshed.relay.connection import Address
from mailshed.terms import Stage
from tests.support.builders import relay_policy, verification_policy
from tests.support.front import Front, Peer, until
from tests.support.live_path import LivePath
from tests.support.scripted_backend import Action, Say, ScriptedBackend, Wait, say

POLICY = verification_policy(unknown_max=2)
NO_SUCH_USER = "550 5.1.1 no such user"


def knows(path: bytes) -> Say:
    return say(NO_SUCH_USER if path.startswith(b"no") else "250 2.1.5 ok")


def held(event: asyncio.Event) -> Callable[[bytes], Action]:
    """Answers when `event` is set."""

    def answer(path: bytes) -> Action:
        plain = knows(path)
        return plain if path.startswith(b"no-such-mailbox-") else Wait(event, plain)

    return answer


class Bench:
    """A listener, what is behind it, and the server that knows the mailboxes."""

    def __init__(self, path: LivePath, front: Front, server: ScriptedBackend) -> None:
        self.path, self.front, self.server = path, front, server

    @property
    def asked(self) -> list[bytes]:
        """Real addresses that the server was asked about."""
        paths = [each[9:-1] for each in self.server.commands if each.startswith(b"RCPT TO:")]
        return [path for path in paths if not path.startswith(b"no-such-mailbox-")]

    async def is_asked(self) -> None:
        """Wait until the server has a question."""
        await until(lambda: bool(self.asked), "a question arrives")

    async def sender(self) -> Peer:
        """A client after MAIL."""
        peer = await self.front.peer()
        await peer.greet()
        await peer.command("MAIL FROM:<a@example.org>", 250)
        return peer


@asynccontextmanager
async def bench(
    folder: Path, *, is_trusted: bool = False, errors_max: int = 20, command_timeout: float = 60.0
) -> AsyncIterator[Bench]:
    async with ScriptedBackend() as server:
        server.rcpt = knows
        path = LivePath(
            folder,
            relay=relay_policy(trusted=("127.0.0.0/8",) if is_trusted else ()),
            verification=POLICY,
            asked=Address(host=server.host, port=server.port, hostname="relay.test"),
        )
        assert path.verifier is not None
        front = Front(path.handler, errors_max=errors_max, command_timeout=command_timeout)
        async with front:
            yield Bench(path, front, server)
        await path.verifier.close()
        assert path.failures == []
        assert path.is_at_rest


async def test_pipelined_recipients_are_answered_in_order_and_one_is_unknown(
    tmp_path: Path,
) -> None:
    """A stranger's message with a dead recipient among good ones reaches the others."""
    async with bench(tmp_path) as made:
        peer = await made.front.peer()
        await peer.greet()
        await peer.send(
            b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<nobody@example.net>"
            b"\r\nRCPT TO:<c@example.net>\r\nDATA\r\n"
        )
        codes = [(await peer.reply())[:3] for _ in range(5)]
        assert codes == [b"250", b"250", b"550", b"250", b"354"]
        await peer.command("Subject: x\r\n\r\nhello\r\n.", 250)
        (message,) = made.path.backend.asked
        assert [path for path, _ in message.recipients] == [b"b@example.net", b"c@example.net"]
        assert "reason=unknown_recipient" in made.path.log.getvalue()
        assert "to=<nobody@example.net>" in made.path.log.getvalue()


async def test_the_backends_own_words_refuse(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        peer = await made.sender()
        for _ in range(2):
            answer = await peer.command("RCPT TO:<nobody@example.net>", 550)
            assert answer == f"{NO_SUCH_USER}\r\n".encode()
        assert made.asked == [b"nobody@example.net"]


async def test_what_came_before_is_answered_and_what_comes_after_waits(tmp_path: Path) -> None:
    goes_on = asyncio.Event()
    async with bench(tmp_path) as made:
        made.server.rcpt = held(goes_on)
        peer = await made.front.peer()
        await peer.greet()
        await peer.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nNOOP\r\nVRFY\r\n")
        assert (await peer.reply()).startswith(b"250 2.1.0")
        await made.is_asked()
        assert await peer.is_silent()
        goes_on.set()
        codes = [(await peer.reply())[:9] for _ in range(3)]
        assert codes == [b"250 2.1.5", b"250 2.0.0", b"501 5.5.4"]


async def test_other_sessions_go_on_while_one_waits(tmp_path: Path) -> None:
    goes_on = asyncio.Event()
    async with bench(tmp_path) as made:
        made.server.rcpt = held(goes_on)
        waiting = await made.sender()
        await waiting.send(b"RCPT TO:<b@example.net>\r\n")
        await made.is_asked()
        other = await made.sender()
        await other.command("RSET", 250)
        assert await waiting.is_silent()
        goes_on.set()
        assert (await waiting.reply()).startswith(b"250")


async def test_the_time_of_an_answer_is_not_the_clients(tmp_path: Path) -> None:
    """The timer for its next command runs again only when it has its reply."""
    goes_on = asyncio.Event()
    async with bench(tmp_path, command_timeout=0.2) as made:
        made.server.rcpt = held(goes_on)
        peer = await made.sender()
        await peer.send(b"RCPT TO:<b@example.net>\r\n")
        await made.is_asked()
        loop = asyncio.get_running_loop()
        loop.call_later(0.6, goes_on.set)
        assert (await peer.reply()).startswith(b"250")
        assert (await peer.reply()).startswith(b"421 4.4.2")


class TestTheClientLeaves:
    async def test_with_its_connection(self, tmp_path: Path) -> None:
        """The question goes on, and its answer serves the next one who asks."""
        goes_on = asyncio.Event()
        async with bench(tmp_path) as made:
            made.server.rcpt = held(goes_on)
            peer = await made.sender()
            await peer.send(b"RCPT TO:<nobody@example.net>\r\n")
            await made.is_asked()
            peer.reset()
            await until(lambda: not made.path.handler.open_sessions, "the session is over")
            goes_on.set()
            verifier = made.path.verifier
            assert verifier is not None
            await until(lambda: verifier.cached[0] == 1, "the answer is remembered")
            next_one = await made.sender()
            await next_one.command("RCPT TO:<nobody@example.net>", 550)
            assert made.asked == [b"nobody@example.net"]

    async def test_having_said_everything(self, tmp_path: Path) -> None:
        """A client that half-closes after its commands still gets all replies."""
        goes_on = asyncio.Event()
        async with bench(tmp_path) as made:
            made.server.rcpt = held(goes_on)
            peer = await made.sender()
            await peer.send(b"RCPT TO:<b@example.net>\r\nDATA\r\nhello\r\n.\r\nQUIT\r\n")
            peer.half_close()
            await made.is_asked()
            goes_on.set()
            codes = [(await peer.reply())[:3] for _ in range(4)]
            assert codes == [b"250", b"354", b"250", b"221"]


class TestTheServiceStops:
    @pytest.mark.parametrize(("is_trusted", "code"), [(True, 250), (False, 450)])
    async def test_and_nobody_waits_for_an_answer_any_more(
        self, tmp_path: Path, is_trusted: bool, code: int
    ) -> None:
        async with bench(tmp_path, is_trusted=is_trusted) as made:
            made.server.rcpt = held(asyncio.Event())
            peer = await made.sender()
            await peer.send(b"RCPT TO:<b@example.net>\r\n")
            await made.is_asked()
            made.front.server.stop_accepting()
            made.path.gate.close()
            assert made.path.verifier is not None
            made.path.verifier.stop()
            async with asyncio.TaskGroup() as group:
                finishing = group.create_task(finish_sessions(made.path.handler.open_sessions, 20))
                assert (await peer.reply()).startswith(str(code).encode())
                if is_trusted:
                    await peer.command("DATA", 354)
                    await peer.command("Subject: x\r\n\r\nhello\r\n.", 250)
                    assert (await peer.reply()).startswith(b"421 4.3.2")
                else:
                    await peer.command("QUIT", 221)
            assert finishing.result() == 0

    async def test_and_who_still_waits_is_cut_off(self, tmp_path: Path) -> None:
        async with bench(tmp_path) as made:
            made.server.rcpt = held(asyncio.Event())
            peer = await made.sender()
            await peer.send(b"RCPT TO:<b@example.net>\r\n")
            await made.is_asked()
            assert await finish_sessions(made.path.handler.open_sessions, 0.0) == 1
            assert await peer.rest() == b""
            await until(lambda: not made.path.handler.open_sessions, "the session is over")


class TestUnknownRecipients:
    async def test_of_a_stranger_are_slow_and_then_end_the_session(self, tmp_path: Path) -> None:
        async with bench(tmp_path) as made:
            peer = await made.sender()
            loop = asyncio.get_running_loop()
            seconds = []
            for number in range(2 * POLICY.unknown_max):
                began = loop.time()
                await peer.command(f"RCPT TO:<no{number}@example.net>", 550)
                seconds.append(loop.time() - began)
            assert min(seconds[2:]) >= 1.0
            await peer.command("RCPT TO:<no9@example.net>", 421)
            assert await peer.rest() == b""

    async def test_of_a_stranger_count_as_errors(self, tmp_path: Path) -> None:
        async with bench(tmp_path, errors_max=2) as made:
            peer = await made.sender()
            for number in range(2):
                await peer.command(f"RCPT TO:<no{number}@example.net>", 550)
            assert (await peer.reply()).startswith(b"421 4.7.0 Too many errors")

    async def test_of_a_trusted_client_are_an_old_list(self, tmp_path: Path) -> None:
        async with bench(tmp_path, is_trusted=True, errors_max=2) as made:
            peer = await made.sender()
            for number in range(10):
                await peer.command(f"RCPT TO:<no{number}@example.net>", 550)
            await peer.command("RCPT TO:<b@example.net>", 250)
            await peer.command("DATA", 354)

    async def test_that_nobody_can_verify_are_not_the_clients_errors(self, tmp_path: Path) -> None:
        async with bench(tmp_path, errors_max=2) as made:
            made.server.always(Stage.CONNECT, say("421 4.3.2 not now"))
            peer = await made.sender()
            for number in range(10):
                await peer.command(f"RCPT TO:<b{number}@example.net>", 450)
            assert "reason=unverified_recipient" in made.path.log.getvalue()


async def test_a_trusted_client_waits_for_a_moment_only_and_once(tmp_path: Path) -> None:
    async with bench(tmp_path, is_trusted=True) as made:
        assert made.path.verifier is not None
        made.path.verifier.policy = replace(POLICY, wait_trusted=0.1)
        made.server.rcpt = held(asyncio.Event())
        peer = await made.sender()
        for number in range(20):
            await peer.command(f"RCPT TO:<b{number}@example.net>", 250)
        assert made.asked == [b"b0@example.net"]
        (session,) = made.path.handler.open_sessions
        assert 0.05 < session.envelope.waited < 2.0
