"""Messages as files: whole and verified, or not at all, and never over something else."""

import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.errors import SpoolError
from mailshed.spool.extract import Extracted, Unstuffer, existing, extract, sync_folder
from mailshed.spool.schema import CHUNK_OCTETS, DATABASE
from mailshed.spool.store import SpoolRecipient
from mailshed.terms import QueueId
from tests.support.builders import spool_record
from tests.support.spools import pieces, sqlite_spool

PATIENT = b"190011234567890@patient.mssante.fr"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "out"
    made.mkdir()
    return made


async def store(path: Path, content: bytes) -> QueueId:
    spool = sqlite_spool(path)
    await spool.open()
    record = spool_record(
        recipients=(SpoolRecipient(index=0, address=PATIENT, parameters=(b"NOTIFY=FAILURE",)),)
    )
    await spool.add(record, pieces(content))
    await spool.close()
    return record.queue_id


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path / DATABASE)) as connection:
        assert connection.execute(statement).rowcount
        connection.commit()


async def test_writes_content_and_envelope(tmp_path: Path, folder: Path) -> None:
    queue_id = await store(tmp_path, b"..a\r\nSubject: x\r\n\r\n.. b\r\nc.\r\n...\r\n")

    assert extract(tmp_path, queue_id, folder) == Extracted()
    sync_folder(folder)
    content, envelope = folder / f"{queue_id}.eml", folder / f"{queue_id}.json"
    assert content.read_bytes() == b".a\r\nSubject: x\r\n\r\n. b\r\nc.\r\n..\r\n"
    document = json.loads(envelope.read_text())
    assert document["schema"] == "mailshed.message/1"
    assert document["sender"] == "alice@example.org"
    (recipient,) = document["recipients"]
    assert recipient["address"] == PATIENT.decode()
    assert recipient["parameters"] == ["NOTIFY=FAILURE"]
    assert (document["is_damaged"], document["damage"]) == (False, "")
    assert modes(folder) == {0o600}


async def test_many_chunks_make_one_file(tmp_path: Path, folder: Path) -> None:
    """With a stuffed dot behind the last octet of a chunk."""
    line = b"x" * (CHUNK_OCTETS - 2) + b"\r\n"
    queue_id = await store(tmp_path, line + b"..\r\n" + line * 2)

    assert extract(tmp_path, queue_id, folder) == Extracted()
    assert (folder / f"{queue_id}.eml").read_bytes() == line + b".\r\n" + line * 2


async def test_what_is_there_is_not_overwritten(tmp_path: Path, folder: Path) -> None:
    """Neither file, and the one that could be written is removed again."""
    queue_id = await store(tmp_path, b"x\r\n")
    for suffix in (".eml", ".json"):
        taken = folder / f"{queue_id}{suffix}"
        taken.write_text("precious")
        assert existing(folder, [queue_id, QueueId("OTHER")]) == [taken]
        with pytest.raises(FileExistsError):
            extract(tmp_path, queue_id, folder)
        assert taken.read_text() == "precious"
        taken.unlink()
        assert names(folder) == set()


async def test_a_message_that_has_left_leaves_nothing(tmp_path: Path, folder: Path) -> None:
    await store(tmp_path, b"x\r\n")

    assert extract(tmp_path, QueueId("GONE"), folder) is None
    assert names(folder) == set()


@pytest.mark.parametrize(
    ("damage", "told", "left"),
    [
        (
            "UPDATE chunk SET octets = x'79' WHERE chunk_id % 65536 = 1",
            "the content does not match its checksum",
            b"x" * CHUNK_OCTETS + b"y",
        ),
        (
            "DELETE FROM chunk WHERE chunk_id % 65536 = 1",
            "the last 1 octets are missing",
            b"x" * CHUNK_OCTETS,
        ),
    ],
)
async def test_a_damaged_message_is_left_out_unless_it_is_asked_for(
    tmp_path: Path, folder: Path, damage: str, told: str, left: bytes
) -> None:
    queue_id = await store(tmp_path, b"x" * (CHUNK_OCTETS + 1))
    change(tmp_path, damage)

    assert extract(tmp_path, queue_id, folder) == Extracted(damage=told, is_written=False)
    assert names(folder) == set()
    assert extract(tmp_path, queue_id, folder, keep_damaged=True) == Extracted(damage=told)
    assert (folder / f"{queue_id}.eml").read_bytes() == left
    document = json.loads((folder / f"{queue_id}.json").read_text())
    assert (document["is_damaged"], document["damage"]) == (True, told)


async def test_a_spool_that_cannot_be_read_leaves_no_file(tmp_path: Path, folder: Path) -> None:
    queue_id = await store(tmp_path, b"x\r\n")
    change(tmp_path, "UPDATE message SET digest = digest")
    (tmp_path / DATABASE).unlink()

    with pytest.raises(SpoolError, match="there is no spool"):
        extract(tmp_path, queue_id, folder)
    assert names(folder) == set()


async def test_a_full_disk_names_the_file_and_leaves_none(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue_id = await store(tmp_path, b"x\r\n")

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match="No space left") as caught:
        extract(tmp_path, queue_id, folder)
    assert caught.value.filename == str(folder / f"{queue_id}.eml")
    assert names(folder) == set()


@given(st.lists(st.sampled_from([b"\r\n", b".", b"..", b"a", b"\r", b"\n"])), st.data())
def test_unstuffing_does_not_depend_on_where_pieces_end(
    parts: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    unstuffer = Unstuffer()
    taken = b"".join(
        unstuffer.feed(whole[begin:end])
        for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)
    )

    lines = whole.split(b"\r\n")
    assert taken + unstuffer.finish() == b"\r\n".join(line.removeprefix(b".") for line in lines)
