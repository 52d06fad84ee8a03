"""ESMTP parameters: what each may say, and that nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.mail import parameters
from mailshed.mail.parameters import (
    Body,
    DeliverBy,
    MailParameters,
    Notify,
    OriginalRecipient,
    RcptParameters,
    Ret,
    decode_xtext,
    parse_mail_parameters,
    parse_rcpt_parameters,
    without,
)
from mailshed.mail.reply import Reply


def mail(*given: bytes) -> MailParameters:
    parsed = parse_mail_parameters(given)
    assert isinstance(parsed, MailParameters), parsed
    return parsed


def rcpt(*given: bytes, is_utf8: bool = False) -> RcptParameters:
    parsed = parse_rcpt_parameters(given, is_utf8=is_utf8)
    assert isinstance(parsed, RcptParameters), parsed
    return parsed


def refused(parsed: object) -> str:
    assert isinstance(parsed, Reply), parsed
    return parsed.text


def test_nothing_said_means_nothing() -> None:
    assert mail() == MailParameters()
    assert rcpt() == RcptParameters(notify=None, orcpt=None)


def test_every_parameter_has_its_meaning() -> None:
    assert mail(
        b"SIZE=1000",
        b"BODY=8BITMIME",
        b"SMTPUTF8",
        b"RET=HDRS",
        b"ENVID=QQ+2B314",
        b"AUTH=e+3Dmc2@example.com",
        b"MT-PRIORITY=-9",
        b"BY=120;RT",
    ) == MailParameters(
        size=1000,
        body=Body.EIGHT_BIT,
        is_utf8=True,
        ret=Ret.HDRS,
        envid="QQ+314",
        auth="e=mc2@example.com",
        priority=-9,
        deliver_by=DeliverBy(120, is_returned=True, is_traced=True),
    )
    assert rcpt(b"NOTIFY=SUCCESS,DELAY", b"ORCPT=rfc822;Bob+2BWard@Example.NET") == RcptParameters(
        notify=frozenset({Notify.SUCCESS, Notify.DELAY}),
        orcpt=OriginalRecipient("rfc822", "Bob+Ward@Example.NET"),
    )


def test_keywords_and_words_are_of_any_case() -> None:
    assert mail(b"body=7bit", b"ret=full", b"smtputf8") == MailParameters(
        body=Body.SEVEN_BIT, ret=Ret.FULL, is_utf8=True
    )
    assert mail(b"by=5;n").deliver_by == DeliverBy(5, is_returned=False)
    assert rcpt(b"notify=Never").notify == frozenset()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (b"SIZE", "SIZE=octets"),
        (b"SIZE=", "SIZE=octets"),
        (b"SIZE=-1", "SIZE=octets"),
        (b"SIZE=1k", "SIZE=octets"),
        (b"SIZE=" + 21 * b"1", "SIZE=octets"),
        (b"BODY", "BODY="),
        (b"BODY=BINARYMIME", "BODY="),
        (b"SMTPUTF8=1", "SMTPUTF8, without"),
        (b"RET", "RET=FULL"),
        (b"RET=SOME", "RET=FULL"),
        (b"ENVID", "ENVID=xtext"),
        (b"ENVID=+2", "ENVID=xtext"),
        (b"ENVID=+0A", "ENVID=xtext"),
        (b"ENVID=+7F", "ENVID=xtext"),
        (b"ENVID=+C3+A9", "ENVID=xtext"),
        (b"ENVID=" + 101 * b"x", "ENVID=xtext"),
        (b"AUTH", "AUTH=mailbox"),
        (b"AUTH=<a@b.example>", "AUTH=mailbox"),
        (b"AUTH=nobody", "AUTH=mailbox"),
        (b"AUTH=a+0D+0Ab@c.example", "AUTH=mailbox"),
        (b"AUTH=+FF@c.example", "AUTH=mailbox"),
        (b"AUTH=" + 600 * b"a" + b"@b", "AUTH=mailbox"),
        (b"MT-PRIORITY", "MT-PRIORITY=-9 to 9"),
        (b"MT-PRIORITY=10", "MT-PRIORITY=-9 to 9"),
        (b"MT-PRIORITY=-0", "MT-PRIORITY=-9 to 9"),
        (b"MT-PRIORITY=+1", "MT-PRIORITY=-9 to 9"),
        (b"MT-PRIORITY=03", "MT-PRIORITY=-9 to 9"),
        (b"BY", "BY=seconds"),
        (b"BY=60", "BY=seconds"),
        (b"BY=60;X", "BY=seconds"),
        (b"BY=60;RTT", "BY=seconds"),
        (b"BY=0;R", "BY=seconds"),
        (b"BY=-1;R", "BY=seconds"),
        (b"BY=1000000000;N", "BY=seconds"),
    ],
)
def test_a_wrong_value_of_mail_is_501_and_says_what_is_right(given: bytes, text: str) -> None:
    said = refused(parse_mail_parameters([given]))
    assert said.startswith("501 5.5.4 Syntax: ")
    assert text in said


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (b"NOTIFY", "NOTIFY=NEVER"),
        (b"NOTIFY=ALWAYS", "NOTIFY=NEVER"),
        (b"NOTIFY=NEVER,DELAY", "NOTIFY=NEVER"),
        (b"NOTIFY=DELAY,NEVER", "NOTIFY=NEVER"),
        (b"NOTIFY=DELAY,", "NOTIFY=NEVER"),
        (b"ORCPT", "ORCPT=type"),
        (b"ORCPT=bob@example.net", "ORCPT=type"),
        (b"ORCPT=rfc822;", "ORCPT=type"),
        (b"ORCPT=;bob@example.net", "ORCPT=type"),
        (b"ORCPT=x_y;bob", "ORCPT=type"),
        (b"ORCPT=rfc822;bob+", "ORCPT=type"),
        (b"ORCPT=rfc822;bob+0D+0AX", "ORCPT=type"),
        (b"ORCPT=rfc822;" + "é".encode(), "ORCPT=type"),
        (b"ORCPT=utf-8;" + "é".encode(), "ORCPT=type"),
        (rb"ORCPT=utf-8;\x{D800}", "ORCPT=type"),
        (rb"ORCPT=utf-8;\x{110000}", "ORCPT=type"),
        (rb"ORCPT=utf-8;\x{0A}", "ORCPT=type"),
        (rb"ORCPT=utf-8;\x{20", "ORCPT=type"),
        (rb"ORCPT=utf-8;a\b", "ORCPT=type"),
        (b"ORCPT=rfc822;" + 494 * b"x", "ORCPT=type"),
    ],
)
def test_a_wrong_value_of_rcpt_is_501_and_says_what_is_right(given: bytes, text: str) -> None:
    said = refused(parse_rcpt_parameters([given]))
    assert said.startswith("501 5.5.4 Syntax: ")
    assert text in said


@pytest.mark.parametrize(
    "given", [b"REQUIRETLS", b"HOLDFOR=60", b"HOLDUNTIL=x", b"CONPERM", b"X", b"NOTIFY=NEVER"]
)
def test_what_is_not_offered_is_555(given: bytes) -> None:
    assert refused(parse_mail_parameters([given])) == "555 5.5.4 MAIL parameter not recognized"


def test_rcpt_does_not_know_the_parameters_of_mail() -> None:
    assert refused(parse_rcpt_parameters([b"SIZE=3"])) == "555 5.5.4 RCPT parameter not recognized"
    assert refused(parse_rcpt_parameters([b"RRVS=2014-04-03T23:01:00Z"])).startswith("555 ")


def test_a_parameter_may_be_given_once() -> None:
    """Whatever the case of its letters."""
    assert parse_mail_parameters([b"RET=FULL", b"ret=FULL"]) is parameters.GIVEN_TWICE
    assert parse_rcpt_parameters([b"NOTIFY=NEVER", b"notify=NEVER"]) is parameters.GIVEN_TWICE


def test_all_of_them_together_are_bounded() -> None:
    most = [
        *(b"SIZE=" + 20 * b"9", b"BODY=8BITMIME", b"SMTPUTF8", b"RET=HDRS"),
        *(b"ENVID=" + 100 * b"+2B", b"AUTH=" + 64 * b"+2B" + b"@" + 154 * b"d"),
        *(b"MT-PRIORITY=-9", b"BY=-999999999;NT"),
    ]
    assert sum(map(len, most)) <= parameters.PARAMETER_OCTETS_MAX
    mail(*most)
    assert parse_mail_parameters([b"X=" + 999 * b"x"]) is parameters.TOO_LONG


def test_at_the_bounds() -> None:
    assert mail(b"ENVID=" + 100 * b"+2B").envid == 100 * "+"
    assert mail(b"BY=1;R").deliver_by == DeliverBy(1, is_returned=True)
    assert mail(b"BY=-999999999;N").deliver_by == DeliverBy(-999_999_999, is_returned=False)
    assert mail(b"BY=+5;N").deliver_by == DeliverBy(5, is_returned=False)
    assert [mail(b"MT-PRIORITY=%d" % each).priority for each in range(-9, 10)] == [*range(-9, 10)]
    longest = rcpt(b"ORCPT=rfc822;" + 493 * b"x").orcpt
    assert longest is not None
    assert len(longest.address) == 493


def test_nobody_knows_who_has_submitted_it() -> None:
    """`<>` is not the same as nothing said."""
    assert mail(b"AUTH=<>").auth == ""
    assert mail().auth is None


def test_an_original_recipient_of_another_script() -> None:
    """RFC 6533, 3: escaped anywhere, as it is only where SMTPUTF8 was said."""
    escaped = OriginalRecipient("utf-8", "Ärzte+x y@example.net")
    assert rcpt(rb"ORCPT=UTF-8;\x{C4}rzte+x\x{20}y@example.net").orcpt == escaped
    plain = "ORCPT=utf-8;Ärzte@example.net".encode()
    assert rcpt(plain, is_utf8=True).orcpt == OriginalRecipient("utf-8", "Ärzte@example.net")
    assert isinstance(parse_rcpt_parameters([b"ORCPT=utf-8;\xff"], is_utf8=True), Reply)
    assert isinstance(
        parse_rcpt_parameters(["ORCPT=utf-8;a\u202eb".encode()], is_utf8=True), Reply
    ), "nothing that turns a line around where it is shown"


def test_parameters_are_left_out_by_name() -> None:
    kept = without((b"SIZE=1", b"by=5;N", b"BODY=7BIT", b"BYE=1"), b"SIZE", b"BY")
    assert kept == (b"BODY=7BIT", b"BYE=1")


# Round trips.

printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=100)


def xtext(text: str) -> bytes:
    """RFC 3461, 4, from the grammar: what is not xchar is written in hexadecimal."""
    return "".join(
        each if "!" <= each <= "~" and each not in "+=" else f"+{ord(each):02X}" for each in text
    ).encode()


@given(printable)
def test_xtext_round_trip(text: str) -> None:
    assert decode_xtext(xtext(text)) == text.encode()
    assert mail(b"ENVID=" + xtext(text)).envid == text
    assert rcpt(b"ORCPT=rfc822;" + xtext(text)).orcpt == OriginalRecipient("rfc822", text)


@given(st.binary(max_size=40))
def test_xtext_is_printable_or_refused(octets: bytes) -> None:
    decoded = decode_xtext(octets)
    if decoded is not None:
        assert all(33 <= each <= 126 for each in octets)
        assert b"=" not in octets


@given(
    st.sampled_from(
        [b"SIZE", b"BODY", b"RET", b"ENVID", b"AUTH", b"MT-PRIORITY", b"BY", b"SMTPUTF8"]
    ),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="=")),
)
def test_any_value_is_read_or_refused_and_what_is_read_is_printable(
    keyword: bytes, value: str
) -> None:
    parsed = parse_mail_parameters([keyword + b"=" + value.encode() if value else keyword])
    if isinstance(parsed, MailParameters):
        assert (parsed.envid or "").isprintable()
        assert (parsed.auth or "").isprintable()
    else:
        assert parsed.wire.startswith(b"501 5.5.4 ")


@given(
    st.integers(-999_999_999, 999_999_999), st.booleans(), st.booleans(), st.sampled_from(["", "+"])
)
def test_by_round_trip(seconds: int, is_returned: bool, is_traced: bool, sign: str) -> None:
    mode = ("R" if is_returned else "N") + ("T" if is_traced else "")
    number = f"{sign}{seconds}" if seconds >= 0 else f"{seconds}"
    parsed = parse_mail_parameters([f"BY={number};{mode}".encode()])
    if is_returned and seconds <= 0:
        assert isinstance(parsed, Reply)
    else:
        assert isinstance(parsed, MailParameters)
        assert parsed.deliver_by == DeliverBy(seconds, is_returned, is_traced)
