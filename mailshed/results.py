"""What the result of a transaction is called in the log and in the metrics, live or from the spool.

Each recipient has a fate: delivered, bounced, deferred or in doubt. It is counted under the stage
at which it was decided and the reply's code, and shown with the backend's own words, or with what
broke where there are none.
"""

from collections.abc import Sequence

from mailshed.mail.delivery import (
    Bounced,
    Deferred,
    Delivered,
    DeliveryResult,
    InDoubt,
    NoReply,
    TransactionResult,
)
from mailshed.mail.reply import Reply
from mailshed.metrics.labels import Downgrade, Fate, Source
from mailshed.metrics.recorder import Metrics
from mailshed.terms import Stage


def count_transaction(
    metrics: Metrics,
    traffic_class: str,
    backend: str,
    result: TransactionResult,
    *,
    source: Source,
    parameters: Sequence[bytes],
) -> None:
    """Count a transaction that has ended; `parameters` are those of its MAIL."""
    if parameters and (kind := _downgrade(parameters, result)) is not None:
        metrics.downgrade(kind)
    metrics.stage_times(backend, result.times)
    is_in_doubt = False
    for each in result.recipients:
        fate, stage, code = fate_of(each)
        metrics.deliveries(traffic_class, source, fate, 1)
        metrics.backend_reply(backend, stage, code)
        is_in_doubt = is_in_doubt or fate == "in_doubt"
    if is_in_doubt:
        metrics.in_doubt(traffic_class)


def words_of(result: DeliveryResult) -> str:
    """The backend's reply, or what broke."""
    answer = answer_of(result)
    if answer is not None:
        return answer.text
    return result.detail if isinstance(result, Deferred | InDoubt) else ""


def answer_of(result: DeliveryResult) -> Reply | None:
    """The backend's reply, if it gave one."""
    return None if isinstance(result, InDoubt) else result.reply


def _downgrade(parameters: Sequence[bytes], result: TransactionResult) -> Downgrade | None:
    """What the backend does not offer and the message would have needed."""
    first = result.recipients[0]
    if isinstance(first, Deferred) and first.no_reply is NoReply.UNSUPPORTED:
        return "smtputf8"
    is_labelled = result.is_final or b"BODY" in result.passed_on
    if is_labelled or not any(isinstance(each, Delivered) for each in result.recipients):
        return None
    is_eight_bit = any(each.upper() == b"BODY=8BITMIME" for each in parameters)
    return "8bitmime" if is_eight_bit else None


def fate_of(result: DeliveryResult) -> tuple[Fate, Stage, int | None]:
    """The label of a result, the stage at which it was decided, and the reply's code."""
    match result:
        case Delivered(answer):
            return "delivered", Stage.DOT, answer.code
        case Bounced(stage, answer):
            return "bounced", stage, answer.code
        case Deferred(stage, answer):
            return "deferred", stage, answer.code if answer is not None else None
        case InDoubt():
            return "in_doubt", Stage.DOT, None
