"""Overrides by operators, in as many words as a test needs: `in_force(hold("bulk"), level(3))`."""

from collections.abc import Collection

from mailshed.control.overrides import OverrideKind, Overrides, Wish
from mailshed.terms import TrafficClass
from tests.support.builders import CLASSES

REASON = "newsletter RH"


def hold(name: str) -> Wish:
    """Keep a class in the spool."""
    return Wish(kind=OverrideKind.HOLD, traffic_class=name, reason=REASON)


def limit(name: str, slots: int) -> Wish:
    """Give a class so many slots at most."""
    return Wish(kind=OverrideKind.LIMIT, traffic_class=name, value=slots, reason=REASON)


def release(name: str) -> Wish:
    """Let load, quotas and levels not keep a class back."""
    return Wish(kind=OverrideKind.RELEASE, traffic_class=name, reason=REASON)


def level(number: int) -> Wish:
    """Force a level."""
    return Wish(kind=OverrideKind.LEVEL, value=number, reason=REASON)


def in_force(*wishes: Wish, classes: Collection[TrafficClass] = CLASSES) -> Overrides:
    """These and no others, for two hours."""
    made = Overrides()
    for wish in wishes:
        made = made.add(wish, classes, user="dupont", request="77aa", now=0.0, wall=0.0).overrides
    return made
