"""What a metric is: its name, kind and labels, what it means and how to read it.

Units are base units: seconds and octets. Buckets are chosen for what is measured with them; the
objectives of the shipped classes are edges, so that a rule can count what was in time.
"""

from dataclasses import dataclass
from enum import Enum

PREFIX = "mailshed_"

# SMTP spans five milliseconds to ten minutes; the objectives of the shipped classes are edges.
SECONDS_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
    *(2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
# A stage of a delivery, for each of several backends: from a fast disk to a backend that hangs.
STAGE_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0)
# A question about a mailbox takes one round trip, or as long as a directory is slow.
QUESTION_BUCKETS = (0.005, 0.025, 0.1, 0.25, 1.0, 2.5, 5.0, 10.0)
# What clients wait for, per class and outcome: coarser, since it is the largest family by far.
TRANSACTION_BUCKETS = (0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 600.0)
# A live message waits for a slot until its class's patience ends, seconds at most.
SLOT_BUCKETS = (0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
# A spooled message waits for seconds or for days: up to the lifetime of a spool, five days.
WAIT_BUCKETS = (
    *(1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 1800.0),
    *(3600.0, 14400.0, 86400.0, 172800.0, 432000.0),
)
# Powers of four, and the size limits that mail servers really have.
SIZE_BUCKETS = (
    *(1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0),
    *(10485760.0, 26214400.0, 52428800.0),
)


class Kind(Enum):
    """Prometheus' metric types, as far as they are used."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: `name` without the prefix, `help` as exported, `reading` for people."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    reading: str
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """The name as it is scraped."""
        return PREFIX + self.name


def counter(name: str, labels: str, help_text: str, reading: str) -> Family:
    """A number that only rises. `labels` are separated by spaces."""
    return Family(name, Kind.COUNTER, tuple(labels.split()), help_text, reading)


def gauge(name: str, labels: str, help_text: str, reading: str) -> Family:
    """A number that rises and falls. `labels` are separated by spaces."""
    return Family(name, Kind.GAUGE, tuple(labels.split()), help_text, reading)


def histogram(
    name: str, labels: str, help_text: str, reading: str, buckets: tuple[float, ...]
) -> Family:
    """How many were up to each of `buckets`. `labels` are separated by spaces."""
    return Family(name, Kind.HISTOGRAM, tuple(labels.split()), help_text, reading, buckets)
