"""The door to one backend: room, order, patience, probes; no slot and no wake-up is lost."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from mailshed.admission.policy import BackendState
from mailshed.admission.room import ELEPHANT_OCTETS, may_start
from mailshed.control.breaker import (
    FAILURES_TO_OPEN,
    SUCCESSES_TO_HALF_OPEN,
    Step,
)
from mailshed.control.limit import FixedLimit, Flight, SlotEnding
from mailshed.control.outstanding import STUCK_SECONDS
from mailshed.control.reserve import REFRESH_SECONDS, SERVICE_TIMES_MIN
from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    Delivered,
    DeliveryResult,
    InDoubt,
    StageTimes,
    TransactionResult,
)
from mailshed.mail.reply import make
from mailshed.relay.gate import Gate
from mailshed.relay.presets import EXCHANGE
from mailshed.relay.probe import Prober
from mailshed.terms import Reason, Stage, TrafficClass
from mailshed.work import Slot, Work
from tests.support.builders import BULK, CLINICAL, PERSONAL, away, delivered, traffic_class
from tests.support.clock import ManualClock
from tests.support.overrides import hold, in_force, limit
from tests.support.virtual_time import LoopClock, in_virtual_time

LIMIT = 5
DEADLINE = 20.0
ANY = traffic_class("any", 1)
LATER = traffic_class("later", 2)
LARGE = ELEPHANT_OCTETS + 1


class RecordingLimit(FixedLimit):
    """A fixed limit that remembers what it was told."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self.samples: list[tuple[SlotEnding, float, int]] = []
        """How each message ended, its service time, and the slots in use when it began."""

    def raise_to(self, slots: int) -> None:
        """Change the number, as an adaptive limit does."""
        self._slots = slots

    def on_end(self, now: float, flight: Flight, ending: SlotEnding, times: StageTimes) -> None:
        self.samples.append((ending, times.service, flight.in_flight))


@dataclass
class Bench:
    """A gate and what a test turns by hand."""

    gate: Gate
    clock: ManualClock
    limit: RecordingLimit
    group: asyncio.TaskGroup
    arrivals: int = 0

    async def wait(
        self,
        made: TrafficClass = ANY,
        arrived: float | None = None,
        timeout: float | None = None,
    ) -> asyncio.Task[Slot | None]:
        """Start to wait for a slot; returns when the waiting has begun, or is over already."""
        self.arrivals += 1
        task = self.group.create_task(
            self.gate.acquire(
                Work(
                    made,
                    arrived_wall=self.arrivals if arrived is None else arrived,
                    is_live=timeout is not None,
                ),
                timeout,
            )
        )
        await settle()
        return task

    def take(self, made: TrafficClass = ANY) -> Slot:
        slot = self.gate.try_acquire(Work(made))
        assert slot is not None
        return slot

    def fill(self) -> list[Slot]:
        """Take all slots there are."""
        return [self.take() for _ in range(self.gate.limit - self.gate.in_flight)]

    def open_breaker(self) -> None:
        """Let the backend be away."""
        for _ in range(FAILURES_TO_OPEN * (1 + self.gate.in_flight)):
            if self.gate.is_up:
                self.gate.release(self.take(), away())
        assert not self.gate.is_up

    def is_up(self) -> bool:
        return self.gate.is_up

    def half_open(self) -> None:
        """Let the backend be away, and answer again."""
        self.open_breaker()
        self.clock.advance(2.0)
        for _ in range(SUCCESSES_TO_HALF_OPEN):
            self.gate.release(self.take(CLINICAL), delivered())
        assert self.is_up()

    def time_for_a_probe(self) -> None:
        """Let the time pass, and the gate's timer ring."""
        self.clock.advance(self.gate.next_probe + 0.001)
        self.gate._dispatch()


async def settle() -> None:
    """Let everybody run who can."""
    for _ in range(5):
        await asyncio.sleep(0)


def granted(task: asyncio.Task[Slot | None]) -> Slot:
    slot = task.result()
    assert slot is not None
    return slot


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    clock = ManualClock()
    limit = RecordingLimit(LIMIT)
    gate = Gate(limit=limit, clock=clock, rng=random.Random(1))
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        yield Bench(gate, clock, limit, group)
        gate.close()
    assert gate.waiting == 0


# Room.


async def test_hands_out_as_many_slots_as_there_are(bench: Bench) -> None:
    slots = bench.fill()
    assert [slot.flight.in_flight for slot in slots] == [1, 2, 3, 4, 5]
    assert bench.gate.in_flight == LIMIT
    assert bench.gate.try_acquire(Work(CLINICAL)) is None
    bench.gate.release(slots[0], delivered())
    assert bench.gate.in_flight == LIMIT - 1
    assert bench.gate.try_acquire(Work(CLINICAL)) is not None


async def test_a_class_stops_at_its_share(bench: Bench) -> None:
    assert [bench.gate.try_acquire(Work(BULK)) is not None for _ in range(4)] == [True] * 3 + [
        False
    ]
    assert bench.gate.in_flight_of(BULK) == 3
    assert [bench.gate.try_acquire(Work(PERSONAL)) is not None for _ in range(3)] == [True] * 2 + [
        False
    ]
    assert (bench.gate.in_flight_of(PERSONAL), bench.gate.in_flight_of(CLINICAL)) == (2, 0)


