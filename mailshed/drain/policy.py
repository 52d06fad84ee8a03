"""What the drain reads of the configuration; a reload replaces it as a whole."""

from dataclasses import dataclass

from mailshed.config.policy import ClassificationPolicy
from mailshed.drain.matter import ReportPolicy
from mailshed.drain.retry import RetryPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainPolicy:
    """One configuration of the drain."""

    classification: ClassificationPolicy
    retry: RetryPolicy
    reports: ReportPolicy
