"""The backends as the rest of mailshed sees them: where a recipient's mail goes now.

A `Destination` is one backend with all that stands before it: its gate (limit, breaker, waiting
room) and what probes it. Each has its own, so that one that is slow or away costs the mail of the
others nothing.

Two names belong to mail. Its *route* is the backend that serves its recipients' domains; it is what
the spool remembers. Who *takes* mail of that route is the same one, unless that has been away for
so long that its fallback does (`control.fallback`). A neighbour's refusal is no last word, since it
does not know the mailboxes: see `as_of_neighbour`.

With one backend all questions have one answer, which is not looked up.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from mailshed.admission.routing import Routes
from mailshed.control.fallback import FallbackChange, Fallbacks
from mailshed.mail.address import domain_of
from mailshed.mail.delivery import Bounced, Deferred, DeliveryResult, NoReply, TransactionResult
from mailshed.relay.backend import Backend
from mailshed.relay.gate import Gate
from mailshed.relay.probe import Prober


@dataclass(eq=False, slots=True, kw_only=True)
class Destination:
    """One backend, and what stands before it."""

    gate: Gate
    backend: Backend
    target: str = ""
    """Where it is, for people."""
    host: str = ""
    """Its host name, for reports; empty for a Maildir."""
    prober: Prober | None = None

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self.backend.name


class Destinations:
    """All backends of one configuration, and who takes mail of which route now."""

    def __init__(
        self,
        found: Sequence[Destination],
        routes: Routes | None = None,
        fallbacks: Fallbacks | None = None,
    ) -> None:
        assert found, "a service without a backend"
        self.all = tuple(found)
        self.routes = Routes(found[0].name) if routes is None else routes
        self.fallbacks = Fallbacks({}) if fallbacks is None else fallbacks
        self._by_name = {each.name: each for each in found}
        self.default = self._by_name[self.routes.default]
        """The one for all domains that no other one serves."""

    def __iter__(self) -> Iterator[Destination]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)

    @property
    def is_single(self) -> bool:
        """Whether there is one backend, which takes all mail."""
        return len(self.all) == 1

    @property
    def calmest(self) -> Destination:
        """The one that asks for the least patience, which decides while the route is not known."""
        if self.is_single:
            return self.default
        return min(self.all, key=lambda each: each.gate.station.shedding.reply_delay)

    def knows(self, route: str) -> bool:
        """Whether the configuration has a backend of this name."""
        return route in self._by_name

    def own(self, route: str) -> Destination:
        """The backend of a route, whoever takes its mail now; the default of one that is gone."""
        return self._by_name.get(route, self.default)

    def taker(self, route: str) -> Destination:
        """Who takes mail of a route now: its own backend, or that one's fallback."""
        active = self.fallbacks.active
        return self.own(active.get(route, route) if active else route)

    def taker_of(self, domain: str) -> Destination:
        """Who takes mail for a domain now."""
        return self.taker(self.routes.of(domain))

    def taken_by(self, destination: Destination) -> list[str]:
        """Routes whose mail this one takes now."""
        return [each.name for each in self.all if self.taker(each.name) is destination]

    def route_of(self, paths: Iterable[bytes]) -> str:
        """The one route of all these recipients, or the default if there are several."""
        found = {self.routes.of(domain_of(path)) for path in paths}
        return found.pop() if len(found) == 1 else self.default.name

    def tick(self, now: float) -> list[FallbackChange]:
        """Let time pass for the fallbacks, four times a second; return which began or ended."""
        if self.is_single:
            return []
        states = {each.name: each.gate.station.breaker.state for each in self.all}
        return self.fallbacks.tick(now, states)


def as_of_neighbour(result: TransactionResult, neighbour: str) -> TransactionResult:
    """What a transaction at a fallback means: whom it refuses for good waits for its own server.

    So does what the fallback does not have the extensions for, which its own server may have.
    """
    if not any(map(_is_for_good, result.recipients)):
        return result
    return replace(result, recipients=tuple(_waits(each, neighbour) for each in result.recipients))


def _is_for_good(result: DeliveryResult) -> bool:
    return isinstance(result, Bounced) or (
        isinstance(result, Deferred) and result.no_reply is NoReply.UNSUPPORTED
    )


def _waits(result: DeliveryResult, neighbour: str) -> DeliveryResult:
    match result:
        case Bounced(stage, answer):
            said = f"{neighbour}, which takes its mail meanwhile, refused it: {answer.text}"
            return Deferred(stage, None, said)
        case Deferred(stage, _, detail, NoReply.UNSUPPORTED):
            return Deferred(stage, None, f"{neighbour}: {detail}", NoReply.OUR_CHOICE)
        case _:
            return result
