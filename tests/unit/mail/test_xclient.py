"""XCLIENT: every attribute, every way to get one wrong, and octets that are none."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.errors import AddressSyntaxError
from mailshed.mail import xtext
from mailshed.mail.xclient import ATTRIBUTES, VALUE_MAX, Introduction, parse_xclient

EVERYTHING = (
    b"NAME=c.example REVERSE_NAME=c.example ADDR=192.0.2.7 PORT=7 PROTO=SMTP HELO=c LOGIN=a"
    b" DESTADDR=198.51.100.25 DESTPORT=25"
)


def told(*names: str, **values: object) -> Introduction:
    return Introduction(told=frozenset(names), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (b"ADDR=192.0.2.7", told("ADDR", address=ip_address("192.0.2.7"))),
        (b"addr=192.0.2.7", told("ADDR", address=ip_address("192.0.2.7"))),
        (b"ADDR=IPV6:2001:db8::7", told("ADDR", address=ip_address("2001:db8::7"))),
        (b"ADDR=ipv6:::ffff:192.0.2.7", told("ADDR", address=ip_address("192.0.2.7"))),
        (b"ADDR=[UNAVAILABLE]", told("ADDR")),
        (b"ADDR=[unavailable]", told("ADDR")),
        (b"NAME=[TEMPUNAVAIL]", told("NAME")),
        (b"NAME=client.example.org", told("NAME")),
        (b"PORT=40000", told("PORT", port=40000)),
        (b"PORT=0", told("PORT", port=0)),
        (b"PORT=[UNAVAILABLE]", told("PORT")),
        (b"PROTO=smtp", told("PROTO")),
        (b"PROTO=ESMTP", told("PROTO")),
        (b"HELO=[192.0.2.7]", told("HELO")),
        (b"HELO=odd_name", told("HELO")),
        (b"LOGIN=alice", told("LOGIN", login="alice")),
        (b"LOGIN=alice+40hospital.example", told("LOGIN", login="alice@hospital.example")),
        (b"LOGIN=al+20ice", told("LOGIN", login="al ice")),
        (b"LOGIN=J+C3+B6rg", told("LOGIN", login="Jörg")),
        (b"LOGIN=[UNAVAILABLE]", told("LOGIN")),
        (b"DESTADDR=198.51.100.25 DESTPORT=25", told("DESTADDR", "DESTPORT")),
        (
            EVERYTHING,
            told(*ATTRIBUTES, address=ip_address("192.0.2.7"), port=7, login="a"),
        ),
    ],
)
def test_what_is_said_is_understood(argument: bytes, expected: Introduction) -> None:
    assert parse_xclient(argument) == expected


@pytest.mark.parametrize(
    ("argument", "fault"),
    [
        (b"", "XCLIENT takes"),
        (b" ADDR=192.0.2.7", "XCLIENT takes"),
        (b"ADDR=192.0.2.7  PORT=7", "XCLIENT takes"),
        (b"ADDR", "ADDR has no value"),
        (b"ADDR=", "ADDR has no value"),
        (b"REVERSED_NAME=client", "XCLIENT takes"),
        (b"ADDR\xff=192.0.2.7", "XCLIENT takes"),
        (b"ADDR=192.0.2.7 addr=192.0.2.8", "ADDR is given twice"),
        (b"ADDR=192.0.2.256", "ADDR is an IPv4"),
        (b"ADDR=192.0.2", "ADDR is an IPv4"),
        (b"ADDR=192.0.02.7", "ADDR is an IPv4"),
        (b"ADDR=2001:db8::7", "ADDR is an IPv4"),
        (b"ADDR=IPV6:192.0.2.7", "ADDR is an IPv4"),
        (b"ADDR=IPV6:2001:db8::7%eth0", "ADDR is an IPv4"),
        (b"ADDR=client.example.org", "ADDR is an IPv4"),
        (b"ADDR=unknown", "ADDR is an IPv4"),
        (b"ADDR=+31", "ADDR is an IPv4"),
        (b"DESTADDR=x", "DESTADDR is an IPv4"),
        (b"PORT=65536", "PORT is a number"),
        (b"PORT=-1", "PORT is a number"),
        (b"PORT=+C2+B2", "PORT is a number"),  # a digit to Python, in superscript
        (b"PORT=000025", "PORT is a number"),
        (b"DESTPORT=smtp", "DESTPORT is a number"),
        (b"PROTO=LMTP", "PROTO is SMTP"),
        (b"NAME=client+20name", "NAME is a host name"),
        (b"NAME=" + b"x" * (VALUE_MAX + 1), "NAME has no value"),
        (b"HELO=a+20b", "HELO is what follows"),
        (b"HELO=+C3+B6", "HELO is what follows"),
        (b"LOGIN=a=b", "LOGIN has no value"),
        (b"LOGIN=a+b", "LOGIN has no value"),
        (b"LOGIN=a+0D+0Ab", "LOGIN has no value"),
        (b"LOGIN=a+00", "LOGIN has no value"),
        (b"LOGIN=+FF", "LOGIN has no value"),
        (b"LOGIN=\xc3\xb6", "LOGIN has no value"),
        (b"LOGIN=+", "LOGIN has no value"),
    ],
)
def test_what_is_wrong_is_named_without_its_value(argument: bytes, fault: str) -> None:
    with pytest.raises(AddressSyntaxError) as caught:
        parse_xclient(argument)
    assert str(caught.value).startswith(fault)


@given(name=st.text(min_size=1, max_size=60))
def test_a_login_is_the_one_that_was_written_or_none_at_all(name: str) -> None:
    encoded = xtext.encode(name.encode("utf-8", "surrogatepass"))
    try:
        said = parse_xclient(b"LOGIN=" + encoded)
    except AddressSyntaxError:
        assert not name.isprintable() or len(name.encode("utf-8", "surrogatepass")) > VALUE_MAX
        return
    assert said.login in (name, None)
    assert name.isprintable()


@given(octets=st.binary(max_size=80), name=st.sampled_from(ATTRIBUTES))
def test_whatever_comes_is_understood_or_refused(octets: bytes, name: str) -> None:
    try:
        said = parse_xclient(name.encode() + b"=" + octets)
    except AddressSyntaxError:
        return
    assert said.told >= {name}
    assert said.login is None or said.login.isprintable()
