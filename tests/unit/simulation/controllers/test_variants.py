"""Our limit with a part taken away does without that part, and with the rest."""

from mailshed.control.adaptive import AdaptiveLimit
from mailshed.control.limit import Flight, SlotEnding
from mailshed.mail.delivery import StageTimes
from mailshed.simulation.controllers.registry import CONTROLLERS
from mailshed.simulation.controllers.variants import WithoutOuterLoop, WithoutSizes
from tests.simulation.worlds import world

MIB = 1024 * 1024


def taught(limit: AdaptiveLimit) -> AdaptiveLimit:
    """After small and large messages, one at a time: 0.1 s, and 0.5 s a MiB."""
    now = 0.0
    for number in range(200):
        size = MIB if number % 2 else 4096
        flight = Flight(size=size, recipients=1, is_first=False, started_at=now, in_flight=1)
        limit.on_start(now, flight)
        service = 0.6 if number % 2 else 0.1
        now += service
        times = StageTimes(envelope=0.02, content=0.0, service=service)
        limit.on_end(now, flight, SlotEnding.COMPLETED, times)
        limit.tick(now, is_backlogged=False)
    return limit


def expected(limit: AdaptiveLimit, size: int) -> float:
    seconds = limit.expected(size, 1)
    assert seconds is not None
    return seconds


def test_without_sizes_all_messages_are_expected_to_take_as_long() -> None:
    whole, without = taught(AdaptiveLimit(highest=20)), taught(WithoutSizes(highest=20))
    assert expected(whole, MIB) > 3 * expected(whole, 4096)
    assert expected(without, MIB) == expected(without, 4096)


def test_without_the_slow_loop_the_targets_stay() -> None:
    scenario = world("long", load=2.0, duration=300.0)
    limits: dict[str, AdaptiveLimit] = {}
    for name in ("mailshed", "mailshed-inner"):
        controller = CONTROLLERS[name]
        made: list[AdaptiveLimit] = []

        def keep(scenario: object, backend: object) -> AdaptiveLimit:
            kind = AdaptiveLimit if name == "mailshed" else WithoutOuterLoop  # noqa: B023
            made.append(kind(highest=100))  # noqa: B023
            return made[-1]  # noqa: B023

        controller = type(controller)(name=name, explanation="", limit=keep)
        controller.run(scenario, 1)
        limits[name] = made[0]
    assert limits["mailshed-inner"].picture().queue_factor == 1.0
    assert limits["mailshed"].picture().queue_factor != 1.0
