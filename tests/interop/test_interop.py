"""Three clients in small, and what the run says of what it has seen; `make test-interop` is all."""

from pathlib import Path

import pytest

from tests.interop.backends import BACKENDS
from tests.interop.cells import Cell, Delivered, Failed, InClear, Outcome, Refused, Waits
from tests.interop.clients import CLIENTS
from tests.interop.contents import AlteredError, Content, check_arrived, message
from tests.interop.exemptions import EXEMPTIONS, complaint
from tests.interop.front import front
from tests.interop.report import Run, page
from tests.interop.ways import BACKEND_WAYS, CLIENT_WAYS, Mode, Way

QUICK = ("swaks", "curl", "smtplib")

ALL = [
    *(
        Cell(table="clients", row=client.name, way=way, content=content, mode=mode)
        for client in CLIENTS
        for way in CLIENT_WAYS
        for content in Content
        for mode in Mode
    ),
    *(
        Cell(table="backends", row=name, way=way, content=content, mode=mode)
        for name in BACKENDS
        for way in BACKEND_WAYS
        for content in Content
        for mode in Mode
    ),
]


def test_three_clients_deliver_in_clear_and_logged_in_over_tls(tmp_path: Path) -> None:
    """Both modes; and what one of them cannot do is refused as it is documented."""
    clients = [client for client in CLIENTS if client.name in QUICK]
    with front(tmp_path) as tried:
        outcomes = tried.fill(
            *clients, ways=(Way.PLAIN, Way.AUTH), contents=(Content.SMALL, Content.UTF8)
        )
    assert len(outcomes) == 3 * 2 * 2 * 2
    assert [said for cell, each in outcomes.items() if (said := complaint(cell, each))] == []
    refused = {cell.row for cell, each in outcomes.items() if isinstance(each, Refused)}
    assert refused == {"swaks"}


class TestWhatArrived:
    SENT = message(Content.EIGHT_BIT, "one", domain="hospital.example")
    OURS = (
        b"Received: from a.example ([127.0.0.1])\n"
        b"\tby mailshed.hospital.example (mailshed) with ESMTP id 01M\n"
    )
    THEIRS = b"Return-Path: <ward@personal.example>\nReceived: from b by c with SMTP\n"

    def test_is_whole_below_trace_fields(self) -> None:
        arrived = self.THEIRS + self.OURS + self.SENT.text
        trace = check_arrived(self.SENT, arrived, is_composed=False)
        assert "with ESMTP id 01M" in trace.ours
        assert trace.theirs.splitlines() == self.THEIRS.decode().splitlines()

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (OURS + SENT.text.replace(b"..two", b".two"), "in place of"),
            (OURS + SENT.text.replace(b"\n\n", b"\n\n\n", 1), "in place of"),
            (b"X-Spam: no\n" + OURS + SENT.text, "added on top"),
            (THEIRS + SENT.text, "0 Received fields of ours"),
            (OURS + OURS + SENT.text, "2 Received fields of ours"),
        ],
    )
    def test_is_not_if_anything_differs(self, text: bytes, said: str) -> None:
        with pytest.raises(AlteredError, match=said):
            check_arrived(self.SENT, text, is_composed=False)

    def test_of_what_a_client_composes_the_body_counts(self) -> None:
        composed = b"Subject: x\nContent-Transfer-Encoding: base64\n\nYQpi\n"
        with pytest.raises(AlteredError):
            check_arrived(self.SENT, self.OURS + composed, is_composed=True)
        whole = b"Subject: x\nContent-Transfer-Encoding: 8bit\n\n" + self.SENT.body
        assert check_arrived(self.SENT, self.OURS + whole, is_composed=True).theirs == ""


class TestComplaints:
    FREE = Cell(table="clients", row="curl", way=Way.PLAIN, content=Content.SMALL, mode=Mode.PASS)
    EXEMPT = Cell(table="clients", row="swaks", way=Way.PLAIN, content=Content.UTF8, mode=Mode.PASS)
    NO_PARAMETER = Refused("<** 553 5.6.7 Non-ASCII addresses need the parameter SMTPUTF8")

    def test_there_is_none_of_what_is_documented(self) -> None:
        assert complaint(self.FREE, Delivered()) is None
        assert complaint(self.EXEMPT, self.NO_PARAMETER) is None

    @pytest.mark.parametrize(
        "outcome",
        [NO_PARAMETER, Waits("backend_away"), InClear("TLS failed"), Failed("it arrived twice")],
    )
    def test_everything_else_has_to_be_delivered(self, outcome: Outcome) -> None:
        assert complaint(self.FREE, outcome)

    @pytest.mark.parametrize(
        "outcome",
        [
            Delivered(),
            Refused("451 4.3.0 Not now"),
            Waits(NO_PARAMETER.said),
            Failed(NO_PARAMETER.said),
        ],
    )
    def test_what_is_documented_has_to_happen_with_these_words(self, outcome: Outcome) -> None:
        assert complaint(self.EXEMPT, outcome)


@pytest.mark.parametrize("number", range(len(EXEMPTIONS)))
def test_each_exemption_is_about_cells_that_there_are(number: int) -> None:
    exemption = EXEMPTIONS[number]
    covered = [cell for cell in ALL if exemption.covers(cell)]
    assert covered
    assert all(sum(each.covers(cell) for each in EXEMPTIONS) == 1 for cell in covered)


def test_names_of_messages_are_of_one_cell_each() -> None:
    names = {cell.name for cell in ALL}
    assert len(names) == len(ALL)
    assert all(name.isascii() and len(f"keeper+{name}") <= 64 for name in names)


class TestPage:
    def page(self, changes: dict[Cell, Outcome]) -> str:
        versions = dict.fromkeys((cell.row for cell in ALL), "1.0")
        outcomes = {**dict.fromkeys(ALL, Delivered()), **changes}
        return page(Run(outcomes=outcomes, versions=versions, seconds=125.0, wall=0.0))

    def test_has_a_row_for_each_way_of_each_program(self) -> None:
        text = self.page({})
        rows = [line for line in text.splitlines() if line.startswith("|") and "✓" in line]
        assert len(rows) == len(CLIENTS) * len(CLIENT_WAYS) + len(BACKENDS) * len(BACKEND_WAYS)
        assert all(row.count("✓") == len(Content) * len(Mode) for row in rows)
        assert "1970-01-01" in text
        assert f"{len(ALL)} messages in 2 minutes" in text

    def test_says_what_was_otherwise_and_why(self) -> None:
        text = self.page({TestComplaints.EXEMPT: TestComplaints.NO_PARAMETER})
        (row,) = [line for line in text.splitlines() if line.startswith("| swaks 1.0 |")]
        assert "refused (1)" in row
        assert "\n1. swaks: refused by mailshed, with 553 5.6.7 to MAIL. " in text
        assert "; 1 ended" in text.replace("\n", " ")
