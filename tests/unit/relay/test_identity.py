"""What a backend is told of a client: strictly escaped, complete, and short enough."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.mail.parameters import decode_xtext
from mailshed.relay.backend import NOBODY, Origin
from mailshed.relay.identity import (
    COMMAND_OCTETS_MAX,
    hello_name,
    whose_is,
    xclient_commands,
    xforward_commands,
)
from mailshed.terms import QueueId

_BOTH = {"NAME", "ADDR", "PORT", "PROTO", "HELO"}
XCLIENT = frozenset(_BOTH | {"LOGIN", "REVERSE_NAME", "DESTADDR", "DESTPORT"})
XFORWARD = frozenset(_BOTH | {"SOURCE", "IDENT"})
QUEUE_ID = QueueId("01HGW2N7EHJV2Q3C")


def origin(address: str = "192.0.2.7", **changes: str) -> Origin:
    return Origin(address=address, **{"helo": "ward7.example.org", **changes})


def attributes(commands: list[bytes]) -> dict[str, str]:
    """The attributes of all commands, xtext as it is."""
    pairs = [pair for command in commands for pair in command.decode("ascii").split(" ")[1:]]
    return dict(pair.split("=", 1) for pair in pairs)


class TestXclient:
    def test_every_offered_attribute_is_sent_since_unsent_ones_are_those_of_before(self) -> None:
        (command,) = xclient_commands(origin(login="nurse"), XCLIENT)
        assert command == (
            b"XCLIENT ADDR=192.0.2.7 NAME=[UNAVAILABLE] PORT=[UNAVAILABLE] PROTO=ESMTP"
            b" HELO=ward7.example.org LOGIN=nurse REVERSE_NAME=[UNAVAILABLE]"
        )

    def test_no_login_takes_that_of_the_one_before_away(self) -> None:
        assert attributes(xclient_commands(origin(), XCLIENT))["LOGIN"] == "[UNAVAILABLE]"

    def test_what_is_not_offered_is_not_sent(self) -> None:
        (command,) = xclient_commands(origin(login="nurse"), {"ADDR", "HELO"})
        assert command == b"XCLIENT ADDR=192.0.2.7 HELO=ward7.example.org"

    @pytest.mark.parametrize(
        ("address", "sent"),
        [
            ("192.0.2.7", "192.0.2.7"),
            ("2001:db8::7", "IPV6:2001:db8::7"),
            ("2001:0DB8:0::7", "IPV6:2001:db8::7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("fe80::1%eth0", "IPV6:fe80::1"),
            ("192.0.2.7 LOGIN=root", "[UNAVAILABLE]"),
            ("local", "[UNAVAILABLE]"),
        ],
    )
    def test_an_address_is_written_anew(self, address: str, sent: str) -> None:
        assert attributes(xclient_commands(origin(address), XCLIENT))["ADDR"] == sent

    @pytest.mark.parametrize(
        ("helo", "sent"),
        [
            ("ward7", "ward7"),
            ("[192.0.2.7]", "[192.0.2.7]"),
            ("[IPv6:2001:db8::7]", "[IPv6:2001:db8::7]"),
            ("under_score.example", "under_score.example"),
            ("a" * 255, "a" * 255),
            ("a" * 256, "[UNAVAILABLE]"),
            ("", "[UNAVAILABLE]"),
            ("a b", "[UNAVAILABLE]"),
            ("a\r\nMAIL FROM:<x@y>", "[UNAVAILABLE]"),
            ("LOGIN=root", "[UNAVAILABLE]"),
            ("bär", "[UNAVAILABLE]"),
            ("(comment)", "[UNAVAILABLE]"),
        ],
    )
    def test_a_helo_name_is_a_name_or_unknown(self, helo: str, sent: str) -> None:
        assert attributes(xclient_commands(origin(helo=helo), XCLIENT))["HELO"] == sent

    @pytest.mark.parametrize(
        ("login", "sent"),
        [
            ("nurse@hospital.example", "nurse@hospital.example"),
            ("a+b=c", "a+2Bb+3Dc"),
            ("station 7", "station+207"),
            ("bär", "b+C3+A4r"),
            ("a\r\nb", "[UNAVAILABLE]"),
            ("a\x00b", "[UNAVAILABLE]"),
            ("a\x85b", "[UNAVAILABLE]"),
            ("a\udcffb", "[UNAVAILABLE]"),
            ("l" * 256, "[UNAVAILABLE]"),
            ("+" * 200, "[UNAVAILABLE]"),
        ],
    )
    def test_a_login_is_printable_text_or_none(self, login: str, sent: str) -> None:
        assert attributes(xclient_commands(origin(login=login), XCLIENT))["LOGIN"] == sent

    def test_what_does_not_fit_one_command_goes_into_another_the_address_first(self) -> None:
        commands = xclient_commands(origin(helo="h" * 255, login="l" * 255), XCLIENT)
        assert len(commands) == 2
        assert all(len(command) + 2 <= COMMAND_OCTETS_MAX for command in commands)
        assert commands[0].startswith(b"XCLIENT ADDR=192.0.2.7 ")
        assert len(attributes(commands)) == 7

    @pytest.mark.parametrize("length", range(200, 256))
    def test_a_command_is_as_long_as_it_may_be(self, length: int) -> None:
        of = origin(helo="h" * 255, login="l" * length)
        commands = xclient_commands(of, {"ADDR", "HELO", "LOGIN"})
        whole = b"XCLIENT ADDR=192.0.2.7 HELO=%b LOGIN=%b" % (b"h" * 255, b"l" * length)
        fits = len(whole + b"\r\n") <= COMMAND_OCTETS_MAX
        assert commands == (
            [whole] if fits else whole.replace(b" LOGIN", b"\nXCLIENT LOGIN").split(b"\n")
        )


class TestXforward:
    def test_what_a_backend_is_to_log(self) -> None:
        (command,) = xforward_commands(origin(login="nurse"), QUEUE_ID, XFORWARD)
        assert command == (
            b"XFORWARD ADDR=192.0.2.7 NAME=[UNAVAILABLE] PORT=[UNAVAILABLE] PROTO=ESMTP"
            b" HELO=ward7.example.org IDENT=01HGW2N7EHJV2Q3C SOURCE=REMOTE"
        )

    @pytest.mark.parametrize("address", ["", "local"])
    def test_our_own_mail_is_local(self, address: str) -> None:
        told = attributes(xforward_commands(origin(address), QUEUE_ID, XFORWARD))
        assert told["ADDR"] == told["HELO"] == told["PROTO"] == "[UNAVAILABLE]"
        assert told["SOURCE"] == "LOCAL"
        assert told["IDENT"] == QUEUE_ID

    def test_nothing_is_said_where_nothing_is_offered(self) -> None:
        assert xforward_commands(origin(), QUEUE_ID, frozenset()) == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"helo": "ward7"}, b"ward7"),
        ({"helo": "a b"}, b"[192.0.2.7]"),
        ({"helo": "", "address": "2001:db8::7"}, b"[IPv6:2001:db8::7]"),
        ({"helo": "", "address": "local"}, b"[127.0.0.1]"),
    ],
)
def test_ehlo_has_the_name_that_the_client_said_or_its_address(
    changes: dict[str, Any], name: bytes
) -> None:
    assert hello_name(origin(**changes)) == name


def test_who_came_from_no_address_is_nobody() -> None:
    assert whose_is(origin("local")) == whose_is(NOBODY) == NOBODY
    assert whose_is(origin()) == origin()


ANY = st.one_of(
    st.text(max_size=300),
    st.text("a+=\x00\r\n \x7f\x85é", max_size=300),
    st.text("h", max_size=300),
)
ADDRESS = st.one_of(ANY, st.ip_addresses().map(str))


@given(ADDRESS, ANY, ANY, st.frozensets(st.sampled_from(sorted(XCLIENT | XFORWARD))))
def test_no_origin_makes_a_command_that_is_not_one(
    address: str, helo: str, login: str, offered: frozenset[str]
) -> None:
    """No control octet, no space but those between attributes, 512 octets, xtext throughout."""
    of = Origin(address=address, helo=helo, login=login)
    commands = [
        *xclient_commands(of, offered),
        *xforward_commands(of, QUEUE_ID, offered),
        b"EHLO " + hello_name(of),
    ]
    for command in commands:
        assert len(command) + 2 <= COMMAND_OCTETS_MAX
        assert re.fullmatch(rb"[!-~]+(?: [!-~]+)+", command)
        verb, *words = command.split(b" ")
        if verb == b"EHLO":
            assert re.fullmatch(rb"[A-Za-z0-9._:\[\]-]{1,255}", words[0])
            assert len(words) == 1
            continue
        for word in words:
            name, _, value = word.partition(b"=")
            assert name.decode() in offered
            assert value == b"[UNAVAILABLE]" or decode_xtext(value), word
