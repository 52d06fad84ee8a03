"""What must hold at every step of a run, and what is said when it does not.

- Never more in flight than the ceiling of the limit.
- Rank 0 is never told 4xx, and never sent to the spool by load without having waited.
- No message is sent again while a final dot of ours may have been heard, unless it was in doubt.
- Every recipient is in one place, and none is lost (`ledger`).
"""

from dataclasses import dataclass

AUDIT_EVERY = 20_000
"""Events between two counts of everything."""


class Violated(AssertionError):
    """An invariant does not hold; the text says which, and `where` in which run, and when."""


@dataclass(frozen=True, slots=True)
class Where:
    """The run, and the moment."""

    scenario: str
    seed: int
    elapsed: float

    def __str__(self) -> str:
        return f"{self.scenario}, seed {self.seed}, after {self.elapsed:.3f} s"


def demand(holds: bool, what: str) -> None:
    """Raise `Violated` unless something holds."""
    if not holds:
        raise Violated(what)
