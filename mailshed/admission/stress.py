"""Stress: when sessions get scarce, strangers have less time; Postfix's stress-adaptive behaviour.

A session that somebody opened and does not use costs little while there are enough. From
`STRESS_ON` of `sessions_max` on they are what a flood of slow clients is after, so clients that
nobody vouches for have `stress_timeout` seconds where they had minutes, and a few errors where they
had many. Who is slow leaves first, which no honest mail server is: it comes back, and finds room.
Below `STRESS_OFF` it ends; the gap keeps it from flickering.

Trusted clients and those of clinical networks keep all their time. RFC 5321, 4.5.3.2.7 asks for
five minutes a command; a server that must choose whom to keep may do less. Sources: Postfix's
STRESS_README. Pure.
"""

from dataclasses import replace
from functools import lru_cache

from mailshed.config.policy import SessionLimits

STRESS_ON = 0.8
"""Share of all sessions from which on there is stress."""
STRESS_OFF = 0.6
"""Share of all sessions below which it is over."""

# Under stress a session has so many times `stress_timeout` to bring its first message: a command,
# the greeting of a backend that is asked about a recipient, and the mail data all fit in.
_SILENT_TIMEOUTS = 6


class Stress:
    """Whether there is stress."""

    __slots__ = ("is_on",)

    def __init__(self) -> None:
        self.is_on = False

    def note(self, sessions: int, sessions_max: int) -> bool:
        """Note how many sessions are open; whether that began or ended the stress."""
        share = STRESS_OFF if self.is_on else STRESS_ON
        was_on, self.is_on = self.is_on, sessions >= max(1.0, share * sessions_max)
        return was_on is not self.is_on


@lru_cache(maxsize=16)
def hurried(limits: SessionLimits) -> SessionLimits:
    """The limits of a session under stress: nothing is longer or more than it is without.

    Equal limits give the same object: there are as many as listeners, and sessions ask at once.
    """
    seconds = limits.stress_timeout
    return replace(
        limits,
        command_timeout=min(limits.command_timeout, seconds),
        line_timeout=min(limits.line_timeout, seconds),
        reply_timeout=min(limits.reply_timeout, seconds),
        data_timeout=min(limits.data_timeout, seconds),
        data_rate_grace=min(limits.data_rate_grace, seconds),
        session_idle_max=min(limits.session_idle_max, _SILENT_TIMEOUTS * seconds),
        errors_max=min(limits.errors_max, limits.stress_errors_max),
    )
