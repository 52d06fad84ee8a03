"""What is seen of a backend: messages that start and end, and what a window of them says.

Each message in flight has an expected time, and is *light* if it started with so few others that
they were not in its way: then it may teach the expected times. Served messages are samples of the
normalised time x. So is the age of a message that is still in flight, once it is twice what was
expected: of a time that is longer than that, a censored sample. With those a median also sees what
never comes back.

A window lasts a second and 30 samples, or ten seconds and 5, and at least two service times. Who
was in flight during a stall has had its say as a censored sample, and is not counted again when it
comes back at last.

A *tarpit* is a delay of the reply to MAIL while everything after it is as fast as ever: Exchange
does that under moderate pressure. Then x is taken of all the rest.

Where the reply to the final dot is late by design (Exchange: shadow redundancy), the time ends with
the mail data, and an age counts only beyond the longest of such delays.

Pure; times are seconds, `now` is monotonic.
"""

from collections import deque
from statistics import median
from typing import NamedTuple

from mailshed.control.baseline import Baseline
from mailshed.control.lateness import Lateness
from mailshed.control.limit import Flight
from mailshed.control.rule import SLOW_X
from mailshed.control.window import Sample, Stages, Window, error_of_median, middle_and_tail
from mailshed.mail.delivery import StageTimes

WINDOW_SECONDS = 1.0
WINDOW_SAMPLES = 30
WINDOW_SECONDS_LONG = 10.0
WINDOW_SAMPLES_FEW = 5
SERVICES_PER_WINDOW = 2.0
UNCUT = 3.0
"""Nearly all messages have ended after so many times the expected time."""
OVERDUE = 2.0
"""In flight for so many times the expected time: a censored sample."""
STALL_SECONDS = 1.0
STALL_FLIGHTS = 3
STALL_X = 8.0
STALL_TAILS = 3.0
"""A stall is a median age of so many expected times, and of so many times the usual tail."""
DELAY_FACTOR = 2.0
"""A tarpit: the reply to MAIL takes so many times as long as usual."""
DELAY_SECONDS = 1.0
"""And for a single message, so much longer besides."""
DELAY_APART = 0.3
"""Delays are compared of messages that began so many seconds from each other."""
DELAY_MEMORY = 20.0
DELAY_SHARP = 0.75
"""What was answered at once counts for so many seconds, and if it had about as many beside it: what
is in between is not known."""
PROMPT = 64
"""As many messages that were not delayed are remembered."""
LATE_DOT_SECONDS = 30.0
"""MaxAcknowledgementDelay of Exchange: the reply to the final dot waits no longer than that."""
FIRST_RANK_SAMPLES = 64
FIRST_RANK_SECONDS = 60.0
FIRST_RANK_MIN = 5
SMOOTHING = 0.5
"""The weight of a window in the smoothed x: it is about the last three of them."""


class Seen(NamedTuple):
    """What a window said about x."""

    x: float
    error: float
    """Standard error of `x`."""
    tail: float
    """90th percentile."""


