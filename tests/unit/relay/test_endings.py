"""The reply table, line by line."""

import pytest

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
    everyone,
)
from mailshed.mail.reply import make
from mailshed.relay.endings import ending_of, times_of
from mailshed.relay.presets import DOVECOT, EXCHANGE, GENERIC, POSTFIX, Preset
from mailshed.terms import Stage

COMPLETED, REJECTED, BUSY = SlotEnding.COMPLETED, SlotEnding.REJECTED, SlotEnding.BUSY
RECIPIENT, POLICY, REFUSED = SlotEnding.RECIPIENT, SlotEnding.POLICY, SlotEnding.REFUSED
STALLED, IN_DOUBT, UNUSED = SlotEnding.STALLED, SlotEnding.IN_DOUBT, SlotEnding.UNUSED

MAIL, RCPT, DATA, DOT = Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT
DIALOG = (MAIL, RCPT, DATA, DOT)


def ended(*recipients: DeliveryResult, preset: Preset = GENERIC) -> SlotEnding:
    return ending_of(TransactionResult(recipients=recipients), preset)


def later(stage: Stage, line: str) -> Deferred:
    return Deferred(stage, make(int(line[:3]), line[4:]))


def never(stage: Stage, line: str = "550 5.7.1 No") -> Bounced:
    return Bounced(stage, make(int(line[:3]), line[4:]))


def silent(stage: Stage, why: NoReply) -> Deferred:
    return Deferred(stage, None, "nothing", why)


TAKEN = Delivered(make(250, "2.0.0 Ok"))


# Without a reply.


@pytest.mark.parametrize(
    ("stage", "why", "expected"),
    [
        (Stage.CONNECT, NoReply.NO_CONNECTION, REFUSED),  # refused, or a 554 for a greeting
        (Stage.EHLO, NoReply.NO_CONNECTION, REFUSED),
        (Stage.CONNECT, NoReply.TIMED_OUT, STALLED),  # no connection or no greeting in time
        (Stage.EHLO, NoReply.TIMED_OUT, STALLED),
        (Stage.CONNECT, NoReply.NOT_SMTP, STALLED),
        (Stage.CONNECT, NoReply.UNKNOWN, REFUSED),  # a Maildir that cannot be opened
        (MAIL, NoReply.NO_CONNECTION, REFUSED),
        (RCPT, NoReply.NO_CONNECTION, REFUSED),
        (DATA, NoReply.NO_CONNECTION, REFUSED),
        (MAIL, NoReply.TIMED_OUT, STALLED),
        (RCPT, NoReply.TIMED_OUT, STALLED),
        (DATA, NoReply.TIMED_OUT, STALLED),
        (MAIL, NoReply.NOT_SMTP, STALLED),
        (DATA, NoReply.UNKNOWN, STALLED),
        (Stage.CONNECT, NoReply.OUR_CHOICE, UNUSED),  # the service is stopping
        (Stage.MAIL, NoReply.UNSUPPORTED, UNUSED),  # it was not asked
    ],
)
def test_silence_before_our_dot(stage: Stage, why: NoReply, expected: SlotEnding) -> None:
    assert ended(silent(stage, why)) is expected


def test_silence_after_our_dot_is_in_doubt_however_it_ended() -> None:
    assert ended(InDoubt("timed out")) is IN_DOUBT


def test_a_backend_that_was_not_asked_has_not_answered() -> None:
    assert ending_of(None) is UNUSED


# A reply for all.


@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.EHLO])
@pytest.mark.parametrize("line", ["421 4.3.2 Too many", "450 4.7.1 Later", "454 4.3.0 Not now"])
def test_a_4xx_before_mail_refuses_the_connection(stage: Stage, line: str) -> None:
    assert ended(later(stage, line)) is REFUSED


@pytest.mark.parametrize("stage", DIALOG)
@pytest.mark.parametrize(
    "line", ["421 4.3.2 Closing", "421 4.7.0 Error: too many errors", "421 Bye", "421 4.2.1 Moved"]
)
def test_421_refuses_the_connection_at_any_time(stage: Stage, line: str) -> None:
    assert ended(later(stage, line)) is REFUSED