async def test_a_slot_is_given_back_once(bench: Bench) -> None:
    slot = bench.take()
    bench.gate.release(slot, delivered())
    with pytest.raises(AssertionError):
        bench.gate.release(slot, delivered())
    assert bench.gate.in_flight == 0


async def test_the_state_says_what_a_message_would_meet(bench: Bench) -> None:
    assert bench.gate.state(ANY) == BackendState(may_start=True)
    bench.take()
    bench.take(BULK)
    bench.take(BULK)
    assert bench.gate.state(ANY) == BackendState(may_start=True)
    assert bench.gate.state(BULK) == BackendState(may_start=False)
    bench.take()
    assert bench.gate.state(ANY) == BackendState(may_start=True, is_pressed=True)
    assert bench.gate.is_pressed
    bench.take()
    assert bench.gate.state(ANY) == BackendState(may_start=False, is_pressed=True)
    assert (bench.gate.ceiling, bench.gate.open_to(BULK), bench.gate.open_to(ANY)) == (5, 3, 5)


async def test_those_who_wait_are_counted(bench: Bench) -> None:
    bench.fill()
    for made in (CLINICAL, ANY, LATER):
        await bench.wait(made, timeout=DEADLINE)
        await bench.wait(made)
    assert (bench.gate.waiting, bench.gate.waiting_of(LATER)) == (6, 2)
    assert (bench.gate.live_waiting, bench.gate.live_waiting_limit) == (2, 4), "below rank 0"
    assert bench.gate.state(LATER).has_place_to_wait
    last = [await bench.wait(ANY, timeout=DEADLINE) for _ in range(2)]
    assert not bench.gate.state(LATER).has_place_to_wait
    last[0].cancel()
    await settle()
    assert bench.gate.state(LATER).has_place_to_wait
    assert bench.gate.live_waiting == 3


async def test_a_flood_of_a_worse_rank_leaves_better_mail_its_places(bench: Bench) -> None:
    bench.fill()
    for _ in range(bench.gate.live_waiting_limit):
        await bench.wait(LATER, timeout=DEADLINE)
    assert not bench.gate.state(LATER).has_place_to_wait
    assert bench.gate.state(ANY).has_place_to_wait


async def test_a_class_that_waits_for_its_share_does_not_keep_others_waiting(
    bench: Bench,
) -> None:
    for _ in range(3):
        bench.take(BULK)
    await bench.wait(BULK)
    assert not bench.gate.state(BULK).may_start
    assert bench.gate.state(ANY).may_start
    assert bench.gate.try_acquire(Work(BULK)) is None
    assert bench.gate.try_acquire(Work(ANY)) is not None


async def test_elephants_have_a_quarter_of_the_slots_and_one_at_least(bench: Bench) -> None:
    elephant = bench.gate.try_acquire(Work(ANY, LARGE))
    assert elephant is not None
    assert not bench.gate.state(ANY, LARGE).may_start
    assert bench.gate.try_acquire(Work(ANY, LARGE)) is None
    assert bench.gate.try_acquire(Work(CLINICAL, LARGE)) is not None
    second = bench.group.create_task(
        bench.gate.acquire(Work(ANY, arrived_wall=0.0, size=LARGE, is_live=False), None)
    )
    await settle()
    assert bench.gate.try_acquire(Work(ANY)) is not None, "it does not stand in the way of others"
    bench.gate.release(elephant, delivered())
    await settle()
    assert granted(second).is_large


async def test_a_slow_backend_keeps_a_slot_for_clinical_mail(bench: Bench) -> None:
    """As soon as the service times show that clinical mail would have to wait for long."""
    for _ in range(SERVICE_TIMES_MIN):
        slot = bench.take()
        bench.clock.advance(5.0)
        bench.gate.release(slot, delivered())
    bench.clock.advance(REFRESH_SECONDS)
    assert bench.gate.reserve == 1
    assert [bench.gate.try_acquire(Work(ANY)) is not None for _ in range(5)] == [True] * 4 + [False]
    assert bench.gate.open_to(ANY) == 4
    assert bench.gate.try_acquire(Work(CLINICAL)) is not None


# Order.


async def test_who_comes_while_there_is_room_does_not_wait(bench: Bench) -> None:
    task = await bench.wait()
    assert granted(task).flight.in_flight == 1


async def test_a_slot_that_comes_back_goes_to_the_first_in_line(bench: Bench) -> None:
    slots = bench.fill()
    late = await bench.wait(ANY, arrived=20.0)
    early = await bench.wait(ANY, arrived=10.0)
    best = await bench.wait(CLINICAL, arrived=30.0)
    served = []
    for slot in slots[:3]:
        bench.gate.release(slot, delivered())
        assert bench.gate.in_flight == LIMIT, "handed over at once"
        await settle()
        served.append([best.done(), early.done(), late.done()])
    assert served == [[True, False, False], [True, True, False], [True, True, True]]


