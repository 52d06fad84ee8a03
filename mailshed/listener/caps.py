"""Who is let in: the caps on sessions, applied to connections before there is a session.

The counting is `admission.sessions`, and whether there is stress `admission.stress`. Here a refusal
becomes a reply, a count by cause and, now and then, a line; and when stress begins or ends, it is
logged and whoever owns the sessions is told.

A refusal costs a look into three dictionaries and one write, so that a flood of connections is
turned away for less than it costs to open them.
"""

from collections.abc import Callable, Iterable

from mailshed.admission.sessions import Cap, OpenSessions, Refusals, Refused, Visitor
from mailshed.admission.stress import Stress
from mailshed.config.policy import SessionLimits
from mailshed.mail import reply
from mailshed.mail.reply import Reply
from mailshed.maillog import MailLog
from mailshed.metrics.labels import Shut
from mailshed.metrics.recorder import Metrics

_REPLIES = {
    Cap.TOTAL: reply.TOO_MANY_SESSIONS,
    Cap.ADDRESS: reply.TOO_MANY_OF_ADDRESS,
    Cap.NETWORK: reply.TOO_MANY_OF_NETWORK,
    Cap.RATE: reply.TOO_OFTEN,
}


class SessionCaps:
    """The caps of one process; all listeners share them. `now` is monotonic.

    `on_stress` is called when stress has begun or ended.
    """

    def __init__(
        self,
        *,
        metrics: Metrics,
        maillog: MailLog,
        now: Callable[[], float],
        on_stress: Callable[[], None],
    ) -> None:
        self._metrics = metrics
        self._maillog = maillog
        self._now = now
        self._on_stress = on_stress
        self._open = OpenSessions()
        self._refusals = Refusals()
        self._stress = Stress()
        self._stressed_since = 0.0

    @property
    def open(self) -> int:
        """Sessions that are open, and connections that may become one."""
        return self._open.total

    @property
    def is_stressed(self) -> bool:
        """Whether strangers have less time now."""
        return self._stress.is_on

    def enter(self, visitor: Visitor, listener: str, limits: SessionLimits) -> Reply | None:
        """Count one more session of `visitor`, which `leave` takes back; or refuse it."""
        cap = self._open.enter(visitor, limits, self._now())
        if cap is None:
            self._look(limits)
            return None
        answer = _REPLIES[cap]
        self.refuse(visitor, listener, cap.value, answer)
        return answer

    def refuse(
        self, visitor: Visitor, listener: str, cause: Shut, answer: Reply | None, detail: str = ""
    ) -> None:
        """Note that a connection gets no session; no answer: it is closed without a word."""
        self._metrics.connection(listener, "refused")
        self._metrics.shut_out(cause)
        if answer is not None:
            self._metrics.reply(listener, "connect", answer.code)
        self._tell(
            self._refusals.note(str(visitor.address), cause, self._now()), listener, answer, detail
        )

    def _tell(
        self,
        refused: Iterable[Refused],
        listener: str | None = None,
        answer: Reply | None = None,
        detail: str = "",
    ) -> None:
        for told in refused:
            self._maillog.session_refused(
                client=told.address or "many",
                cause=told.cause,
                times=told.times,
                listener=listener if told.is_first else None,
                reply=answer.text if told.is_first and answer is not None else None,
                detail=detail if told.is_first and detail else None,
            )

    def leave(self, visitor: Visitor, limits: SessionLimits) -> None:
        """Forget a session that was let in; also where the end of a flood is noticed."""
        self._open.leave(visitor)
        if due := self._refusals.due(self._now()):
            self._tell(due)
        self._look(limits)

    def _look(self, limits: SessionLimits) -> None:
        if not self._stress.note(self._open.total, limits.sessions_max):
            return
        now = self._now()
        if self._stress.is_on:
            self._stressed_since = now
            self._maillog.stress_began(sessions=self._open.total, limit=limits.sessions_max)
        else:
            self._maillog.stress_ended(seconds=now - self._stressed_since)
        self._on_stress()