class Observer:
    """The eyes on one backend."""

    def __init__(self, baseline: Baseline, *, has_late_dot: bool) -> None:
        self._baseline = baseline
        self._has_late_dot = has_late_dot
        self.window = Window()
        self.lateness = Lateness()
        self._flights: dict[Flight, tuple[float, bool]] = {}
        """What is in flight: its expected time, 0 if unknown, and whether it is light."""
        self._first: deque[tuple[float, float]] = deque(maxlen=FIRST_RANK_SAMPLES)
        """When messages of rank 0 were served, and how long they took."""
        self._deaf_until = float("-inf")
        self._is_heard_again = False
        """Whether somebody has been answered who came after the latest stall."""
        self.last_answer = 0.0
        self.service = 0.0
        """Seconds that a message takes, by the last window."""
        self.usual = 0.0
        """Seconds that were expected of those."""
        self.x = 1.0
        """Smoothed."""
        self.stages = Stages()
        self.is_delayed = False
        """Whether the backend is a tarpit just now."""
        self._late = float("-inf"), 0.0
        """Of a message whose MAIL was answered late: when it began, and after how long."""
        self._prompt: deque[tuple[float, int]] = deque(maxlen=PROMPT)
        """When messages started whose MAIL was answered at once, and with how many in flight."""

    @property
    def in_flight(self) -> int:
        """Messages in flight."""
        return self.window.in_flight

    def start(self, now: float, flight: Flight, gate: int, until: float) -> bool:
        """Note a message that starts; whether it is light.

        It is if no more than `gate` are in flight, and if it will surely have ended by `until`,
        when a probe is over: if the slow ones were missing, the rest would look too fast.
        """
        self.window.step(now, 1)
        expected, baseline = 0.0, self._baseline
        if baseline.is_known:
            expected = baseline.expected(flight.size, flight.recipients)
        is_light = self.window.in_flight <= gate and now + UNCUT * expected <= until
        self._flights[flight] = (expected, is_light)
        return is_light

    def end(self, now: float, flight: Flight) -> tuple[float, bool]:
        """Note that it is over; its expected time, and whether it was light."""
        self.window.step(now, -1)
        if flight.started_at <= self._deaf_until:
            self.window.begin(now)  # many of them in flight were no queue, but what was left
        return self._flights.pop(flight)

    def served(
        self, now: float, flight: Flight, times: StageTimes, expected: float, *, is_light: bool
    ) -> None:
        """Take the sample of a message that was served."""
        baseline, window = self._baseline, self.window
        self.lateness.note(times.lateness)
        if expected:
            usual = baseline.envelope(flight.recipients)
            times = self.lateness.times_of_backend(
                times, mail=baseline.mail, envelope=usual, data=expected - usual
            )
        envelope = times.envelope
        service = envelope + times.content if self._has_late_dot else times.service
        if times.service <= 0.0 or service <= 0.0:
            return  # its times tell nothing
        has_had_its_say = flight.started_at <= self._deaf_until
        if flight.is_first and not has_had_its_say:
            self._first.append((now, service))
        if is_light:
            baseline.note(
                size=flight.size,
                recipients=flight.recipients,
                in_flight=flight.in_flight,
                mail=times.mail,
                envelope=envelope,
                data=service - envelope,
            )
        if expected and now >= window.began and not has_had_its_say:
            window.strangers += not baseline.has(flight.size)
            usual = baseline.envelope(flight.recipients)
            window.add(
                Sample(service, expected, times.mail, envelope, usual), now - flight.started_at
            )

    def is_one_too_many(self, flight: Flight, mail: float) -> bool:
        """Whether the reply to MAIL, after `mail` seconds, was late since so many were in flight.

        It was if others were answered at once while it waited, and all of them had fewer beside
        them. If nobody was answered meanwhile, either the backend stood still, or all of us were
        too many; then delays tell.
        """
        usual, began = self._baseline.mail, flight.started_at
        if mail <= 0.0 or usual <= 0.0:
            return False
        at_once = DELAY_FACTOR * usual + DELAY_SECONDS
        if mail <= at_once:
            if began > self._deaf_until:
                self._prompt.append((began, flight.in_flight))
            return False
        is_alike = self._is_like_the_last(began, mail)
        beside = [count for at, count in self._prompt if began < at < began + mail - at_once]
        if beside:
            return began > self._deaf_until and max(beside) < flight.in_flight
        before = [count for at, count in self._prompt if began - DELAY_MEMORY < at < began]
        most = max(before, default=0)
        return is_alike and most < flight.in_flight and most >= DELAY_SHARP * flight.in_flight

    def _is_like_the_last(self, began: float, mail: float) -> bool:
        """Whether this delay was as long as that of an earlier message.

        A tarpit delays each by the same time. Of a backend that stood still the last ones hear
        soonest, since it speaks to all at once when it goes on.
        """
        last_began, last_mail = self._late
        apart = began - last_began
        if not 0.0 < apart < DELAY_APART:
            self._late = began, mail
        return DELAY_APART <= apart < DELAY_MEMORY and abs(mail - last_mail) < apart / 2

    # The window.

    def look(self, now: float, harmless: float) -> Seen | None:
        """What the window says, if it is over.

        A queue is worth speaking of with more than `harmless` messages: with fewer in flight
        anyway, a few samples are enough.
        """
        window = self.window
        seconds = now - window.began
        least = max(WINDOW_SECONDS, min(SERVICES_PER_WINDOW * self.service, WINDOW_SECONDS_LONG))
        is_few = seconds >= WINDOW_SECONDS_LONG or window.in_flight_max <= harmless
        enough = WINDOW_SAMPLES_FEW if is_few else WINDOW_SAMPLES
        if seconds < least or len(window.samples) + window.in_flight < enough:
            return None
        overdue = [age for age in self._ages(now, self._deaf_until) if age > OVERDUE]
        if len(window.samples) + len(overdue) < enough:
            return None
        return self._read(overdue)

    def _read(self, overdue: list[float]) -> Seen:
        samples = self.window.samples
        ratios = [each.service / each.expected for each in samples] + overdue
        x, tail = middle_and_tail(ratios)
        error = error_of_median(ratios)
        if samples:
            self.usual = median([each.expected for each in samples])
            self.service = max(median([each.service for each in samples]), x * self.usual)
            self.stages = self.window.stages(self._baseline.mail)
        self.is_delayed = (
            bool(samples) and self.stages.mail > DELAY_FACTOR and self.stages.rest < SLOW_X
        )
        if self.is_delayed:
            x = self.stages.rest
        self.x += SMOOTHING * (max(1.0, x) - self.x)
        return Seen(x, error, tail)

    def first_slow(self, now: float) -> float:
        """The 95th percentile of what rank 0 took in the last minute; 0 if that was too little."""
        times = sorted(taken for at, taken in self._first if now - at <= FIRST_RANK_SECONDS)
        return times[int(0.95 * len(times))] if len(times) >= FIRST_RANK_MIN else 0.0

    def forget_first(self) -> None:
        """Something was done about rank 0: it needs new evidence to be done again."""
        self._first.clear()

    # What does not come back.

    def is_stalled(self, now: float) -> bool:
        """Whether all that is in flight is late by far, and nothing has come back for a while."""
        if now - self.last_answer < max(STALL_SECONDS, self.service):
            return False
        # What an outage has left hanging, for minutes perhaps, says nothing of what came after it.
        ages = self._ages(now, self._deaf_until if self._is_heard_again else float("-inf"))
        if len(ages) < STALL_FLIGHTS:
            return False
        return median(ages) >= max(STALL_X, STALL_TAILS * self._baseline.tail)

    def note_answer(self, now: float, flight: Flight) -> None:
        """Note that the backend has answered a message."""
        self.last_answer = now
        self._is_heard_again = self._is_heard_again or flight.started_at > self._deaf_until

    def note_stall(self, now: float) -> None:
        """Draw a line: what is in flight has been counted."""
        self._deaf_until = now
        self._is_heard_again = False
        self.service = self.usual
        self.window.begin(now)

    def _ages(self, now: float, after: float = float("-inf")) -> list[float]:
        """How long each message that started `after` then has been in flight, in expected times."""
        window, slack = self.window, 0.0
        if self._has_late_dot:
            slack = LATE_DOT_SECONDS
        elif window.samples:
            # What they need beside the service itself, such as a connection.
            slack = max(0.0, window.slot_seconds - window.service_seconds) / len(window.samples)
        return [
            (now - flight.started_at - slack) / expected
            for flight, (expected, _) in self._flights.items()
            if expected and flight.started_at > after
        ]
