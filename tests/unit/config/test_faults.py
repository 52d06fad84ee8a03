from pathlib import Path

import pytest

from mailshed.config.faults import (
    SOURCE_WIDTH_MAX,
    Fault,
    KeyPath,
    Span,
    did_you_mean,
    dotted,
    nearest,
    render,
)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("spool", "path"), "spool.path"),
        (("classification", "rules", 2, "class"), "classification.rules[2].class"),
        (("headers", "List-Id"), "headers.List-Id"),
        (("headers", "x y"), 'headers."x y"'),
    ],
)
def test_writes_paths_as_people_name_keys(path: KeyPath, text: str) -> None:
    assert dotted(path) == text


def test_shows_line_column_key_source_and_caret() -> None:
    fault = Fault(
        span=Span(line=1, column=2, width=3), path=("spool", "pth"), message="unknown key"
    )

    assert render(Path("m.yaml"), ["spool:", "  pth: x"], [fault]) == (
        "m.yaml:2:3: error: spool.pth: unknown key\n   2 |   pth: x\n     |   ^^^\n1 error"
    )


def test_lists_faults_in_the_order_of_the_file_and_each_once() -> None:
    late = Fault(span=Span(line=1, column=0), message="late")
    early = Fault(span=Span(line=0, column=0), message="early")
    whole = Fault(span=None, message="whole")

    text = render("f", ["a", "b"], [late, early, late, whole])

    assert [line for line in text.splitlines() if "error" in line] == [
        "f: error: whole",
        "f:1:1: error: early",
        "f:2:1: error: late",
        "3 errors",
    ]


def test_keeps_the_caret_below_its_token_when_tabs_and_long_lines_stand_before_it() -> None:
    tabbed = Fault(span=Span(line=0, column=1), message="m")
    assert render("f", ["\tx"], [tabbed]).splitlines()[1:3] == ["   1 | \tx", "     | \t^"]

    distant = Fault(span=Span(line=0, column=500, width=5), message="m")
    source, caret = render("f", ["y" * 500 + "WRONG" + "z" * 500], [distant]).splitlines()[1:3]
    assert source[caret.index("^") : caret.rindex("^") + 1] == "WRONG"
    assert len(source) <= SOURCE_WIDTH_MAX + len("   1 | ")


def test_shows_nothing_that_a_terminal_obeys() -> None:
    fault = Fault(span=Span(line=0, column=0), message="bad \x1b[2J value")

    assert "\x1b" not in render("f", ["\x1b[31m red"], [fault])


def test_finds_the_word_that_was_meant_or_lists_what_there_is() -> None:
    assert nearest("weigth", ["weight", "rank"]) == "weight"
    assert nearest("zzz", ["weight", "rank"]) is None
    assert did_you_mean("weigth", ["weight"]) == ', did you mean "weight"?'
    assert did_you_mean("zzz", ["weight", "rank"]) == " (known: rank, weight)"
    assert did_you_mean("zzz", []) == ""
