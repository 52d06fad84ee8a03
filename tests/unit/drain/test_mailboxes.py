"""A full mailbox is asked ever more rarely, and nobody else is."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.drain.mailboxes import (
    IN_FLIGHT_MAX,
    MAILBOXES_MAX,
    PAUSES,
    URGENT_PAUSES,
    Mailboxes,
    is_full,
)
from mailshed.mail.delivery import Bounced, Deferred, Delivered, DeliveryResult, InDoubt
from mailshed.mail.reply import make
from mailshed.spool.store import SpoolRecipient
from mailshed.terms import Stage
from tests.support.builders import OK, REFUSED

FULL = Deferred(Stage.RCPT, make(452, "4.2.2 Mailbox full"))
BUSY = Deferred(Stage.RCPT, make(451, "4.3.2 System busy"))


def to(*addresses: str) -> tuple[SpoolRecipient, ...]:
    return tuple(
        SpoolRecipient(index=index, address=address.encode())
        for index, address in enumerate(addresses)
    )


BOB, CAROL = to("bob@example.net"), to("carol@example.net")


@dataclass
class Case:
    """Mailboxes, and a clock that the test turns."""

    mailboxes: Mailboxes
    now: float = 1000.0
    is_urgent: bool = False

    def learn(
        self,
        recipients: tuple[SpoolRecipient, ...],
        *results: DeliveryResult,
        unit: float = 0.5,
    ) -> None:
        self.mailboxes.learn(recipients, results, self.now, unit, is_urgent=self.is_urgent)

    def is_ready(self, recipients: tuple[SpoolRecipient, ...]) -> bool:
        return bool(self.mailboxes.ready(recipients, self.now, is_urgent=self.is_urgent))

    def wait(self, recipients: tuple[SpoolRecipient, ...]) -> float:
        return self.mailboxes.send_away(recipients, self.now, is_urgent=self.is_urgent)

    def hold_of(self, recipients: tuple[SpoolRecipient, ...]) -> float:
        pause = self.mailboxes.pause(recipients, self.now, is_urgent=self.is_urgent)
        assert pause is not None
        return pause


@pytest.fixture
def case() -> Case:
    return Case(Mailboxes())


@pytest.mark.parametrize(
    ("code", "text", "stage", "is_only", "expected"),
    [
        (452, "4.2.2 Mailbox full", Stage.RCPT, False, True),
        (450, "4.2.1 Mailbox disabled", Stage.RCPT, True, True),
        (432, "4.3.2 Recipient thread limit exceeded", Stage.DOT, True, True),
        (432, "4.3.2 Recipient thread limit exceeded", Stage.RCPT, False, True),
        (452, "4.2.2 Mailbox full", Stage.DOT, True, True),
        (452, "4.2.2 Mailbox full", Stage.DOT, False, False),  # whose?
        (450, "Mailbox busy", Stage.RCPT, True, False),
        (452, "Insufficient system storage", Stage.RCPT, True, False),
        (452, "4.3.1 Insufficient system storage", Stage.RCPT, True, False),
        (450, "4.2.2 sender's mailbox", Stage.MAIL, True, False),
        (450, "4.2.0 not now", Stage.EHLO, True, False),
    ],
)
def test_some_answers_are_about_a_mailbox(
    code: int, text: str, stage: Stage, is_only: bool, expected: bool
) -> None:
    assert is_full(Deferred(stage, make(code, text)), is_only=is_only) is expected


@pytest.mark.parametrize(
    "result",
    [
        Delivered(OK),
        Bounced(Stage.RCPT, REFUSED),
        Bounced(Stage.RCPT, make(552, "5.2.2 Mailbox full")),
        Deferred(Stage.RCPT, None),
        InDoubt("timeout"),
    ],
)
def test_others_are_not(result: DeliveryResult) -> None:
    assert not is_full(result, is_only=True)


class TestHold:
    def test_begins_with_the_answer_and_ends_with_its_pause(self, case: Case) -> None:
        assert case.is_ready(BOB)
        case.learn(BOB, FULL, unit=0.5)
        assert case.hold_of(BOB) == 60.0, "half way between 30 s and three times that"
        assert not case.is_ready(BOB)
        case.now += 59.9
        assert not case.is_ready(BOB)
        case.now += 0.1 - 1e-7
        assert case.is_ready(BOB), "whoever comes with its end may be early by the rounding"

    def test_grows_also_by_a_trial_that_came_early_by_the_rounding(self, case: Case) -> None:
        case.learn(BOB, FULL, unit=0.0)
        case.now += 30 - 1e-7
        case.learn(BOB, FULL, unit=0.0)
        assert case.hold_of(BOB) == pytest.approx(30)

    def test_is_of_that_mailbox_only(self, case: Case) -> None:
        case.learn(BOB + CAROL, FULL, BUSY)
        assert case.mailboxes.ready(BOB + CAROL, case.now, is_urgent=False) == CAROL
        assert case.mailboxes.pause(BOB + CAROL, case.now, is_urgent=False) is None
        assert case.mailboxes.held(case.now) == 1

    def test_is_of_that_mailbox_however_it_is_written(self, case: Case) -> None:
        case.learn(BOB, FULL)
        assert not case.is_ready(to("Bob@EXAMPLE.net"))

    def test_grows_with_each_failure_up_to_its_bound(self, case: Case) -> None:
        pauses = []
        for _ in range(6):
            case.learn(BOB, FULL, unit=0.999999)
            pauses.append(case.hold_of(BOB))
            case.now += pauses[-1]
        assert pauses == [pytest.approx(each, abs=0.1) for each in (90, 270, 810, 900, 900, 900)]

    @given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=30), st.booleans())
    def test_is_always_between_its_bounds(self, units: list[float], is_urgent: bool) -> None:
        case = Case(Mailboxes(), is_urgent=is_urgent)
        shortest, longest = URGENT_PAUSES if is_urgent else PAUSES
        for unit in units:
            case.learn(BOB, FULL, unit=unit)
            assert shortest - 1e-6 <= case.hold_of(BOB) <= longest + 1e-6
            case.now += case.hold_of(BOB)

    def test_of_several_that_failed_together_is_one(self, case: Case) -> None:
        """They were all on their way before the first came back."""
        for _ in range(20):
            case.learn(BOB, FULL, unit=0.999)
        assert case.hold_of(BOB) < 90

    def test_ends_with_the_first_that_gets_through(self, case: Case) -> None:
        case.learn(BOB, FULL)
        case.learn(BOB, Delivered(OK))
        assert case.is_ready(BOB)
        assert len(case.mailboxes) == 0
        case.learn(BOB, FULL, unit=0.999)
        assert case.hold_of(BOB) < 90, "and what comes later begins anew"

    def test_ends_with_a_refusal_too(self, case: Case) -> None:
        """There is nothing left to wait for."""
        case.learn(BOB, FULL)
        case.learn(BOB, Bounced(Stage.RCPT, REFUSED))
        assert case.is_ready(BOB)

    def test_does_not_remember_another_time(self, case: Case) -> None:
        for _ in range(5):
            case.learn(BOB, FULL, unit=0.999)
            case.now += case.hold_of(BOB)
        case.now += PAUSES[1] + 1
        case.learn(BOB, FULL, unit=0.999)
        assert case.hold_of(BOB) < 90

    def test_of_urgent_mail_is_short_and_its_own(self, case: Case) -> None:
        for _ in range(9):
            case.learn(BOB, FULL, unit=0.999)
            case.now += case.hold_of(BOB)
        case.learn(BOB, FULL, unit=0.999)
        urgent = Case(case.mailboxes, case.now, is_urgent=True)
        assert urgent.is_ready(BOB), "newsletters do not keep it waiting"
        urgent.learn(BOB, FULL, unit=0.0)
        assert urgent.hold_of(BOB) == 2.0
        urgent.learn(BOB, Delivered(OK))
        assert case.is_ready(BOB), "but it frees all"


class TestTrials:
    def hold_over(self, case: Case) -> None:
        case.learn(BOB, FULL)
        case.now += case.hold_of(BOB)

    def test_are_two_at_a_time(self, case: Case) -> None:
        self.hold_over(case)
        trials = [
            case.mailboxes.begin(BOB, is_urgent=False) for _ in range(10) if case.is_ready(BOB)
        ]
        assert len(trials) == IN_FLIGHT_MAX
        assert case.wait(BOB) == PAUSES[0]
        trials[0].end()
        assert case.is_ready(BOB)

    def test_count_once_however_often_they_end(self, case: Case) -> None:
        self.hold_over(case)
        one, _other = (case.mailboxes.begin(BOB, is_urgent=False) for _ in range(2))
        one.end()
        one.end()
        case.mailboxes.begin(BOB, is_urgent=False)
        assert not case.is_ready(BOB)

    def test_do_not_hold_a_mailbox_that_works(self, case: Case) -> None:
        for _ in range(100):
            case.mailboxes.begin(BOB, is_urgent=False)
        assert case.is_ready(BOB)


class TestSentAway:
    def test_come_back_one_by_one_after_the_hold(self, case: Case) -> None:
        case.learn(BOB, FULL, unit=0.0)
        assert [case.wait(BOB) for _ in range(4)] == [30, 31, 32, 33]

    def test_come_back_in_time_however_many_they_are(self, case: Case) -> None:
        case.learn(BOB, FULL, unit=0.0)
        waits = [case.wait(BOB) for _ in range(10_000)]
        assert min(waits) == 30
        assert max(waits) < 30 + PAUSES[1]

    def test_are_counted_anew_with_each_hold(self, case: Case) -> None:
        case.learn(BOB, FULL, unit=0.0)
        for _ in range(100):
            case.wait(BOB)
        case.now += 30
        case.learn(BOB, FULL, unit=0.0)
        assert case.wait(BOB) == 30

    def test_come_back_for_the_mailbox_that_is_free_first(self, case: Case) -> None:
        case.learn(BOB, FULL, unit=0.0)
        case.learn(CAROL, FULL, unit=0.5)
        assert case.wait(CAROL + BOB) == 30
        assert case.hold_of(CAROL + BOB) == 30


def test_of_too_many_mailboxes_those_are_forgotten_that_failed_first(case: Case) -> None:
    first, *others = (to(f"r{number}@example.net") for number in range(MAILBOXES_MAX + 1))
    for each in (first, *others):
        case.learn(each, FULL)
    assert len(case.mailboxes) == case.mailboxes.held(case.now) == MAILBOXES_MAX
    assert case.is_ready(first)
    assert not any(case.is_ready(each) for each in others)


def test_a_reply_to_the_mail_data_counts_if_it_is_one_recipients_own(case: Case) -> None:
    """LMTP: the others of the message have theirs."""
    full = Deferred(Stage.DOT, make(452, "4.2.2 Mailbox full"))
    both = to("bob@example.net", "carol@example.net")
    case.learn(both, full, Delivered(OK))
    assert case.is_ready(BOB), "said once for all, it may mean anybody"
    case.mailboxes.learn(
        both, (full, Delivered(OK)), case.now, 0.5, is_urgent=case.is_urgent, is_each=True
    )
    assert not case.is_ready(BOB)
    assert case.is_ready(CAROL)
