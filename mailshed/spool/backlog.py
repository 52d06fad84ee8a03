"""The jobs that wait for the writer, and which of them share the next commit.

Jobs go by priority, then in the order of arrival. A group has at most `JOBS_MAX` jobs and
`OCTETS_MAX` of content, so that the next one, with what arrived meanwhile, is never far. Pieces of
large messages only fill the room that is left, so a small message never waits for a large one; but
one piece is let into every group, so a large message is delayed and not stopped.
"""

import heapq
from itertools import count

from mailshed.spool.jobs import Job

JOBS_MAX = 256
OCTETS_MAX = 1024**2


class Backlog:
    """A queue that is taken from in groups. Operations are O(log n) per job."""

    def __init__(self) -> None:
        self._small: list[tuple[int, int, Job]] = []
        self._pieces: list[tuple[int, int, Job]] = []
        self._ties = count()

    def __len__(self) -> int:
        return len(self._small) + len(self._pieces)

    def put(self, job: Job) -> None:
        """Let a job wait."""
        heap = self._pieces if job.is_piece else self._small
        heapq.heappush(heap, (job.priority, next(self._ties), job))

    def take(self) -> list[Job]:
        """The next group; empty if nothing waits."""
        group: list[Job] = []
        octets = 0
        if self._pieces:
            job = heapq.heappop(self._pieces)[2]
            group.append(job)
            octets = job.octets
        for heap in (self._small, self._pieces):
            while heap and len(group) < JOBS_MAX:
                if group and octets + heap[0][2].octets > OCTETS_MAX:
                    break
                job = heapq.heappop(heap)[2]
                group.append(job)
                octets += job.octets
        return group
