import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailshed.config.faults import Fault, Span, render
from mailshed.config.marks import OCTETS_MAX, read, read_text


def messages(text: str) -> list[str]:
    return [fault.message for fault in read_text(text).faults]


def test_reads_plain_values_as_yaml_1_2() -> None:
    document = read_text('a: 1\nb: [x, "1", true, null]\nc: {d: 0.5}\n')

    assert document.value == {"a": 1, "b": ["x", "1", True, None], "c": {"d": 0.5}}
    assert document.faults == ()


def test_knows_the_place_of_each_key_and_value() -> None:
    document = read_text("a: 1\nlist:\n  - name: x\n    bind: here\n")
    path = ("list", 0, "bind")

    assert document.span(path) == Span(line=3, column=10, width=4)
    assert document.span(path, of_key=True) == Span(line=3, column=4, width=4)
    assert document.span(("list", 0)) == Span(line=2, column=4, width=7)


def test_places_what_the_file_does_not_have_at_what_would_hold_it() -> None:
    document = read_text("a: 1\nlist:\n  - name: x\n")

    assert document.span(("list", 0, "bind")) == document.span(("list", 0))
    assert document.span(("list", 0)) == Span(line=2, column=4, width=7)
    assert document.span(("spool", "path")) == document.span(())


def test_points_at_the_key_of_an_empty_value() -> None:
    assert read_text("a: 1\nlimits:\n").span(("limits",)) == Span(line=1, column=0, width=6)


def test_strips_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\xef\xbb\xbfa: 1\n")

    assert read(tmp_path / "f").value == {"a": 1}


def test_says_why_a_file_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [fault.message for fault in read(tmp_path).faults] == ["cannot be read: Is a directory"]
    missing = read(tmp_path / "missing")
    assert missing.faults == (
        Fault(span=None, message="cannot be read: No such file or directory"),
    )

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert read(tmp_path / "f").faults[0].message == "cannot be read: Permission denied"


def test_does_not_read_endless_files() -> None:
    document = read(Path("/dev/zero"))

    assert document.faults[0].message == f"cannot be read: larger than {OCTETS_MAX} octets"


def test_finds_the_octet_that_is_not_utf_8_on_any_line(tmp_path: Path) -> None:
    for before, line, column in ((b"", 0, 0), (b"a: 1\n", 1, 0), (b"a: 1\nb: ", 1, 3)):
        (tmp_path / "f").write_bytes(before + b"\xff")
        (fault,) = read(tmp_path / "f").faults
        assert fault.span == Span(line=line, column=column)


def test_goes_on_after_faults_that_leave_the_structure_intact() -> None:
    text = "a: &x 1\nb: *x\nc: !!str d\n<<: {e: 1}\na: 2\n1: f\n? [g]\n: h\ni: no\n"

    assert [message.split(" ", 1)[0] for message in messages(text)] == [
        "anchors",
        "aliases",
        "tags",
        "merge",
        "duplicate",
        "a",
        "a",
        "no",
    ]


def test_keeps_the_first_of_two_equal_keys_and_both_values_are_read_over() -> None:
    document = read_text("a: {x: 1}\na: {x: {y: no}}\nb: 3\n")

    assert document.value == {"a": {"x": 1}, "b": 3}
    assert len(document.faults) == 1


def test_marks_as_doubtful_only_values_that_are_not_what_was_meant() -> None:
    document = read_text("a: no\nb: &anchor 1\nc: !!int 3\nd: 4\n")

    assert document.doubtful == {("a",), ("c",)}


@pytest.mark.parametrize("open_sign", ["[", "- ", "{a: "])
def test_stops_at_a_depth_that_no_configuration_has(open_sign: str) -> None:
    assert messages(open_sign * 20_000) == ["nested deeper than 12 levels"]


@settings(deadline=None)
@given(
    st.text(
        st.sampled_from(list("ab:-[]{}#&*!|>'\"%@`,? \n\t<=~\\xu0\x07\ud800é\ufeff")), max_size=60
    )
)
def test_never_raises_whatever_the_text(text: str) -> None:
    """Invariant: any text is either a value or faults that can be shown, never an exception."""
    document = read_text(text)

    assert render("f", document.lines, document.faults).endswith(("error", "errors"))
    for fault in document.faults:
        assert fault.span is None or fault.span.column >= 0


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_never_raises_whatever_the_octets(octets: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "m.yaml")
        file.write_bytes(octets)
        document = read(file)

    assert render(file, document.lines, document.faults)
