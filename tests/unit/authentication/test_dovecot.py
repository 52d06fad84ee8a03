"""Dovecot's protocol with a server that says what a test wants; tests/e2e has the real one."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Self

import pytest

from mailshed.authentication.dovecot import (
    LINE_OCTETS_MAX,
    UNREAD_OCTETS_MAX,
    DovecotVerifier,
)
from mailshed.authentication.sasl import Credentials, Mechanism, credentials
from mailshed.authentication.verdict import Accepted, Rejected, Unavailable, Verdict
from mailshed.mail.envelope import Client
from tests.support.outbound import DEADLINE, eventually

SECRET = b"Kanarienvogel-7"
PLAIN = credentials(Mechanism.PLAIN, (b"\0alice\0" + SECRET,))
LOGIN = credentials(Mechanism.LOGIN, (b"alice", SECRET))
TOKEN = credentials(Mechanism.XOAUTH2, (b"user=alice\x01auth=Bearer t0ken\x01\x01",))
CLIENT = Client(
    session_id="s1",
    listener="submission",
    address=ip_address("192.0.2.1"),
    port=1,
    is_trusted=False,
)
HANDSHAKE = (
    b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nMECH\tXOAUTH2\n"
    b"SPID\t7\nCUID\t1\nCOOKIE\tc0ffee\nDONE\n"
)

Answer = Callable[[list[str]], bytes | None]
"""From the fields of a line to what is said; None ends the connection."""


class FakeDovecot:
    """Listens on a socket; `answer` is asked about each line after the client's handshake."""

    def __init__(self, socket: Path, answer: Answer, handshake: bytes = HANDSHAKE) -> None:
        self.socket = socket
        self.answer = answer
        self.handshake = handshake
        self.lines: list[list[str]] = []
        self.is_reading = asyncio.Event()
        self.is_reading.set()
        self.writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, str(self.socket))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.socket.unlink(missing_ok=True)

    @property
    def questions(self) -> list[list[str]]:
        """The lines that ask."""
        return [each for each in self.lines if each[0] == "AUTH"]

    def hang_up(self) -> None:
        """Close all connections, unasked."""
        for writer in self.writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.writers.append(writer)
        try:
            writer.write(self.handshake)
            while line := await reader.readline():
                await self.is_reading.wait()
                fields = line.decode().removesuffix("\n").split("\t")
                self.lines.append(fields)
                if fields[0] in {"VERSION", "CPID"}:
                    continue
                answer = self.answer(fields)
                if answer is None:
                    return
                writer.write(answer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()


@asynccontextmanager
async def asking(socket: Path) -> AsyncIterator[DovecotVerifier]:
    """What asks; no fault of ours may have been reported at the end."""
    failures: list[BaseException] = []
    verifier = DovecotVerifier(socket, on_failure=lambda _name, error: failures.append(error))
    await verifier.refresh()
    try:
        yield verifier
    finally:
        await verifier.close()
    assert failures == []


async def ask(verifier: DovecotVerifier, said: Credentials = PLAIN) -> Verdict:
    async with asyncio.timeout(DEADLINE):
        return await verifier.verify(said, CLIENT)


def always(text: str) -> Answer:
    """Answer each question with this, in which # is its number."""
    return lambda fields: text.replace("#", fields[1]).encode() + b"\n"


@asynccontextmanager
async def serving(
    folder: Path, answer: Answer, handshake: bytes = HANDSHAKE
) -> AsyncIterator[tuple[FakeDovecot, DovecotVerifier]]:
    """Both ends."""
    server = FakeDovecot(folder / "s", answer, handshake)
    async with server, asking(server.socket) as verifier:
        yield server, verifier


async def verdict_of(folder: Path, answer: Answer, said: Credentials = PLAIN) -> Verdict:
    async with serving(folder, answer) as (_, verifier):
        return await ask(verifier, said)


# What is said.


async def test_a_question_has_all_that_dovecot_wants_and_the_secret_last(tmp_path: Path) -> None:
    async with serving(tmp_path, always("OK\t#\tuser=alice")) as (server, verifier):
        assert await ask(verifier) == Accepted("alice")
    version, cpid, question = server.lines

    assert version == ["VERSION", "1", "2"]
    assert cpid[0] == "CPID"
    assert 0 < int(cpid[1]) < 2**32
    assert question == [
        *("AUTH", "1", "PLAIN", "service=smtp", "nologin", "secured", "no-penalty"),
        *("rip=192.0.2.1", f"resp={PLAIN.encoded[0].decode()}"),
    ]


async def test_login_goes_on_when_it_is_asked(tmp_path: Path) -> None:
    def answer(fields: list[str]) -> bytes:
        return b"CONT\t1\tUGFzc3dvcmQ6\n" if fields[0] == "AUTH" else b"OK\t1\tuser=alice\n"

    async with serving(tmp_path, answer) as (server, verifier):
        assert await ask(verifier, LOGIN) == Accepted("alice")

    assert server.lines[2][2] == "LOGIN"
    assert server.lines[2][-1] == f"resp={base64.b64encode(b'alice').decode()}"
    assert server.lines[3] == ["CONT", "1", base64.b64encode(SECRET).decode()]


async def test_the_reason_of_a_refused_token_is_taken_note_of(tmp_path: Path) -> None:
    def answer(fields: list[str]) -> bytes:
        return b"CONT\t1\teyJzdGF0dXMiOiI0MDEifQ==\n" if fields[0] == "AUTH" else b"FAIL\t1\n"

    async with serving(tmp_path, answer) as (server, verifier):
        assert await ask(verifier, TOKEN) == Rejected("")

    assert server.lines[3] == ["CONT", "1", ""]


async def test_a_service_without_login_is_asked_by_plain(tmp_path: Path) -> None:
    handshake = b"VERSION\t1\t3\nMECH\tplain\nDONE\n"
    async with serving(tmp_path, always("OK\t#"), handshake) as (server, verifier):
        assert await ask(verifier, LOGIN) == Accepted("alice")
        refused = await ask(verifier, TOKEN)

    assert server.questions[0][2] == "PLAIN"
    assert isinstance(refused, Unavailable)
    assert "XOAUTH2" in refused.detail
    assert len(server.questions) == 1


# What the answers mean.


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("OK\t#\tuser=alice", Accepted("alice")),
        ("OK\t#\tuser=Alice@Hospital.example\tx=y", Accepted("alice@hospital.example")),
        ("OK\t#", Accepted("alice")),
        ("OK\t#\tuser=alice\tnologin\treason=moved", Rejected("nologin")),
        ("FAIL\t#\tuser=alice", Rejected("")),
        ("FAIL\t#\tuser=alice\tcode=user_disabled", Rejected("user_disabled")),
        ("FAIL\t#\tuser=alice\tauthz", Rejected("authz")),
        ("FAIL\t#\treason=alice has typed hunter2\tcode=pass_expired", Rejected("pass_expired")),
        ("FAIL\t#\tuser=alice\tcode=temp_fail", Unavailable("it said temp_fail")),
        ("FAIL\t#\tuser=alice\ttemp", Unavailable("it said temp_fail")),
    ],
)
async def test_a_no_is_what_is_not_temporary(tmp_path: Path, answer: str, verdict: Verdict) -> None:
    assert await verdict_of(tmp_path, always(answer)) == verdict


