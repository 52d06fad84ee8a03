"""The envelope while it is being told: what MAIL and RCPT may say, and what they are answered."""

from collections.abc import Callable

import pytest

from mailshed.config.policy import SessionLimits
from mailshed.listener import transaction
from mailshed.listener.transaction import PendingTransaction
from mailshed.mail import reply
from mailshed.mail.address import Mailbox
from mailshed.mail.parameters import DeliverBy, MailParameters
from mailshed.mail.reply import Reply
from tests.support.builders import session_limits

LIMITS = session_limits(message_size_max=1000, recipients_max=100)


def anyone(_mailbox: Mailbox) -> Reply | None:
    return None


def nobody(_mailbox: Mailbox) -> Reply | None:
    return reply.RELAY_DENIED


def told(
    made: PendingTransaction,
    argument: bytes,
    limits: SessionLimits,
    refuse: Callable[[Mailbox], Reply | None],
) -> Reply:
    """The answer to RCPT, where policy says what `refuse` does."""
    read = made.read_recipient(argument, limits)
    return read if isinstance(read, Reply) else made.add(read, refuse(read.mailbox))


def begun(argument: bytes = b"FROM:<a@b.example>") -> PendingTransaction:
    made = PendingTransaction()
    assert made.begin(argument, LIMITS, 5.0) is reply.SENDER_OK
    return made


def test_mail_keeps_path_and_parameters_as_they_came_but_for_size() -> None:
    made = begun(b"FROM:<A@b.example> SIZE=10 BODY=8bitmime ENVID=Ab+2B RET=hdrs")
    assert made.mail is not None
    assert made.mail.mailbox is not None
    assert made.mail.mailbox.raw == b"A@b.example"
    assert made.mail.parameters == (b"BODY=8bitmime", b"ENVID=Ab+2B", b"RET=hdrs")
    assert made.started_at == 5.0


def test_the_null_reverse_path_begins_a_transaction() -> None:
    made = begun(b"FROM:<>")
    assert made.mail is not None
    assert made.mail.mailbox is None


@pytest.mark.parametrize(
    ("argument", "code", "text"),
    [
        (b"FROM:<a@b.example> SIZE=1001", 552, "5.3.4"),
        (b"FROM:<a@b.example> SIZE=x", 501, "SIZE"),
        (b"FROM:<a@b.example> SIZE=" + b"9" * 21, 501, "SIZE"),
        (b"FROM:<a@b.example> BODY=BINARYMIME", 501, "BODY"),
        (b"FROM:<a@b.example> HOLDFOR=3", 555, "not recognized"),
        (b"FROM:a@b.example", 501, "<>"),
        (b"TO:<a@b.example>", 501, "FROM:"),
        ("FROM:<é@b.example>".encode(), 553, "SMTPUTF8"),
    ],
)
def test_a_refused_mail_leaves_no_transaction(argument: bytes, code: int, text: str) -> None:
    made = PendingTransaction()
    refused = made.begin(argument, LIMITS, 0.0)
    assert refused.code == code
    assert text in refused.text
    assert made.mail is None


def test_rcpt_keeps_the_parameters_of_dsn_as_they_came() -> None:
    made = begun()
    answer = told(made, b"TO:<c@d.example> NOTIFY=Never ORCPT=rfc822;C@d.example", LIMITS, anyone)
    assert answer is reply.RECIPIENT_OK
    assert made.recipients[0].parameters == (b"NOTIFY=Never", b"ORCPT=rfc822;C@d.example")


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        (b"TO:<>", 501),
        (b"TO:<c@d.example> SIZE=3", 555),
        (b"TO:<c@d.example", 501),
        ("TO:<ç@d.example>".encode(), 553),
    ],
)
def test_a_refused_rcpt_adds_nobody(argument: bytes, code: int) -> None:
    made = begun()
    assert told(made, argument, LIMITS, anyone).code == code
    assert made.recipients == []


def test_policy_refuses_with_its_own_reply() -> None:
    made = begun()
    assert told(made, b"TO:<c@d.example>", LIMITS, nobody) is reply.RELAY_DENIED
    assert made.recipients == []


