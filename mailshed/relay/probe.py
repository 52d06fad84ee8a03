"""Questions to a backend that is away: does it greet, does it take MAIL? No message is risked.

The breaker says which question is due (`control.breaker`). Each has a connection of its own: the
answer to EHLO says that a mail server listens, the answer to MAIL that it begins transactions; RSET
ends that without a message. Any answer is one, a refusal included, as long as it is not 421. The
null reverse-path is what every server has to take (RFC 5321, 4.5.5).

One question is out at a time. Its task is owned here, and always reports how it ended.
"""

from collections.abc import Awaitable, Callable

from mailshed.control.breaker import Step
from mailshed.control.limit import SlotEnding
from mailshed.mail.delivery import Bounced, Deferred, TransactionResult
from mailshed.relay.connection import Connection, Timeouts
from mailshed.relay.endings import ending_of, error_of
from mailshed.relay.envelope import refusal, silence
from mailshed.relay.presets import GENERIC, Preset
from mailshed.relay.wire import WireProtocol
from mailshed.supervisor import Supervisor
from mailshed.terms import Stage

_MAIL = (b"MAIL FROM:<>",)
_RSET = (b"RSET",)
_FOR_MAIL = (Stage.MAIL,)
# RSET has no stage of a message: nothing of one depends on it.
_FOR_RSET = (Stage.QUIT,)


class Prober:
    """Asks one backend. `connect` opens a connection that has been greeted."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection | Deferred]],
        *,
        on_failure: Callable[[str, BaseException], None],
        preset: Preset = GENERIC,
    ) -> None:
        self._connect = connect
        self._preset = preset
        self._tasks = Supervisor(on_failure)

    def start(self, step: Step, done: Callable[[SlotEnding, str], None]) -> None:
        """Ask in the background; `done` gets the ending and, if it failed, what was wrong."""
        self._tasks.spawn(self._run(step, done), "probe")

    async def ask(self, step: Step) -> Deferred | Bounced | None:
        """Ask, and say QUIT; None if the answer was yes."""
        opened = await self._connect()
        if isinstance(opened, Deferred):
            return opened
        try:
            refused = await _try_mail(opened.wire, opened.timeouts) if step is Step.MAIL else None
            await opened.quit()
        except BaseException:
            opened.wire.abort()
            raise
        return refused

    async def stop(self) -> None:
        """Ask nothing more; a question that is out is broken off."""
        await self._tasks.cancel_all()

    async def _run(self, step: Step, done: Callable[[SlotEnding, str], None]) -> None:
        ending, detail = SlotEnding.UNUSED, ""
        try:
            refused = await self.ask(step)
            if refused is None:
                ending = SlotEnding.COMPLETED
            else:
                result = TransactionResult(recipients=(refused,))
                ending, detail = ending_of(result, self._preset), error_of(result)
        except Exception as error:
            ending, detail = SlotEnding.STALLED, f"internal error: {error!r}"
            raise
        finally:
            done(ending, detail)


async def _try_mail(wire: WireProtocol, timeouts: Timeouts) -> Deferred | Bounced | None:
    """Begin a transaction and end it; None if the backend takes it."""
    replies = await wire.exchange(_MAIL, _FOR_MAIL, timeouts.command)
    if not replies:
        return Deferred(Stage.MAIL, None, str(wire.fault), silence(wire.fault))
    refused = refusal(Stage.MAIL, replies[0])
    if refused is None:
        await wire.exchange(_RSET, _FOR_RSET, timeouts.command)
    return refused
