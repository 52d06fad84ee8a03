"""How mail transactions are run with one backend, where backends differ and the site chooses.

What a server offers is found out (`offers`); this is what we want of it. The defaults are plain
SMTP under our own name.
"""

from dataclasses import dataclass
from enum import Enum


class Identity(Enum):
    """Whether a backend is told whose message it gets."""

    NONE = "none"  # it sees us
    XCLIENT = "xclient"  # it takes the session for the client's: rules, limits and trace lines
    XFORWARD = "xforward"  # it logs the client, and goes by us


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How to speak with one backend."""

    is_lmtp: bool = False
    """RFC 2033: LHLO, and after the final dot one reply for each recipient it had accepted."""
    identity: Identity = Identity.NONE
    is_chunking: bool = False
    """Whether BDAT (RFC 3030) takes the place of DATA where that saves a round trip."""


PLAIN = Manner()
