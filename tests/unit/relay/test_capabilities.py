"""What all backends offer, also while they are away and after a restart."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailshed.errors import StateError
from mailshed.maillog import MailLog
from mailshed.relay.capabilities import SAVE_SECONDS, SIZE_LEAST, TRACE_OCTETS, Capabilities
from mailshed.statefile import StateFile
from tests.support.middle import LogLines
from tests.support.virtual_time import in_virtual_time

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual time does not wait for threads."""

    async def at_once(work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)

    monkeypatch.setattr("mailshed.relay.capabilities.asyncio.to_thread", at_once)


class Rig:
    """What is known of these backends, with its file, a log and a list of faults."""

    def __init__(self, folder: Path, *backends: str, helpers: tuple[str, ...] = ()) -> None:
        self.file = StateFile(folder, "capabilities")
        self.log = LogLines()
        self.faults: list[tuple[str, BaseException]] = []
        self.changes = 0
        self.known = Capabilities(
            backends,
            helpers=helpers,
            file=self.file,
            maillog=MailLog(self.log, "json", "debug", wall=lambda: 0.0),
            on_failure=lambda name, error: self.faults.append((name, error)),
        )
        self.known.on_change = self.count

    def count(self) -> None:
        self.changes += 1


def test_nobody_knows_before_the_first_reply(tmp_path: Path) -> None:
    known = Rig(tmp_path, "exch").known
    assert known.offers("SMTPUTF8") is None
    assert known.message_size_max is None
    assert known.of("exch") is None
    assert known.lines_of("exch") == ()


def test_it_is_what_all_have(tmp_path: Path) -> None:
    known = Rig(tmp_path, "one", "two").known
    known.note("one", ("smtputf8", "CHUNKING", "SIZE 20000000"))
    assert known.offers("SMTPUTF8") is None, "the other may have it"
    assert known.offers("DSN") is False, "the other may have it as well, and that is no help"
    known.note("two", ("SMTPUTF8", f"SIZE {10 * MIB}"))
    assert known.offers("SMTPUTF8") is True
    assert known.offers("CHUNKING") is False
    assert known.message_size_max == 10 * MIB - TRACE_OCTETS
    two = known.of("two")
    assert two is not None
    assert two.size_max == 10 * MIB
    assert known.lines_of("two") == ("SIZE 10485760", "SMTPUTF8")


def test_who_only_helps_out_is_not_asked(tmp_path: Path) -> None:
    """It may never be seen, and what it refuses waits for its own server."""
    known = Rig(tmp_path, "own", "neighbour", helpers=("neighbour",)).known
    known.note("own", ("SMTPUTF8", f"SIZE {20 * MIB}"))
    assert known.offers("SMTPUTF8") is True
    known.note("neighbour", (f"SIZE {10 * MIB}",))
    assert known.offers("SMTPUTF8") is True
    assert known.message_size_max == 20 * MIB - TRACE_OCTETS
    assert known.lines_of("neighbour") == ("SIZE 10485760",)


def test_where_nobody_is_asked_everything_goes(tmp_path: Path) -> None:
    """A Maildir takes what it gets."""
    known = Rig(tmp_path).known
    assert known.offers("SMTPUTF8") is True
    assert known.message_size_max is None


@pytest.mark.parametrize(
    ("line", "most"),
    [
        ("SIZE", None),
        ("SIZE 0", None),
        ("SIZE 17", SIZE_LEAST),
        ("SIZE 99999999", 99999999 - TRACE_OCTETS),
    ],
)
def test_a_size_is_believed_within_reason(tmp_path: Path, line: str, most: int | None) -> None:
    known = Rig(tmp_path, "exch").known
    known.note("exch", (line,))
    assert known.message_size_max == most


def test_only_a_change_is_one(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "exch")
    rig.known.note("exch", ("SIZE 5", "DSN"))
    rig.known.note("exch", ("DSN", "SIZE 5"))
    assert rig.changes == 1
    rig.known.note("exch", ("DSN",))
    assert rig.changes == 2
    rig.known.note("stranger", ("DSN",))
    assert rig.changes == 2


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    known = Rig(tmp_path, "exch").known
    known.note("exch", [f"X-{number} {'y' * 5000}" for number in range(5000)])
    assert len(known.lines_of("exch")) == 100
    assert max(map(len, known.lines_of("exch"))) == 500


@in_virtual_time
async def test_a_restart_knows_what_was_known(tmp_path: Path) -> None:
    before = Rig(tmp_path, "exch", "gone")
    await before.known.load()
    before.known.note("exch", ("SMTPUTF8", "SIZE 1000000"))
    before.known.note("gone", ("DSN",))
    saving = asyncio.get_running_loop().create_task(before.known.run())
    await asyncio.sleep(SAVE_SECONDS + 1)
    saving.cancel()
    after = Rig(tmp_path, "exch")
    await after.known.load()
    assert after.changes == 1
    assert after.known.offers("SMTPUTF8") is True
    assert after.known.message_size_max == 1_000_000 - TRACE_OCTETS
    assert after.known.lines_of("gone") == (), "it is not configured any more"
    assert after.log.lines == []


@in_virtual_time
async def test_nothing_new_is_not_written(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "exch")
    await rig.known.close()
    assert not rig.file.path.exists()
    rig.known.note("exch", ("DSN",))
    await rig.known.close()
    rig.file.path.unlink()
    await rig.known.close()
    assert not rig.file.path.exists()


@in_virtual_time
async def test_a_failure_to_save_is_told_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, "exch")
    rig.known.note("exch", ("DSN",))

    def fail(_: Any) -> None:
        raise StateError("no room")

    with monkeypatch.context() as broken:
        broken.setattr(rig.file, "save", fail)
        saving = asyncio.get_running_loop().create_task(rig.known.run())
        await asyncio.sleep(3 * SAVE_SECONDS + 1)
        assert [(name, str(error)) for name, error in rig.faults] == [("capabilities", "no room")]
    await asyncio.sleep(SAVE_SECONDS)
    saving.cancel()
    assert rig.file.path.exists()


@pytest.mark.parametrize(
    "text",
    [
        "not JSON",
        "{}",
        '{"backends": []}',
        '{"backends": {"exch": "DSN"}}',
        '{"backends":{"e":[1]}}',
    ],
)
@in_virtual_time
async def test_a_damaged_file_is_a_line_in_the_log(tmp_path: Path, text: str) -> None:
    rig = Rig(tmp_path, "exch")
    rig.file.path.write_text(text)
    await rig.known.load()
    assert rig.known.offers("DSN") is None
    assert "damaged" in rig.log.one("capabilities_lost")["detail"]
