"""Where mail data ends: one end, one only, the same for everyone who will ever look."""

import itertools
import random
import re
import time

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mailshed.listener.data import END_OF_DATA, DataScanner, LineMeter, is_clean

# What comes after a true end of data; a smuggled message would be seen before it.
NEXT_COMMAND = b"QUIT\r\n"


def scan(blocks: list[bytes], *, is_normalising: bool = False) -> tuple[bytes, DataScanner]:
    """Feed blocks until the end of data; what is left of the blocks is put behind `rest`."""
    scanner = DataScanner(is_normalising=is_normalising)
    data = b""
    left = iter(blocks)
    for block in left:
        data += scanner.feed(block)
        if scanner.rest is not None:
            scanner.rest += b"".join(left)
    return data, scanner


def ends_early(data: bytes) -> bool:
    """Whether a server that reads `data`, and then the dot, would see an end before the dot."""
    return END_OF_DATA in b"\r\n" + data


def has_flaw(data: bytes) -> bool:
    return re.search(rb"\r(?!\n)|(?<!\r)\n|\0", data) is not None


def normalised(data: bytes) -> bytes:
    """What normalising means, line by line: the definition that the scanner is held against."""
    pieces = re.split(rb"(\r\n|\r|\n)", data.replace(b"\0", b" "))
    lines, endings = pieces[::2], pieces[1::2]
    result, before = b"", b"\r\n"
    for line, ending in itertools.zip_longest(lines, endings, fillvalue=b""):
        was_not_stuffed = line.startswith(b".") and (before != b"\r\n" or line == b".")
        result += (b"." if was_not_stuffed else b"") + line + (b"\r\n" if ending else b"")
        before = ending
    return result


# Plain messages.


@pytest.mark.parametrize(
    ("wire", "data"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"Hello.\r\n.\r\n", b"Hello.\r\n"),
        (b"a\r\n..\r\n.\r\n", b"a\r\n..\r\n"),
        (b"a\r\n..b\r\n.c\r\n.\r\n", b"a\r\n..b\r\n.c\r\n"),
        (b"..\r\n.\r\n", b"..\r\n"),
        (b"\r\n\r\n.\r\n", b"\r\n\r\n"),
        (b"a\r\n.\r\n.\r\n", b"a\r\n"),
        (b"\xff\x80\x01\x7f\r\n.\r\n", b"\xff\x80\x01\x7f\r\n"),
    ],
)
def test_hands_out_the_data_as_it_came_without_the_final_dot(wire: bytes, data: bytes) -> None:
    rest = wire[len(data) + 3 :]
    for is_normalising in (False, True):
        taken, scanner = scan([wire + NEXT_COMMAND], is_normalising=is_normalising)
        assert (taken, scanner.rest, scanner.is_clean) == (data, rest + NEXT_COMMAND, True)


def test_the_end_is_found_wherever_the_blocks_are_cut() -> None:
    wire = b"Subject: x\r\n\r\n..\r\n.a\r\r\n" + b"\r\n.\r\n" + NEXT_COMMAND
    for first, second in itertools.combinations(range(len(wire) + 1), 2):
        data, scanner = scan([wire[:first], wire[first:second], wire[second:]])
        assert data == b"Subject: x\r\n\r\n..\r\n.a\r\r\n\r\n"
        assert scanner.rest == NEXT_COMMAND


def test_empty_blocks_change_nothing() -> None:
    data, scanner = scan([b"", b"a\r", b"", b"\n.", b"", b"\r\n"])
    assert (data, scanner.rest) == (b"a\r\n", b"")


def test_data_that_does_not_end_is_handed_out_as_it_comes() -> None:
    """Nothing is collected: not more than an unfinished end of data is held back."""
    scanner = DataScanner()
    assert scanner.feed(b"x" * 100_000) == b"x" * 100_000
    assert scanner.feed(b"y\r\n.\r") == b"y"
    assert scanner.feed(b"z") == b"\r\n.\rz"
    assert scanner.rest is None


def test_feeding_after_the_end_is_a_mistake_of_ours() -> None:
    scanner = DataScanner()
    scanner.feed(b".\r\n")
    with pytest.raises(AssertionError):
        scanner.feed(b"x")


# Smuggling: an end of data for some servers that is none for others.

SMUGGLED = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\nevil"
PSEUDO_ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\n.\r",
    b"\r.\r",
    b"\r.\r\n",
    b"\r.\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n.\r\r\n",
    b"\r\n.\n\r\n",
    b"\r\n.\r\0\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\0\n.\r\n",
    b"\r\r\n.\n",
    b"\n\n.\r\n",
    b"\n\r.\r\n",
    b"\r\n.\n.\r",
    b"\n.\n.\n.\n",
    b"\r.\r.\r\n",
    b"\0\n.\n\0",
    b"\r\n.\x85\n.\x85",
]
LEADS = [b"", b"Subject: x\r\n\r\nbody", b"\r\n", b"\n"]