@pytest.mark.parametrize(
    "user", ["a\x01tb", "a\x01nb", "a\x01rb", "a\x010b", "a\x011b", " a", "\xff"]
)
async def test_a_name_that_is_none_is_not_believed(tmp_path: Path, user: str) -> None:
    line = f"OK\t1\tuser={user}\n".encode("latin-1")

    verdict = await verdict_of(tmp_path, lambda _fields: line)

    assert isinstance(verdict, Unavailable)


async def test_lines_about_nothing_are_passed_over(tmp_path: Path) -> None:
    noise = "OK\t99\tuser=mallory\nOK\nOK\tx\tuser=mallory\n\nNOISE\t#\nOK\t#\tuser=alice"

    assert await verdict_of(tmp_path, always(noise)) == Accepted("alice")


# Many questions, one connection.


async def test_questions_share_a_connection_and_answers_find_them_in_any_order(
    tmp_path: Path,
) -> None:
    held: list[str] = []

    def answer(fields: list[str]) -> bytes:
        name = base64.b64decode(fields[-1].removeprefix("resp=")).split(b"\0")[1].decode()
        held.append(f"OK\t{fields[1]}\tuser={name}\n")
        return "".join(reversed(held)).encode() if len(held) == 20 else b""

    users = [f"user{number}" for number in range(20)]
    said = [credentials(Mechanism.PLAIN, (f"\0{user}\0x".encode(),)) for user in users]
    async with serving(tmp_path, answer) as (server, verifier):
        async with asyncio.timeout(DEADLINE):
            verdicts = await asyncio.gather(*(verifier.verify(each, CLIENT) for each in said))

    assert verdicts == [Accepted(user) for user in users]
    assert len(server.writers) == 1
    assert len({each[1] for each in server.questions}) == 20


