"""Replies: ours agree with themselves, and a backend's cannot become two."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailshed.mail import reply
from mailshed.mail.reply import (
    LINE_OCTETS_MAX,
    LINES_MAX,
    Reply,
    from_backend,
    make,
    one_line,
    queued,
)

OURS = {name: each for name, each in vars(reply).items() if isinstance(each, Reply)}
LINE = re.compile(rb"([2-5][0-9]{2})([ -])([\t\x20-\x7e\x80-\xff]*)\r\n")


def is_one_reply(wire: bytes) -> bool:
    """Whether these octets are exactly one reply of RFC 5321, 4.2.1, lines of code alone included.

    An oracle with other means than the module's: it reads as a client would, line by line.
    """
    codes = set()
    lines = wire.split(b"\r\n")
    if lines.pop() != b"":
        return False
    for number, line in enumerate(lines, 1):
        if b"\r" in line or b"\n" in line or b"\0" in line or not line[:3].isdigit():
            return False
        codes.add(line[:3])
        is_last = line[3:4] != b"-"
        if is_last != (number == len(lines)):
            return False
    return len(codes) == 1


@pytest.mark.parametrize("name", OURS)
def test_each_reply_of_ours_agrees_with_itself(name: str) -> None:
    """One line, three digits, and an enhanced status code of the same class (RFC 2034, 4)."""
    each = OURS[name]
    match = LINE.fullmatch(each.wire)
    assert match is not None
    assert int(match[1]) == each.code
    assert is_one_reply(each.wire)
    if each is reply.START_INPUT:
        return  # RFC 2034 has no status codes for 3xx
    status = re.match(rb"([245])\.[0-9]{1,3}\.[0-9]{1,3} \S", match[3])
    assert status is not None, "no enhanced status code"
    assert status[1] == match[1][:1]
    assert each.enhanced_status == match[3].split()[0].decode()


def test_the_promise_names_the_queue_id() -> None:
    assert queued("0123456789ABCDEF").wire == b"250 2.0.0 Ok: queued as 0123456789ABCDEF\r\n"


@pytest.mark.parametrize(
    ("code", "success", "transient", "permanent"),
    [
        (220, True, False, False),
        (299, True, False, False),
        (354, False, False, False),
        (400, False, True, False),
        (499, False, True, False),
        (500, False, False, True),
        (599, False, False, True),
    ],
)
def test_the_class_of_a_reply(code: int, success: bool, transient: bool, permanent: bool) -> None:
    made = make(code, "text")
    assert (made.is_success, made.is_transient, made.is_permanent) == (
        success,
        transient,
        permanent,
    )


@settings(deadline=None)
@given(st.integers(200, 599), st.text(), st.lists(st.text(), max_size=5))
@example(250, "a\r\n250 b", ["\n", "\r", "\0"])
@example(250, "x" * 5000, [])
def test_no_text_can_end_a_reply_of_ours_early(code: int, text: str, more: list[str]) -> None:
    made = make(code, text, *more)
    assert is_one_reply(made.wire)
    assert made.wire.isascii()
    assert made.code == code
    lines = made.wire.split(b"\r\n")[:-1]
    assert len(lines) == 1 + len(more)
    assert max(map(len, lines)) + 2 <= LINE_OCTETS_MAX
    assert from_backend(lines) == made, "we would not understand ourselves"


def test_characters_outside_ascii_become_question_marks() -> None:
    assert make(250, "é\r\n", "ok").wire == b"250-???\r\n250 ok\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        [b"250 ok"],
        [b"250"],
        [b"250 "],
        [b"250-a", b"250 b"],
        [b"250-a", b"250-", b"250"],
        [b"550 5.1.1 <a@b>: \xe9t\xe9\tok"],
        [b"250 " + b"x" * (LINE_OCTETS_MAX - 4)],
        [b"250-x"] * (LINES_MAX - 1) + [b"250 x"],
    ],
)
def test_a_backends_reply_is_passed_on_as_it_came(lines: list[bytes]) -> None:
    made = from_backend(lines)
    assert made is not None
    assert made.wire == b"\r\n".join(lines) + b"\r\n"
    assert made.code == int(lines[0][:3])


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b""],
        [b"25"],
        [b"2500 ok"],
        [b"150 ok"],
        [b"650 ok"],
        [b"250-only"],
        [b"250 a", b"250 b"],
        [b"250", b"250 b"],
        [b"250-a", b"251 b"],
        [b"250-a", b"250-b"],
        [b"250-a", b"b"],
        [b"250_a"],
        [b" 250 a"],
        [b"250 a\r"],
        [b"250 a\r\n250 b"],
        [b"250 a\nb"],
        [b"250 a\x00b"],
        [b"250 a\x1b[31mb"],
        [b"250 a\x7f"],
        ["²50 a".encode()],
        ["٢50 a".encode()],
        [b"250 " + b"x" * (LINE_OCTETS_MAX - 3)],
        [b"250-" + b"x" * (LINE_OCTETS_MAX - 3), b"250 x"],
        [b"250-x"] * LINES_MAX + [b"250 x"],
    ],
)
def test_what_is_not_one_reply_is_none(lines: list[bytes]) -> None:
    assert from_backend(lines) is None


@pytest.mark.parametrize("end", [b"", b"\r"])
@pytest.mark.parametrize(
    "line", [b"250 ok", b"250", b"550 5.1.1 <a@b>: \xe9t\xe9\tok", b"25", b"250-a", b"250 a\r"]
)
def test_a_line_alone_is_read_as_one_of_several_is(line: bytes, end: bytes) -> None:
    if not (line.endswith(b"\r") and not end):  # then it is the line's own
        assert one_line(line + end) == from_backend([line])


pieces = st.sampled_from([b"250", b"450", b"-", b" ", b"\r", b"\n", b"\0", b"a", b"\xe9", b"\t"])
hostile_lines = st.binary(max_size=10) | st.lists(pieces, max_size=5).map(b"".join)


@settings(deadline=None, max_examples=1000)
@given(st.lists(hostile_lines, max_size=4))
def test_whatever_a_backend_sends_reaches_the_client_as_one_reply_or_not_at_all(
    lines: list[bytes],
) -> None:
    made = from_backend(lines)
    assert [one_line(line + b"\r") for line in lines] == [from_backend([line]) for line in lines]
    if made is not None:
        assert is_one_reply(made.wire)
        assert 200 <= made.code <= 599
        assert made.text.isascii()
        assert made.text.isprintable()


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"550 5.1.1 No\r\n", "5.1.1"),
        (b"250 2.0.0\r\n", "2.0.0"),
        (b"450-4.2.1 a\r\n450 4.2.1 b\r\n", "4.2.1"),
        (b"550 5.123.123 No\r\n", "5.123.123"),
        (b"550 No such user\r\n", "5.0.0"),
        (b"451\r\n", "4.0.0"),
        (b"550 5.1 No\r\n", "5.0.0"),
        (b"550 5.1.1234 No\r\n", "5.0.0"),
        (b"550 5.1.1, No\r\n", "5.0.0"),
        (b"550 <5.1.1> No\r\n", "5.0.0"),
        (b"550 2.1.5 Ok?\r\n", "5.0.0"),
        (b"250 5.1.1 User unknown\r\n", "2.0.0"),
    ],
)
def test_the_enhanced_status_code_is_the_backends_unless_it_contradicts_the_reply_code(
    wire: bytes, status: str
) -> None:
    assert Reply(int(wire[:3]), wire).enhanced_status == status


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([b"250 2.0.0 Ok"], "250 2.0.0 Ok"),
        ([b"250"], "250"),
        ([b"550-5.7.1 One", b"550 5.7.1 two"], "550-5.7.1 One 5.7.1 two"),
        ([b"550-a", b"550"], "550-a "),
        ([b"550 \xe9t\xe9\tx"], "550 ?t??x"),
    ],
)
def test_a_reply_for_people_is_one_printable_line(lines: list[bytes], text: str) -> None:
    made = from_backend(lines)
    assert made is not None
    assert made.text == text
