"""Is this twice as much mail as is usual at this hour of the week? For one kind of mail.

A cumulative sum (CUSUM) decides. Each minute with `n` messages adds the logarithm of how much more
likely `n` is at `RHO` times the expected rate than at the expected rate itself, and the sum never
falls below 0 (Page 1954; no test that alarms as rarely is faster, Moustakides 1986). Counts of mail
vary more than those of Poisson, since one event makes several messages; so both likelihoods are
negative-binomial, with a variance of ``mu + phi mu^2``. `phi` is learned from ordinary minutes::

    a = ln(rho (1 + phi mu) / (1 + phi rho mu))       -> ln rho            for phi = 0
    b = ln((1 + phi rho mu) / (1 + phi mu)) / phi     -> (rho - 1) mu      for phi = 0
    S = max(0, S + a n - b)                           alarm: S > 12

What is expected is what is usual (`usual`) times how busy this day has been so far, from 1 to 1.5:
a day on which all is a third more is not a surge, and after a quiet morning the usual amount is not
one either. Less than one message a minute counts as one, so a handful at night is no surge. The
alarm ends when the last half hour had less than `CLEAR` times what was expected.

Nothing is learned from an alarm, or a crisis would become usual in a few weeks. Alarms of which
none is three days after the other are one crisis, since few of them outlast the night. One that
lasts two weeks is none any more: from then on the usual level follows by 10 % a week, until there
is no alarm. A person may say so at once (`adopt`).

Pure: minutes and their place in the week are passed in.
"""

from collections import deque
from dataclasses import dataclass
from math import exp, log

from mailshed.control.usual import WEEK_MINUTES, UsualHours, is_number
from mailshed.errors import StateError

RHO = 2.0
"""The surge that is looked for, times the expected."""
THRESHOLD = 12.0
"""Of the sum: e^12 minutes are 113 days, a bound on how often chance alone comes so far."""
CLEAR = 1.25
"""Times the expected, over the window, below which a surge is over. From 1.44 times on the sum
rises; the gap between keeps a day that is 1.4 times as busy from being ten short alarms."""
RATE_MIN = 1.0
"""Messages a minute that are expected at least."""
WINDOW = 30
"""Minutes of the ratio, and of the end of an alarm."""
DAY_MINUTES = 360.0
"""How far back a day's own level looks."""
DAY_MAX = 1.5
PHI_FIRST = 0.1
"""Over-dispersion until it is measured: neither the calmest mail nor the wildest."""
PHI_MAX = 2.0
PHI_LAG = 60
"""Minutes after which one may teach phi, if there was no alarm since: those before an alarm belong
to it, and would make a young phi so large that the alarm never comes."""
PHI_MINUTES = 7 * 1440.0
"""How far back the over-dispersion looks."""
LEARNED_MINUTES = 30.0
"""Ordinary minutes that an hour needs to be learned."""
CRISIS_MINUTES = 14 * 1440.0
"""A crisis that is older becomes usual by itself,"""
ADOPTION_WEEKLY = 1.1
"""by so much a week."""
CALM_MINUTES = 3 * 1440.0
"""Without an alarm, until a crisis is over."""
ADOPT_MAX = 20.0
"""A person's word makes no level grow by more than that."""
_DAY = 1440.0
# phi is as uncertain at first as if it came from an hour of much mail.
_PHI_PRIOR = 60.0
# Messages a minute of which the spread says half as much as that of any number.
_PHI_HALF = 4.0
# One minute says at most that much: five times the expected.
_RESIDUAL_MAX = 16.0
_PHI_KEPT = exp(-1 / PHI_MINUTES)
_POISSON = 1e-6


@dataclass(frozen=True, slots=True)
class _Tick:
    messages: int
    expected: float
    usual: float = 0.0
    is_known: bool = True
    """Whether anything is known of what is usual then."""


@dataclass(slots=True)
class _Crisis:
    """Alarms that belong together, in minutes and messages."""

    age: float = 0.0
    calm: float = 0.0
    """Since its last alarm."""
    messages: float = 0.0
    """While there was an alarm,"""
    usual: float = 0.0
    """and what would have been usual."""


