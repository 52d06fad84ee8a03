"""Commands from a message, verdicts from replies."""

from dataclasses import replace

import pytest

from mailshed.errors import BackendError, ConnectionLost, ProtocolViolation, TimedOut
from mailshed.mail.delivery import Bounced, Deferred, Delivered, InDoubt, NoReply
from mailshed.mail.reply import Reply, make
from mailshed.relay.backend import OutboundMessage
from mailshed.relay.envelope import (
    NO_SMTPUTF8,
    OTHERS_REFUSED,
    TIME_IS_UP,
    judge,
    mail_command,
    outcome,
    own_choice,
    rcpt_command,
    refusal,
    silence,
)
from mailshed.relay.offers import Offers
from mailshed.terms import Stage
from tests.support.outbound import outbound

NOTHING = Offers()
EVERYTHING = Offers.from_extensions(("pipelining", "size", "8bitmime", "dsn"))

OK = make(250, "2.0.0 Ok")
GO_AHEAD = make(354, "go ahead")
LATER = make(450, "4.2.1 later")
NEVER = make(550, "5.1.1 no such user")
CLOSING = make(421, "4.3.2 closing")


def test_null_reverse_path_is_written_as_empty_brackets() -> None:
    assert mail_command(outbound(sender=b""), NOTHING) == b"MAIL FROM:<>"


def test_addresses_go_out_byte_for_byte() -> None:
    """No parser touches them: this one would become `a b@example.com` in the standard library."""
    odd = b'"a\\ b"@Example.COM'
    assert mail_command(outbound(sender=odd), NOTHING) == b"MAIL FROM:<" + odd + b">"
    assert rcpt_command(odd, (), NOTHING) == b"RCPT TO:<" + odd + b">"


def test_size_is_ours_and_only_if_offered() -> None:
    message = outbound(b"12345\r\n", prefix=b"123\r\n", parameters=(b"SIZE=7",))
    assert mail_command(message, EVERYTHING).endswith(b" SIZE=12")
    assert mail_command(message, NOTHING) == b"MAIL FROM:<sender@example.com>"


def test_dsn_parameters_pass_verbatim_if_offered() -> None:
    """Case and xtext matter to who sent them (RFC 3461, 4)."""
    message = outbound(parameters=(b"BODY=8BITMIME", b"ret=HDRS", b"ENVID=QQ+2B314159"))
    assert mail_command(message, EVERYTHING).endswith(b" BODY=8BITMIME ret=HDRS ENVID=QQ+2B314159")
    options = (b"NOTIFY=SUCCESS,DELAY", b"ORCPT=rfc822;Bob+2Bx@Example.COM")
    assert rcpt_command(b"bob@example.com", options, EVERYTHING) == (
        b"RCPT TO:<bob@example.com> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2Bx@Example.COM"
    )


def test_parameters_that_are_not_offered_are_left_out() -> None:
    message = outbound(parameters=(b"BODY=8BITMIME", b"RET=FULL", b"ENVID=x"))
    assert mail_command(message, NOTHING) == b"MAIL FROM:<sender@example.com>"
    assert rcpt_command(b"a@b", (b"NOTIFY=NEVER",), NOTHING) == b"RCPT TO:<a@b>"
    no_dsn = Offers.from_extensions(("8bitmime",))
    assert mail_command(message, no_dsn).endswith(b"> BODY=8BITMIME")


@pytest.mark.parametrize(
    "parameter", [b"SMTPUTF8", b"BODY=BINARYMIME", b"REQUIRETLS", b"AUTH=<>", b"MT-PRIORITY=9"]
)
def test_parameters_that_a_relay_does_not_know_are_left_out(parameter: bytes) -> None:
    message = outbound(parameters=(parameter,), content=b"")
    assert mail_command(message, EVERYTHING) == b"MAIL FROM:<sender@example.com> SIZE=0"


@pytest.mark.parametrize(
    ("extension", "parameter"),
    [("SMTPUTF8", b"SMTPUTF8"), ("MT-PRIORITY", b"MT-PRIORITY=-3"), ("DELIVERBY", b"BY=60;N")],
)
def test_parameters_of_later_extensions_pass_if_offered(extension: str, parameter: bytes) -> None:
    message = outbound(parameters=(parameter,))
    assert mail_command(message, Offers.from_extensions((extension,))).endswith(b"> " + parameter)