async def test_any_number_waits_and_is_served_by_shares(bench: Bench) -> None:
    """Rank 0 first, then in turn, within a class by arrival; live and spooled mail alike."""
    rng = random.Random(7)
    classes = [CLINICAL, *(traffic_class(f"class{number}", number) for number in (1, 2, 3))]
    slots = bench.fill()
    served: list[tuple[str, float]] = []

    async def message(made: TrafficClass, arrived: float) -> None:
        slot = await bench.gate.acquire(Work(made, arrived_wall=arrived, is_live=False), None)
        assert slot is not None
        served.append((made.name, arrived))
        bench.gate.release(slot, delivered())

    coming = [(made, float(number)) for made in classes for number in range(75)]
    rng.shuffle(coming)
    tasks = [bench.group.create_task(message(made, arrived)) for made, arrived in coming]
    await settle()
    assert (bench.gate.waiting, served) == (300, [])
    bench.gate.release(slots[0], delivered())
    await asyncio.wait(tasks)
    assert sorted(served) == sorted((made.name, arrived) for made, arrived in coming)
    for made in classes:
        arrivals = [arrived for name, arrived in served if name == made.name]
        assert arrivals == sorted(arrivals)
    names = [name for name, _ in served]
    assert names == ["clinical"] * 75 + ["class1", "class2", "class3"] * 75
    assert bench.gate.in_flight == LIMIT - 1


async def test_senders_take_turns(bench: Bench) -> None:
    slots = bench.fill()
    served: list[bytes] = []

    async def message(sender: bytes, arrived: float) -> None:
        slot = await bench.gate.acquire(
            Work(ANY, arrived_wall=arrived, sender=sender, is_live=False), None
        )
        assert slot is not None
        served.append(sender)
        bench.gate.release(slot, delivered())

    tasks = [bench.group.create_task(message(b"crowd", float(number))) for number in range(20)]
    await settle()
    tasks.append(bench.group.create_task(message(b"single", 99.0)))
    await settle()
    bench.gate.release(slots[0], delivered())
    await asyncio.wait(tasks)
    assert served.index(b"single") <= 1


# Patience.


async def test_who_has_waited_long_enough_gets_nothing(bench: Bench) -> None:
    slots = bench.fill()
    task = await bench.wait(timeout=0.005)
    assert await task is None
    assert bench.gate.waiting == 0
    bench.gate.release(slots[0], delivered())
    assert bench.gate.in_flight == LIMIT - 1, "the slot was not given to one who has left"


async def test_a_grant_in_time_is_not_taken_back_by_the_timer(bench: Bench) -> None:
    slots = bench.fill()
    task = await bench.wait(timeout=DEADLINE)
    waiter = next(iter(bench.gate.station._works))
    bench.gate.release(slots[0], delivered())
    bench.gate._give_up(waiter)  # the timer rings before the one who waits is awake
    assert (await task) is not None
    assert bench.gate.in_flight == LIMIT


async def test_when_clinical_mail_gives_up_those_behind_it_may_start(bench: Bench) -> None:
    """While it waits nobody else takes a slot, not even one that has come free unnoticed."""
    bench.fill()
    first = await bench.wait(CLINICAL, timeout=0.005)
    behind = await bench.wait(ANY)
    bench.limit.raise_to(LIMIT + 1)
    assert not behind.done()
    assert (await first) is None
    await settle()
    assert granted(behind).flight.in_flight == LIMIT + 1


async def test_no_patience_is_no_wait(bench: Bench) -> None:
    bench.fill()
    task = await bench.wait(timeout=0.0)
    assert await task is None


# Cancellation.


async def test_one_that_is_cancelled_while_it_waits_leaves_no_trace(bench: Bench) -> None:
    slots = bench.fill()
    task = await bench.wait()
    task.cancel()
    await settle()
    assert task.cancelled()
    assert bench.gate.waiting == 0
    bench.gate.release(slots[0], delivered())
    assert bench.gate.in_flight == LIMIT - 1


async def test_one_that_is_cancelled_in_the_moment_before_its_grant_is_passed_over(
    bench: Bench,
) -> None:
    """Cancelled, not yet awake, and still in line when the slot comes back."""
    slots = bench.fill()
    first = await bench.wait()
    second = await bench.wait()
    first.cancel()
    bench.gate.release(slots[0], delivered())
    await settle()
    assert first.cancelled()
    assert granted(second) is not None
    assert (bench.gate.in_flight, bench.gate.waiting) == (LIMIT, 0)


async def test_if_the_only_one_is_cancelled_in_that_moment_the_slot_stays_free(
    bench: Bench,
) -> None:
    slots = bench.fill()
    task = await bench.wait()
    task.cancel()
    bench.gate.release(slots[0], delivered())
    await settle()
    assert (bench.gate.in_flight, bench.gate.waiting) == (LIMIT - 1, 0)


async def test_one_that_is_cancelled_in_the_moment_after_its_grant_hands_the_slot_on(
    bench: Bench,
) -> None:
    slots = bench.fill()
    first = await bench.wait()
    second = await bench.wait()
    bench.gate.release(slots[0], delivered())
    first.cancel()
    await settle()
    assert first.cancelled()
    assert granted(second) is not None
    assert (bench.gate.in_flight, bench.gate.waiting) == (LIMIT, 0)
    assert [ending for ending, _, _ in bench.limit.samples] == [
        SlotEnding.COMPLETED,
        SlotEnding.UNUSED,
    ]


# The end.


