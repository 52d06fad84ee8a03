"""The kinds of evidence, one module each, in the order in which they become known and cost more.

A kind of evidence compiles its part of a rule into conditions (`classification.subject`): functions
of a `Subject` that answer whether that part holds, and why, and from which step of the dialog on
the answer is final. To add a kind, write a module with `conditions` and name it in `EVIDENCE`.
"""

from mailshed.classification.evidence import (
    client,
    content,
    envelope,
    header,
    history,
    priority,
    session,
)

EVIDENCE = (client, session, priority, envelope, content, header, history)
"""Modules in the order their conditions are tried: cheapest and earliest first."""