class TestTime:
    """BY says how much of its time a message has left (RFC 2852, 4.1)."""

    OFFERED = Offers.from_extensions(("DELIVERBY",))

    def message(self, by: bytes, deadline: float | None) -> OutboundMessage:
        return replace(outbound(parameters=(b"RET=HDRS", by)), deadline_wall=deadline)

    @pytest.mark.parametrize(
        ("by", "wall", "sent"),
        [
            (b"BY=120;R", 1000.0, b"BY=120;R"),
            (b"by=120;r", 1030.5, b"BY=89;r"),
            (b"BY=120;NT", 1119.9, b"BY=0;NT"),
            (b"BY=120;N", 1180.0, b"BY=-60;N"),
            (b"BY=120;N", 1e13, b"BY=-999999999;N"),
        ],
    )
    def test_is_what_is_left_of_it(self, by: bytes, wall: float, sent: bytes) -> None:
        command = mail_command(self.message(by, 1120.0), self.OFFERED, wall)
        assert command == b"MAIL FROM:<sender@example.com> " + sent

    def test_is_not_said_to_who_does_not_ask(self) -> None:
        assert b"BY" not in mail_command(self.message(b"BY=120;N", 1120.0), NOTHING, 1000.0)

    @pytest.mark.parametrize(
        ("by", "wall", "is_over"),
        [
            (b"BY=120;R", 1118.9, False),
            (b"BY=120;R", 1119.1, True),
            (b"by=120;rt", 1120.0, True),
            (b"BY=120;N", 2000.0, False),
        ],
    )
    def test_that_is_up_is_not_offered_if_it_is_to_go_back(
        self, by: bytes, wall: float, is_over: bool
    ) -> None:
        choice = own_choice(self.message(by, 1120.0), wall)
        expected = Deferred(Stage.MAIL, None, TIME_IS_UP, NoReply.OUR_CHOICE)
        assert choice == (expected if is_over else None)

    def test_that_nobody_has_set_never_ends(self) -> None:
        assert own_choice(self.message(b"BY=1;R", None), 1e12) is None


def test_internationalized_mail_is_offered_only_to_who_takes_it() -> None:
    """RFC 6531, 3.2: there is no way to say it otherwise."""
    message = outbound(parameters=(b"BODY=8BITMIME", b"SMTPUTF8"))
    assert own_choice(message, 0.0) is None
    lacking = Deferred(Stage.MAIL, None, NO_SMTPUTF8, NoReply.UNSUPPORTED)
    assert own_choice(message, 0.0, lacks_utf8=True) == lacking


def test_a_parameter_cannot_bring_another_one_along() -> None:
    with pytest.raises(AssertionError, match="space"):
        rcpt_command(b"a@b", (b"NOTIFY=NEVER X=1",), EVERYTHING)


def test_refusal_maps_each_class_of_reply() -> None:
    assert refusal(Stage.MAIL, OK) is None
    assert refusal(Stage.MAIL, LATER) == Deferred(Stage.MAIL, LATER)
    assert refusal(Stage.DOT, NEVER) == Bounced(Stage.DOT, NEVER)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (TimedOut("late", Stage.RCPT), NoReply.TIMED_OUT),
        (ConnectionLost("gone", Stage.RCPT), NoReply.NO_CONNECTION),
        (ProtocolViolation("what?", Stage.RCPT), NoReply.NOT_SMTP),
        (None, NoReply.UNKNOWN),
    ],
)
def test_what_broke_the_dialog_says_why_there_is_no_reply(
    fault: BackendError | None, expected: NoReply
) -> None:
    assert silence(fault) is expected