async def test_a_closed_gate_sends_everybody_away(bench: Bench) -> None:
    slots = bench.fill()
    live = await bench.wait(timeout=DEADLINE)
    spooled = await bench.wait()
    is_closed = [bench.gate.is_closed]
    bench.gate.close()
    is_closed.append(bench.gate.is_closed)
    assert is_closed == [False, True]
    assert (await live, await spooled) == (None, None)
    assert bench.gate.try_acquire(Work(CLINICAL)) is None
    assert await bench.gate.acquire(Work(CLINICAL, arrived_wall=0.0, is_live=False), None) is None
    assert bench.gate.state(CLINICAL).is_away
    for slot in slots:
        bench.gate.release(slot, delivered())
    assert bench.gate.in_flight == 0
    bench.gate.close()


async def test_one_that_is_cancelled_as_the_gate_closes_is_cancelled(bench: Bench) -> None:
    bench.fill()
    before, after = await bench.wait(), await bench.wait()
    before.cancel()
    bench.gate.close()
    after.cancel()
    await settle()
    assert (before.cancelled(), after.cancelled()) == (True, True)
    assert bench.gate.waiting == 0


# The breaker.


async def test_a_backend_that_is_away_gets_nobody(bench: Bench) -> None:
    bench.open_breaker()
    assert bench.gate.try_acquire(Work(CLINICAL)) is None
    assert bench.gate.state(CLINICAL).is_away
    assert 0.8 <= bench.gate.next_probe <= 1.2
    task = await bench.wait(timeout=0.005)
    assert await task is None


async def test_one_message_probes_and_after_two_successes_more_and_more_are_let_in(
    bench: Bench,
) -> None:
    bench.open_breaker()
    tasks = [await bench.wait() for _ in range(LIMIT + 2)]
    best = await bench.wait(CLINICAL)
    bench.time_for_a_probe()
    await settle()
    assert [task.done() for task in tasks] == [False] * len(tasks)
    probe = granted(best)
    assert bench.gate.in_flight == 1, "one, however many slots there are"
    assert bench.gate.try_acquire(Work(CLINICAL)) is None
    bench.gate.release(probe, delivered())
    await settle()
    assert not bench.is_up()
    assert [task.done() for task in tasks].count(True) == 1, "the next probe, at once"
    bench.gate.release(granted(tasks[0]), delivered())
    await settle()
    assert bench.is_up()
    assert (bench.gate.limit, bench.gate.in_flight) == (2, 2)
    bench.clock.advance(1.0)
    for task in tasks[1:3]:
        bench.gate.release(granted(task), delivered())
    await settle()
    assert (bench.gate.limit, bench.gate.in_flight) == (3, 3)
    assert [task.done() for task in tasks] == [True] * 6 + [False]


async def test_a_probe_that_fails_makes_the_others_wait_longer(bench: Bench) -> None:
    bench.open_breaker()
    first, second = await bench.wait(), await bench.wait()
    bench.time_for_a_probe()
    await settle()
    bench.gate.release(granted(first), away())
    await settle()
    assert not second.done()
    assert 1.6 <= bench.gate.next_probe <= 2.4
    bench.time_for_a_probe()
    await settle()
    assert granted(second) is not None


async def test_a_live_message_may_be_the_probe(bench: Bench) -> None:
    bench.open_breaker()
    bench.clock.advance(2.0)
    assert not bench.gate.state(ANY).is_away
    probe = bench.take()
    assert bench.gate.state(ANY).is_away
    assert bench.gate.try_acquire(Work(CLINICAL)) is None
    bench.gate.release(probe, delivered())
    assert not bench.gate.state(ANY).is_away, "the next probe is due at once"
    bench.gate.release(bench.take(), delivered())
    assert bench.is_up()


async def test_who_waits_for_a_limited_time_does_not_wait_for_a_backend_that_is_away(
    bench: Bench,
) -> None:
    """Live mail goes to the spool at once when the breaker opens; the drain stays and probes."""
    slots = bench.fill()
    live = [await bench.wait(timeout=DEADLINE) for _ in range(2 * LIMIT)]
    drain = await bench.wait()
    while bench.gate.is_up:
        bench.gate.release(slots.pop(0), away())
        await settle()
        slots += [granted(task) for task in live if task.done() and task.result() is not None]
        live = [task for task in live if not task.done() or task.result() is None]
    assert live
    assert [task.result() for task in live] == [None] * len(live)
    assert not drain.done()
    for slot in slots:
        bench.gate.release(slot, None)
    bench.time_for_a_probe()
    await settle()
    assert granted(drain).probe != 0


async def test_a_probe_that_is_given_back_unused_is_made_by_the_next(bench: Bench) -> None:
    bench.open_breaker()
    bench.clock.advance(2.0)
    probe = bench.take()
    waiting = await bench.wait()
    bench.gate.release(probe, None)
    await settle()
    assert granted(waiting).probe != 0
    assert not bench.gate.is_up


async def test_a_probe_whose_message_is_cancelled_is_made_by_the_next(bench: Bench) -> None:
    bench.open_breaker()
    first, second = await bench.wait(), await bench.wait()
    bench.time_for_a_probe()
    first.cancel()
    await settle()
    assert granted(second).probe != 0
    assert bench.gate.in_flight == 1