class Surge:
    """The detector of one kind of mail."""

    def __init__(self) -> None:
        self.usual = UsualHours()
        self.score = 0.0
        """The cumulative sum."""
        self.alarm_minutes = 0.0
        """How long the alarm has lasted; 0 without one."""
        self.expected = RATE_MIN
        """Messages a minute that were expected of the last tick."""
        self._recent: deque[_Tick] = deque(maxlen=WINDOW)
        # What came and what was usual, both forgotten alike: their ratio is the level of the day.
        self._day_messages = self._day_usual = 0.0
        # What the minutes said about phi, and how much they counted.
        self._phi_sum, self._phi_weight = PHI_FIRST * _PHI_PRIOR, _PHI_PRIOR
        self._unlearned: deque[_Tick] = deque()
        self._hour: int | None = None
        self._hour_messages = self._hour_minutes = 0.0
        self._crisis: _Crisis | None = None

    @property
    def is_alarm(self) -> bool:
        """Whether there is a surge now."""
        return self.alarm_minutes > 0

    @property
    def is_crisis(self) -> bool:
        """Whether there is one, or has been not long ago."""
        return self._crisis is not None

    @property
    def phi(self) -> float:
        """Over-dispersion: the variance of a minute is `mu + phi mu^2`."""
        return min(PHI_MAX, max(0.0, self._phi_sum / self._phi_weight))

    @property
    def day(self) -> float:
        """How busy the day has been so far, in parts of the usual, from 1 to `DAY_MAX`."""
        if self._day_usual <= 0:
            return 1.0
        return min(DAY_MAX, max(1.0, self._day_messages / self._day_usual))

    @property
    def messages(self) -> int:
        """Messages of the window."""
        return sum(each.messages for each in self._recent)

    @property
    def ratio(self) -> float | None:
        """Messages of the window over the usual number, both plus one; None if nothing is known."""
        known = [each for each in self._recent if each.is_known]
        if not known:
            return None
        return (sum(each.messages for each in known) + 1) / (sum(each.usual for each in known) + 1)

    def note(
        self, messages: int, minute: int, minutes: float = 1.0, *, is_doubtful: bool = False
    ) -> float:
        """Note the messages of a tick of some `minutes` that ended at `minute` of the week.

        Returns how many more they were than expected. While `is_doubtful`, since the clock was set
        lately, no alarm begins.
        """
        usual = self.usual.rate(minute)
        if usual is None:
            self.expected = RATE_MIN
            self._recent.append(_Tick(messages, RATE_MIN * minutes, is_known=False))
            self._end()  # nobody can say that it goes on
            self._learn(messages, minute, minutes)
            return 0.0
        self.expected = max(RATE_MIN, usual * self.day)
        tick = _Tick(messages, self.expected * minutes, usual * minutes)
        self._recent.append(tick)
        is_sure = self.usual.is_sure(minute)
        self._add(tick, can_alarm=is_sure and not is_doubtful)
        self._grow_older(tick, minutes)
        if not self.is_alarm:
            self._learn(messages, minute, minutes)
            self._learn_day(tick, minutes)
            if is_sure and self.expected > RATE_MIN:
                self._learn_phi(tick)
        return max(0.0, messages - tick.expected)

    def close_hour(self) -> None:
        """Learn the hour in progress, if enough of it was seen, and begin another."""
        if self._hour is not None and self._hour_minutes >= LEARNED_MINUTES:
            self.usual.learn(self._hour, self._hour_messages * 60 / self._hour_minutes)
        self._hour, self._hour_messages, self._hour_minutes = None, 0.0, 0.0

    def adopt(self) -> float:
        """Take the level of this crisis as usual; return how many times the usual that is.

        Meant for a level that stays: all hours of the week grow alike. 1 if there is no crisis.
        """
        if self._crisis is None:
            return 1.0
        factor = (self._crisis.messages + 1) / (self._crisis.usual + 1)
        factor = min(ADOPT_MAX, max(1.0, factor))
        self.usual.grow(factor)
        self._end()
        self._crisis = None
        self._recent.clear()
        return factor

    def _add(self, tick: _Tick, *, can_alarm: bool) -> None:
        if self.is_alarm or not can_alarm:
            self.score = 0.0
            return
        phi, once, more = self.phi, tick.expected, RHO * tick.expected
        if phi * once < _POISSON:
            gain, loss = log(RHO), more - once
        else:
            gain = log(RHO * (1 + phi * once) / (1 + phi * more))
            loss = log((1 + phi * more) / (1 + phi * once)) / phi
        self.score = max(0.0, self.score + gain * tick.messages - loss)

    def _grow_older(self, tick: _Tick, minutes: float) -> None:
        """Begin, prolong or end an alarm, and the crisis it belongs to."""
        if self.is_alarm or self.score > THRESHOLD:
            self._hour = None  # what there is of it is not learned
            self._unlearned.clear()
            self._crisis = self._crisis or _Crisis()
            self._crisis.calm = 0.0
            self._crisis.messages += tick.messages
            self._crisis.usual += tick.usual
            self.alarm_minutes += minutes
            if self.alarm_minutes > WINDOW and self._is_over():
                self._end()
        crisis = self._crisis
        if crisis is None:
            return
        crisis.age += minutes
        crisis.calm += minutes
        if crisis.calm > CALM_MINUTES:
            self._crisis = None
        elif crisis.age > CRISIS_MINUTES and crisis.calm < _DAY:
            self.usual.grow(ADOPTION_WEEKLY ** (minutes / WEEK_MINUTES))

    def _is_over(self) -> bool:
        return self.messages < CLEAR * sum(each.expected for each in self._recent)

    def _end(self) -> None:
        self.alarm_minutes = self.score = 0.0

    def _learn(self, messages: int, minute: int, minutes: float) -> None:
        hour = minute // 60
        if hour != self._hour:
            self.close_hour()
            self._hour = hour
        self._hour_messages += messages
        self._hour_minutes += minutes

    def _learn_day(self, tick: _Tick, minutes: float) -> None:
        if self._day_usual <= 0:  # it begins as an ordinary one
            self._day_messages = self._day_usual = DAY_MINUTES / 2 * tick.usual / minutes
        kept = exp(-minutes / DAY_MINUTES)
        self._day_messages = self._day_messages * kept + tick.messages
        self._day_usual = self._day_usual * kept + tick.usual

    def _learn_phi(self, tick: _Tick) -> None:
        """Take the square of a residual, less what Poisson explains, in parts of the expected."""
        self._unlearned.append(tick)
        if len(self._unlearned) <= PHI_LAG:
            return
        tick = self._unlearned.popleft()
        square = tick.expected**2
        weight = square / (square + _PHI_HALF**2)
        residual = ((tick.messages - tick.expected) ** 2 - tick.expected) / square
        self._phi_sum = self._phi_sum * _PHI_KEPT + weight * min(_RESIDUAL_MAX, residual)
        self._phi_weight = self._phi_weight * _PHI_KEPT + weight

    # Keeping: what must outlive the process. The level of the day and the half hour are not.

    def document(self) -> dict[str, object]:
        """What was learned, for JSON."""
        made: dict[str, object] = {
            "usual": self.usual.document(),
            "phi": [self._phi_sum, self._phi_weight],
            "alarm_minutes": self.alarm_minutes,
        }
        if (crisis := self._crisis) is not None:
            made["crisis"] = [crisis.age, crisis.calm, crisis.messages, crisis.usual]
        return made

    @classmethod
    def restored(cls, document: object) -> "Surge":
        """Make it of a document. Raises StateError if that is not one."""
        if not isinstance(document, dict):
            raise StateError("expected an object")
        made = cls()
        made.usual = UsualHours.restored(document.get("usual"))
        made._phi_sum, made._phi_weight = _numbers(document.get("phi"), 2)
        if made._phi_weight <= 0:
            raise StateError("phi: expected a weight above 0")
        if "crisis" in document:
            crisis = _numbers(document["crisis"], 4)
            if min(crisis) < 0:
                raise StateError("crisis: expected numbers of at least 0")
            made._crisis = _Crisis(*crisis)
            (made.alarm_minutes,) = _numbers([document.get("alarm_minutes")], 1)
        return made


def _numbers(value: object, count: int) -> list[float]:
    """Read a list of so many finite numbers. Raises StateError if it is none."""
    if not isinstance(value, list) or len(value) != count or not all(map(is_number, value)):
        raise StateError(f"expected a list of {count} numbers")
    return [float(each) for each in value]
