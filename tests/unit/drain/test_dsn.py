"""What was asked at the door is read from the spool, and garbage costs nobody their report."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailshed.drain.dsn import (
    deadline,
    is_returned_at_deadline,
    of_mail,
    of_rcpt,
    wants_delay,
    wants_failure,
    wants_success,
)
from mailshed.mail.parameters import Notify, OriginalRecipient, Ret
from tests.support.builders import WALL


@pytest.mark.parametrize(
    ("parameters", "success", "failure", "delay"),
    [
        ((), False, True, True),
        ((b"NOTIFY=NEVER",), False, False, False),
        ((b"NOTIFY=SUCCESS",), True, False, False),
        ((b"NOTIFY=FAILURE",), False, True, False),
        ((b"NOTIFY=DELAY",), False, False, True),
        ((b"notify=success,failure",), True, True, False),
        ((b"NOTIFY=FAILURE,DELAY",), False, True, True),
        ((b"NOTIFY=SUCCESS,DELAY",), True, False, True),
        ((b"NOTIFY=SUCCESS,FAILURE,DELAY",), True, True, True),
        ((b"ORCPT=rfc822;a@x", b"notify=delay"), False, False, True),
        ((b"ORCPT=rfc822;SUCCESS@x",), False, True, True),
        # Of a spool from before anyone looked: as if nothing had been said.
        ((b"NOTIFY=",), False, True, True),
        ((b"NOTIFY=NEVER,FAILURE",), False, True, True),
        ((b"NOTIFY=SUCCESSFUL",), False, True, True),
        ((b"X=1", b"NOTIFY=NEVER"), False, False, False),
    ],
)
def test_notify_decides_who_hears_of_what(
    parameters: tuple[bytes, ...], success: bool, failure: bool, delay: bool
) -> None:
    """RFC 3461, 4.1: with NOTIFY only what it names; without it, failures and delays."""
    assert wants_success(parameters) is success
    assert wants_failure(parameters) is failure
    assert wants_delay(parameters) is delay


def test_a_delay_may_be_told_only_to_who_has_asked() -> None:
    assert not wants_delay((), is_unasked=False)
    assert wants_delay((b"NOTIFY=DELAY",), is_unasked=False)
    assert not wants_delay((b"NOTIFY=FAILURE",), is_unasked=False)


def test_one_strange_parameter_costs_none_of_the_others() -> None:
    asked = of_mail((b"RET=ALL", b"ENVID=QQ+2B1", b"X-OLD", b"SMTPUTF8", b"MT-PRIORITY=3"))
    assert (asked.ret, asked.envid, asked.is_utf8, asked.priority) == (None, "QQ+1", True, 3)
    asked = of_mail((b"ENVID=x+0D+0AX-Evil:+201", b"RET=FULL"))
    assert (asked.ret, asked.envid) == (Ret.FULL, None)
    wishes = of_rcpt((b"NOTIFY=DELAY", b"ORCPT=garbage"))
    assert (wishes.notify, wishes.orcpt) == (frozenset({Notify.DELAY}), None)


def test_a_sender_may_name_its_recipient_in_any_script() -> None:
    expected = OriginalRecipient("utf-8", "j\u00fcrgen@example.net")
    for named in (b"ORCPT=utf-8;j\\x{FC}rgen@example.net", "ORCPT=utf-8;j\u00fcrgen@example.net"):
        octets = named if isinstance(named, bytes) else named.encode()
        assert of_rcpt((octets,)).orcpt == expected


def test_the_deadline_counts_from_the_arrival() -> None:
    assert deadline((), WALL) is None
    assert deadline((b"RET=HDRS",), WALL) is None
    assert deadline((b"by=120;N",), WALL) == WALL + 120
    assert deadline((b"BY=-5;N",), WALL) == WALL - 5
    assert deadline((b"BY=soon;N",), WALL) is None


@pytest.mark.parametrize(
    ("parameters", "is_returned"),
    [((), False), ((b"BY=60;N",), False), ((b"BY=60;R",), True), ((b"BY=60;rt",), True)],
)
def test_at_its_deadline_a_message_goes_back_only_if_it_is_to(
    parameters: tuple[bytes, ...], is_returned: bool
) -> None:
    assert is_returned_at_deadline(parameters) is is_returned


_WORDS = st.sampled_from(
    [b"NOTIFY", b"ORCPT", b"RET", b"ENVID", b"BY", b"SMTPUTF8", b"=", b";", b"SUCCESS", b"+0A"]
)


@given(
    st.lists(st.one_of(st.binary(max_size=30), st.lists(_WORDS, max_size=6).map(b"".join))).map(
        tuple
    )
)
def test_nothing_that_a_spool_may_hold_breaks_a_reader(parameters: tuple[bytes, ...]) -> None:
    of_mail(parameters)
    of_rcpt(parameters)
    assert wants_success(parameters) in (True, False)
    assert deadline(parameters, WALL) is None or any(b"=" in each for each in parameters)