async def test_a_client_that_leaves_is_forgotten(tmp_path: Path) -> None:
    answers = [b"", b"OK\t1\tuser=mallory\nOK\t2\tuser=alice\n"]
    async with serving(tmp_path, lambda _fields: answers.pop(0)) as (_, verifier):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await verifier.verify(PLAIN, CLIENT)
        assert await ask(verifier) == Accepted("alice")


# What breaks.


async def test_a_restart_of_dovecot_is_not_noticed(tmp_path: Path) -> None:
    async with asking(tmp_path / "s") as verifier:
        for _ in range(2):
            async with FakeDovecot(tmp_path / "s", always("OK\t#")):
                assert await ask(verifier) == Accepted("alice")
                assert await ask(verifier) == Accepted("alice")


async def test_a_question_whose_connection_broke_is_asked_once_more(tmp_path: Path) -> None:
    answers: list[bytes | None] = [b"OK\t1\n", None, b"OK\t1\n"]
    async with serving(tmp_path, lambda _fields: answers.pop(0)) as (server, verifier):
        assert await ask(verifier) == Accepted("alice")
        assert await ask(verifier) == Accepted("alice")

    assert len(server.writers) == 2


async def test_and_not_for_ever(tmp_path: Path) -> None:
    async with serving(tmp_path, lambda _fields: None) as (server, verifier):
        verdict = await ask(verifier)

    assert isinstance(verdict, Unavailable)
    assert len(server.questions) == 1


async def test_without_a_socket_there_is_no_answer(tmp_path: Path) -> None:
    async with asking(tmp_path / "nobody") as verifier:
        verdict = await ask(verifier)

    assert verdict == Unavailable(f"{tmp_path}/nobody: No such file or directory")


@pytest.mark.parametrize(
    ("handshake", "why"),
    [
        (b"VERSION\t2\t0\nMECH\tPLAIN\nDONE\n", "version"),
        (b"VERSION\nDONE\n", "version"),
        (b"MECH\tPLAIN\n" * 200, "does not end"),
        (b"x" * (2 * LINE_OCTETS_MAX), "line of more than"),
    ],
)
async def test_a_server_that_speaks_something_else_is_left(
    tmp_path: Path, handshake: bytes, why: str
) -> None:
    async with serving(tmp_path, always("OK\t#"), handshake) as (server, verifier):
        verdict = await ask(verifier)

    assert isinstance(verdict, Unavailable)
    assert why in verdict.detail
    assert server.questions == []


async def test_a_line_without_end_ends_the_connection(tmp_path: Path) -> None:
    answers = [b"OK\t1" + b"x" * (2 * LINE_OCTETS_MAX), b"OK\t1\n"]
    async with serving(tmp_path, lambda _fields: answers.pop(0)) as (_, verifier):
        assert isinstance(await ask(verifier), Unavailable)
        assert await ask(verifier) == Accepted("alice")


async def test_a_server_that_does_not_read_is_given_up(tmp_path: Path) -> None:
    long = credentials(Mechanism.PLAIN, (b"\0alice\0" + b"x" * 9000,))
    async with serving(tmp_path, always("OK\t#")) as (server, verifier):
        assert await ask(verifier) == Accepted("alice")
        server.is_reading.clear()
        verdicts: list[Verdict] = []

        async def patient() -> None:
            try:
                async with asyncio.timeout(0.2):
                    verdicts.append(await verifier.verify(long, CLIENT))
            except TimeoutError:
                pass

        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(patient())
        link = verifier._link
        assert link is not None
        assert link._writer.transport.get_write_buffer_size() <= UNREAD_OCTETS_MAX + 13_000


async def test_a_connection_that_was_closed_while_idle_is_replaced(tmp_path: Path) -> None:
    async with serving(tmp_path, always("OK\t#")) as (server, verifier):
        assert await ask(verifier) == Accepted("alice")
        server.hang_up()
        link = verifier._link
        assert link is not None
        await eventually(lambda: link.fault is not None)
        assert await ask(verifier) == Accepted("alice")

    assert len(server.writers) == 2


@pytest.mark.parametrize(
    "said",
    [
        PLAIN,
        LOGIN,
        credentials(Mechanism.PLAIN, (b"\0alice\0" + b"\t\nOK\t1\tuser=root\n" + SECRET,)),
    ],
)
async def test_no_secret_can_say_a_line_of_its_own(tmp_path: Path, said: Credentials) -> None:
    def answer(fields: list[str]) -> bytes:
        return b"CONT\t1\t\n" if fields[2:3] == ["LOGIN"] else b"FAIL\t1\n"

    async with serving(tmp_path, answer) as (server, verifier):
        assert await ask(verifier, said) == Rejected("")

    assert {each[0] for each in server.lines} <= {"VERSION", "CPID", "AUTH", "CONT"}
    assert len(server.questions) == 1
