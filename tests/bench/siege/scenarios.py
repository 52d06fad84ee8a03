"""Who attacks, from where, and what the daemon is configured for.

Slow sessions are of five kinds in equal parts, as `slow_clients.c` makes them: idle, a command that
drips, mail data that drips, a TLS hello that drips, and replies that are not read. All limits are
those that mailshed is shipped with, but for the two that a scenario names. Who is thrown out comes
back, at 500 connections a second for all.

A flood is 5,000 connections a second that hear one line and go.
"""

from dataclasses import dataclass

SLOW = "icdhr"
"""The five kinds of slow sessions, by their letters in `slow_clients.c`."""

FLOOD = "f"

KIND_NAMES = {
    "i": "idle",
    "c": "command",
    "d": "mail data",
    "h": "TLS hello",
    "r": "reader",
    "f": "flood",
}

SHIPPED_SESSIONS_MAX = 5_000
SHIPPED_HANDSHAKES_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One attack on one configuration; seconds, and connections a second."""

    name: str
    text: str
    places: str = "wide"
    """Where from; as `slow_clients.c` takes it."""
    kinds: str = SLOW
    sessions: int = 10_000
    rate: float = 500.0
    pace: float = 10.0
    """Seconds from one octet to the next."""
    sessions_max: int = SHIPPED_SESSIONS_MAX
    handshakes_max: int = SHIPPED_HANDSHAKES_MAX
    seconds: float = 80.0
    """Of attack; at 500 a second, 10,000 sessions need 20 s to be there."""
    is_proof: bool = False
    """Whether the targets are for it."""


SCENARIOS = (
    Scenario(
        name="held",
        text="10,000 from 10,000 addresses, and room for all: none is hurried, handshakes neither",
        sessions_max=16_000,
        handshakes_max=2_800,
        is_proof=True,
    ),
    Scenario(
        name="hurried",
        text="10,000 from 10,000 addresses, room for 12,000: stress begins at 9,600",
        sessions_max=12_000,
        handshakes_max=2_800,
        is_proof=True,
    ),
    Scenario(
        name="shipped",
        text="10,000 from 10,000 addresses, all limits as shipped: room for 5,000",
        is_proof=True,
    ),
    Scenario(
        name="network",
        text="10,000 from one /24, all limits as shipped",
        places="network",
        seconds=30.0,
        is_proof=True,
    ),
    Scenario(
        name="one",
        text="10,000 from one address, all limits as shipped",
        places="one",
        seconds=30.0,
        is_proof=True,
    ),
    Scenario(
        name="flood-one",
        text="5,000 connections a second from one address",
        places="one",
        kinds=FLOOD,
        sessions=5_000,
        rate=5_000.0,
        seconds=10.0,
    ),
    Scenario(
        name="flood-many",
        text="5,000 connections a second from 500 addresses",
        places="500",
        kinds=FLOOD,
        sessions=5_000,
        rate=5_000.0,
        seconds=10.0,
    ),
)
