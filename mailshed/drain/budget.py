"""How many retries a backend in trouble has to bear: a token bucket.

A backend that fails messages gets them again, and if it fails because it is overloaded, the second
helping keeps it down. So a retry needs a token. Every attempt that ends, first or later, puts a
tenth of a token into the bucket; a retry takes a whole one and gets it back if it succeeds. Retries
that succeed therefore go at full speed, and retries that keep failing fall to a tenth of all
attempts (SRE book, chapters 21 and 22; the buckets are Finagle's RetryBudget and the throttling of
gRPC's A6).

A trickle comes in by itself, so that a backend with little other traffic is still asked. The bucket
is bounded, so that a calm day does not pay for a storm; its size is also the most retries that
can be under way at a time.

Pure: `now` is monotonic seconds.
"""

DEPOSIT = 0.1
"""Tokens for each attempt that ends."""
TRICKLE = 10 / 60
"""Tokens a second that come by themselves."""
TOKENS_MAX = 200.0
"""What the bucket holds, and what it begins with."""
# Ten deposits are a token, whatever floating point makes of their sum.
_ROUNDING = 1e-9


class RetryBudget:
    """The tokens for retries at one backend."""

    def __init__(self) -> None:
        self._tokens = TOKENS_MAX
        self._filled_at = 0.0  # full is full, whatever has trickled since

    def tokens(self, now: float) -> float:
        """How many retries might begin now."""
        trickled = max(0.0, now - self._filled_at) * TRICKLE
        return min(TOKENS_MAX, self._tokens + trickled)

    def reserve(self, now: float) -> bool:
        """Take a token for a retry; False if there is none."""
        tokens = self.tokens(now)
        if tokens < 1.0 - _ROUNDING:
            return False
        self._set(tokens - 1.0, now)
        return True

    def give_back(self, now: float) -> None:
        """A retry has succeeded, or was not made after all."""
        self._set(self.tokens(now) + 1.0, now)

    def deposit(self, now: float) -> None:
        """An attempt has ended, in whatever way."""
        self._set(self.tokens(now) + DEPOSIT, now)

    def _set(self, tokens: float, now: float) -> None:
        self._tokens = min(TOKENS_MAX, max(0.0, tokens))
        self._filled_at = now
