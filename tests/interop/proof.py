"""Whether a message that arrived came and went on as it was meant to, by what servers wrote in it.

Our Received field says how the client came, the backend's how we did, and our log whether the
message waited in between.
"""

import re
from collections.abc import Collection

from tests.interop.backends import Backend
from tests.interop.contents import Trace
from tests.interop.trial import Trial
from tests.interop.ways import Mode, Way

_PROTOCOL = re.compile(r"\(mailshed\) with (UTF8|E|)SMTPS?(A?) id (\w+)")


def queue_id(trace: Trace) -> str:
    """Under which our log has the message."""
    return _protocol(trace)[3]


def is_encrypted(trace: Trace, backend: Backend) -> bool:
    """Whether it went to the backend over TLS."""
    return re.search(backend.encrypted, trace.theirs) is not None


def differences(trial: Trial, trace: Trace, backend: Backend, events: Collection[str]) -> list[str]:
    """What is not as it was meant; `events` are those of the message in our log."""
    kind, login, _ = _protocol(trace).groups()
    is_login_behind = re.search(backend.authenticated, trace.theirs) is not None
    is_tls_behind = is_encrypted(trace, backend)
    claims = {
        # The type is SMTP, and no more, after HELO; then only the clause says that there was TLS.
        "the client over TLS": (" tls TLS" in trace.ours, trial.client_way is not Way.PLAIN),
        "the client with a login": (bool(login), trial.client_way is Way.AUTH),
        "with SMTPUTF8": (kind == "UTF8", trial.message.is_utf8 or kind == "UTF8"),
        "to the backend with a login": (is_login_behind, trial.backend_way is Way.AUTH),
        "for its recipient": (trial.message.recipient in trace.theirs, True),
        "passed": ("delivered" in events, trial.cell.mode is Mode.PASS),
        "waited": ("spooled" in events, trial.cell.mode is Mode.SPOOL),
    }
    if trial.backend_way is not Way.OPPORTUNISTIC:
        claims["to the backend over TLS"] = is_tls_behind, trial.backend_way is not Way.PLAIN
    wrong = [
        f"{what}: {is_so}, and not {is_meant}"
        for what, (is_so, is_meant) in claims.items()
        if is_so != is_meant
    ]
    return [*wrong, trace.ours, trace.theirs] if wrong else []


def _protocol(trace: Trace) -> re.Match[str]:
    found = _PROTOCOL.search(trace.ours)
    assert found is not None, f"no protocol in {trace.ours}"
    return found
