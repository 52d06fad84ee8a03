"""One message in place of many reports."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mailshed.drain.report_limit import Summary, Untold
from mailshed.drain.summary import SUBJECT, write_summary
from mailshed.terms import QueueId, ReportKind
from tests.support.builders import WALL
from tests.support.report_matter import POLICY, REPORT_ID
from tests.support.reports import assert_wire_form, bounce_processor, parsed

LINES = (
    Untold(ReportKind.FAILED, QueueId("Q1"), b"bob@example.net", "550 5.1.1 No such user"),
    Untold(ReportKind.RELAYED, QueueId("Q2"), b"eve@example.net", "250 2.0.0 Ok"),
    Untold(ReportKind.FAILED, QueueId("Q3"), "b\u00f6b@example.net".encode(), ""),
)
SUMMARY = Summary(b"alice@example.org", LINES, 0, "personal", 1)


def written(summary: Summary) -> bytes:
    return write_summary(summary, POLICY, REPORT_ID, WALL)


def text(summary: Summary) -> str:
    payload = parsed(written(summary)).get_payload(decode=True)
    assert isinstance(payload, bytes)
    return " ".join(payload.decode().split())


def test_is_a_text_from_a_machine_that_says_so() -> None:
    message = parsed(written(SUMMARY))
    assert_wire_form(written(SUMMARY))
    assert message.get_content_type() == "text/plain"
    assert (message["To"], message["Subject"]) == ("<alice@example.org>", SUBJECT)
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Message-ID"] == "<REPORT0000000001@mx.hospital.example>"


def test_says_of_each_what_became_of_it() -> None:
    words = text(SUMMARY)
    for part in (
        "3 more recipients",
        "<bob@example.net> Q1: not delivered: 550 5.1.1 No such user",
        "<eve@example.net> Q2: handed over: 250 2.0.0 Ok",
        "<b\\x{F6}b@example.net> Q3: not delivered: no reply",
        "tell postmaster@hospital.example",
    ):
        assert part in words
    assert "And " not in words


def test_says_how_many_have_no_line() -> None:
    words = text(replace(SUMMARY, more=40))
    assert "43 more recipients" in words
    assert "And 40 more, which are in the log of mx.hospital.example." in words


def test_to_an_address_of_another_script_is_utf8() -> None:
    summary = replace(SUMMARY, addressee="\u00e5sa@example.org".encode())
    assert "To: <\u00e5sa@example.org>\r\n".encode() in written(summary)
    assert "<b\u00f6b@example.net>" in text(summary)


def test_unsubscribes_nobody_from_a_list() -> None:
    """It speaks of several messages; software that reads it should not act on it."""
    delayed, _ = bounce_processor(written(SUMMARY))
    assert not delayed


@given(st.binary(max_size=60), st.binary(max_size=60), st.text(max_size=300))
def test_whatever_comes_it_is_one_text(addressee: bytes, recipient: bytes, words: str) -> None:
    line = Untold(ReportKind.FAILED, QueueId("Q1"), recipient, words)
    wire = written(Summary(addressee, (line,), 0, "personal", 1))
    assert_wire_form(wire, is_ascii=False)
    message = parsed(wire)
    assert message.get_all("Subject") == [SUBJECT]
    assert message.get_content_type() == "text/plain"
    assert not message.is_multipart()