@pytest.mark.parametrize("stage", DIALOG)
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # The system.
        ("451 4.3.0 Temporary lookup failure", BUSY),
        ("451 4.3.2 System busy", BUSY),
        ("451 4.3.5 Server configuration error", BUSY),
        ("452 4.3.1 Insufficient system storage", BUSY),
        ("454 4.3.0 Try again later", BUSY),
        ("450 4.3.0 Queue file write error", BUSY),
        ("431 4.3.1 Disk is full", BUSY),
        ("451 4.4.0 Message failed to be made redundant", BUSY),
        # A mailbox.
        ("432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded", RECIPIENT),
        ("450 4.2.0 Busy", RECIPIENT),
        ("450 4.2.1 Locked", RECIPIENT),
        ("452 4.2.2 Mailbox full", RECIPIENT),
        ("451 4.2.0 Busy", RECIPIENT),
        ("450 4.1.1 Recipient address rejected: unverified address", RECIPIENT),
        # Policy.
        ("450 4.7.1 Greylisted", POLICY),
        ("451 4.7.1 Greylisted", POLICY),
        ("454 4.7.0 Temporary authentication failure", POLICY),
        ("452 4.5.3 Too many recipients", POLICY),
        ("450 4.5.0 No recipient succeeded", POLICY),
        ("451 4.6.0 Strange content", POLICY),
        ("450 4.1.8 Sender address rejected: Domain not found", POLICY),
        ("450 4.1.7 Sender address rejected: unverified address", POLICY),
        ("455 4.5.4 Parameters", POLICY),
    ],
)
def test_the_enhanced_code_decides(stage: Stage, line: str, expected: SlotEnding) -> None:
    assert ended(later(stage, line)) is expected


@pytest.mark.parametrize(
    ("stage", "line", "expected"),
    [
        (RCPT, "450 Mailbox unavailable", RECIPIENT),
        (DOT, "450 Mailbox unavailable", RECIPIENT),
        (DOT, "451 Local error in processing", BUSY),
        (MAIL, "452 Insufficient system storage", BUSY),
        (RCPT, "452 Too many recipients", POLICY),
        (DOT, "452 Insufficient system storage", BUSY),
        (MAIL, "454 Not now", BUSY),
        (RCPT, "455 Unable to accommodate parameters", POLICY),
        (RCPT, "432 Throttled", RECIPIENT),
        (MAIL, "441 What now", BUSY),
        # A code that says nothing, and one that is of another class (RFC 2034, 4).
        (RCPT, "450 4.0.0 Not now", RECIPIENT),
        (DOT, "451 5.7.3 STARTTLS is required to send mail", BUSY),
        (DOT, "451 4.9.9 News", BUSY),
    ],
)
def test_without_an_enhanced_code_the_basic_one_decides(
    stage: Stage, line: str, expected: SlotEnding
) -> None:
    assert ended(later(stage, line)) is expected


def test_a_final_answer_to_the_mail_data_is_a_message_s_work() -> None:
    assert ended(TAKEN) is COMPLETED
    assert ended(never(DOT)) is COMPLETED


@pytest.mark.parametrize("stage", [MAIL, RCPT, DATA])
def test_a_5xx_before_it_is_less_work(stage: Stage) -> None:
    assert ended(never(stage, "550 5.1.1 No such user")) is REJECTED


# Recipients that fared differently.

OTHERS = Deferred(RCPT, None, "other recipients were refused", NoReply.OUR_CHOICE)
FULL = later(RCPT, "452 4.2.2 Mailbox full")
GREY = later(RCPT, "450 4.7.1 Greylisted")
SYSTEM = later(RCPT, "451 4.3.0 Error")


@pytest.mark.parametrize(
    ("recipients", "expected"),
    [
        # The connection says most: the rest was known before it broke.
        ((never(RCPT), later(RCPT, "421 4.3.2 Closing")), REFUSED),
        ((FULL, silent(DATA, NoReply.NO_CONNECTION)), REFUSED),
        ((FULL, silent(RCPT, NoReply.TIMED_OUT)), STALLED),
        ((never(RCPT), InDoubt("lost")), IN_DOUBT),
        # The mail data was answered: a message's work was done, whatever some recipients heard.
        ((TAKEN, FULL), COMPLETED),
        ((FULL, TAKEN), COMPLETED),
        ((SYSTEM, never(DOT)), COMPLETED),
        ((never(RCPT), TAKEN), COMPLETED),
        # It was deferred after the data, with recipients refused before: its own word.
        ((never(RCPT), later(DOT, "452 4.3.1 Full")), BUSY),
        ((FULL, later(DOT, "451 4.7.1 Scanner")), RECIPIENT),
        # Nothing was sent: who speaks for the whole server first, then who was deferred.
        ((FULL, SYSTEM, GREY), BUSY),
        ((GREY, FULL), RECIPIENT),
        ((never(RCPT), GREY), POLICY),
        ((OTHERS, never(RCPT)), REJECTED),
        ((OTHERS, FULL), RECIPIENT),
    ],
)
def test_of_several_recipients_counts_what_says_most(
    recipients: tuple[DeliveryResult, ...], expected: SlotEnding
) -> None:
    assert ended(*recipients) is expected
    assert ended(*reversed(recipients)) is expected


