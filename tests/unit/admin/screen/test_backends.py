"""The lines of the backends."""

import dataclasses
import time
from typing import Any

from tests.support.snapshots import busy_snapshot, screen


def backend_line(**changes: Any) -> str:
    backend = dataclasses.replace(busy_snapshot().backends[0], **changes)
    return screen(dataclasses.replace(busy_snapshot(), backends=(backend,)))


def test_a_backend_that_answers_again_and_has_not_all_mail_yet_says_so() -> None:
    snapshot = busy_snapshot()
    backend = dataclasses.replace(snapshot.backends[0], breaker="half_open", limit=6)
    shown = screen(dataclasses.replace(snapshot, backends=(backend,)))
    assert "BACKEND exch01 COMING BACK   in flight 20/6" in shown


def test_it_says_whose_mail_goes_elsewhere_and_what_waits_for_whom() -> None:
    snapshot = busy_snapshot()
    here, away = snapshot.backends
    away = dataclasses.replace(
        away,
        fallback="exch01",
        fallback_since_wall=time.mktime((2026, 11, 22, 12, 3, 0, 0, 0, -1)),
        away_seconds=900.0,
        queued_messages=1234,
    )
    lines = screen(dataclasses.replace(snapshot, backends=(here, away))).splitlines()
    line = "  mail of exch02 goes to exch01 since 12:03 (exch02 away for 15m)"
    assert lines[lines.index(line) - 1].startswith("  next probe in 12 s")
    assert (
        "BACKEND exch02 AWAY   in flight 0/20   waiting 0   queued 1 234   conn 0+0 idle" in lines
    )
    only = dataclasses.replace(snapshot, backends=(dataclasses.replace(here, queued_messages=9),))
    assert "queued 9 " not in screen(only), "with one backend the spool's line says it"


def test_of_several_backends_the_one_that_is_away_is_named() -> None:
    """`backend 100%` would send somebody to look at the wrong server."""
    ratios = {"backend": 1.0, "memory": 0.1}
    calm = dataclasses.replace(
        busy_snapshot(), shed_level=0, derived_level=0, classes=(), saturation=ratios
    )
    assert "mail of exch02 waits   LIMITED BY exch02 away" in screen(calm).splitlines()
    here, away = calm.backends
    helped = dataclasses.replace(calm, backends=(here, dataclasses.replace(away, fallback="x")))
    assert "NORMAL, nothing is shed   LIMITED BY exch02 away" in screen(helped).splitlines()
    full = dataclasses.replace(calm, backends=(here, here))
    assert "NORMAL, nothing is shed   LIMITED BY backend 100%" in screen(full).splitlines()


def test_names_of_different_length_leave_the_columns_in_line() -> None:
    here, _ = busy_snapshot().backends
    both = (dataclasses.replace(here, name="a"), dataclasses.replace(here, name="neighbour"))
    shown = screen(dataclasses.replace(busy_snapshot(), backends=both)).splitlines()
    assert [line.index(" up ") for line in shown if line.startswith("BACKEND")] == [17, 17]


def test_a_limit_below_the_ceiling_says_what_it_may_be_and_why_it_is_not() -> None:
    assert "   in flight 20/20   waiting" in backend_line()
    assert "   in flight 3/4 of 20   waiting" in backend_line(in_flight=3, limit=4, ceiling=20)
    adaptive = busy_snapshot().backends[0].learning
    assert adaptive is not None
    learned = dataclasses.replace(adaptive, learned_ceiling=12)
    seen = {"ceiling": 12, "learning": learned}
    assert "   in flight 3/4 of 12   waiting" in backend_line(in_flight=3, limit=4, **seen)
    assert "   in flight 9/12 (it allows 12)   " in backend_line(in_flight=9, limit=12, **seen)
    away = backend_line(in_flight=0, limit=1, is_up=False, **seen)
    assert "   in flight 0/1   waiting" in away
