"""The lines about mail have the fields that operators look for, and bounds."""

import json
import re

from mailshed.terms import Reason, Stage
from tests.support.log_lines import DELAYS, MAIL, Log


def test_a_delivery_is_the_line_that_operators_know() -> None:
    log = Log()
    log.maillog.delivered(MAIL, backend="exch01", delays=DELAYS, reply="250 2.0.0 Ok")
    assert log.stream.getvalue() == (
        "2026-11-22T09:31:02.123Z info 01JZX4K7T2M8Q0RB event=delivered class=clinical"
        " from=<a@b.example> to=<c@d.example> nrcpt=1 size=1234 client=10.0.0.7"
        ' delay=0.12 delays=0.01/0.00/0.02/0.09 backend=exch01 reply="250 2.0.0 Ok"\n'
    )


def test_json_has_the_same_fields() -> None:
    log = Log("json")
    log.maillog.delivered(MAIL, backend="exch01", delays=DELAYS, reply="250 2.0.0 Ok")
    record = json.loads(log.lines[0])
    assert record == {
        "time": "2026-11-22T09:31:02.123Z",
        "level": "info",
        "id": "01JZX4K7T2M8Q0RB",
        "event": "delivered",
        "class": "clinical",
        "from": "<a@b.example>",
        "to": "<c@d.example>",
        "nrcpt": 1,
        "size": 1234,
        "client": "10.0.0.7",
        "delay": 0.12,
        "delays": "0.01/0.00/0.02/0.09",
        "backend": "exch01",
        "reply": "250 2.0.0 Ok",
    }


def test_a_rejected_command_says_who_wanted_what_where() -> None:
    log = Log()
    log.maillog.rejected(
        "S1",
        stage=Stage.RCPT,
        listener="smtp",
        client="10.0.0.7",
        reason=Reason.RELAY_DENIED,
        reply="554 5.7.1 Relay access denied",
        sender=b"",
        recipient=b"x@elsewhere.example",
    )
    assert log.lines[0].split(" ", 1)[1] == (
        "info S1 event=rejected stage=rcpt from=<> to=<x@elsewhere.example> client=10.0.0.7"
        ' listener=smtp reason=relay_denied reply="554 5.7.1 Relay access denied"'
    )


def test_recipients_are_listed_up_to_five() -> None:
    log = Log()
    many = [b"r%d@d.example" % number for number in range(12)]
    log.maillog.aborted(MAIL._replace(recipients=many), stage=Stage.DATA)
    assert (
        " to=<r0@d.example>,<r1@d.example>,<r2@d.example>,<r3@d.example>,<r4@d.example>,+7"
        " nrcpt=12 " in log.lines[0]
    )


def test_long_recipients_are_listed_whole_as_far_as_they_fit() -> None:
    log = Log()
    many = [b"%02d" % number + b"x" * 120 + b"@d.example" for number in range(4)]
    log.maillog.aborted(MAIL._replace(recipients=many), stage=Stage.DATA)
    to = re.search(r" to=(\S+)", log.lines[0])
    assert to is not None
    assert to[1] == f"<{many[0].decode()}>,+3"


def test_the_longest_address_of_rfc_5321_is_not_cut() -> None:
    log = Log()
    longest = b"l" * 64 + b"@" + b"d" * 189
    log.maillog.aborted(MAIL._replace(recipients=[longest]), stage=Stage.DATA)
    assert f" to=<{longest.decode()}> " in log.lines[0]


def test_an_operators_action_is_told_with_its_numbers_and_first_ids() -> None:
    log = Log()
    result: dict[str, int | str] = {"changed": 11, "busy": 1, "error": ""}
    ids = [f"{number:016}" for number in range(12)]
    log.maillog.operator(
        verb="hold", user="dupont", request="00ff", result=result, ids=ids, reason="a mistake"
    )
    assert log.lines[0].endswith(
        " warning - event=operator verb=hold user=dupont request=00ff changed=11 busy=1"
        f' ids={",".join(ids[:10])},+2 reason="a mistake"'
    )
    result = {"exported": 0, "error": "disk full"}
    log.maillog.operator(
        verb="export", user="uid 7", request="00ff", result=result, ids=(), reason=None
    )
    assert log.lines[1].endswith(
        ' event=operator verb=export user="uid 7" request=00ff exported=0 error="disk full"'
    )
