"""The drain's way to each backend: what holds its mail back, the turns, the attempts.

Spool, hand and marks are common to all, so a message is in one hand whoever it goes to, and the
bound on duplicates is one number. What is known of a backend's mailboxes and of how retries fare
with it is its own.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mailshed.clock import Clock
from mailshed.drain.attempt import Attempts
from mailshed.drain.desk import ReportDesk
from mailshed.drain.journal import DrainJournal
from mailshed.drain.marks import Marks
from mailshed.drain.policy import DrainPolicy
from mailshed.drain.restraint import Restraint
from mailshed.drain.turn import Turns
from mailshed.mail.delivery import TransactionResult
from mailshed.relay.destination import Destination, Destinations
from mailshed.spool.store import Settlement, SpoolRecord, SpoolStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlet:
    """The way to one backend."""

    destination: Destination
    restraint: Restraint
    attempts: Attempts
    turns: Turns


class Outlets:
    """The ways to all backends, by name. For the parameters see those of their parts."""

    def __init__(
        self,
        *,
        policy: Callable[[], DrainPolicy],
        destinations: Destinations,
        spool: SpoolStore,
        marks: Marks,
        desk: ReportDesk,
        journal: DrainJournal,
        age_wall: Callable[[], float],
        clock: Clock,
        rng: random.Random,
        on_settled: Callable[[SpoolRecord, TransactionResult, Settlement], None],
        on_too_old: Callable[[], None],
    ) -> None:
        self._destinations = destinations
        self._marks = marks
        self._by_name: dict[str, Outlet] = {}
        for destination in destinations:
            restraint = Restraint(lambda: policy().retry)
            attempts = Attempts(
                policy=policy,
                destinations=destinations,
                destination=destination,
                spool=spool,
                marks=marks,
                desk=desk,
                restraint=restraint,
                journal=journal,
                age_wall=age_wall,
                clock=clock,
                rng=rng,
                on_settled=on_settled,
            )
            turns = Turns(
                policy=policy,
                gate=destination.gate,
                spool=spool,
                marks=marks,
                has_place=self.has_place,
                restraint=restraint,
                attempts=attempts,
                age_wall=age_wall,
                clock=clock,
                rng=rng,
                on_too_old=on_too_old,
            )
            self._by_name[destination.name] = Outlet(
                destination=destination, restraint=restraint, attempts=attempts, turns=turns
            )

    def __iter__(self) -> Iterator[Outlet]:
        return iter(self._by_name.values())

    def __getitem__(self, name: str) -> Outlet:
        return self._by_name[name]

    def own(self, route: str) -> Outlet:
        """The way to the backend of a route, whoever takes its mail now."""
        return self._by_name[self._destinations.own(route).name]

    def has_place(self) -> bool:
        """Whether one more transaction may begin: its mark could be written, as far as we know.

        As many as there are slots may be with the backends, and as many more may have their reply
        and no mark yet. With fewer, a slot that comes back would idle until a mark is written. What
        hangs since an outage comes on top: it holds no slot, and nobody is to wait for it.
        """
        if not self._marks.are_written:
            return False
        places = sum(2 * each.gate.limit + each.gate.stragglers for each in self._destinations.all)
        return self._marks.unsettled < places
