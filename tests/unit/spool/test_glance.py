"""One look at one spooled message."""

from pathlib import Path

import pytest

from mailshed.errors import SpoolError
from mailshed.mail.header import OCTETS_MAX
from mailshed.spool.glance import glance
from mailshed.spool.store import Settlement
from mailshed.terms import Ending
from tests.support.builders import BULK, WALL, spool_record
from tests.support.spools import pieces, sqlite_spool


async def test_shows_the_envelope_and_the_beginning_of_the_content(tmp_path: Path) -> None:
    spool, record = sqlite_spool(tmp_path), spool_record("a@b.example", "c@d.example", names=BULK)
    content = b"X: y\r\n\r\n" + b"z" * (2 * OCTETS_MAX)
    await spool.open()
    await spool.add(spool_record(), pieces(b"other"))
    await spool.add(record, pieces(content))
    await spool.settle(
        Settlement(
            queue_id=record.queue_id,
            endings={0: Ending.DELIVERED},
            deferred={1: "450 4.2.0 busy"},
            attempts=1,
            next_attempt_wall=WALL + 60,
        )
    )
    beside = glance(tmp_path, record.queue_id)
    await spool.close()
    alone = glance(tmp_path, record.queue_id)
    assert beside == alone
    assert alone is not None
    assert alone.head == content[:OCTETS_MAX]
    found = alone.record
    assert (found.queue_id, found.traffic_class, found.size) == (
        record.queue_id,
        "bulk",
        len(content),
    )
    assert [each.address for each in found.recipients] == [b"c@d.example"], "the one that is left"


async def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    spool = sqlite_spool(tmp_path)
    await spool.open()
    await spool.close()
    assert glance(tmp_path, "GONE") is None


def test_a_spool_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="there is no spool"):
        glance(tmp_path, "GONE")
