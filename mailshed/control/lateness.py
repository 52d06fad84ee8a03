"""What of a service time may be our own doing: the lateness of our event loop.

A limit sees the backend through our clock, and our clock runs in our event loop. When the loop is
busy, octets wait in it until they leave, replies wait in the socket until they are read, and then
until the transaction goes on. With twenty messages in flight on a busy processor that is thirty
milliseconds: a backend that answers within one looks thirty times as slow as it is, and its limit
would be cut for what is our own queue. What is not relayed then is spooled, which is more work, and
the loop is later still.

The last part is known of each message: a reply is stamped when it is read. A turn of the loop lets
each who is due run once, so a message waits for one turn from the write of a command until it
leaves, one from then until the reply is read, and of those two the last part is half a turn. So of
each wait all in all four times as much may be our own doing as what is known, in the mean; of a
single message the mean counts, or its own lateness if that is more.

That is a bound and no measurement, so it is not subtracted. It leaves open a range for what the
backend took, and the time in it that is nearest to what was expected of the backend is believed:
who could be as fast as ever is not suspected. Beyond the range the backend is seen as well as
before: with a doubt of thirty milliseconds, one that takes a hundred instead of ten shows seventy.

Pure; times are seconds. Without lateness, times are as they were.
"""

from dataclasses import replace

from mailshed.mail.delivery import StageTimes

DOUBT_FACTOR = 4.0
"""So many times what is known of our lateness may be our own doing."""
SMOOTHING = 1 / 32
"""The weight of a message in the mean."""
LATE_MAX = 1.0
"""More than that (seconds) does not enter the mean: a service that stood still, as behind a disk
that hangs, is not late any more when it goes on. The messages that it happened to are judged by
their own lateness; with little mail, those after them would be in doubt for minutes."""


class Lateness:
    """How late the event loop is, as seen by messages to one backend."""

    def __init__(self) -> None:
        self.mean = 0.0
        """Of the latest messages: for how long their replies lay with us after they were read."""

    def note(self, lateness: float) -> None:
        """Learn from one message."""
        self.mean += SMOOTHING * (min(lateness, LATE_MAX) - self.mean)

    def doubt(self, lateness: float) -> float:
        """How much of the time of a message that was so late may be our own doing."""
        return DOUBT_FACTOR * max(lateness, self.mean)

    def times_of_backend(
        self, times: StageTimes, *, mail: float, envelope: float, data: float
    ) -> StageTimes:
        """The times that the backend took, as far as we can say; the others are what is usual.

        `data` is the time from the last reply before the mail data on. Either half has a wait.
        """
        doubt = self.doubt(times.lateness) / 2
        if doubt <= 0.0:
            return times
        took = _nearest(envelope, times.envelope, doubt)
        rest = times.service - times.envelope
        return replace(
            times,
            mail=_nearest(mail, times.mail, doubt) if times.mail > 0.0 else 0.0,
            envelope=took,
            content=_nearest(data, times.content, doubt),
            service=took + _nearest(data, rest, doubt),
        )


def _nearest(usual: float, measured: float, doubt: float) -> float:
    """What is nearest to the usual time, of all that it may have been; never nothing."""
    return min(measured, max(usual, measured - doubt))