@pytest.mark.parametrize("is_normalising", [False, True])
@pytest.mark.parametrize("pseudo_end", PSEUDO_ENDS)
@pytest.mark.parametrize("lead", LEADS)
def test_what_only_resembles_an_end_of_data_is_none(
    pseudo_end: bytes, lead: bytes, is_normalising: bool
) -> None:
    """Wherever the stream is cut it is one message, flagged, and harmless once rewritten.

    A message that is flagged is refused, or it is rewritten; either way no server behind us can
    see two.
    """
    inner = lead + pseudo_end + SMUGGLED + b"\r\n"
    wire = inner + b".\r\n" + NEXT_COMMAND
    assert not ends_early(inner), "that would be a true end"
    expected = normalised(inner) if is_normalising else inner
    for cut in range(len(wire) + 1):
        data, scanner = scan([wire[:cut], wire[cut:]], is_normalising=is_normalising)
        assert scanner.rest == NEXT_COMMAND
        assert not scanner.is_clean
        assert data == expected
        if is_normalising:
            assert not ends_early(data)
            assert not has_flaw(data)


@pytest.mark.parametrize("is_normalising", [False, True])
@pytest.mark.parametrize("pseudo_end", PSEUDO_ENDS)
def test_it_makes_no_difference_if_every_octet_comes_alone(
    pseudo_end: bytes, is_normalising: bool
) -> None:
    wire = b"a" + pseudo_end + SMUGGLED + b"\r\n.\r\n"
    whole, _ = scan([wire], is_normalising=is_normalising)
    alone, scanner = scan([bytes([octet]) for octet in wire], is_normalising=is_normalising)
    assert (alone, scanner.rest, scanner.is_clean) == (whole, b"", False)


@pytest.mark.parametrize(
    ("wire", "result"),
    [
        (b"a\nb\r\n", b"a\r\nb\r\n"),
        (b"a\rb\r\n", b"a\r\nb\r\n"),
        (b"a\r\r\nb\r\n", b"a\r\n\r\nb\r\n"),
        (b"a\0b\r\n", b"a b\r\n"),
        (b"a\n.b\r\n", b"a\r\n..b\r\n"),  # the client saw no new line and did not stuff
        (b"a\r\n..b\n\r\n", b"a\r\n..b\r\n\r\n"),  # stuffed by the client
        (b"a\r\n.b\n\r\n", b"a\r\n.b\r\n\r\n"),  # its mistake; the server takes one dot away
        (b"a\r\n.\nb\r\n", b"a\r\n..\r\nb\r\n"),  # would be an end of data
        (b".\nb\r\n", b"..\r\nb\r\n"),  # likewise, on the first line
        (b"a\n.\r\n", b"a\r\n..\r\n"),
        (b"a\n..\r\n", b"a\r\n...\r\n"),
    ],
)
def test_old_devices_are_understood_in_this_way(wire: bytes, result: bytes) -> None:
    data, scanner = scan([wire + b".\r\n"], is_normalising=True)
    assert (data, scanner.rest, scanner.is_clean) == (result, b"", False)
    assert normalised(wire) == result, "the definition says the same"


def test_a_flaw_in_one_message_does_not_flag_the_next() -> None:
    _, scanner = scan([b"a\nb\r\n.\r\nsecond\r\n.\r\n"])
    assert not scanner.is_clean
    assert scanner.rest is not None
    data, following = scan([scanner.rest])
    assert (data, following.is_clean) == (b"second\r\n", True)


# Anything.

fragments = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b".", b"\0", b"a", b"\r\n.", b"\r\n.\r", b".\r\n"]
)
streams = st.lists(fragments, max_size=25).map(b"".join) | st.binary(max_size=50)
cuts = st.lists(st.integers(0, 100), max_size=8)


def cut_up(wire: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(wire)) for place in places), len(wire)]
    return [wire[start:end] for start, end in itertools.pairwise(edges)]


@settings(deadline=None, max_examples=1000)
@given(streams, cuts)
@example(b"\r", [])
@example(b"", [0, 0])
def test_any_octets_without_an_end_of_data_come_out_as_they_went_in(
    octets: bytes, places: list[int]
) -> None:
    data = octets + b"\r\n"
    assume(not ends_early(data))
    blocks = cut_up(data + b".\r\n" + NEXT_COMMAND, places)
    taken, scanner = scan(blocks)
    assert (taken, scanner.rest) == (data, NEXT_COMMAND)
    assert scanner.is_clean != has_flaw(data)


