"""Chunks as mail data in wire form: the same octets as after DATA, wherever the chunks are cut."""

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailshed.listener.chunk_data import ChunkStuffer
from mailshed.listener.data import DataScanner
from tests.unit.listener.test_data import has_flaw

pieces = st.lists(
    st.sampled_from([b"a", b".", b"\r\n", b"\r", b"\n", b"\0", b"\r\n.\r\n", b"..", b"\xff"]),
    max_size=12,
).map(b"".join)


def stuffed(blocks: list[bytes], *, is_normalising: bool = False) -> tuple[bytes, bool]:
    """Feed blocks; return all mail data, and whether it is clean."""
    stuffer = ChunkStuffer(is_normalising=is_normalising)
    data = b"".join(stuffer.feed(block) for block in blocks)
    return data + stuffer.finish(), stuffer.is_clean


def cut(data: bytes, places: list[float]) -> list[bytes]:
    ends = [0, *sorted(int(place * len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(ends)]


@pytest.mark.parametrize(
    ("octets", "data"),
    [
        (b"", b""),
        (b".", b"..\r\n"),
        (b"\r\n", b"\r\n"),
        (b"end", b"end\r\n"),
        (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n"),
        (b".a\r\n..b\r\n", b"..a\r\n...b\r\n"),
        (b"a.b\r\n", b"a.b\r\n"),
        (b"\r\n.\r\n", b"\r\n..\r\n"),
        (b"\xff\x80\x01\x7f\r\n", b"\xff\x80\x01\x7f\r\n"),
    ],
)
def test_dots_that_begin_lines_are_doubled(octets: bytes, data: bytes) -> None:
    for is_normalising in (False, True):
        assert stuffed([octets], is_normalising=is_normalising) == (data, True)


@given(pieces, st.lists(st.floats(0, 1), max_size=6), st.booleans())
@example(b"a\r\n.\r\n", [0.5, 0.6, 0.7, 0.8], False)
def test_it_does_not_matter_where_chunks_are_cut(
    octets: bytes, places: list[float], is_normalising: bool
) -> None:
    whole = stuffed([octets], is_normalising=is_normalising)
    assert stuffed(cut(octets, places), is_normalising=is_normalising) == whole
    single = [octets[place : place + 1] for place in range(len(octets))]
    assert stuffed(single, is_normalising=is_normalising) == whole


@given(pieces)
def test_a_flaw_is_a_flaw_as_after_data(octets: bytes) -> None:
    assert stuffed([octets])[1] is not has_flaw(octets)


@given(pieces)
def test_what_comes_in_chunks_is_stored_as_what_comes_after_data(octets: bytes) -> None:
    """The client that uses DATA stuffs; the same message then has the same octets here."""
    data, is_clean = stuffed([octets])
    if not is_clean:
        return
    after_data = re.sub(rb"(?m)^\.", b"..", octets)
    if after_data and not after_data.endswith(b"\r\n"):
        after_data += b"\r\n"
    scanner = DataScanner()
    assert scanner.feed(after_data + b".\r\n") == data
    assert scanner.rest == b""


@given(pieces)
def test_what_is_stored_ends_for_nobody_before_its_end(octets: bytes) -> None:
    """Normalised, not even for the most lenient of servers."""
    data, _ = stuffed([octets], is_normalising=True)
    assert re.search(rb"(?:\A|\r\n|\r|\n)\.(?:\r\n|\r|\n|\Z)", data) is None
    assert not has_flaw(data)
    assert data == b"" or data.endswith(b"\r\n")
    refused, is_clean = stuffed([octets])
    assert not is_clean or b"\r\n.\r\n" not in b"\r\n" + refused
