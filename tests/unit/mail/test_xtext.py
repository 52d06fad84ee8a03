"""xtext as RFC 3461, 4 has it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.mail import xtext
from mailshed.mail.parameters import decode_xtext

_XTEXT = re.compile(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"", b""),
        (b"mx.example.org", b"mx.example.org"),
        (b"a+b=c d", b"a+2Bb+3Dc+20d"),
        (b"\r\nQUIT\r\n", b"+0D+0AQUIT+0D+0A"),
        ("Bär".encode(), b"B+C3+A4r"),
        (b"\x00\x7f", b"+00+7F"),
    ],
)
def test_what_may_not_stand_for_itself_is_two_hexadecimal_digits(
    octets: bytes, text: bytes
) -> None:
    assert xtext.encode(octets) == text


@given(st.binary())
def test_any_octets_come_back_and_are_safe_on_the_way(octets: bytes) -> None:
    text = xtext.encode(octets)
    assert _XTEXT.fullmatch(text)
    assert decode_xtext(text) == octets
