"""The loads: what is sent, how, and to whom. Each has a name, by which it can be chosen.

Not the product of all sizes, connections and manners, which would take a day, but the corners that
differ in what they cost: small messages are commands and system calls, large ones are copies, a
connection for each message is set-up, TLS is arithmetic, and a message that is kept is the disk.
Each goes to the peers that it says something about. A relay that forks for each message is not
asked what it does with 1 KiB again, and a proxy without an event loop for TLS is not asked for TLS.

25 MiB are sent over four connections: at that size twenty would measure memory, which is done
elsewhere. The loads of `smtp-source` repeat the two that matter most with the generator that comes
with Postfix. It sends less than half as many messages a second to the sink itself, as real clients
would, and that levels those in between. Ours shows what the one in the middle can do, theirs what
that is worth.
"""

from dataclasses import dataclass
from typing import Literal

from tests.bench.tools import Mode, Tls

SINK, HAPROXY, NGINX, NAIVE = "sink", "haproxy", "nginx", "naive"
POSTFIX, EXIM, HARAKA = "postfix", "exim", "haraka"
MAILSHED, ADAPTIVE = "mailshed", "mailshed-adaptive"

PEERS = (SINK, HAPROXY, NGINX, POSTFIX, EXIM, HARAKA, NAIVE, MAILSHED, ADAPTIVE)
"""All of them, in the order of tables."""

KIB, MIB = 1024, 1024 * 1024

Backend = Literal["sink", "away"]
"""What stands behind the peer: the sink, or a closed port, so that all mail has to be kept."""

Client = Literal["smtp_gen", "smtp-source"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One load and the peers it goes to."""

    name: str
    octets: int
    peers: tuple[str, ...]
    connections: int = 20
    mode: Mode = "reuse"
    is_pipelined: bool = False
    tls: Tls = "none"
    backend: Backend = "sink"
    client: Client = "smtp_gen"
    is_paced: bool = False
    """Whether messages come at half of mailshed's rate, whatever the replies do."""

    @property
    def title(self) -> str:
        """The load in words."""
        size = f"{self.octets // MIB} MiB" if self.octets >= MIB else f"{self.octets // KIB} KiB"
        count = "one connection" if self.connections == 1 else f"{self.connections} connections"
        words = [size, count, _MODES[self.mode]]
        if self.is_pipelined:
            words.append("pipelined")
        if self.tls != "none":
            words.append("STARTTLS" if self.tls == "starttls" else "TLS from the start")
        if self.backend == "away":
            words.append("backend away: acknowledged when stored")
        if self.client != "smtp_gen":
            words.append(f"sent by {self.client}")
        if self.is_paced:
            words.append("at random times, half as many as mailshed can take")
        return ", ".join(words)


_MODES = {"reuse": "reused", "new": "one message each"}

LOADS = (
    Load(name="1k-reuse", octets=KIB, peers=(SINK, HAPROXY, NGINX, POSTFIX, NAIVE, MAILSHED)),
    Load(name="10k-reuse", octets=10 * KIB, peers=PEERS),
    Load(name="1m-reuse", octets=MIB, peers=(SINK, HAPROXY, NGINX, POSTFIX, NAIVE, MAILSHED)),
    Load(
        name="25m-reuse",
        octets=25 * MIB,
        connections=4,
        peers=(SINK, HAPROXY, NGINX, POSTFIX, MAILSHED),
    ),
    Load(name="1k-new", octets=KIB, mode="new", peers=(SINK, HAPROXY, POSTFIX, NAIVE, MAILSHED)),
    Load(name="10k-new", octets=10 * KIB, mode="new", peers=PEERS),
    Load(
        name="10k-one",
        octets=10 * KIB,
        connections=1,
        peers=(SINK, HAPROXY, NGINX, POSTFIX, HARAKA, NAIVE, MAILSHED),
    ),
    Load(
        name="10k-200",
        octets=10 * KIB,
        connections=200,
        peers=(SINK, HAPROXY, NGINX, POSTFIX, NAIVE, MAILSHED),
    ),
    Load(
        name="10k-pipelined",
        octets=10 * KIB,
        is_pipelined=True,
        peers=(SINK, HAPROXY, NGINX, POSTFIX, NAIVE, MAILSHED),
    ),
    Load(
        name="10k-reuse-source",
        octets=10 * KIB,
        client="smtp-source",
        peers=(SINK, HAPROXY, POSTFIX, MAILSHED),
    ),
    Load(
        name="10k-new-source",
        octets=10 * KIB,
        mode="new",
        client="smtp-source",
        peers=(SINK, HAPROXY, POSTFIX, MAILSHED),
    ),
    Load(
        name="10k-tls-reuse",
        octets=10 * KIB,
        tls="implicit",
        peers=(HAPROXY, NGINX, POSTFIX, MAILSHED),
    ),
    Load(
        name="10k-tls-new",
        octets=10 * KIB,
        mode="new",
        tls="starttls",
        peers=(NGINX, POSTFIX, EXIM, MAILSHED),
    ),
    Load(
        name="1m-tls-reuse",
        octets=MIB,
        tls="implicit",
        peers=(HAPROXY, NGINX, POSTFIX, MAILSHED),
    ),
    Load(name="10k-away", octets=10 * KIB, backend="away", peers=(POSTFIX, EXIM, MAILSHED)),
    Load(name="1m-away", octets=MIB, backend="away", peers=(POSTFIX, MAILSHED)),
    Load(
        name="10k-half",
        octets=10 * KIB,
        is_paced=True,
        peers=(SINK, HAPROXY, NGINX, MAILSHED, ADAPTIVE),
    ),
)


def load(name: str) -> Load:
    """The load of that name."""
    return next(each for each in LOADS if each.name == name)
