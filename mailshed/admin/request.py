"""What an operator asks the service to do with the queue, as a JSON document, from both ends.

The command line makes a `QueueRequest` and sends `document`, the routes read it with
`parse_request`. Every part is checked there, since anyone in the socket's group may send anything.
"""

from dataclasses import dataclass
from typing import Any

from mailshed.errors import RequestError
from mailshed.spool.filter import EVERYTHING, QueueFilter, parse_filter

EXPORT = "export"
"""The verb beside those of `QueueAction`."""
REASON_MAX = 500
"""Characters."""
MESSAGES_DEFAULT = 10_000
MESSAGES_MAX = 100_000
"""The most that one request may change; what waits for its turn is in memory."""
DESTINATION_MAX = 4096

_KEYS = frozenset({"filter", "all", "reason", "max", "dry_run", "to"})


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRequest:
    """One request for all messages that match. `reason` may be missing for a dry run only."""

    wanted: QueueFilter
    is_all: bool = False
    """Every message is meant; without this an empty filter is taken for a mistake."""
    reason: str = ""
    messages_max: int = MESSAGES_DEFAULT
    """If more match, nothing is done."""
    is_dry_run: bool = False
    """Only say what would be done."""
    destination: str = ""
    """Of an export: the folder, for the audit log."""

    @property
    def document(self) -> dict[str, Any]:
        """The request as JSON."""
        return {
            "filter": {name: list(values) for name, values in self.wanted.parameters.items()},
            "all": self.is_all,
            "reason": self.reason,
            "max": self.messages_max,
            "dry_run": self.is_dry_run,
            "to": self.destination,
        }


def parse_request(document: object) -> QueueRequest:
    """Read a document; raises RequestError."""
    if not isinstance(document, dict) or not document.keys() <= _KEYS:
        raise RequestError(f"expected an object with some of {', '.join(sorted(_KEYS))}")
    request = QueueRequest(
        wanted=_filter(document.get("filter", {})),
        is_all=document.get("all", False) is True,
        reason=str(document.get("reason", "")).strip(),
        messages_max=_messages_max(document.get("max", MESSAGES_DEFAULT)),
        is_dry_run=document.get("dry_run", False) is True,
        destination=str(document.get("to", ""))[:DESTINATION_MAX],
    )
    check(request)
    return request


def check(request: QueueRequest) -> None:
    """Raise RequestError unless it is clear what is meant, and why."""
    if request.wanted == EVERYTHING and not request.is_all:
        raise RequestError("all: no message is named; for the whole queue say so")
    if request.wanted != EVERYTHING and request.is_all:
        raise RequestError("all: the whole queue, or what a filter names: not both")
    reason = request.reason
    if not reason and not request.is_dry_run:
        raise RequestError("reason: say why, for the audit log")
    if len(reason) > REASON_MAX or not reason.isprintable():
        raise RequestError(f"reason: expected at most {REASON_MAX} printable characters")
    if not 1 <= request.messages_max <= MESSAGES_MAX:
        raise RequestError(f"max: expected a number from 1 to {MESSAGES_MAX}")


def _messages_max(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _filter(given: object) -> QueueFilter:
    is_fit = isinstance(given, dict) and all(
        isinstance(values, list) and all(isinstance(value, str) for value in values)
        for values in given.values()
    )
    if not is_fit:
        raise RequestError("filter: expected lists of text by name")
    assert isinstance(given, dict)
    return parse_filter(given)
