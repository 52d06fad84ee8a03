"""A chunk holds what the client meant, without the dots of DATA."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.relay.bdat import last_chunk


@pytest.mark.parametrize(
    ("wire", "command"),
    [
        (b"", b"BDAT 0 LAST\r\n"),
        (b"Subject: x\r\n\r\nbody\r\n", b"BDAT 20 LAST\r\nSubject: x\r\n\r\nbody\r\n"),
        (b"..\r\n", b"BDAT 3 LAST\r\n.\r\n"),
        (b"a\r\n..\r\n...b\r\n", b"BDAT 11 LAST\r\na\r\n.\r\n..b\r\n"),
        (b"a.b\r\nc.\r\n", b"BDAT 9 LAST\r\na.b\r\nc.\r\n"),
    ],
)
def test_the_doubled_dots_are_gone_and_the_rest_is_counted(wire: bytes, command: bytes) -> None:
    assert last_chunk(wire) == command


LINES = st.lists(st.text("ab.\t \x00\r\n\xe9", max_size=6).map(str.encode), max_size=8)


@given(LINES)
def test_stuffing_is_undone_exactly(lines: list[bytes]) -> None:
    """Whatever is in a line but its end: bare CR and LF come through, too."""
    whole = [line.replace(b"\r\n", b"") for line in lines]
    text = b"".join(line + b"\r\n" for line in b"\r\n".join(whole).split(b"\r\n"))
    stuffed = b"".join(
        (b"." if line.startswith(b".") else b"") + line + b"\r\n"
        for line in text.removesuffix(b"\r\n").split(b"\r\n")
    )
    assert last_chunk(stuffed) == b"BDAT %d LAST\r\n%b" % (len(text), text)
