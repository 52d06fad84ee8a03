"""What mailshed is measured against, in the same run, each as a person would set it up.

- `sink`: the generator talks to the sink itself. The bound of the bench, not of mail.
- `haproxy`, `nginx`: what can stand before a mail server and knows little of mail (`proxies`).
- `postfix`, `exim`, `haraka`: mail servers that relay (`relays`).
- `naive`: our two libraries as they come (`tests.bench.naive`).
- `mailshed`, `mailshed-adaptive`: ours (`ours`).

`start` makes one. What is missing is installed if that is possible (tests/support/debian.py); a
peer that cannot be had raises MissingError with the reason, so that a table can name it.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

import pytest

from tests.bench import loads
from tests.bench.peers import ours, proxies, relays
from tests.bench.peers.peer import MissingError, Peer, Place

__all__ = ["MissingError", "Peer", "Place", "start"]

_STARTS: Mapping[str, Callable[[Place], AbstractContextManager[Peer]]] = {
    loads.HAPROXY: proxies.haproxy,
    loads.NGINX: proxies.nginx,
    loads.NAIVE: proxies.naive,
    loads.POSTFIX: relays.postfix,
    loads.EXIM: relays.exim,
    loads.HARAKA: relays.haraka,
    loads.MAILSHED: ours.pass_through,
    loads.ADAPTIVE: ours.as_shipped,
}


@contextlib.contextmanager
def start(name: str, place: Place) -> Iterator[Peer]:
    """Start a peer other than the sink; raises MissingError."""
    folder = place.folder / name
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        try:
            peer = stack.enter_context(_STARTS[name](place.at(folder)))
        except (pytest.skip.Exception, pytest.fail.Exception) as refusal:
            raise MissingError(refusal.msg or f"{name} cannot be had") from None
        yield peer
