"""What labels may say: closed sets of words, the same in code, on /metrics and in the rules.

A label whose values are not here comes from the configuration (`CONFIGURED`), and there is no third
kind: what a peer could choose would let it fill the memory of whoever scrapes.
"""

from typing import Literal, get_args

from mailshed.admission.decision import Action
from mailshed.admission.quota import Layer, Level
from mailshed.control.breaker import BreakerState
from mailshed.control.limit import SlotEnding
from mailshed.control.overrides import OverrideKind
from mailshed.control.rule import Cause

Result = Literal["accepted", "refused"]
Outcome = Literal["delivered", "spooled", "deferred", "rejected", "aborted"]
Disposition = Literal["relayed", "spooled"]
Source = Literal["live", "spool"]
Fate = Literal["delivered", "deferred", "bounced", "in_doubt"]
ReportLabel = Literal["failed", "delayed", "relayed", "delivered", "summary"]
Downgrade = Literal["8bitmime", "smtputf8"]
"""What a backend does not offer and a message would need."""
PostponedLabel = Literal["mailbox", "retry_budget"]
Verification = Literal[
    "cached_known",
    "cached_unknown",
    "known",
    "unknown",
    "listed",
    "unlisted",
    "accepts_all",
    "unverified_taken",
    "unverified_deferred",
]
Authentication = Literal["accepted", "rejected", "unavailable", "limited"]
TlsResult = Literal["ok", "failed", "timeout", "refused"]
"""How a TLS handshake with a client ended; as in `listener.handshakes`."""
TLS_VERSIONS = ("TLSv1.2", "TLSv1.3")
Timeliness = Literal["on_time", "late"]

Shut = Literal["total", "address", "network", "rate", "no_proxy", "proxy_header"]
"""What kept a connection out; the first four are those of `admission.sessions.Cap`."""
Overdue = Literal["command", "line", "data", "reply", "no_mail"]
"""What a client was too slow with, as in `listener.deadlines`."""

VERBS = (
    *("connect", "helo", "ehlo", "mail", "rcpt", "data", "dot"),
    *("rset", "noop", "quit", "vrfy", "starttls", "auth", "other"),
)
"""Commands that are a label of their own; `connect` is the greeting, `dot` the end of mail data."""
CODES = frozenset(
    {
        *("220", "221", "235", "250", "251", "252", "334", "354", "421", "450", "451", "452"),
        *("454", "455", "500", "501", "502", "503", "504", "521", "530", "534", "535", "538"),
        *("550", "551", "552", "553", "554", "555"),
    }
)
"""Reply codes that are a label of their own; any other is `other`."""
CODE_CLASSES = ("2xx", "4xx", "5xx", "none")
STAGES = ("connect", "ehlo", "mail", "rcpt", "data", "dot", "quit")
STAGE_TIMES = ("connect", "envelope", "content", "service")
SLOW_STAGES = ("mail", "envelope", "data")
STATES = ("queued", "deferred", "hold", "corrupt")
TERMS = ("accepted", "generated", "delivered", "bounced", "refused", "expired", "removed")
RESOURCES = (
    *("backend", "waits", "spool_age"),
    *("backend_slots", "sessions", "spool_bytes", "spool_messages", "spool_disk"),
    *("content_memory", "content_disk", "event_loop", "files", "memory", "live_waiting"),
)
BREAKER_STATES = tuple(each.value for each in BreakerState)
CAUSES = tuple(each.value for each in Cause if each is not Cause.START)
ENDINGS = tuple(each.value for each in SlotEnding if each is not SlotEnding.UNUSED)
CLOSED_SETS: dict[str, tuple[str, ...]] = {
    "result": tuple(
        dict.fromkeys(
            each
            for results in (Result, Fate, Verification, Authentication, TlsResult)
            for each in get_args(results)
        )
    ),
    "outcome": get_args(Outcome),
    "disposition": get_args(Disposition),
    "action": get_args(Action),
    "source": get_args(Source),
    "kind": (*get_args(ReportLabel), *get_args(Downgrade), *(each.value for each in OverrideKind)),
    "cause": (*get_args(PostponedLabel), *CAUSES, *get_args(Shut)),
    "phase": get_args(Overdue),
    "timeliness": get_args(Timeliness),
    "verb": VERBS,
    "code": (*sorted(CODES), "other"),
    "code_class": CODE_CLASSES,
    "stage": tuple(dict.fromkeys((*STAGES, *STAGE_TIMES))),
    "state": (*STATES, "busy", "idle", *BREAKER_STATES),
    "ending": ENDINGS,
    "term": TERMS,
    "protocol": TLS_VERSIONS,
    "resource": RESOURCES,
    "quota": tuple(each.value for each in Layer),
    "level": tuple(each.value for each in Level),
}
"""Values of the labels that are not names from the configuration (`reason`: `terms.Reason`)."""
CONFIGURED = frozenset({"class", "listener", "backend", "network", "hash", "version"})
"""Labels whose values come from the configuration or from the release."""