@settings(deadline=None, max_examples=1000)
@given(streams, cuts)
@example(b".\n", [])
@example(b"a\r\n.\r\0", [])
@example(b"a\n.", [2])
def test_normalised_data_has_no_flaw_and_no_end_in_it(octets: bytes, places: list[int]) -> None:
    data = octets + b"\r\n"
    assume(not ends_early(data))
    taken, scanner = scan(cut_up(data + b".\r\n" + NEXT_COMMAND, places), is_normalising=True)
    assert not has_flaw(taken)
    assert not ends_early(taken)
    assert scanner.rest == NEXT_COMMAND
    assert taken == normalised(data)
    if not has_flaw(data):
        assert taken == data, "what is right stays as it is"


@settings(deadline=None, max_examples=300)
@given(streams, cuts, st.booleans())
def test_the_first_end_of_data_is_the_end(
    octets: bytes, places: list[int], is_normalising: bool
) -> None:
    wire = octets + b"\r\n.\r\n" + NEXT_COMMAND
    end = (b"\r\n" + wire).find(END_OF_DATA)
    taken, scanner = scan(cut_up(wire, places), is_normalising=is_normalising)
    assert scanner.rest == wire[end + 3 :]
    if not is_normalising:
        assert taken == wire[:end]


# Cost.

MIB = 1024 * 1024
HOSTILE = {
    "lf": b"\n",
    "cr": b"\r",
    "nul": b"\0",
    "crlf": b"\r\n",
    "almost": b"\r\n.\r",
    "dots": b".",
    "stuffed": b"\n.",
    "lone dots": b"\r\n.\n",
    "all": b"\r\n.\n\0.\r",
    "text": b"x" * 76 + b"\r\n",
    "one line": b"x",
}


@pytest.mark.parametrize("is_normalising", [False, True])
@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_largest_hostile_message_costs_a_second_at_most(
    unit: bytes, is_normalising: bool
) -> None:
    """25 MiB in blocks as the transport delivers them; a second is several times the usual."""
    block = (unit * (65536 // len(unit) + 1))[:65536]
    scanner = DataScanner(is_normalising=is_normalising)
    started = time.process_time()
    for _ in range(25 * MIB // len(block)):
        scanner.feed(block)
        assert scanner.rest is None
    assert time.process_time() - started < 2.5


def test_small_blocks_cost_no_more_than_their_number() -> None:
    """What is held back does not grow: a hundred thousand octets one by one are no burden."""
    noise = random.Random(1).choices(b"\r\n.x", k=100_000)
    scanner = DataScanner()
    started = time.process_time()
    for octet in noise:
        if scanner.rest is not None:
            scanner = DataScanner()
        scanner.feed(bytes([octet]))
        assert len(scanner._carry) <= 4
    assert time.process_time() - started < 5


# Long lines.


def longest(data: bytes) -> int:
    """Octets of the longest line, without its ending."""
    return max(len(line.removesuffix(b"\r")) for line in data.split(b"\n"))


LINES = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from([b"\r\n", b"\r\n", b"\r\n.", b".\r\n"])),
    max_size=30,
)


@given(lines=LINES, octets_max=st.integers(1, 40), cuts=st.lists(st.integers(1, 60), max_size=40))
def test_a_line_is_too_long_however_the_data_is_cut(
    lines: list[tuple[int, bytes]], octets_max: int, cuts: list[int]
) -> None:
    data = b"".join(b"x" * length + ending for length, ending in lines)
    meter, rest = LineMeter(octets_max), data
    for cut in cuts:
        end = cut - 1 if rest[cut - 1 : cut + 1] == b"\r\n" else cut  # the scanner keeps them whole
        meter.feed(rest[:end])
        rest = rest[end:]
    meter.feed(rest)
    assert meter.is_exceeded is (longest(data) > octets_max)


@pytest.mark.parametrize("octets_max", [1, 64, 998, 65536])
def test_the_limit_itself_is_allowed(octets_max: int) -> None:
    meter = LineMeter(octets_max)
    meter.feed(3 * (b"x" * octets_max + b"\r\n"))
    meter.feed(b"x" * octets_max)
    assert not meter.is_exceeded
    meter.feed(b"x")
    assert meter.is_exceeded


def test_without_a_limit_no_line_is_too_long() -> None:
    meter = LineMeter(0)
    for _ in range(100):
        meter.feed(b"x" * 65536)
    assert not meter.is_exceeded


def test_lines_that_are_long_enough_cost_next_to_nothing() -> None:
    """Of a block only its last line is looked for; the data is not gone through."""
    meter, block = LineMeter(1 << 20), (b"x" * 76 + b"\r\n") * 840
    began = time.process_time()
    for _ in range(20_000):
        meter.feed(block)
    assert time.process_time() - began < 0.5


@settings(max_examples=500)
@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"\0", b"a", b".", b"\xff"]), max_size=9))
@example([b"a\r\n", b"b"])
@example([b"\r"])
def test_clean_is_what_has_crlf_only(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert is_clean(data) == (not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", data))
