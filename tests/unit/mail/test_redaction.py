"""A header section without what may name a person or say what a message is about."""

import time

import pytest

from mailshed.mail.redaction import FIELDS_SHOWN_MAX, VALUE_SHOWN_MAX, redacted

NUMBER = "190011234567890"
HEAD = (
    b"Received: from a.example (a.example [192.0.2.1])\r\n by b.example; now\r\n"
    b'From: "Jeanne Martin" <lab@clinical.example>\r\n'
    b"To: Dr. Paul Blanc <blanc@hospital.example>, other@hospital.example\r\n"
    b"Cc: undisclosed recipients:;\r\n"
    b"Subject: Result of Jeanne Martin\r\n"
    b"Message-ID: <1@clinical.example>\r\n"
    b"List-Id: News <news.example>\r\n"
    b'Content-Type: application/pdf; name="Martin Jeanne 1950.pdf"\r\n'
    b"X-Patient: Jeanne Martin\r\n"
    b"Received: from c.example\r\n"
    b"\r\n"
    b"Body: not a field\r\n"
)


def test_shows_which_fields_there_are_and_what_explains_the_way() -> None:
    assert redacted(HEAD) == [
        ("received", "from a.example (a.example [192.0.2.1]) by b.example; now"),
        ("received", "from c.example"),
        ("from", "lab@clinical.example"),
        ("to", "blanc@hospital.example, other@hospital.example"),
        ("cc", "(24 characters)"),
        ("subject", "(23 characters)"),
        ("message-id", "<1@clinical.example>"),
        ("list-id", "News <news.example>"),
        ("content-type", "application/pdf"),
        ("x-patient", "(13 characters)"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        f"To: Jeanne <{NUMBER}@patient.mssante.fr>",
        f"Received: from a for <{NUMBER}@patient.mssante.fr>; now",
        f"Message-ID: <{NUMBER}@patient.mssante.fr>",
        f"Return-Path: <bounce+{NUMBER}=patient.mssante.fr@list.example>",
        f"Content-Type: ; {NUMBER}",
        f"Subject: {NUMBER}",
        f"{NUMBER}@patient.mssante.fr: x",
    ],
)
def test_no_patient_is_named(line: str) -> None:
    assert NUMBER not in str(redacted(f"{line}\r\n\r\n".encode()))


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    ((name, value),) = redacted(b"Message-ID\x1b[2J: a\x1b[2J\x00\x9b\r\n\r\n")

    assert (name, value) == ("message-id?[2j", "(7 characters)")
    assert redacted(b"Message-ID: a\x1b\x9b\r\n\r\n") == [("message-id", "a??")]


def test_what_is_shown_is_bounded() -> None:
    many = b"".join(b"X-%d: y\r\n" % number for number in range(FIELDS_SHOWN_MAX + 1))

    assert len(redacted(many + b"\r\n")) == FIELDS_SHOWN_MAX
    ((_, value),) = redacted(b"Received: " + b"r" * 2000 + b"\r\n\r\n")
    assert len(value) == VALUE_SHOWN_MAX
    assert value.endswith("r...")
    ((name, _),) = redacted(b"X" * 2000 + b": v\r\n\r\n")
    assert len(name) == VALUE_SHOWN_MAX


@pytest.mark.parametrize("piece", [b"a", b"a.", b"<", b"a@", b'"'])
def test_a_field_without_end_costs_milliseconds(piece: bytes) -> None:
    """All other threads wait for a search, so that of an operator's would stop the mail."""
    head = b"To: " + (piece * 64_000)[:64_000] + b"\r\n\r\n"

    def take() -> float:
        started = time.perf_counter()
        redacted(head)
        return time.perf_counter() - started

    assert min(take() for _ in range(2)) < 0.1
