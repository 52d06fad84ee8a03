"""`MaildirBackend`: the form of the file, and the faults of the file system."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.errors import ClientGone
from mailshed.mail.delivery import Deferred, Delivered, InDoubt
from mailshed.relay.backend import BackendConnections, OutboundMessage
from mailshed.relay.maildir import WRITE_OCTETS, MaildirBackend, WireDecoder
from mailshed.terms import QueueId, Stage
from tests.support.clock import ManualClock
from tests.support.outbound import DEADLINE, eventually, outbound


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mail" / "box"


@pytest.fixture
def backend(path: Path) -> MaildirBackend:
    return MaildirBackend("trial", path, hostname="relay.test", clock=ManualClock(wall=1.5))


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


async def test_a_message_is_a_file_in_new(backend: MaildirBackend, path: Path) -> None:
    message = outbound(
        b"Subject: dots\r\n\r\n..one\r\n...two\r\nthree.\r\n",
        to=[b"one@example.com", b"two@example.com"],
        prefix=b"Received: here\r\n\tfolded\r\n",
    )
    result = await backend.deliver(message)
    (name,) = names(path / "new")
    assert name == f"1.M500000P{os.getpid()}Q1.relay.test"
    delivered = result.uniform
    assert isinstance(delivered, Delivered)
    assert delivered.reply.wire == f"250 2.0.0 Ok: delivered to Maildir as {name}\r\n".encode()
    assert len(result.recipients) == 2
    assert result.is_final, "it is in the mailbox"
    assert (path / "new" / name).read_bytes() == (
        b"Return-Path: <sender@example.com>\n"
        b"Delivered-To: one@example.com\n"
        b"Delivered-To: two@example.com\n"
        b"Received: here\n\tfolded\n"
        b"Subject: dots\n\n.one\n..two\nthree.\n"
    )
    assert (path / "new" / name).stat().st_mode & 0o777 == 0o600
    assert names(path / "tmp") == []
    assert names(path / "cur") == []


async def test_a_bounce_has_an_empty_return_path(backend: MaildirBackend, path: Path) -> None:
    await backend.deliver(outbound(b"x\r\n", sender=b""))
    (file,) = (path / "new").iterdir()
    assert file.read_bytes().startswith(b"Return-Path: <>\n")


async def test_names_are_unique_within_one_instant(backend: MaildirBackend, path: Path) -> None:
    results = await asyncio.gather(*(backend.deliver(outbound()) for _ in range(20)))
    assert all(isinstance(result.uniform, Delivered) for result in results)
    assert len(names(path / "new")) == 20
    assert backend.connections() == BackendConnections()


def test_a_host_name_cannot_leave_the_folder(path: Path) -> None:
    backend = MaildirBackend("t", path, hostname="../a:b", clock=ManualClock())
    assert backend._unique_name().endswith("...\\057a\\072b")


async def test_streamed_content_larger_than_a_write_is_whole(
    backend: MaildirBackend, path: Path
) -> None:
    line = b"y" * 70 + b"\r\n"
    pieces = [line * 1000] * (3 * WRITE_OCTETS // len(line * 1000))
    await backend.deliver(outbound(pieces, is_streamed=True))
    (file,) = (path / "new").iterdir()
    assert file.read_bytes().endswith(b"".join(pieces).replace(b"\r\n", b"\n"))


async def test_a_client_that_left_gets_no_file(backend: MaildirBackend, path: Path) -> None:
    with pytest.raises(ClientGone):
        await backend.deliver(outbound(may_send_dot=lambda: False))
    assert names(path / "new") == names(path / "tmp") == []


async def test_an_error_of_the_source_is_the_caller_s(backend: MaildirBackend, path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"one\r\n"
        raise OSError("the spool's file is gone")

    message = OutboundMessage(
        queue_id=QueueId("0"), reverse_path=b"", recipients=((b"a@b", ()),), size=9, chunks=chunks
    )
    with pytest.raises(OSError, match="spool's file"):
        await backend.deliver(message)
    assert names(path / "new") == names(path / "tmp") == []


async def test_a_folder_that_cannot_be_made_is_a_backend_away(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    backend = MaildirBackend("t", tmp_path / "file" / "box", hostname="h", clock=ManualClock())
    result = await backend.deliver(outbound())
    assert result.is_backend_away
    (deferred,) = result.recipients
    assert isinstance(deferred, Deferred)
    assert deferred.stage is Stage.CONNECT
    assert deferred.reply is None
    assert "Not a directory" in deferred.detail


async def test_a_full_disk_defers_and_leaves_nothing(
    backend: MaildirBackend, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        result = await backend.deliver(outbound())
    (deferred,) = result.recipients
    assert isinstance(deferred, Deferred)
    assert "No space left" in deferred.detail
    assert not result.is_backend_away
    assert names(path / "new") == names(path / "tmp") == []
    assert isinstance((await backend.deliver(outbound())).uniform, Delivered)


async def test_a_failed_sync_defers_before_the_rename_and_is_in_doubt_after_it(
    backend: MaildirBackend, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder's sync comes last; when it fails, readers may have seen the message."""
    real = os.fsync
    calls: list[int] = []

    def failing(at: int) -> None:
        def fsync(descriptor: int) -> None:
            calls.append(descriptor)
            if len(calls) == at:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)

    failing(at=1)
    (result,) = (await backend.deliver(outbound())).recipients
    assert isinstance(result, Deferred)
    assert result.stage is Stage.DOT
    assert names(path / "new") == names(path / "tmp") == []

    calls.clear()
    failing(at=2)
    (result,) = (await backend.deliver(outbound())).recipients
    assert isinstance(result, InDoubt)
    assert len(names(path / "new")) == 1


async def test_a_cancelled_delivery_waits_for_its_thread_and_cleans_up(
    backend: MaildirBackend, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, entered = threading.Event(), threading.Event()
    real = os.write

    def slow(descriptor: int, data: bytes) -> int:
        entered.set()
        release.wait(DEADLINE)
        return real(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", slow)
        task = asyncio.get_running_loop().create_task(backend.deliver(outbound()))
        await eventually(entered.is_set)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done(), "the thread still has the file"
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert names(path / "new") == names(path / "tmp") == []
    await backend.close()


LINES = st.lists(
    st.binary(max_size=5).map(lambda line: line.replace(b"\r", b".").replace(b"\n", b".")),
    max_size=6,
)


@given(lines=LINES, cuts=st.lists(st.integers(0, 50)))
def test_decoding_undoes_the_wire_form_however_it_is_cut(
    lines: list[bytes], cuts: list[int]
) -> None:
    wire = b"".join((b"." + line if line[:1] == b"." else line) + b"\r\n" for line in lines)
    positions = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    decoder = WireDecoder()
    pieces = [decoder.decode(wire[a:b]) for a, b in pairwise(positions)]
    decoded = b"".join([*pieces, decoder.finish()])
    assert decoded == b"".join(line + b"\n" for line in lines)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([], b""),
        ([b""], b""),
        ([b"no end"], b"no end\n"),
        ([b"cr\r"], b"cr\r\n"),
        ([b"..\r", b"\n", b"."], b".\n\n"),
        ([b"a\r\r\n"], b"a\r\n"),
    ],
)
def test_decoding_of_odd_ends(pieces: list[bytes], expected: bytes) -> None:
    """What does not end a line is ended; a lone CR is left as it is."""
    decoder = WireDecoder()
    decoded = b"".join([decoder.decode(piece) for piece in pieces])
    assert decoded + decoder.finish() == expected
