"""A bar that is drawn on terminals only."""

import io

from mailshed.cli.simulation.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_nothing_is_written_where_nobody_looks() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    progress(0.5)
    progress.close()
    assert stream.getvalue() == ""


def test_a_terminal_sees_how_far_it_is() -> None:
    stream = Terminal()
    progress = Progress(stream)
    progress(0.5)
    assert stream.getvalue() == "\r[####################....................]  50 %"


def test_the_bar_is_drawn_anew_only_when_it_has_grown() -> None:
    stream = Terminal()
    progress = Progress(stream)
    for step in range(100):
        progress(0.5 + step / 100_000)
    assert stream.getvalue().count("\r") == 1


def test_it_is_taken_away_at_the_end() -> None:
    stream = Terminal()
    progress = Progress(stream)
    progress(1.7)
    progress.close()
    assert "100 %" in stream.getvalue()
    assert stream.getvalue().endswith(" \r")


def test_a_bar_that_was_never_drawn_is_not_taken_away() -> None:
    stream = Terminal()
    Progress(stream).close()
    assert stream.getvalue() == ""
