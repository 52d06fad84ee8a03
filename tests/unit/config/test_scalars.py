import math

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailshed.config.scalars import Scalar, explain_ambiguity, read_scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("12", 12),
        ("-3", -3),
        ("0x1F", 31),
        ("0o17", 15),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-.inf", -math.inf),
        ("30s", "30s"),
        ("22:30", "22:30"),
        ("no", "no"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("2026-01-01", "2026-01-01"),
    ],
)
def test_reads_plain_scalars_as_yaml_1_2(text: str, value: Scalar) -> None:
    assert read_scalar(text) == value
    assert type(read_scalar(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "theirs", "ours"),
    [
        ("22:30", "the number 1350", "text"),
        ("0750", "the number 488", "the number 750"),
        ("no", "the boolean false", "text"),
        ("On", "the boolean true", "text"),
        ("y", "the boolean true", "text"),
        ("1e3", "text", "the number 1000"),
        ("1_000", "the number 1000", "text"),
        ("0o17", "text", "the number 15"),
        ("2026-01-01", "a date", "text"),
        ("2026-99-99", "something malformed", "text"),
        ("=", "an operator", "text"),
    ],
)
def test_explains_what_yaml_1_1_reads_differently(text: str, theirs: str, ours: str) -> None:
    reason = explain_ambiguity(text)

    assert reason is not None
    assert reason.startswith(f"YAML 1.1 reads this as {theirs}, YAML 1.2 as {ours}; ")


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("no", "write false, or"),
        ("0750", "write 750 if"),
        ("1e-7", "write 0.0000001 if"),
        ("22:30", "put it"),
    ],
)
def test_advises_an_unambiguous_spelling(text: str, advice: str) -> None:
    assert advice in str(explain_ambiguity(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "~",
        "true",
        "0",
        "25",
        "-1",
        "1.0",
        "0.95",
        "30s",
        "10MiB",
        "127.0.0.1:25",
        "10.0.0.0/8",
        "-x",
    ],
)
def test_lets_pass_what_all_readers_agree_on(text: str) -> None:
    assert explain_ambiguity(text) is None


@settings(deadline=None)
@given(st.text("0123456789.:eExob_+-nNyYtfo~<=abc", min_size=1, max_size=12))
@example("9" * 30)
def test_what_passes_is_read_alike_by_pyyaml(text: str) -> None:
    """Invariant: no accepted plain scalar means something else to a YAML 1.1 tool."""
    if explain_ambiguity(text) is not None or text.startswith("-") or ": " in text:
        return
    try:
        theirs = yaml.safe_load(f"[{text}]")
    except yaml.YAMLError:
        return  # not a plain scalar in any version
    if theirs and len(theirs) == 1 and not isinstance(theirs[0], dict):
        ours = read_scalar(text)
        assert repr(theirs[0]) == repr(ours)