@pytest.mark.parametrize("result", [away(), None])
async def test_what_was_in_flight_before_does_not_end_the_probe(
    bench: Bench, result: TransactionResult | None
) -> None:
    straggler = bench.take()
    bench.open_breaker()
    bench.clock.advance(2.0)
    probe = bench.take()
    waiting = await bench.wait()
    bench.gate.release(straggler, result)
    bench.clock.advance(60.0)
    bench.gate._dispatch()
    await settle()
    assert not waiting.done(), "there is one probe out already"
    bench.gate.release(probe, delivered())
    await settle()
    assert granted(waiting) is not None


async def test_a_late_success_of_what_was_in_flight_before_is_one_of_two(bench: Bench) -> None:
    straggler = bench.take()
    bench.open_breaker()
    waiting = await bench.wait()
    bench.gate.release(straggler, delivered())
    await settle()
    probe = granted(waiting)
    assert probe.probe != 0, "it need not wait for its time any more"
    bench.gate.release(probe, delivered())
    assert bench.gate.is_up


async def test_what_hangs_since_before_the_outage_leaves_the_way_back_free(bench: Bench) -> None:
    stragglers = [bench.take() for _ in range(2)]
    bench.half_open()
    assert (bench.gate.limit, bench.gate.in_flight) == (2, 2)
    slots = [bench.take(), bench.take()]
    assert bench.gate.try_acquire(Work(CLINICAL)) is None, "the cap leaves no overdraft"
    for slot in (*stragglers, *slots):
        bench.gate.release(slot, delivered())


async def test_the_operator_s_bound_holds_on_the_way_back_too(bench: Bench) -> None:
    bench.open_breaker()
    for _ in range(LIMIT):  # probes that hang, each for more than a minute
        bench.time_for_a_probe()
        assert bench.gate.try_acquire(Work(CLINICAL)) is not None
        bench.clock.advance(STUCK_SECONDS + 1)
        bench.gate.tick(has_spooled=True)
    bench.time_for_a_probe()
    assert bench.gate.try_acquire(Work(CLINICAL)) is None
    waiting = await bench.wait(CLINICAL)
    assert not waiting.done()
    assert bench.gate.in_flight == LIMIT


async def test_spooled_bulk_is_welcome_on_the_way_back_if_nobody_else_comes(bench: Bench) -> None:
    bench.half_open()
    assert granted(await bench.wait(BULK)) is not None


# Questions to a backend that is away.


class Asked(Prober):
    """A prober whose answers come when the test says so."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.done: list[Callable[[SlotEnding, str], None]] = []

    def start(self, step: Step, done: Callable[[SlotEnding, str], None]) -> None:
        self.steps.append(step)
        self.done.append(done)

    def answer(self, ending: SlotEnding, detail: str = "") -> None:
        self.done.pop()(ending, detail)


@pytest.fixture
async def asking(bench: Bench) -> tuple[Bench, Asked]:
    prober = Asked()
    bench.gate = Gate(limit=bench.limit, clock=bench.clock, rng=random.Random(1), prober=prober)
    bench.open_breaker()
    return bench, prober


async def test_questions_are_asked_before_a_message_is_risked(
    asking: tuple[Bench, Asked],
) -> None:
    bench, prober = asking
    waiting = await bench.wait()
    assert prober.steps == []
    bench.time_for_a_probe()
    assert prober.steps == [Step.EHLO]
    bench.time_for_a_probe()
    assert prober.steps == [Step.EHLO], "one at a time"
    prober.answer(SlotEnding.COMPLETED)
    assert prober.steps == [Step.EHLO, Step.MAIL]
    assert bench.gate.state(CLINICAL).is_away
    prober.answer(SlotEnding.POLICY)
    await settle()
    probe = granted(waiting)
    assert not bench.is_up()
    bench.gate.release(probe, delivered())
    assert bench.is_up()
    bench.gate.close()


async def test_a_question_that_fails_is_told_to_people_and_asked_again(
    asking: tuple[Bench, Asked],
) -> None:
    bench, prober = asking
    bench.time_for_a_probe()
    prober.answer(SlotEnding.REFUSED, "connect: refused again")
    assert bench.gate.last_error == "connect: refused again"
    assert 1.6 <= bench.gate.next_probe <= 2.4
    bench.time_for_a_probe()
    assert prober.steps == [Step.EHLO, Step.EHLO]
    bench.gate.close()
    prober.answer(SlotEnding.UNUSED)
    assert prober.steps == [Step.EHLO, Step.EHLO]


@pytest.mark.parametrize("has_spooled", [False, True])
async def test_without_any_mail_the_backend_is_found_all_the_same(
    asking: tuple[Bench, Asked], *, has_spooled: bool
) -> None:
    """Mail that rests in the spool for hours is no mail to try it with."""
    bench, prober = asking
    bench.time_for_a_probe()
    prober.answer(SlotEnding.COMPLETED)
    prober.answer(SlotEnding.COMPLETED)
    assert not bench.is_up()
    bench.gate.tick(has_spooled=has_spooled)
    assert bench.is_up()
    bench.gate.close()


async def test_who_waits_is_woken_when_a_probe_is_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the loop's own timer; the one test here in real time."""
    monkeypatch.setattr("mailshed.control.backoff.BACKOFF_MIN", 0.01)
    loop = asyncio.get_running_loop()

    class LoopClock(ManualClock):
        def monotonic(self) -> float:
            return loop.time()

    gate = Gate(limit=FixedLimit(LIMIT), clock=LoopClock(), rng=random.Random(1))
    async with asyncio.timeout(DEADLINE):
        for _ in range(4):
            slot = await gate.acquire(Work(ANY, arrived_wall=0.0, is_live=False), None)
            assert slot is not None
            gate.release(slot, away())
        assert not gate.is_up
    gate.close()


