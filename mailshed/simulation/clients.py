"""Who sends: what a client is to us, and when it comes again after a 4xx.

A mail server keeps what was not taken and tries again, as Postfix does: the first time after
`retry_min`, then after twice as long each time up to `retry_max`, and only when its queue manager
looks, every `queue_run` seconds (`qmgr(8)`, minimal_backoff_time, queue_run_delay). Each server
looks at moments of its own, unless they are synchronised. A mail program shows its user an error; a
device forgets.
"""

from ipaddress import IPv4Address
from math import ceil
from random import Random

from mailshed.mail.envelope import Client
from mailshed.simulation.scenario import ClientBehaviour, Stream
from mailshed.terms import ClientKind

_FIRST_ADDRESS = int(IPv4Address("10.0.0.1"))
_NETWORK_SIZE = 65536
"""Addresses of one stream."""


class Sender:
    """One client host."""

    __slots__ = ("_phase", "behaviour", "client")

    def __init__(self, stream: Stream, number: int, host: int, rng: Random) -> None:
        self.behaviour: ClientBehaviour = stream.client
        address = IPv4Address(_FIRST_ADDRESS + number * _NETWORK_SIZE + host)
        self.client = Client(
            session_id=f"{stream.name}-{host}",
            listener="simulation",
            address=address,
            port=25,
            is_trusted=True,
            kind=stream.client.kind,
        )
        self._phase = 0.0 if stream.client.is_synchronised else rng.random()
        """When its queue manager looks, as a part of the time between two looks."""

    @property
    def retries(self) -> bool:
        """Whether it comes again after a 4xx."""
        return self.client.kind is ClientKind.MTA

    def next_try(self, now: float, tries: int) -> float:
        """When it comes again that was told 4xx for the `tries`th time at `now`."""
        how = self.behaviour
        due = now + min(how.retry_max, how.retry_min * 2.0 ** min(tries - 1, 32))
        if how.queue_run <= 0:
            return due
        start = self._phase * how.queue_run
        return start + ceil((due - start) / how.queue_run) * how.queue_run


def senders(stream: Stream, number: int, rng: Random) -> tuple[Sender, ...]:
    """The hosts of the `number`th stream."""
    return tuple(Sender(stream, number, host, rng) for host in range(stream.hosts))
