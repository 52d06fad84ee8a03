"""The reply table: what the end of a transaction says about the backend, in one word.

A limit must know why a message was not taken: a full mailbox, a greylist and a server without disk
all say 4xx, and only the last one is a reason to send less. So the enhanced status code decides
(RFC 3463), the basic code only where there is none, and before both the preset, for replies that
mean something else at one product. `_ROWS` is that table.

| what came | ending |
| --- | --- |
| no connection, one that was reset or closed, 4xx or 5xx before MAIL, 421 at any time | REFUSED |
| nothing in time before our final dot, or no SMTP | STALLED |
| nothing after our final dot | IN_DOUBT |
| 4.3.x (system), 4.4.x (network and routing), 451, 452, 454, other 4xx | BUSY |
| 4.1.x, 4.2.x (address, mailbox), 432, 450 | RECIPIENT |
| 4.5.x, 4.6.x, 4.7.x (protocol, content, policy), 4.1.7, 4.1.8 (sender), 455 | POLICY |
| 452 to RCPT without more, which is about their number (RFC 5321, 4.5.3.1.10) | POLICY |
| 2xx or 5xx to the mail data | COMPLETED |
| 5xx before that | REJECTED |

A reply that nobody listed counts as BUSY: sending a little less is the harmless mistake. One that
never speaks for the server is no reason to send less, so a code like 4.2.x stays RECIPIENT even if
all mail gets it: full mailboxes are no overload.

Recipients of one message may fare differently. What happened to the connection comes first, since
nothing else was learned for sure. Then: if the mail data was answered for good, the server has done
the work of a message, whatever else it said about single recipients. Of deferrals the one that
speaks for the whole server counts, and a refusal for good only if there was nothing else.

Pure.
"""

from collections.abc import Sequence
from dataclasses import replace

from mailshed.control.limit import SlotEnding
from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    Delivered,
    DeliveryResult,
    InDoubt,
    NoReply,
    StageTimes,
    TransactionResult,
)
from mailshed.mail.reply import Reply
from mailshed.relay.presets import GENERIC, Preset
from mailshed.terms import Stage

# Basic code (0: any), beginning of the enhanced status code, stage (None: any), ending. The first
# row that fits counts. A reply without an enhanced code has `4.0.0`.
_ROWS: Sequence[tuple[int, str, Stage | None, SlotEnding]] = (
    (421, "", None, SlotEnding.REFUSED),
    (432, "4.3.2", None, SlotEnding.RECIPIENT),
    (0, "4.1.7", None, SlotEnding.POLICY),
    (0, "4.1.8", None, SlotEnding.POLICY),
    (0, "4.1.", None, SlotEnding.RECIPIENT),
    (0, "4.2.", None, SlotEnding.RECIPIENT),
    (0, "4.3.", None, SlotEnding.BUSY),
    (0, "4.4.", None, SlotEnding.BUSY),
    (0, "4.5.", None, SlotEnding.POLICY),
    (0, "4.6.", None, SlotEnding.POLICY),
    (0, "4.7.", None, SlotEnding.POLICY),
    (432, "", None, SlotEnding.RECIPIENT),
    (450, "", None, SlotEnding.RECIPIENT),
    (452, "", Stage.RCPT, SlotEnding.POLICY),
    (455, "", None, SlotEnding.POLICY),
    (0, "", None, SlotEnding.BUSY),
)

# What counts if recipients fared differently, first the one that says most.
_ORDER = (
    SlotEnding.IN_DOUBT,
    SlotEnding.REFUSED,
    SlotEnding.STALLED,
    SlotEnding.COMPLETED,
    SlotEnding.BUSY,
    SlotEnding.RECIPIENT,
    SlotEnding.POLICY,
    SlotEnding.REJECTED,
    SlotEnding.UNUSED,
)
_POSITION = {ending: position for position, ending in enumerate(_ORDER)}


def ending_of(result: TransactionResult | None, preset: Preset = GENERIC) -> SlotEnding:
    """What `result` says about the backend; None: it was not asked."""
    if result is None:
        return SlotEnding.UNUSED
    first = result.recipients[0]
    if isinstance(first, Delivered) and all(each is first for each in result.recipients):
        return SlotEnding.COMPLETED  # nearly always
    endings = (_ending(each, preset) for each in dict.fromkeys(result.recipients))
    return min(endings, key=_POSITION.__getitem__)


def error_of(result: TransactionResult | None) -> str:
    """How the backend failed, for people; empty if it did not."""
    match result.recipients[0] if result is not None else None:
        case Deferred(stage, answer, detail):
            return f"{stage.value}: {answer.text if answer is not None else detail}"
        case InDoubt(detail):
            return f"dot: {detail}"
        case _:
            return ""


def times_of(result: TransactionResult, preset: Preset = GENERIC) -> StageTimes:
    """The times of `result` as far as they tell how busy the backend is.

    `service` is 0 where it tells nothing: a refusal that was held back on purpose. Where the reply
    to the final dot comes late by design, `service` ends with the mail data.
    """
    times = result.times
    if times.service >= preset.tarpit and any(isinstance(r, Bounced) for r in result.recipients):
        return StageTimes(connect=times.connect)
    if preset.has_late_dot:
        return replace(times, service=times.envelope + times.content)
    return times


def reply_ending(stage: Stage, reply: Reply, preset: Preset = GENERIC) -> SlotEnding:
    """What a 4xx at `stage` says about the backend: the table, and the preset before it."""
    code = reply.code
    if preset.texts:
        said = reply.text.lower()
        for its_code, text, ending in preset.texts:
            if code == its_code and text in said:
                return ending
    if stage in (Stage.CONNECT, Stage.EHLO):
        return SlotEnding.REFUSED
    status = reply.enhanced_status
    for its_code, prefix, its_stage, ending in _ROWS:
        if its_code in (0, code) and status.startswith(prefix) and its_stage in (None, stage):
            return ending
    raise AssertionError("the last row fits every reply")


def _ending(result: DeliveryResult, preset: Preset) -> SlotEnding:
    match result:
        case Delivered():
            return SlotEnding.COMPLETED
        case Bounced(stage):
            return SlotEnding.COMPLETED if stage is Stage.DOT else SlotEnding.REJECTED
        case InDoubt():
            return SlotEnding.IN_DOUBT
        case Deferred(stage, None, _, why):
            return _silence(stage, why)
        case Deferred(stage, reply):
            assert reply is not None, "the arm above has those without"
            return reply_ending(stage, reply, preset)


def _silence(stage: Stage, why: NoReply) -> SlotEnding:
    match why:
        case NoReply.NO_CONNECTION:
            return SlotEnding.REFUSED
        case NoReply.OUR_CHOICE | NoReply.UNSUPPORTED:
            return SlotEnding.UNUSED
        case NoReply.UNKNOWN if stage in (Stage.CONNECT, Stage.EHLO):
            return SlotEnding.REFUSED
        case NoReply.TIMED_OUT | NoReply.NOT_SMTP | NoReply.UNKNOWN:
            return SlotEnding.STALLED
