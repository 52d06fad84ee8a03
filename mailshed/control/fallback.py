"""Hospitals that help each other out: whose server takes the mail of one that is away for long.

A backend may name another one as its fallback, a neighbour's server, which stores its mail or hands
it on. The neighbour is asked a favour, so not for every restart: the backend has to be away for
`after` seconds. The way back is shorter. Its own breaker goes on probing, and once that has closed,
which takes answers and half a minute without a failure, its mail is its own again at once. One that
fails again within `after` of that has not been back: the favour goes on where it ended.

A fallback that is away itself cannot help; then the mail waits for its own server, as without one.
A fallback's own fallback is never asked: mail takes one step aside and not a walk, and two
neighbours may name each other.

Pure: `now` is monotonic seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mailshed.control.breaker import BreakerState


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackRule:
    """Who takes the mail of one backend, once that has been away for `after` seconds."""

    fallback: str
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackChange:
    """The mail of `backend` goes to `fallback` from now on, or does not any more."""

    backend: str
    fallback: str
    has_begun: bool
    seconds: float
    """How long the backend has been away, or how long its mail went to the fallback."""
    is_back: bool = False
    """At its end: whether the backend is there again, rather than its fallback away too."""


@dataclass(eq=False, slots=True)
class _Watch:
    """What is known of one backend that has a fallback."""

    rule: FallbackRule
    away_since: float | None = None
    ready_at: float = 0.0
    """When it will have been away for long enough."""
    back_at: float | None = None
    """When it came back after the fallback had helped."""
    helped_since: float | None = None


class Fallbacks:
    """Who helps whom now. `rules` are by the name of the backend that may need help."""

    def __init__(self, rules: Mapping[str, FallbackRule]) -> None:
        self._watched = {name: _Watch(rule) for name, rule in rules.items()}
        self.active: dict[str, str] = {}
        """Backends whose mail another one takes now, and that one."""

    def away_seconds(self, name: str, now: float) -> float:
        """How long a backend that has a fallback has been away; 0 if it is not, or has none."""
        watch = self._watched.get(name)
        return 0.0 if watch is None or watch.away_since is None else now - watch.away_since

    def helped_seconds(self, name: str, now: float) -> float:
        """How long another backend has been taking its mail; 0 if none does."""
        watch = self._watched.get(name)
        return 0.0 if watch is None or watch.helped_since is None else now - watch.helped_since

    def tick(self, now: float, states: Mapping[str, BreakerState]) -> list[FallbackChange]:
        """Let time pass; `states` has the breaker's state of each backend. Returns what is new."""
        changes = []
        for name, watch in self._watched.items():
            self._note(watch, states[name], now)
            change = self._decide(name, watch, states, now)
            if change is not None:
                changes.append(change)
        return changes

    def _note(self, watch: _Watch, state: BreakerState, now: float) -> None:
        """Since when it is away; half open it is neither away anew nor back."""
        if state is BreakerState.CLOSED:
            if watch.helped_since is not None:
                watch.back_at = now
            watch.away_since = None
        elif state is BreakerState.OPEN and watch.away_since is None:
            watch.away_since = now
            is_relapse = watch.back_at is not None and now - watch.back_at < watch.rule.after
            watch.ready_at = now if is_relapse else now + watch.rule.after

    def _decide(
        self, name: str, watch: _Watch, states: Mapping[str, BreakerState], now: float
    ) -> FallbackChange | None:
        fallback = watch.rule.fallback
        is_up = states[fallback] is not BreakerState.OPEN
        if watch.helped_since is None:
            is_away = states[name] is BreakerState.OPEN and watch.away_since is not None
            if not (is_away and is_up and now >= watch.ready_at):
                return None
            watch.helped_since, self.active[name] = now, fallback
            return FallbackChange(
                backend=name,
                fallback=fallback,
                has_begun=True,
                seconds=self.away_seconds(name, now),
            )
        is_back = watch.away_since is None
        if not is_back and is_up:
            return None
        seconds = now - watch.helped_since
        watch.helped_since = None
        del self.active[name]
        return FallbackChange(
            backend=name, fallback=fallback, has_begun=False, seconds=seconds, is_back=is_back
        )
