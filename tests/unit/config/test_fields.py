import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from mailshed.config import fields
from mailshed.config.fields import Endpoint, is_hostname, parse_network


@pytest.mark.parametrize(
    "text", ["127.0.0.1:25", "[::1]:2525", "0.0.0.0:0", "[2001:db8::25]:65535"]
)
def test_an_endpoint_is_written_as_it_was_read(text: str) -> None:
    endpoint = Endpoint.model_validate(text)

    assert str(endpoint) == text
    assert str(endpoint.address) == endpoint.host


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        ":25",
        "127.0.0.1:",
        "127.0.0.1:70000",
        "::1:25",
        "[127.0.0.1]:25",
        "a:25",
        "[::1]:²",
    ],
)
def test_refuses_endpoints_that_cannot_be_bound(text: str) -> None:
    with pytest.raises(ValidationError):
        Endpoint.model_validate(text)


@pytest.mark.parametrize(
    ("name", "is_valid"),
    [
        ("relay.example.org", True),
        ("Relay-1.Example.org", True),
        ("relay", False),
        ("relay.example.org.", False),
        ("relay..org", False),
        ("-relay.example.org", False),
        ("re lay.example.org", False),
        ("192.0.2.1", False),
        ("a." * 127 + "org", False),
        ("relay.example.org\n", False),
    ],
)
def test_knows_fully_qualified_host_names(name: str, is_valid: bool) -> None:
    assert is_hostname(name) is is_valid


def test_says_which_network_was_meant() -> None:
    with pytest.raises(ValueError, match=r'did you mean "10\.20\.0\.0/16"'):
        parse_network("10.20.5.0/16")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (fields.Count, True),
        (fields.Count, "25"),
        (fields.Count, 25.0),
        (fields.Share, "0.5"),
        (fields.Share, True),
        (fields.Version, True),
        (fields.Version, 1.0),
        (fields.Name, "Upper"),
        (fields.Name, "x" * 33),
        (fields.Domain, "exa mple.org"),
        (fields.Domain, "x" * 64 + ".org"),
        (fields.Domain, ".".join(["abc"] * 70)),
        (fields.Host, "host:25"),
        (fields.HeaderName, "Größe"),
        (fields.HeaderName, "a:b"),
        (fields.HeaderValue, "two words"),
        (fields.HeaderValue, ""),
        (fields.FilePath, ""),
        (fields.FilePath, 7),
        (fields.FilePath, "~/spool"),
        (fields.FilePath, "$HOME/spool"),
        (fields.FilePath, "/srv/${SITE}/spool"),
        (fields.MailAddress, "@"),
    ],
)
def test_refuses_values_of_another_kind(kind: Any, value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [
        (fields.Domain, ".Example.ORG", ".example.org"),
        (fields.Host, "2001:db8::1", "2001:db8::1"),
        (fields.Host, "Mail-1", "Mail-1"),
        (fields.Share, 1, 1.0),
        (fields.MailAddress, "", ""),
        (fields.MailAddress, "it@example.org", "it@example.org"),
    ],
)
def test_accepts_values_of_its_kind(kind: Any, value: object, result: object) -> None:
    assert TypeAdapter(kind).validate_python(value) == result


@pytest.mark.parametrize(
    ("text", "word"), [("~/x", "~"), ("~root/x", "~root"), ("/a/$B/c", "$B"), ("${B}", "${B}")]
)
def test_says_which_part_of_a_path_no_shell_replaces(text: str, word: str) -> None:
    with pytest.raises(ValidationError, match=rf"{re.escape(word)} is not expanded; write the who"):
        TypeAdapter(fields.FilePath).validate_python(text)


@pytest.mark.parametrize("text", ["/srv/a~b", "/srv/~old", "./var/spool", "/srv/5$"])
def test_a_path_that_no_shell_would_change_is_taken_as_it_is(text: str) -> None:
    assert TypeAdapter(fields.FilePath).validate_python(text) == Path(text)
