"""The envelope of a message: who speaks, from whom, to whom, under which queue id.

Everything here is a frozen value, made once by the listener and read by every later stage.
Addresses and ESMTP parameters are the bytes the client sent, never a re-serialised form, so that
what came in goes out byte for byte.
"""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from mailshed.mail.address import Mailbox
from mailshed.mail.parameters import DeliverBy
from mailshed.terms import ClientKind, QueueId
from mailshed.values import value

# Crockford's alphabet: no I, L, O or U, so an id read aloud on the telephone survives.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TIME_DIGITS = 10
_RANDOM_DIGITS = 6
# Two digits at a time: this runs once for every message.
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_PAIR_SHIFTS = tuple(range(5 * (_TIME_DIGITS + _RANDOM_DIGITS - 2), -1, -10))
RANDOM_BITS = 5 * _RANDOM_DIGITS
"""How many random bits `make_queue_id` takes."""


def make_queue_id(wall: float, random_bits: int) -> QueueId:
    """Make an id of 16 characters that sorts by time: 48 bits of milliseconds, then randomness.

    `wall` is the Unix time in seconds; `random_bits` an integer below 2**RANDOM_BITS.
    """
    value = (int(wall * 1000) << RANDOM_BITS) | random_bits
    pairs = [_PAIRS[value >> shift & 1023] for shift in _PAIR_SHIFTS]
    return QueueId("".join(pairs))


@dataclass(frozen=True, slots=True)
class TlsState:
    """What protects a connection, in the names of RFC 8446 and of IANA's registry."""

    version: str
    """`TLSv1.2` or `TLSv1.3`."""
    cipher: str
    """The cipher suite: `TLS_AES_256_GCM_SHA384`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who speaks: one SMTP session as the later stages may know it."""

    session_id: str
    listener: str
    address: IPv4Address | IPv6Address
    port: int
    is_trusted: bool
    """In `trusted_networks`, or authenticated: may relay, and may be sent failure reports."""
    kind: ClientKind = ClientKind.MTA
    user: str = ""
    """The name that the client has authenticated as; empty if it has not."""
    tls: TlsState | None = None
    """What protects the connection to us; None if nothing does."""
    address_text: str = field(init=False)
    """The address as text, made once, since every message of the session is logged with it."""
    address_number: int = field(init=False)
    """The address as a number, since every rule about networks compares it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "address_text", str(self.address))
        object.__setattr__(self, "address_number", int(self.address))


@value(kw_only=True)
class Recipient:
    """One forward-path. `parameters` are its ESMTP parameters as they came (`NOTIFY=NEVER`)."""

    mailbox: Mailbox
    parameters: tuple[bytes, ...] = ()


@value(kw_only=True)
class Envelope:
    """One mail transaction up to its mail data.

    `reverse_path` None is the null reverse-path `<>`. `recipients` keep the client's order, and
    every list of results in mailshed has that order too.
    """

    queue_id: QueueId
    client: Client
    helo: str
    is_extended: bool
    """EHLO rather than HELO: the trace line says ESMTP."""
    reverse_path: Mailbox | None
    parameters: tuple[bytes, ...] = ()
    """ESMTP parameters of MAIL as they came, without SIZE, which is recomputed."""
    priority: int | None = None
    """MT-PRIORITY (RFC 6710), -9..9; None if none was given by a peer whose word counts."""
    is_utf8: bool = False
    """SMTPUTF8 was given (RFC 6531): addresses and header section may be in any script."""
    deliver_by: DeliverBy | None = None
    """The client's deadline (RFC 2852)."""
    recipients: tuple[Recipient, ...] = field(default=())
    received_wall: float = 0.0
    """Unix time at which the mail data was complete."""
    received_at: float = 0.0
    """The same on the monotonic clock."""
    started_at: float = 0.0
    """When MAIL was accepted, on the monotonic clock."""

    @property
    def sender(self) -> str:
        """The reverse-path for people: `<>` for the null one."""
        return f"<{self.reverse_path or ''}>"