class TestJudge:
    @staticmethod
    def verdicts(
        *replies: Reply, recipients: int, partial_ok: bool = False, lost_at: Stage | None = None
    ) -> list[object]:
        fault = None if lost_at is None else ConnectionLost("lost", lost_at)
        return list(judge(replies, fault, recipients, partial_ok=partial_ok))

    def test_all_accepted_may_be_sent(self) -> None:
        assert self.verdicts(OK, OK, OK, recipients=2) == [None, None]
        assert self.verdicts(OK, OK, GO_AHEAD, recipients=1) == [None]

    def test_a_refused_sender_decides_for_everyone(self) -> None:
        """Not the 503 that RCPT was answered behind it."""
        out_of_order = make(503, "5.5.1 need MAIL")
        bounced = Bounced(Stage.MAIL, NEVER)
        assert self.verdicts(NEVER, out_of_order, out_of_order, recipients=2) == [bounced, bounced]

    def test_everyone_refused_keeps_the_own_word(self) -> None:
        assert self.verdicts(OK, NEVER, LATER, recipients=2) == [
            Bounced(Stage.RCPT, NEVER),
            Deferred(Stage.RCPT, LATER),
        ]

    def test_a_mixed_outcome_defers_those_who_were_accepted(self) -> None:
        others = Deferred(Stage.RCPT, None, OTHERS_REFUSED, NoReply.OUR_CHOICE)
        assert self.verdicts(OK, OK, NEVER, LATER, recipients=3) == [
            others,
            Bounced(Stage.RCPT, NEVER),
            Deferred(Stage.RCPT, LATER),
        ]

    def test_partial_ok_lets_a_mixed_outcome_go_on(self) -> None:
        assert self.verdicts(OK, OK, NEVER, recipients=2, partial_ok=True) == [
            None,
            Bounced(Stage.RCPT, NEVER),
        ]

    def test_refused_data_is_for_those_who_were_accepted(self) -> None:
        assert self.verdicts(OK, OK, NEVER, LATER, recipients=2, partial_ok=True) == [
            Deferred(Stage.DATA, LATER),
            Bounced(Stage.RCPT, NEVER),
        ]

    def test_a_lost_connection_defers_all_who_have_no_word_yet(self) -> None:
        lost = Deferred(Stage.RCPT, None, "lost", NoReply.NO_CONNECTION)
        assert self.verdicts(OK, OK, NEVER, recipients=3, lost_at=Stage.RCPT) == [
            lost,
            Bounced(Stage.RCPT, NEVER),
            lost,
        ]
        assert self.verdicts(recipients=1, lost_at=Stage.MAIL) == [
            Deferred(Stage.MAIL, None, "lost", NoReply.NO_CONNECTION)
        ]

    def test_421_is_the_word_for_all_who_have_none_yet(self) -> None:
        assert self.verdicts(OK, OK, NEVER, CLOSING, recipients=4, lost_at=Stage.RCPT) == [
            Deferred(Stage.RCPT, CLOSING, "lost"),
            Bounced(Stage.RCPT, NEVER),
            Deferred(Stage.RCPT, CLOSING),
            Deferred(Stage.RCPT, CLOSING, "lost"),
        ]


SAVED = make(250, "2.0.0 saved")
GONE = ConnectionLost("gone", Stage.DOT)


@pytest.mark.parametrize(
    ("reply", "fault", "is_dot_sent", "expected"),
    [
        (SAVED, None, True, Delivered(SAVED)),
        (SAVED, GONE, True, Delivered(SAVED)),
        (make(452, "4.2.2 full"), None, True, Deferred(Stage.DOT, make(452, "4.2.2 full"))),
        (make(550, "5.7.1 no"), None, True, Bounced(Stage.DOT, make(550, "5.7.1 no"))),
        (None, GONE, True, InDoubt("gone")),
        (make(552, "5.3.4 big"), None, False, Bounced(Stage.DATA, make(552, "5.3.4 big"))),
        (None, GONE, False, Deferred(Stage.DATA, None, "gone", NoReply.NO_CONNECTION)),
        (None, None, False, Deferred(Stage.DATA, None, OTHERS_REFUSED, NoReply.OUR_CHOICE)),
    ],
)
def test_a_reply_to_the_mail_data_counts_before_the_dot_only_as_a_refusal(
    reply: Reply | None, fault: BackendError | None, expected: object, *, is_dot_sent: bool
) -> None:
    assert outcome(reply, fault, is_dot_sent=is_dot_sent) == expected


def test_a_message_that_is_taken_before_its_end_was_not_understood() -> None:
    early = outcome(SAVED, None, is_dot_sent=False)
    assert isinstance(early, Deferred)
    assert (early.reply, early.no_reply) == (None, NoReply.NOT_SMTP)
