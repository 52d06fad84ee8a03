"""The deadlines of one session, each of its phase, and the one timer for them all.

Who holds a connection has to make progress with it. A slow client need not be silent, it may drip
(Postfix: `smtpd_per_request_deadline`). So each phase has a deadline of its own, and octets that
arrive do not move it:

- *command*: the next command after a reply, `command_timeout` (RFC 5321, 4.5.3.2.7);
- *line*: the end of a command line that has begun, `line_timeout`;
- *data*: the next block of mail data, `data_timeout`; a minimum rate is asked besides;
- *reply*: room for our replies with a client that does not read, `reply_timeout`;
- *no_mail*: the next message that is taken, `session_idle_max`; it does not count while mail data
  arrives.

What we need for our own work is nobody's delay: meanwhile the timer pauses. Moving a timer of the
event loop costs more than most commands, so it is not moved for each: it wakes at the earliest
deadline it ever knew, and then looks at those of now.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from math import inf

from mailshed.config.policy import SessionLimits

# How soon it is looked again when a deadline passes during our own work.
PAUSE_LOOK = 60.0


class Phase(Enum):
    """What the client was too slow with. Label of a metric."""

    COMMAND = "command"
    LINE = "line"
    DATA = "data"
    REPLY = "reply"
    NO_MAIL = "no_mail"
    CLOSE = "close"  # our last words


class SessionTimer:
    """Calls `on_due` with the phase whose deadline has passed; once, then it is not armed.

    The session is to have an answer to that: an end, or a new deadline.
    """

    __slots__ = (
        *("_at", "_awaited", "_handle", "_idle_since", "_line", "_loop", "_no_mail", "_on_due"),
        *("_phase", "_reply", "is_paused"),
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, on_due: Callable[[Phase], None]) -> None:
        self._loop = loop
        self._on_due = on_due
        self._phase = Phase.COMMAND
        self._awaited = self._line = self._reply = self._no_mail = inf
        self._idle_since = inf
        self._handle: asyncio.TimerHandle | None = None
        self._at = inf
        self.is_paused = False
        """While we work, nothing is expected of the client."""

    @property
    def is_in_line(self) -> bool:
        """Whether a command line has begun and not ended."""
        return self._line < inf

    @property
    def next_deadline(self) -> float:
        """The earliest deadline there is, whatever phase it is of."""
        return self._earliest()[0]

    def expect(self, seconds: float, phase: Phase = Phase.COMMAND) -> None:
        """Expect something of the client within `seconds`; this replaces what was expected."""
        self._phase = phase
        self._awaited = when = self._loop.time() + seconds
        if when < self._at:
            self._arm(when)

    def begin_line(self, seconds: float) -> None:
        """A command line has begun; it ends within `seconds`, and its further octets add none."""
        if self._line == inf:
            self._line = self._armed(seconds)

    def end_line(self) -> None:
        """The line is complete."""
        self._line = inf

    def begin_reply(self, seconds: float) -> None:
        """Replies wait for the client to read them."""
        self._reply = self._armed(seconds)

    def end_reply(self) -> None:
        """It has read them, or nearly all."""
        self._reply = inf

    def note_mail(self, seconds: float) -> None:
        """The session is new, or a message was taken: the next one comes within `seconds`."""
        self._idle_since = self._loop.time()
        self._no_mail = self._armed(seconds)

    def fit(self, limits: SessionLimits) -> None:
        """Let other limits hold from now on; what is expected already is never put off."""
        now = self._loop.time()
        is_data = self._phase is Phase.DATA
        seconds = limits.data_timeout if is_data else limits.command_timeout
        if self._awaited < inf:
            self._awaited = min(self._awaited, now + seconds)
        if self._line < inf:
            self._line = min(self._line, now + limits.line_timeout)
        if self._reply < inf:
            self._reply = min(self._reply, now + limits.reply_timeout)
        if self._idle_since < inf:
            # Whoever is in the middle of a transaction has the time of one command at least.
            self._no_mail = max(self._idle_since + limits.session_idle_max, now + seconds)
        if (when := self._earliest()[0]) < self._at:
            self._arm(when)

    def close(self, seconds: float) -> None:
        """Expect nothing more but that our last words are read within `seconds`."""
        self._line = self._reply = self._no_mail = inf
        self._phase = Phase.CLOSE
        self.is_paused = False
        self._awaited = self._armed(seconds)

    def cancel(self) -> None:
        """End it for good; aiosmtpd does so when the connection is lost."""
        self._on_due = _nobody  # or the session and its buffers would stay for the collector
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._at = inf

    def _armed(self, seconds: float) -> float:
        when = self._loop.time() + seconds
        if when < self._at:
            self._arm(when)
        return when

    def _arm(self, when: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._at = when
        self._handle = self._loop.call_at(when, self._wake)

    def _wake(self) -> None:
        self._handle, self._at = None, inf
        now = self._loop.time()
        if self.is_paused:
            self._arm(now + PAUSE_LOOK)
            return
        when, phase = self._earliest()
        if when > now:
            self._arm(when)
        else:
            self._on_due(phase)

    def _earliest(self) -> tuple[float, Phase]:
        when, phase = self._awaited, self._phase
        if self._line < when:
            when, phase = self._line, Phase.LINE
        if self._reply < when:
            when, phase = self._reply, Phase.REPLY
        if self._no_mail < when and self._phase is not Phase.DATA:
            when, phase = self._no_mail, Phase.NO_MAIL
        return when, phase


def _nobody(phase: Phase) -> None:
    """Stand for a session that is gone."""
