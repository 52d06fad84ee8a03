"""What leaves for a backend cannot be read as anything else, whatever a client had accepted.

Two properties. Of mail data: where any server could see its end (a dot alone between line endings
of any kind, also behind a NUL, the sequences of SMTP smuggling) there is the end, once. Of
commands: no control character, however an address, a parameter, a name or a login was chosen.
"""

import asyncio
import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mailshed.errors import AddressSyntaxError
from mailshed.listener.data import DataScanner
from mailshed.mail.address import parse_mail_argument, parse_rcpt_argument
from mailshed.relay import transaction
from mailshed.relay.backend import Origin, OutboundMessage
from mailshed.relay.connection import Connection, Timeouts
from mailshed.relay.manner import Identity, Manner
from mailshed.relay.offers import Offers
from mailshed.relay.sending import send_stream, send_whole
from mailshed.relay.wire import WireProtocol
from mailshed.terms import QueueId, Stage
from tests.support.clock import ManualClock
from tests.support.intensity import tried
from tests.support.outbound import DEADLINE, outbound

END_FOR_ANYBODY = re.compile(rb"(?<=[\r\n])\x00?\.[\r\n]")
ALL_OFFERS = Offers.from_extensions(
    (
        *("PIPELINING", "SIZE 10000000", "8BITMIME", "DSN", "SMTPUTF8", "MT-PRIORITY", "DELIVERBY"),
        "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
        "XCLIENT NAME ADDR PORT PROTO HELO LOGIN",
    )
)


class SilentWire(WireProtocol):
    """Keeps what is sent, and answers nothing."""

    sent = b""

    def send(self, data: bytes | memoryview) -> bool:
        self.sent += bytes(data)
        return True

    async def receive(self, timeout: float) -> list[object]:  # type: ignore[override]
        self.abort()
        return []


SMUGGLED = st.sampled_from(
    [
        *(b"\r\n.\r\n", b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n.\n"),
        *(b"\r\n\x00.\r\n", b"\n\x00.\n", b"\r\n..\r\n", b".\r\n", b"\r\n.", b"."),
    ]
)
BODIES = st.lists(
    st.one_of(SMUGGLED, st.binary(max_size=5), st.text("\r\n.\x00 x", max_size=8).map(str.encode)),
    max_size=12,
).map(b"".join)


def accepted(body: bytes, cuts: list[int], *, is_normalising: bool) -> list[bytes] | None:
    """What the listener hands on of a message, in pieces; None if it would refuse it."""
    data = body + b"\r\n.\r\n"
    scanner = DataScanner(is_normalising=is_normalising)
    positions = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces: list[bytes] = []
    for start, end in pairwise(positions):
        pieces.append(scanner.feed(data[start:end]))
        if scanner.rest is not None:
            break
    return pieces if scanner.is_clean or is_normalising else None


@tried(150)
@given(
    body=BODIES,
    cuts=st.lists(st.integers(0, 60), max_size=8),
    cuts_out=st.lists(st.integers(0, 80), max_size=6),
    is_normalising=st.booleans(),
    is_streamed=st.booleans(),
)
def test_mail_data_has_one_end_for_every_reader(
    body: bytes,
    cuts: list[int],
    cuts_out: list[int],
    *,
    is_normalising: bool,
    is_streamed: bool,
) -> None:
    pieces = accepted(body, cuts, is_normalising=is_normalising)
    if pieces is None:
        return
    whole = b"".join(pieces)
    positions = sorted({0, len(whole), *(cut for cut in cuts_out if cut < len(whole))})
    again = [whole[start:end] for start, end in pairwise(positions)]
    prefix = b"Received: from x by y with ESMTP id z; now\r\n"

    async def story() -> bytes:
        wire = SilentWire(asyncio.get_running_loop())
        wire.expect((Stage.DOT,))
        message = outbound(again, prefix=prefix, is_streamed=is_streamed)
        if is_streamed:
            assert await send_stream(wire, message, DEADLINE)
        else:
            assert send_whole(wire, message, is_chunk=False)
        return wire.sent

    sent = b"\r\n" + asyncio.run(story())
    ends = [found.start() for found in END_FOR_ANYBODY.finditer(sent)]
    assert ends == [len(sent) - 3]
    assert sent.endswith(b"\r\n.\r\n")


ATOMS = st.text('ab.+-_"\\@<>: \r\n\x00\x7fé(),;[]%!', max_size=14)
PATHS = st.one_of(
    ATOMS,
    st.builds("{}@{}".format, ATOMS, ATOMS),
    st.builds("{}@b.example".format, st.text("ab+-_=!%/{}~é", min_size=1, max_size=9)),
    st.builds('"{}"@b.example'.format, st.text("ab <>@:\\é\x00\r", max_size=9)),
).map(lambda text: f"<{text}>")
PARAMETERS = st.lists(
    st.one_of(
        st.sampled_from(["RET=HDRS", "ENVID=a+0D+0Ab", "BODY=8BITMIME", "NOTIFY=NEVER", "BY=60;R"]),
        st.builds("{}={}".format, st.sampled_from(["ENVID", "ORCPT", "AUTH", "SIZE", "X"]), ATOMS),
        ATOMS,
    ),
    max_size=3,
)
ARGUMENTS = st.builds(lambda path, more: " ".join([path, *more]), PATHS, PARAMETERS)
ORIGINS = st.builds(
    lambda address, helo, login: Origin(address=address, helo=helo, login=login),
    st.one_of(st.ip_addresses().map(str), st.text(max_size=20)),
    st.text(max_size=300),
    st.text(max_size=300),
)


def octets(argument: str) -> bytes:
    return argument.encode("utf-8")


@tried(150)
@given(
    mail=ARGUMENTS,
    rcpt=ARGUMENTS,
    origin=ORIGINS,
    identity=st.sampled_from([Identity.XCLIENT, Identity.XFORWARD]),
    is_utf8=st.booleans(),
)
def test_a_command_holds_no_control_whatever_was_accepted(
    mail: str, rcpt: str, origin: Origin, identity: Identity, *, is_utf8: bool
) -> None:
    try:
        sender = parse_mail_argument(b"FROM:" + octets(mail), is_utf8=is_utf8)
        recipient = parse_rcpt_argument(b"TO:" + octets(rcpt), is_utf8=is_utf8)
    except AddressSyntaxError:
        sender = parse_mail_argument(b"FROM:<>")
        recipient = parse_rcpt_argument(b"TO:<a@b.example>")
    assert recipient.mailbox is not None
    message = OutboundMessage(
        queue_id=QueueId("0000000000000000"),
        reverse_path=b"" if sender.mailbox is None else sender.mailbox.raw,
        parameters=sender.parameters,
        recipients=((recipient.mailbox.raw, recipient.parameters),),
        size=0,
        in_memory=(),
        origin=origin,
    )

    async def story() -> bytes:
        wire = SilentWire(asyncio.get_running_loop())
        timeouts = Timeouts(connect=DEADLINE, command=DEADLINE, dot=DEADLINE)
        connection = Connection(wire=wire, offers=ALL_OFFERS, timeouts=timeouts)
        await transaction.run(connection, message, ManualClock(), Manner(identity=identity))
        return wire.sent

    sent = asyncio.run(story())
    assert sent.endswith(b"\r\n")
    for command in sent.removesuffix(b"\r\n").split(b"\r\n"):
        assert not re.search(rb"[\x00-\x1f\x7f]", command)
        verb = command.split(b" ")[0]
        assert verb in (b"XCLIENT", b"XFORWARD", b"MAIL", b"RCPT", b"DATA")
