"""Whether a message needs what it came with."""

from dataclasses import replace

import pytest

from mailshed.relay.backend import OutboundMessage
from mailshed.relay.international import lacks_smtputf8
from mailshed.relay.offers import Offers
from tests.support.outbound import outbound

UTF8 = "jürgen@bücher.example".encode()
PLAIN = Offers.from_extensions(("8BITMIME",))


async def needs_smtputf8(message: OutboundMessage) -> bool:
    """Whether a server without it will not do, if the client has asked for it."""
    asked = replace(message, parameters=(*message.parameters, b"SMTPUTF8"))
    return await lacks_smtputf8(asked, PLAIN)


@pytest.mark.parametrize("parameter", [b"SMTPUTF8", b"smtputf8"])
async def test_only_a_server_without_it_lacks_what_was_asked_for(parameter: bytes) -> None:
    message = outbound(sender=UTF8, parameters=(b"BODY=8BITMIME", parameter))
    assert await lacks_smtputf8(message, PLAIN)
    assert not await lacks_smtputf8(message, Offers.from_extensions(("SMTPUTF8",)))
    assert not await lacks_smtputf8(outbound(parameters=(b"BODY=8BITMIME",)), PLAIN)


async def test_ascii_addresses_and_an_ascii_header_need_nothing() -> None:
    assert not await needs_smtputf8(outbound())


async def test_an_address_does() -> None:
    assert await needs_smtputf8(outbound(sender=UTF8))
    assert await needs_smtputf8(outbound(to=[b"one@example.com", UTF8]))


async def test_a_parameter_does() -> None:
    assert await needs_smtputf8(outbound(rcpt_parameters=(b"ORCPT=utf-8;" + UTF8,)))
    assert await needs_smtputf8(outbound(parameters=(b"ENVID=" + UTF8,)))


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("cut", [1, 9, 15, 18, 20, 22])
async def test_a_header_does_and_a_body_does_not(cut: int, *, is_streamed: bool) -> None:
    """Wherever the pieces are cut, the end of the header is seen."""
    ascii_header = "Subject: Gruesse\r\n\r\n12345 Grüße\r\n".encode()
    pieces = [ascii_header[:cut], ascii_header[cut:]]
    assert not await needs_smtputf8(outbound(pieces, is_streamed=is_streamed))
    header = "Subject: Grüße\r\nFrom: a@b.example\r\n\r\nbody\r\n".encode()
    assert await needs_smtputf8(outbound([header[:cut], header[cut:]], is_streamed=is_streamed))


async def test_a_header_that_never_ends_is_looked_at_whole() -> None:
    assert await needs_smtputf8(outbound([b"Subject: x\r\n", b"A: b\r\n", "C: ü\r\n".encode()]))
    assert not await needs_smtputf8(outbound([b"Subject: x\r\n", b"A: b\r\n"]))


async def test_an_empty_header_ends_at_once() -> None:
    assert not await needs_smtputf8(outbound("\r\nGrüße\r\n".encode()))
    prefixed = outbound("\r\nGrüße\r\n".encode(), prefix=b"Received: from x\r\n")
    assert not await needs_smtputf8(prefixed)
