"""Whether a message that came with SMTPUTF8 needs it (RFC 6531).

Some clients give the parameter with every message as soon as it is offered; Go's net/smtp does, and
with it much that runs in a server room. Such a message is kept from a server that lacks SMTPUTF8
only if it could not be said without: an address, a parameter or the header section has octets that
are not ASCII. Postfix draws the same line.

The header is looked at up to its end and no further. It is read only where the server lacks what
the client has asked for, which is rare, so nobody else pays for it. Header fields inside the body
(of its parts) are not looked at: they pass like the rest of an 8-bit body.
"""

from contextlib import aclosing
from itertools import chain

from mailshed.relay.backend import OutboundMessage
from mailshed.relay.offers import Offers

_KEYWORD = b"SMTPUTF8"


async def lacks_smtputf8(message: OutboundMessage, offers: Offers) -> bool:
    """Whether the message cannot go to this server as it does not offer SMTPUTF8.

    Raises what `message.chunks` raises.
    """
    if _KEYWORD in offers.keywords:
        return False
    return any(each.upper() == _KEYWORD for each in message.parameters) and await _needs(message)


async def _needs(message: OutboundMessage) -> bool:
    """Whether anything of it is not ASCII but its body."""
    paths = (message.reverse_path, *(path for path, _ in message.recipients))
    parameters = chain.from_iterable(each for _, each in message.recipients)
    if not all(octets.isascii() for octets in chain(paths, message.parameters, parameters)):
        return True
    before = b"\r\n"  # an empty header section ends in it
    async with aclosing(message.stream()) as chunks:
        async for chunk in chunks:
            section, end, _ = (before + chunk).partition(b"\r\n\r\n")
            if not section.isascii():
                return True
            if end:
                return False
            before = section[-3:]
    return False
