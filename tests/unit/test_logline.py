"""A line can be read back exactly, and no value can forge or break one."""

import json
import re
from enum import Enum

from hypothesis import given
from hypothesis import strategies as st

from mailshed.logline import VALUE_MAX, Fields, json_line, names_patient, redacted, text_line
from mailshed.terms import Reason

FIELD = re.compile(r' ([a-z_]+)=("(?:[^"\\]|\\.)*"|[^ "=]+)')
ANYTHING = st.text(st.characters(), max_size=300)


def parse(line: str) -> dict[str, str]:
    """A logfmt reader of a dozen lines, independent of the writer."""
    assert line.endswith("\n")
    stamp, level, rest = line[:-1].split(" ", 2)
    identity = re.match(r'"(?:[^"\\]|\\.)*"|[^ ]+', rest)
    assert identity is not None
    fields = {"time": stamp, "level": level, "id": unquote(identity[0])}
    position = identity.end()
    while position < len(rest):
        match = FIELD.match(rest, position)
        assert match is not None, rest[position:]
        fields[match[1]] = unquote(match[2])
        position = match.end()
    return fields


def unquote(word: str) -> str:
    return str(json.loads(word)) if word.startswith('"') else word


def cut(value: str) -> str:
    return value if len(value) <= VALUE_MAX else value[: VALUE_MAX - 3] + "..."


@given(identity=st.text(st.characters(), min_size=1, max_size=40), first=ANYTHING, second=ANYTHING)
def test_whatever_a_peer_sends_is_one_ascii_line_that_reads_back(
    identity: str, first: str, second: str
) -> None:
    line = text_line("T", "info", identity, "rejected", {"helo": first, "reply": second})
    assert line.count("\n") == 1
    assert re.fullmatch(r"[ -~]*\n", line)
    expected = {"helo": cut(first), "reply": cut(second), "event": "rejected", "id": identity}
    assert parse(line) == {"time": "T", "level": "info", **expected}


@given(first=ANYTHING, second=ANYTHING)
def test_json_has_the_same_fields_with_the_same_values(first: str, second: str) -> None:
    fields: Fields = {"helo": first, "size": 12, "delay": 0.5, "reply": second, "none": None}
    line = json_line("T", "info", "ID", "rejected", fields)
    assert re.fullmatch(r"[ -~]*\n", line)
    assert json.loads(line) == {
        "time": "T",
        "level": "info",
        "id": "ID",
        "event": "rejected",
        "helo": cut(first),
        "size": 12,
        "delay": 0.5,
        "reply": cut(second),
    }


def test_plain_values_stand_bare_and_others_are_quoted() -> None:
    fields: Fields = {
        "a": "<x@y>",
        "b": "250 Ok",
        "c": "",
        "d": 'say "hi"',
        "e": "k=v",
        "f": 1,
        "g": None,
    }
    line = text_line("T", "info", "ID", "x", fields)
    assert line == r'T info ID event=x a=<x@y> b="250 Ok" c="" d="say \"hi\"" e="k=v" f=1' + "\n"


def test_controls_of_all_kinds_are_escaped() -> None:
    """C0, DEL, C1 and the line separators that some programs split lines at."""
    line = text_line("T", "info", "ID", "x", {"a": "\r\n\x00\x1b\x7f\x85\x9b\u2028\u2029\u202e"})
    assert line == (
        r'T info ID event=x a="\r\n\u0000\u001b\u007f\u0085\u009b\u2028\u2029\u202e"' + "\n"
    )


def test_an_enum_is_written_as_its_word() -> None:
    class Odd(Enum):
        WORD = "two words"

    line = text_line("T", "info", "ID", "x", {"reason": Reason.SPOOL_FULL, "odd": Odd.WORD})
    assert line == 'T info ID event=x reason=spool_full odd="two words"\n'


def test_a_traceback_is_not_cut() -> None:
    trace = "line\n" * 400
    assert parse(text_line("T", "error", "-", "x", {"traceback": trace}))["traceback"] == trace


def test_a_patient_is_masked_before_a_value_is_cut() -> None:
    """Otherwise the cut could leave the number and take away the domain that betrays it."""
    for padding in range(200, 280):
        reply = "x " * (padding // 2) + "<189027512345678@patient.mssante.fr> unknown"
        line = text_line("T", "info", "ID", "x", redacted({"reply": reply}))
        assert "1890275" not in line
        long_line = text_line("T", "info", "ID", "x", {"reply": reply})
        assert "1890275" not in long_line or names_patient(long_line)


def test_names_patient_ignores_case() -> None:
    assert names_patient("to=<***@Patient.MSSante.fr>")
    assert not names_patient("to=<dr.dupont@chu.mssante.fr>")