# Observing.


async def test_live_mail_of_a_class_that_is_held_does_not_wait_on(bench: Bench) -> None:
    held = bench.fill()
    live, spooled = await bench.wait(PERSONAL, timeout=10.0), await bench.wait(PERSONAL)
    bench.gate.set_overrides(in_force(hold("personal")))
    await settle()
    assert live.done()
    assert live.result() is None
    assert not spooled.done()
    assert bench.gate.is_held(PERSONAL)
    bench.gate.release(held.pop(), delivered())
    await settle()
    assert not spooled.done()

    bench.gate.set_overrides(in_force())
    await settle()
    assert spooled.result() is not None, "the end of a hold wakes who waits"


async def test_a_limit_that_ends_wakes_who_waits(bench: Bench) -> None:
    bench.gate.set_overrides(in_force(limit("personal", 1)))
    bench.take(PERSONAL)
    waits = await bench.wait(PERSONAL)
    assert not waits.done()

    bench.gate.set_overrides(in_force(limit("personal", 2)))
    await settle()
    assert waits.result() is not None


async def test_while_observing_the_backend_s_own_bound_is_the_only_one(bench: Bench) -> None:
    bench.gate.is_observing = True
    taken = [bench.gate.try_acquire(Work(BULK, LARGE)) for _ in range(LIMIT + 1)]
    assert [slot is not None for slot in taken] == [True] * LIMIT + [False]
    assert bench.gate.in_flight_of(BULK) == LIMIT


async def test_while_observing_it_is_first_come_first_served(bench: Bench) -> None:
    bench.gate.is_observing = True
    slots = bench.fill()
    order = [BULK, CLINICAL, PERSONAL]
    tasks = [await bench.wait(made, timeout=DEADLINE) for made in order]
    spooled = await bench.wait(BULK, arrived=-1e6)
    for slot in slots[:4]:
        bench.gate.release(slot, delivered())
    await settle()
    served = [granted(task) for task in (*tasks, spooled)]
    assert [slot.traffic_class for slot in served] == [*order, BULK]
    assert [slot.flight.in_flight for slot in served] == [LIMIT] * 4


async def test_while_observing_a_backlog_does_not_come_before_what_is_live(bench: Bench) -> None:
    bench.gate.is_observing = True
    (slot, *_) = bench.fill()
    spooled = [await bench.wait(CLINICAL, arrived=-1e6) for _ in range(20)]
    live = [await bench.wait(BULK, timeout=DEADLINE) for _ in range(4)]
    for _ in range(5):
        before = {task for task in (*spooled, *live) if task.done()}
        bench.gate.release(slot, delivered())
        await settle()
        (taken,) = {task for task in (*spooled, *live) if task.done()} - before
        slot = granted(taken)
    assert sum(task.done() for task in live) >= 3


async def test_the_state_while_observing_is_that_of_enforcing(bench: Bench) -> None:
    bench.gate.is_observing = True
    for _ in range(3):
        bench.take(BULK)
    assert not bench.gate.state(BULK).may_start
    assert bench.gate.try_acquire(Work(BULK)) is not None


async def test_the_mode_may_change_while_mail_waits(bench: Bench) -> None:
    slots = bench.fill()
    before = await bench.wait(PERSONAL)
    bench.gate.is_observing = True
    meanwhile = await bench.wait(BULK)
    bench.gate.is_observing = False
    after = await bench.wait(CLINICAL)
    for slot in slots[:3]:
        bench.gate.release(slot, delivered())
    await settle()
    assert [task.done() for task in (before, meanwhile, after)] == [True, False, True]
    for slot in slots[3:]:
        bench.gate.release(slot, delivered())
    await settle()
    assert meanwhile.done(), "by the rules that are in force again"


# Shares over time: who gets what while the backend is full for minutes.


class Load:
    """Classes that send without end to a backend with a constant service time."""

    def __init__(self, slots: int, service: float) -> None:
        self.clock = LoopClock()
        self.gate = Gate(limit=FixedLimit(slots), clock=self.clock, rng=random.Random(1))
        self.service = service
        self.served: Counter[str] = Counter()
        self.waits: defaultdict[str, list[float]] = defaultdict(list)

    async def message(self, made: TrafficClass, sender: bytes = b"") -> None:
        came = self.clock.monotonic()
        slot = await self.gate.acquire(
            Work(made, arrived_wall=self.clock.wall(), sender=sender, is_live=False), None
        )
        assert slot is not None
        self.waits[made.name].append(self.clock.monotonic() - came)
        await asyncio.sleep(self.service)
        self.gate.release(slot, delivered())
        self.served[made.name] += 1

    async def backlog(self, made: TrafficClass, depth: int) -> None:
        """One of `depth` senders who always have a message waiting."""
        while True:
            await self.message(made, b"%d" % depth)

    async def arrive(self, made: TrafficClass, rate: float, seed: int) -> None:
        """Messages at random moments."""
        rng = random.Random(seed)
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(rng.expovariate(rate))
                group.create_task(self.message(made))

    async def run(self, seconds: float, *works: Coroutine[Any, Any, None]) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
            await asyncio.sleep(seconds)
            for task in tasks:
                task.cancel()


