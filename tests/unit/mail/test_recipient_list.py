"""The list of recipients: what it holds, how it is compared, and what is wrong with it."""

import pytest

from mailshed.mail import recipient_list
from mailshed.mail.recipient_list import parse_recipients

TEXT = """\
# exported every night

Alice@Example.NET
bob@example.net   # left in June
a#b@example.net
\t@Clinic.Example\t# all of it
"""


def test_addresses_whole_domains_and_comments_are_told_apart() -> None:
    recipients, faults = parse_recipients(TEXT)
    assert faults == []
    assert recipients.addresses == {b"alice@example.net", b"bob@example.net", b"a#b@example.net"}
    assert recipients.domains == {b"clinic.example"}
    assert len(recipients) == 4


@pytest.mark.parametrize(
    "path", [b"alice@example.net", b"ALICE@EXAMPLE.NET", b"Bob@example.net", b"who@CLINIC.example"]
)
def test_case_does_not_matter(path: bytes) -> None:
    assert path in parse_recipients(TEXT)[0]


@pytest.mark.parametrize(
    "path",
    [
        b"carol@example.net",
        b"alice@example.net.evil.example",
        b"alice@sub.clinic.example",
        b"example.net",
        b"Postmaster",
    ],
)
def test_nobody_else_is_in_it(path: bytes) -> None:
    assert path not in parse_recipients(TEXT)[0]


def test_other_scripts_are_found_however_their_domain_is_written() -> None:
    recipients, faults = parse_recipients(
        "Jürgen@bücher.example\nÄrzte@xn--bcher-kva.example\n@例え.テスト\n"
    )
    assert faults == []
    for path in (
        *("jürgen@bücher.example", "JÜRGEN@BÜCHER.example", "jürgen@xn--bcher-kva.example"),
        *("ärzte@Bücher.example", "用户@例え.テスト", "a@xn--r8jz45g.xn--zckzah"),
    ):
        assert path.encode() in recipients, path
    assert "jurgen@bücher.example".encode() not in recipients
    assert b"jurgen@xn--bcher-kva.example" not in recipients


def test_lines_end_as_any_system_ends_them() -> None:
    recipients, faults = parse_recipients("a@example.net\r\nb@example.net\n\r\n")
    assert faults == []
    assert recipients.addresses == {b"a@example.net", b"b@example.net"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("alice", "'alice' is neither an address nor an @domain"),
        ("alice@", "malformed"),
        ("@", "malformed"),
        ("<alice@example.net>", "neither"),
        ("é @example.net", "expected one address on a line"),
        ("é\x80@example.net", r"'\xe9\x80@example.net' is neither"),
        ("alice@example.net OK", "expected one address on a line, not also 'OK'"),
    ],
)
def test_a_fault_has_its_line_and_says_what_to_write(line: str, words: str) -> None:
    _, faults = parse_recipients(f"bob@example.net\n\n{line}\n")
    ((number, message),) = faults
    assert number == 3
    assert words in message


def test_a_list_of_nobody_is_a_fault() -> None:
    """It would refuse all mail: more likely an export that failed."""
    ((number, message),) = parse_recipients("# nothing\n\n")[1]
    assert number == 1
    assert "lists nobody" in message


def test_many_faults_become_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipient_list, "FAULTS_MAX", 2)
    _, faults = parse_recipients("x\n" * 5)
    assert [number for number, _ in faults] == [1, 2, 3]
    assert faults[-1][1] == "here and below, 3 more lines are no addresses"
