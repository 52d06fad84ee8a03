"""Who is asked whether a mailbox exists, where there are several backends: the recipient's own.

Each backend has a `RecipientVerifier`, since each answers, is silent or is short of room by itself.
What is known is common: one memory of recipients, and one budget for each client of unknown ones,
or a stranger could try as many again at each backend.

A neighbour that takes the mail of a backend which is away is not asked, and its deliveries teach
nothing: it knows its own mailboxes and no others.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from mailshed.admission.routing import Routes
from mailshed.config.policy import VerificationPolicy
from mailshed.mail.address import Mailbox
from mailshed.mail.delivery import TransactionResult
from mailshed.mail.envelope import Client
from mailshed.relay.backend import OutboundMessage
from mailshed.relay.verify import Later, RecipientVerifier, Ruling

__all__ = ["Later", "Ruling", "Verifier", "Verifiers"]


class Verifier(Protocol):
    """Who says whether mail for a mailbox is taken."""

    def check(self, client: Client, mailbox: Mailbox, waited: float = 0.0) -> Ruling | Later:
        """See `RecipientVerifier.check`."""
        ...


class Verifiers:
    """The verifiers of all backends, by name, with one memory and one policy."""

    def __init__(self, by_name: Mapping[str, RecipientVerifier], routes: Routes) -> None:
        self._by_name = dict(by_name)
        self._first = next(iter(self._by_name.values()))
        self._routes = routes

    def check(self, client: Client, mailbox: Mailbox, waited: float = 0.0) -> Ruling | Later:
        """Ask the one that serves the mailbox's domain."""
        own = self._by_name[self._routes.of(mailbox.domain)]
        return own.check(client, mailbox, waited)

    @property
    def policy(self) -> VerificationPolicy:
        """What a reload replaces."""
        return self._first.policy

    @policy.setter
    def policy(self, policy: VerificationPolicy) -> None:
        for each in self._by_name.values():
            each.policy = policy

    @property
    def cached(self) -> tuple[int, int]:
        """Addresses that are remembered, and how many may be."""
        return self._first.cached

    def learner(self, name: str) -> Callable[[OutboundMessage, TransactionResult], None]:
        """What hears of the deliveries of one backend."""
        return self._by_name[name].learn

    def stop(self) -> None:
        """Ask nothing more; sessions that wait for an answer get none."""
        for each in self._by_name.values():
            each.stop()

    async def close(self) -> None:
        """Stop, and close the connections of questions."""
        for each in self._by_name.values():
            await each.close()