@in_virtual_time
async def test_bulk_has_its_share_while_clinical_and_personal_mail_saturate() -> None:
    """Five minutes at several times the capacity: nobody starves, and clinical mail never waits."""
    load = Load(slots=20, service=1.0)
    await load.run(
        300.0,
        load.arrive(CLINICAL, 10.0, seed=1),
        *(load.backlog(PERSONAL, number) for number in range(40)),
        *(load.backlog(BULK, number) for number in range(40)),
    )
    total = sum(load.served.values())
    assert total >= 0.95 * 20 * 300, "the backend is used fully, but for the last slot"
    assert load.served["bulk"] >= 0.95 * 300, "one slot all the time"
    assert load.served["clinical"] >= 0.9 * 10 * 300
    assert max(load.waits["clinical"]) < 1.5, "never more than a service time, or a little more"
    assert load.served["personal"] > 5 * load.served["bulk"]


@in_virtual_time
async def test_classes_share_what_is_there_by_weight() -> None:
    load = Load(slots=20, service=0.5)
    wide = [traffic_class(f"w{weight}", 1, weight=weight) for weight in (8.0, 4.0, 1.0)]
    works = [load.backlog(made, number) for made in wide for number in range(40)]
    await load.run(100.0, *works)
    shares = [load.served[made.name] / sum(load.served.values()) for made in wide]
    assert shares == pytest.approx([8 / 13, 4 / 13, 1 / 13], abs=0.02)


@in_virtual_time
async def test_with_few_slots_nobody_starves_either() -> None:
    """Four slots are too few for a guarantee of one each; a minute without service is enough."""
    load = Load(slots=4, service=1.0)
    await load.run(
        300.0,
        *(load.backlog(PERSONAL, number) for number in range(20)),
        *(load.backlog(BULK, number) for number in range(4)),
    )
    assert load.served["bulk"] >= 4
    assert load.served["personal"] >= 3 * 290


# What the limit and people are told.

TAKEN = Delivered(make(250, "2.0.0 Ok"))
NO = Bounced(Stage.RCPT, make(550, "5.1.1 No such user"))
FULL = Deferred(Stage.RCPT, make(452, "4.2.2 Mailbox full"))
CLOSING = Deferred(Stage.MAIL, make(421, "4.3.2 Closing"))
SILENT = Deferred(Stage.DATA, None, "connection lost")
IN_DOUBT = InDoubt("no answer within 600 s")


@pytest.mark.parametrize(
    ("recipients", "ending", "is_failure"),
    [
        ((TAKEN,), SlotEnding.COMPLETED, False),
        ((NO,), SlotEnding.REJECTED, False),
        ((TAKEN, FULL), SlotEnding.COMPLETED, False),
        ((FULL,), SlotEnding.RECIPIENT, False),
        ((CLOSING,), SlotEnding.REFUSED, True),
        ((SILENT,), SlotEnding.STALLED, True),
        ((IN_DOUBT,), SlotEnding.IN_DOUBT, False),  # of one sender: it may be the message
    ],
)
async def test_what_the_end_of_a_message_says_of_the_backend(
    bench: Bench,
    recipients: tuple[DeliveryResult, ...],
    ending: SlotEnding,
    is_failure: bool,
) -> None:
    result = TransactionResult(recipients=recipients, times=StageTimes(service=1.5))
    for slot in [bench.take() for _ in range(3)]:
        bench.gate.release(slot, result)
    assert bench.gate.is_up is not is_failure
    assert bench.limit.samples == [(ending, 1.5, 1), (ending, 1.5, 2), (ending, 1.5, 3)]


async def test_the_preset_reads_replies_and_times(bench: Bench) -> None:
    gate = Gate(limit=bench.limit, clock=bench.clock, rng=random.Random(1), preset=EXCHANGE)
    times = StageTimes(envelope=0.5, content=0.25, service=9.0)
    rated = make(421, "4.4.2 Message submission rate for this client has exceeded the limit")
    for each in (TAKEN, Deferred(Stage.MAIL, rated)):
        slot = gate.try_acquire(Work(ANY))
        assert slot is not None
        gate.release(slot, TransactionResult(recipients=(each,), times=times))
    assert bench.limit.samples == [(SlotEnding.COMPLETED, 0.75, 1), (SlotEnding.BUSY, 0.75, 1)]


async def test_a_backend_without_a_dialog_has_refused(bench: Bench) -> None:
    bench.gate.release(bench.take(), away())
    assert bench.limit.samples[0][0] is SlotEnding.REFUSED