@pytest.mark.parametrize("refusal", [None, reply.UNKNOWN_RECIPIENT])
def test_nothing_is_settled_before_it_is_known_whether_policy_refuses(
    refusal: Reply | None,
) -> None:
    made = begun()
    before = made.octets
    read = made.read_recipient(b"TO:<c@d.example> NOTIFY=NEVER", LIMITS)
    assert not isinstance(read, Reply)
    assert (made.recipients, made.octets) == ([], before)
    assert made.add(read, refusal) is (refusal or reply.RECIPIENT_OK)
    assert len(made.recipients) == (refusal is None)
    assert made.recipients_refused == (refusal is not None)
    assert made.octets == before + (23 if refusal is None else 0)


def test_recipients_that_are_refused_without_end_overrun_the_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A list may be old, but not that old."""
    monkeypatch.setattr(transaction, "RECIPIENT_EXCESS_MAX", 2)
    made = begun()
    for is_overrun in (False, False, True):
        told(made, b"TO:<c@d.example>", LIMITS, nobody)
        assert made.is_overrun is is_overrun


def test_too_many_recipients_are_told_apart_from_far_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transaction, "RECIPIENT_EXCESS_MAX", 2)
    made = begun()
    for number in range(LIMITS.recipients_max):
        told(made, b"TO:<c%d@d.example>" % number, LIMITS, anyone)
    for is_overrun in (False, False, True):
        answer = told(made, b"TO:<more@d.example>", LIMITS, anyone)
        assert answer is reply.TOO_MANY_RECIPIENTS
        assert made.is_overrun is is_overrun
    assert len(made.recipients) == LIMITS.recipients_max


# What parameters mean.


def test_what_the_parameters_say_stands_beside_them() -> None:
    made = PendingTransaction()
    argument = b"FROM:<a@b.example> MT-PRIORITY=7 BY=90;R SMTPUTF8 AUTH=c@d.example"
    answer = made.begin(argument, LIMITS, 0.0, is_trusted=True, has_utf8=True)
    assert answer is reply.SENDER_OK
    assert made.mail is not None
    assert b" ".join(made.mail.parameters) == argument.partition(b" ")[2]
    assert made.meaning == MailParameters(
        priority=7,
        deliver_by=DeliverBy(90, is_returned=True),
        is_utf8=True,
        auth="c@d.example",
    )


def test_the_word_of_a_stranger_does_not_count() -> None:
    """Neither about how urgent it is, nor about who has sent it."""
    made = PendingTransaction()
    argument = b"FROM:<a@b.example> MT-PRIORITY=7 AUTH=c@d.example RET=HDRS"
    assert made.begin(argument, LIMITS, 0.0) is reply.PRIORITY_IGNORED
    assert made.mail is not None
    assert made.mail.parameters == (b"RET=HDRS", b"AUTH=<>")
    assert (made.meaning.priority, made.meaning.auth) == (None, "")


@pytest.mark.parametrize(
    ("said", "kept"), [(b"90;R", b"90;N"), (b"90;rt", b"90;NT"), (b"-5;nt", b"-5;nt")]
)
def test_mail_of_a_stranger_whom_nobody_tells_is_not_returned_early(
    said: bytes, kept: bytes
) -> None:
    made = PendingTransaction()
    assert made.begin(b"FROM:<a@b.example> RET=HDRS BY=" + said, LIMITS, 0.0).is_success
    assert made.mail is not None
    assert made.mail.parameters == (b"RET=HDRS", b"BY=" + kept)
    assert made.meaning.deliver_by is not None
    assert not made.meaning.deliver_by.is_returned


def test_other_scripts_need_smtputf8_and_that_needs_a_mail_server_that_has_it() -> None:
    argument = "FROM:<é@b.example>".encode()
    refused = PendingTransaction().begin(argument, LIMITS, 0.0, has_utf8=True)
    assert refused is reply.NON_ASCII_ADDRESS
    with_parameter = argument + b" SMTPUTF8"
    for said in (argument, with_parameter):  # nobody is told to say what was not offered
        assert PendingTransaction().begin(said, LIMITS, 0.0) is reply.NON_ASCII_NOT_TAKEN
    assert PendingTransaction().begin(b"FROM:<> SMTPUTF8", LIMITS, 0.0).code == 555
    made = PendingTransaction()
    assert made.begin(with_parameter, LIMITS, 0.0, has_utf8=True) is reply.SENDER_OK
    rcpt = "TO:<ç@bücher.example> ORCPT=utf-8;ç@bücher.example".encode()
    assert told(made, rcpt, LIMITS, anyone) is reply.RECIPIENT_OK
    assert made.recipients[0].mailbox.domain == "xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("by", "code"), [(b"59;R", 555), (b"60;R", 250), (b"0;R", 501), (b"1;N", 250), (b"-9;N", 250)]
)
def test_a_deadline_has_to_leave_us_the_time_that_we_offer(by: bytes, code: int) -> None:
    made = PendingTransaction()
    assert made.begin(b"FROM:<a@b.example> BY=" + by, LIMITS, 0.0).code == code


# Octets.


def test_the_parameters_of_one_recipient_at_their_longest_pass() -> None:
    made = begun()
    longest = b"ORCPT=rfc822;" + 493 * b"x" + b" NOTIFY=SUCCESS,FAILURE,DELAY"
    assert told(made, b"TO:<c@d.example> " + longest, LIMITS, anyone).code == 250
    longer = b"ORCPT=rfc822;" + 494 * b"x"
    assert told(made, b"TO:<c@d.example> " + longer, LIMITS, anyone).code == 501
    assert len(made.recipients) == 1


def test_the_parameters_of_mail_are_bounded() -> None:
    made = PendingTransaction()
    assert made.begin(b"FROM:<> ENVID=" + 101 * b"x", LIMITS, 0.0).code == 501
    assert made.mail is None
    assert made.begin(b"FROM:<> ENVID=" + 100 * b"x", LIMITS, 0.0) is reply.SENDER_OK


def test_a_parameter_may_be_given_once() -> None:
    """RFC 3461, 4; a hundred empty ones would hold kilobytes of objects and count few octets."""
    made = begun()
    again = told(made, b"TO:<c@d.example> NOTIFY=NEVER notify=DELAY", LIMITS, anyone)
    assert again.wire == b"501 5.5.4 Parameter given twice\r\n"
    assert made.recipients == []
    assert PendingTransaction().begin(b"FROM:<> SIZE=1 SIZE=2", LIMITS, 0.0).code == 501


def test_the_octets_of_an_envelope_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with too many recipients: those accepted stay, and short ones may still find room."""
    sender, path, parameter = b"a@b.example", b"c@d.example", b"ORCPT=rfc822;c@d.example"
    monkeypatch.setattr(
        transaction, "ENVELOPE_OCTETS_MAX", len(sender) + 2 * len(path) + len(parameter)
    )
    made = begun(b"FROM:<%b>" % sender)
    long, short = b"TO:<%b> %b" % (path, parameter), b"TO:<%b>" % path
    assert told(made, long, LIMITS, nobody) is reply.RELAY_DENIED
    assert told(made, long, LIMITS, anyone) is reply.RECIPIENT_OK
    assert told(made, long, LIMITS, anyone) is reply.TOO_MANY_RECIPIENTS
    assert told(made, short, LIMITS, anyone) is reply.RECIPIENT_OK
    assert told(made, short, LIMITS, anyone) is reply.TOO_MANY_RECIPIENTS
    assert (len(made.recipients), made.recipients_excess) == (2, 2)


def test_the_recipients_that_the_standard_asks_for_fit_at_their_longest() -> None:
    """RFC 5321, 4.5.3.1.8: 100 of them."""
    made = begun()
    path = 64 * b"l" + b"@" + b".".join([63 * b"d"] * 2) + b"." + 61 * b"d"
    parameters = b"ORCPT=rfc822;" + 493 * b"x" + b" NOTIFY=SUCCESS,FAILURE,DELAY"
    for _ in range(100):
        answer = told(made, b"TO:<%b> %b" % (path, parameters), LIMITS, anyone)
        assert answer is reply.RECIPIENT_OK
