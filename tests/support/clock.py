"""A clock that is turned by hand, for whatever takes a `mailshed.clock.Clock`."""


class ManualClock:
    """Both times of a process, as a test wants them.

    They differ by a fixed origin, so that a mix-up of the two is a gross error and not a small one.
    """

    def __init__(self, *, monotonic: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self._monotonic = monotonic
        self._wall = wall

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin."""
        return self._monotonic

    def wall(self) -> float:
        """Seconds since the Unix epoch."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        assert seconds >= 0, "monotonic time does not go back; see set_wall"
        self._monotonic += seconds
        self._wall += seconds

    def set_wall(self, wall: float) -> None:
        """Let the wall clock jump, forwards or back, as an operator or NTP can."""
        self._wall = wall
