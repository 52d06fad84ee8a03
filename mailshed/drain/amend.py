"""An operator's action on messages in the spool: hold, release, retry, delete.

What waits for a slot is called back first, so it obeys like what lies in the spool. What is with
the backend can be neither held nor deleted any more; it is counted as busy, and the operator may
try again. To release it or to retry it changes nothing about the transaction.

Batches share commits and give others a turn between them. What was begun is finished even if the
operator's command is given up meanwhile, so that nothing is let go of before it is written.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from mailshed.clock import Clock
from mailshed.drain.hand import Hand
from mailshed.errors import SpoolError
from mailshed.spool.store import AmendResult, SpoolStore
from mailshed.supervisor import Supervisor
from mailshed.terms import QueueAction, QueueId

# Messages at a time.
BATCH = 256
CHANGED = "changed"
_NEED_GRIP = frozenset({QueueAction.HOLD, QueueAction.DELETE})


class Amendments:
    """The operator's actions on one spool. `on_amended` is told what has changed, by batches."""

    def __init__(
        self,
        *,
        spool: SpoolStore,
        hand: Hand,
        supervisor: Supervisor,
        clock: Clock,
        on_amended: Callable[[QueueAction, Sequence[QueueId]], None],
    ) -> None:
        self._spool = spool
        self._hand = hand
        self._supervisor = supervisor
        self._clock = clock
        self._on_amended = on_amended

    async def amend(self, action: QueueAction, queue_ids: Sequence[QueueId]) -> AmendResult:
        """Do `action` to each of these; raises SpoolError if the spool could not do all of it."""
        wanted = list(dict.fromkeys(queue_ids))
        outcomes = Counter[str]()
        for start in range(0, len(wanted), BATCH):
            batch = wanted[start : start + BATCH]
            tasks = [
                self._supervisor.spawn(self._amend(action, queue_id), name=f"amend {queue_id}")
                for queue_id in batch
            ]
            await asyncio.wait(tasks)
            results = [task.result() for task in tasks]
            changed = [
                each for each, result in zip(batch, results, strict=True) if result == CHANGED
            ]
            if changed:
                self._on_amended(action, changed)
            for result in results:
                if isinstance(result, SpoolError):
                    raise result
                outcomes[result] += 1
        return AmendResult(**outcomes)

    async def _amend(self, action: QueueAction, queue_id: QueueId) -> str | SpoolError:
        """Amend one message; return the field of AmendResult to count it in, or why it failed."""
        grip = await self._hand.call_back(queue_id)
        if grip is None and action in _NEED_GRIP:
            return "busy"
        try:
            is_changed = await self._spool.amend(queue_id, action, self._clock.wall())
        except SpoolError as error:
            return error
        finally:
            if grip is not None:
                self._hand.let_go(grip)
        return CHANGED if is_changed else "unchanged"
