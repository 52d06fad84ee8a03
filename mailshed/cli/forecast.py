"""What would become of a message of some class, if the backend were in some state.

The states are the four that people ask about; each is given to the very function that decides while
mail passes. Whether others wait before it and what its sender has used of its quotas is not known
here, and not pretended.
"""

from typing import assert_never

from mailshed.admission.decision import Defer, Relay, Spool, Wait
from mailshed.admission.policy import BackendState, Sender, decide
from mailshed.terms import ClientKind, TrafficClass

STATES: dict[str, tuple[BackendState, float]] = {
    "room": (BackendState(may_start=True), 0.0),
    "saturated": (BackendState(may_start=False, is_pressed=True), 0.0),
    "away": (BackendState(may_start=False, is_away=True), 0.0),
    "spool_filling": (
        BackendState(may_start=False, is_pressed=True, has_place_to_wait=False),
        0.95,
    ),
}
"""Names of states, each with the backend and how full the spool is (0..1)."""

ACTIONS = ("relay", "wait", "spool", "defer")


def forecast(traffic_class: TrafficClass, kind: ClientKind, state: str) -> tuple[str, str]:
    """The action for a class from a client of `kind` in one of `STATES`, and words about it."""
    backend, spool_fill = STATES[state]
    decision = decide(traffic_class, Sender(kind), backend, spool_fill)
    match decision:
        case Relay():
            return "relay", "relay at once; the backend's reply is the client's"
        case Wait(seconds):
            return "wait", f"wait up to {seconds:g} s for a slot; else spool, 250"
        case Spool(reason):
            return "spool", f"spool ({reason.value}), 250, deliver later"
        case Defer(reason, reply):
            return "defer", f"defer ({reason.value}): {reply.text}"
        case _:
            assert_never(decision)
