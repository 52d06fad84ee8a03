"""What happens to every peer: the same messages at the same times, and a server that weakens.

First some seconds of light load, since no overload comes to a service that has just been installed;
they are not in the figures. Then three times the server's capacity arrives for a while; in the
middle third the server has half of its capacity; afterwards nothing more arrives, until the last
message is through. The senders are user agents: one connection, one message, one minute of
patience, and an error is an error to a person.

Clinical mail is 9.4 % of what arrives: 56 % of what is left of the halved server, so that clinical
mail alone never is too much and a bound exists for it throughout. With personal mail it is nine
tenths of that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.bench.overload.bounds import Servers, Stretch
from tests.support.load import Message, poisson

CLIENT_PATIENCE = 60.0
MIX: Mapping[str, float] = {"clinical": 0.094, "personal": 0.056, "telework": 0.55, "bulk": 0.30}
"""Share of each class, in the order of their ranks."""
RANKS = {name: rank for rank, name in enumerate(MIX)}
TOP = "clinical"

FULL, HALF, CALM = "full", "half", "calm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The load that one backend gets."""

    seconds: float
    overload: float = 3.0
    seed: int = 20261122
    warm_seconds: float = 10.0
    warm_load: float = 0.3
    """Of the capacity: the light load."""
    warm_pause: float = 2.0
    """Seconds between the light load and the other."""
    mix: Mapping[str, float] = field(default_factory=lambda: MIX)

    @property
    def weak_from(self) -> float:
        """When the server loses half of its capacity."""
        return self.seconds / 3

    @property
    def weak_until(self) -> float:
        """When it has all of it again."""
        return 2 * self.seconds / 3

    def messages(self, capacity: float) -> list[Message]:
        """All messages, for a server of `capacity` messages a second."""
        return poisson(self.overload * capacity, self.seconds, self.mix, self.seed)

    def warm_messages(self, capacity: float) -> list[Message]:
        """The light load; due in seconds after its own beginning."""
        rate = self.warm_load * capacity
        return poisson(rate, self.warm_seconds, self.mix, self.seed + 1, prefix="warm-")

    @property
    def lead(self) -> float:
        """Seconds from the beginning of the light load to that of the other."""
        return self.warm_seconds + self.warm_pause

    def rate(self, traffic_class: str, capacity: float) -> float:
        """Arrivals of one class a second."""
        return self.overload * capacity * self.mix[traffic_class]

    def stretches(self, normal: Servers, weak: Servers) -> tuple[Stretch, ...]:
        """How the server stands at each time."""
        return (
            Stretch(name=FULL, start=0.0, servers=normal),
            Stretch(name=HALF, start=self.weak_from, servers=weak),
            Stretch(name=FULL, start=self.weak_until, servers=normal),
            Stretch(name=CALM, start=self.seconds, servers=normal),
        )
