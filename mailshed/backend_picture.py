"""The part of the picture that each backend has for itself: its gate, its mail, how pressed it is.

A view is a backend with the spooled mail that it takes now: its own, that of a backend for which it
stands in, or none while another one stands in for it. With one backend that is all there is in the
spool. What the service as a whole shows is the worst of its views, and the sum where it counts.

A backend's own saturation leaves out how the others are: pressure on one must not slow down mail
for another.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import NamedTuple

from mailshed.control.divert import UNKNOWN_LOAD
from mailshed.control.limit_picture import LimitPicture
from mailshed.control.saturation import Level, binding
from mailshed.metrics import BackendSnapshot, ClassSnapshot
from mailshed.outlook import drain, load_ratios, offered_ratio
from mailshed.relay.destination import Destination, Destinations
from mailshed.spool.store import SpoolTotals
from mailshed.terms import TrafficClass


class View(NamedTuple):
    """One backend, and the spooled mail that it takes now."""

    destination: Destination
    totals: SpoolTotals


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendPainter:
    """Takes pictures of all backends. `limit_picture` is by name, None for a fixed limit.

    `extensions` are what the backend of that name offers.
    """

    destinations: Destinations
    limit_picture: Callable[[str], LimitPicture | None]
    extensions: Callable[[str], tuple[str, ...]] = lambda _: ()

    def views(self, totals: SpoolTotals) -> list[View]:
        """Each backend with its part of what the spool holds."""
        destinations = self.destinations
        if destinations.is_single:
            return [View(destinations.default, totals)]
        return [View(each, totals.of(destinations.taken_by(each))) for each in destinations]

    def snapshots(
        self,
        views: Iterable[View],
        totals: SpoolTotals,
        shared: Mapping[str, float],
        loads: Iterable[Mapping[str, float]],
        *,
        now: float,
        wall: float,
    ) -> tuple[BackendSnapshot, ...]:
        """The backends; `shared` are the ratios of resources that all share, `loads` their own."""
        queued = Counter[str]()
        for part in totals.by_backend:
            # What has no place yet will have one by its recipients; with one backend it has.
            is_known = self.destinations.knows(part.backend)
            owner = part.backend if is_known else self.destinations.default.name
            queued[owner] += part.messages
        return tuple(
            replace(
                self._snapshot(view, now, wall),
                queued_messages=queued[view.destination.name],
                saturation=_fullest({**shared, **load}),
            )
            for view, load in zip(views, loads, strict=True)
        )

    def _snapshot(self, view: View, now: float, wall: float) -> BackendSnapshot:
        destination, gate = view.destination, view.destination.gate
        station, connections = gate.station, destination.backend.connections()
        name, fallbacks = destination.name, self.destinations.fallbacks
        helped = fallbacks.helped_seconds(name, now)
        return BackendSnapshot(
            name=name,
            target=bracketed(destination.target),
            is_up=gate.is_up,
            in_flight=gate.in_flight,
            limit=gate.limit,
            ceiling=gate.ceiling,
            reserve=gate.reserve,
            waiting=gate.waiting,
            live_waiting=gate.live_waiting,
            live_waiting_limit=gate.live_waiting_limit,
            connections_busy=connections.busy,
            connections_idle=connections.idle,
            connections_opened_total=connections.opened_total,
            connections_failed_total=connections.failed_total,
            offered_ratio=offered_ratio(station.shedding, station.reading(now), now),
            drain_slots=station.shedding.ramp.slots,
            learning=self.limit_picture(name),
            extensions=self.extensions(name),
            next_probe_seconds=gate.next_probe,
            breaker=station.breaker.state.value,
            stuck_senders=station.breaker.stuck(now),
            endings=dict(gate.endings),
            last_error=gate.last_error,
            fallback=fallbacks.active.get(name, ""),
            fallback_since_wall=wall - helped if name in fallbacks.active else 0.0,
            away_seconds=fallbacks.away_seconds(name, now),
        )

    def with_load(
        self, made: Iterable[ClassSnapshot], views: Iterable[View], now: float
    ) -> Iterator[ClassSnapshot]:
        """Add how each class stands against the capacity, and until when it drains: the worst."""
        standings = []
        for view in views:
            station = view.destination.gate.station
            drains = drain(
                station.shedding,
                station.reading(now),
                view.totals,
                station.expected,
                is_away=not view.destination.gate.is_up,
                now=now,
            )
            standings.append((station.shedding.loads(now), drains))
        for each in made:
            loads = [loads.get(each.name, UNKNOWN_LOAD) for loads, _ in standings]
            load = max(loads, key=lambda load: (load.sigma is not None, load.sigma or 0.0))
            left = [drains[each.name] for _, drains in standings if each.name in drains]
            yield replace(
                each,
                load=load.sigma,
                headroom=load.headroom,
                saturation=load.saturation,
                drain_seconds=_longest(left),
            )

    def with_slots(self, made: ClassSnapshot, traffic_class: TrafficClass) -> ClassSnapshot:
        """Add how many of a class wait and are with the backends, and whether any keeps it back."""
        gates = [each.gate for each in self.destinations]
        kept = [gate.station.shedding.keeps_back(traffic_class) for gate in gates]
        reason = next((each for each in kept if each is not None), None)
        return replace(
            made,
            waiting=sum(gate.waiting_of(traffic_class) for gate in gates),
            in_flight=sum(gate.in_flight_of(traffic_class) for gate in gates),
            in_flight_limit=sum(gate.open_to(traffic_class) for gate in gates),
            kept_back="" if reason is None else reason.value,
        )


def own_loads(
    views: Iterable[View], classes: Iterable[TrafficClass], now: float, wall: float
) -> list[dict[str, float]]:
    """For each backend the ratios of `backend`, `waits` and `spool_age`."""
    known = tuple(classes)
    return [
        load_ratios(
            view.destination.gate.station.shedding,
            view.destination.gate.station.reading(now),
            view.totals,
            known,
            is_away=not view.destination.gate.is_up,
            now=now,
            wall=wall,
        )
        for view in views
    ]


def worst(ratios: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Of each resource the fullest."""
    found: dict[str, float] = {}
    for each in ratios:
        for name, ratio in each.items():
            found[name] = max(ratio, found.get(name, ratio))
    return found


def fullest_level(levels: Iterable[Level]) -> Level:
    """Of several levels of one resource the fullest, the first of equals."""
    return max(levels, key=lambda level: level.ratio)


def bracketed(target: str) -> str:
    """An IPv6 address and a port as they are written; anything else as it is."""
    host, _, port = target.rpartition(":")
    try:
        return f"[{host}]:{port}" if ip_address(host).version == 6 else target
    except ValueError:
        return target


def _fullest(ratios: Mapping[str, float]) -> float:
    name = binding(ratios)
    return 0.0 if name is None else min(1.0, ratios[name])


def _longest(seconds: list[float | None]) -> float | None:
    """The latest end; None if one of them has none, or nobody has said anything."""
    known = [each for each in seconds if each is not None]
    return max(known) if known and len(known) == len(seconds) else None