async def test_a_slot_that_was_not_used_teaches_nothing(bench: Bench) -> None:
    for slot in bench.fill():
        bench.gate.release(slot, None)
    assert {ending for ending, _, _ in bench.limit.samples} == {SlotEnding.UNUSED}
    assert bench.gate.is_up


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (away(), "connect: connection refused"),
        (TransactionResult(recipients=(CLOSING,)), "mail: 421 4.3.2 Closing"),
        (TransactionResult(recipients=(SILENT,)), "data: connection lost"),
        (TransactionResult(recipients=(IN_DOUBT,)), "dot: no answer within 600 s"),
    ],
)
async def test_people_are_told_how_the_backend_failed(
    bench: Bench, result: TransactionResult, shown: str
) -> None:
    bench.gate.release(bench.take(), delivered())
    assert bench.gate.last_error == ""
    bench.gate.release(bench.take(), result)
    assert bench.gate.last_error == shown


# Any course of events.


def who_could_start(gate: Gate) -> list[TrafficClass]:
    """The classes of those who wait and may start now, by looking at everybody.

    Spooled mail that the ramp holds back, and what is behind it, may not.
    """
    works, now = list(gate.station._works.values()), gate._clock.monotonic()
    occupancy = gate.station._occupancy(now)
    held = {work.traffic_class.name for work in works if gate.station._is_held(work, now)}
    return [
        made
        for made in (work.traffic_class for work in works)
        if made.name not in held and may_start(made, gate.in_flight_of(made), occupancy)
    ]


class Traffic:
    """Messages that come, wait, give up, are cancelled, fail and succeed, by a seed."""

    CLASSES = (CLINICAL, PERSONAL, ANY, LATER, BULK)
    TIMEOUTS = (None, None, 0.0, 0.001, 0.01)
    ENDINGS = (delivered(), away(), None, TransactionResult(recipients=(SILENT,)))

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench = bench
        self.rng = random.Random(seed)
        self.tasks: list[asyncio.Task[None]] = []
        self.holders: set[int] = set()
        self.probes: set[int] = set()
        self.outcomes = {"served": 0, "gave up": 0, "cancelled": 0}

    async def message(self, number: int) -> None:
        made, timeout = self.rng.choice(self.CLASSES), self.rng.choice(self.TIMEOUTS)
        try:
            slot = await self.bench.gate.acquire(
                Work(made, arrived_wall=float(self.rng.randrange(50)), is_live=timeout is not None),
                timeout,
            )
        except asyncio.CancelledError:
            self.outcomes["cancelled"] += 1
            raise
        if slot is None:
            self.outcomes["gave up"] += 1
            return
        self.holders.add(number)
        if slot.probe:
            assert not self.probes, "two probes at a time"
            self.probes.add(number)
        try:
            for _ in range(self.rng.randrange(6)):
                await asyncio.sleep(0)
        finally:
            self.holders.discard(number)
            self.probes.discard(number)
            self.bench.gate.release(slot, self.rng.choices(self.ENDINGS, [6, 3, 2, 1])[0])
        self.outcomes["served"] += 1

    async def come(self, messages: int) -> None:
        for number in range(messages):
            self.tasks.append(self.bench.group.create_task(self.message(number)))
            if self.rng.random() < 0.3:
                self.rng.choice(self.tasks[-20:]).cancel()
            if self.rng.random() < 0.5:
                await self.turn(self.rng.choice([0.0, 0.0, 0.5]))

    async def go(self) -> None:
        while not all(task.done() for task in self.tasks):
            await self.turn(0.05)

    async def turn(self, seconds: float) -> None:
        """One turn of the loop, after which everything must be in order."""
        gate = self.bench.gate
        self.bench.clock.advance(seconds)
        if seconds:
            gate.tick(has_spooled=False)  # as the control loop does
        if not gate.is_up:
            gate._dispatch()  # the probe's timer is in real time; the clock is not
        await asyncio.sleep(0)
        assert len(self.holders) <= gate.in_flight <= LIMIT
        if gate.station.breaker.may_enter(self.bench.clock.monotonic()):
            assert who_could_start(gate) == [], "somebody waits beside a free slot"


@pytest.mark.parametrize("seed", range(8))
async def test_nothing_is_lost_whatever_happens(bench: Bench, seed: int) -> None:
    """No slot, no wake-up, no place in line.

    At every turn of the loop the slots in use stay within the limit, at most one message probes a
    backend that is away, and nobody waits while there is room.
    """
    traffic = Traffic(bench, seed)
    await traffic.come(500)
    await traffic.go()
    assert (bench.gate.in_flight, bench.gate.waiting) == (0, 0)
    assert sum(traffic.outcomes.values()) <= 500
    assert all(traffic.outcomes.values()), "a run in which everything happens"


async def test_why_there_is_no_slot_is_as_things_are_now(bench: Bench) -> None:
    assert bench.gate.why_not(PERSONAL, Reason.SATURATED) is Reason.SATURATED
    bench.gate.station.breaker._open(bench.clock.monotonic(), 0.5)
    assert bench.gate.why_not(PERSONAL, Reason.SATURATED) is Reason.BACKEND_AWAY
    bench.gate.set_overrides(in_force(hold("personal")))
    assert bench.gate.why_not(PERSONAL, Reason.SATURATED) is Reason.OVERRIDE
    bench.gate.close()
    assert bench.gate.why_not(PERSONAL, Reason.SATURATED) is Reason.SHUTDOWN