def test_of_lmtp_recipients_one_in_doubt_says_most() -> None:
    """The first was answered, and the server fell silent over the others."""
    taken, silent_over = Delivered(make(250, "2.0.0 Saved")), InDoubt("timed out")
    assert ended(taken, silent_over) is IN_DOUBT
    assert ended(taken, Delivered(make(250, "2.0.0 Saved too"))) is COMPLETED
    assert ended(taken, later(DOT, "452 4.2.2 Mailbox full")) is COMPLETED


# Presets.

CAPPED = (
    "421 4.3.2 The maximum number of concurrent connections has exceeded a limit, "
    "closing transmission channel"
)
RATED = "421 4.4.2 Message submission rate for this client has exceeded the configured limit"


@pytest.mark.parametrize(
    ("preset", "stage", "line", "generic", "expected"),
    [
        (EXCHANGE, Stage.CONNECT, CAPPED, REFUSED, REFUSED),
        (EXCHANGE, MAIL, RATED, REFUSED, BUSY),
        (EXCHANGE, MAIL, "452 4.3.1 Insufficient system resources", BUSY, BUSY),
        (
            EXCHANGE,
            DOT,
            "432 4.3.2 STOREDRV.Deliver; mailbox server thread limit exceeded",
            RECIPIENT,
            BUSY,
        ),
        (
            EXCHANGE,
            DOT,
            "432 4.3.2 STOREDRV.Deliver; mailbox database thread limit exceeded",
            RECIPIENT,
            BUSY,
        ),
        (
            EXCHANGE,
            DOT,
            "432 4.3.2 STOREDRV.Storage; not enough memory for mapi operation",
            RECIPIENT,
            BUSY,
        ),
        (
            EXCHANGE,
            DOT,
            "432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded",
            RECIPIENT,
            RECIPIENT,
        ),
        (
            EXCHANGE,
            RCPT,
            "450 4.5.0 Message rejected.  Excessive message rate from sender to recipient.",
            POLICY,
            POLICY,
        ),
        (POSTFIX, MAIL, "450 4.7.1 Error: too much mail from 192.0.2.1", POLICY, BUSY),
        (POSTFIX, RCPT, "450 4.7.1 Error: too many recipients from 192.0.2.1", POLICY, BUSY),
        (POSTFIX, RCPT, "452 4.5.3 Error: too many recipients", POLICY, POLICY),
        (
            POSTFIX,
            Stage.CONNECT,
            "421 4.7.0 mail.example.com Error: too many connections from 192.0.2.1",
            REFUSED,
            REFUSED,
        ),
        (POSTFIX, Stage.CONNECT, "421 4.3.2 All server ports are busy", REFUSED, REFUSED),
        (POSTFIX, RCPT, "450 4.3.2 Service currently unavailable", BUSY, POLICY),
        (POSTFIX, MAIL, "452 4.3.1 Insufficient system storage", BUSY, BUSY),
        (
            DOVECOT,
            RCPT,
            "451 4.3.0 <a@example.com> Too many concurrent deliveries for user",
            BUSY,
            RECIPIENT,
        ),
        (DOVECOT, DOT, "452 4.2.2 Quota exceeded (mailbox for user is full)", RECIPIENT, RECIPIENT),
        (DOVECOT, RCPT, "451 4.3.0 <a@example.com> Temporary internal error", BUSY, BUSY),
    ],
)
def test_a_product_s_replies_may_mean_something_else(
    preset: Preset, stage: Stage, line: str, generic: SlotEnding, expected: SlotEnding
) -> None:
    assert ended(later(stage, line)) is generic
    assert ended(later(stage, line), preset=preset) is expected


# Times.


def timed(result: DeliveryResult, service: float) -> TransactionResult:
    times = StageTimes(connect=1.0, mail=0.1, envelope=0.25, content=0.5, service=service)
    return TransactionResult(recipients=everyone(result, 2), times=times)


@pytest.mark.parametrize("preset", [GENERIC, POSTFIX, DOVECOT])
@pytest.mark.parametrize("result", [TAKEN, never(RCPT)])
def test_times_are_what_was_measured(preset: Preset, result: DeliveryResult) -> None:
    made = timed(result, 7.0)
    assert times_of(made, preset) is made.times


def test_the_late_reply_of_exchange_to_the_dot_is_left_out() -> None:
    assert times_of(timed(TAKEN, 30.0), EXCHANGE).service == 0.75


def test_a_refusal_that_exchange_held_back_is_no_latency() -> None:
    assert times_of(timed(never(RCPT), 5.0), EXCHANGE) == StageTimes(connect=1.0)
    quick = times_of(timed(never(RCPT), 4.9), EXCHANGE)
    assert (quick.mail, quick.envelope, quick.service) == (0.1, 0.25, 0.75)
