"""Addresses in reports: their types, and one of another script in a report of ASCII."""

import re

from hypothesis import given
from hypothesis import strategies as st

from mailshed.drain.addresses import final_recipient, for_people, original_recipient
from mailshed.drain.mime import VALUE_OCTETS_MAX

JUERGEN = "j\u00fcrgen@example.net"


def decoded(escaped: str) -> str:
    """RFC 6533, 3, read by somebody else."""
    return re.sub(r"\\x\{([0-9A-F]{2,6})\}", lambda found: chr(int(found[1], 16)), escaped)


def test_ascii_is_rfc822() -> None:
    for is_utf8 in (False, True):
        assert final_recipient(b"bob@example.net", is_utf8=is_utf8) == "rfc822; bob@example.net"


def test_another_script_is_escaped_in_ascii_and_as_it_is_in_utf8() -> None:
    address = JUERGEN.encode()
    assert final_recipient(address, is_utf8=False) == "utf-8; j\\x{FC}rgen@example.net"
    assert final_recipient(address, is_utf8=True) == f"utf-8; {JUERGEN}"
    assert for_people(address, is_utf8=False) == "j\\x{FC}rgen@example.net"
    assert for_people(address, is_utf8=True) == JUERGEN


def test_what_would_be_an_escape_is_escaped_itself() -> None:
    address = "\u00fc\\x{41}+=@example.net".encode()
    shown = final_recipient(address, is_utf8=False).removeprefix("utf-8; ")
    assert shown.startswith("\\x{FC}\\x{5C}x{41}\\x{2B}\\x{3D}@")
    assert decoded(shown) == address.decode()


@given(st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=60))
def test_what_was_escaped_can_be_read_again(local: str) -> None:
    address = f"{local}\u00e9@example.net"
    shown = final_recipient(address.encode(), is_utf8=False)
    assert shown.isascii()
    assert " " not in shown.removeprefix("utf-8; ")
    assert decoded(shown.removeprefix("utf-8; ")) == address


@given(st.binary(max_size=2000))
def test_no_address_adds_a_line_or_is_longer_than_a_field(address: bytes) -> None:
    for is_utf8 in (False, True):
        shown = final_recipient(address, is_utf8=is_utf8)
        assert shown.isprintable()
        assert len(shown.encode()) <= VALUE_OCTETS_MAX + len("rfc822; ")
    assert final_recipient(address, is_utf8=False).isascii()


class TestOriginalRecipient:
    """ORCPT comes back with the type that it came with (RFC 3461, 6.3)."""

    def test_is_there_only_if_the_sender_named_one(self) -> None:
        assert original_recipient((), is_utf8=False) is None
        assert original_recipient((b"NOTIFY=DELAY",), is_utf8=False) is None

    def test_is_decoded(self) -> None:
        named = (b"NOTIFY=DELAY", b"orcpt=rfc822;Bob+2BTest@Example.NET")
        assert original_recipient(named, is_utf8=False) == "rfc822; Bob+Test@Example.NET"

    def test_may_be_of_any_type(self) -> None:
        named = (b"ORCPT=x400;/S=Bob+20Smith/C=fr/",)
        assert original_recipient((b"ORCPT=x400;+2FS+3DBob+20Smith+2F",), is_utf8=False) == (
            "x400; /S=Bob Smith/"
        )
        assert original_recipient(named, is_utf8=False) is None, "= is not xtext"

    def test_may_be_of_another_script(self) -> None:
        named = (b"ORCPT=utf-8;j\\x{FC}rgen@example.net",)
        assert original_recipient(named, is_utf8=False) == "utf-8; j\\x{FC}rgen@example.net"
        assert original_recipient(named, is_utf8=True) == f"utf-8; {JUERGEN}"


def test_an_address_that_is_too_long_is_cut_between_two_escapes() -> None:
    shown = final_recipient(("\U0001f4e7" * 500).encode(), is_utf8=False).removeprefix("utf-8; ")
    escape = "\\x{1F4E7}"
    assert shown == escape * (VALUE_OCTETS_MAX // len(escape))
