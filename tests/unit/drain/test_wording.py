"""What people read: who, why, and whether there is anything to do."""

from dataclasses import replace

import pytest

from mailshed.drain.matter import Matter
from mailshed.drain.wording import SUBJECTS, text
from mailshed.terms import ReportKind
from tests.support.builders import WALL
from tests.support.report_matter import ABSENT, BOB, LATE, TAKEN, WAITING, matter


def said(about: Matter) -> str:
    """The text on one line."""
    return " ".join(" ".join(text(about)).split())


class TestFailure:
    def test_says_who_what_why_and_what_to_do(self) -> None:
        words = said(matter(BOB, LATE))
        for part in (
            "mail system at mx.hospital.example",
            "Your message of Tue, 14 Nov 2023 22:13:20 +0000",
            "<bob@example.net> The mail server refused it: 550 5.1.1 No such user here",
            "<carol@example.net> It was tried for too long",
            "connect: connection refused",
            "for example by telephone",
            "forward this report to postmaster@hospital.example",
            "ORIGINAL00000001",
        ):
            assert part in words

    def test_does_not_blame_the_address_for_what_was_only_late(self) -> None:
        expired = said(matter(LATE))
        assert "send the message again later" in expired
        assert "check the address" not in expired
        assert "check the address and send the message again" in said(matter(BOB))

    def test_says_that_the_sender_has_set_the_time_itself(self) -> None:
        words = said(matter(replace(LATE, status="5.4.7")))
        assert "within the time that you asked for (DELIVERBY)" in words
        assert "connection refused" in words

    def test_tells_what_to_do_about_letters_that_cannot_pass(self) -> None:
        lacking = replace(BOB, status="5.6.7", reply="the mail server does not take it")
        words = said(matter(lacking))
        assert "It cannot be delivered: the mail server does not take it" in words
        assert "addresses without accents" in words
        assert "refused" not in words

    def test_stays_within_the_width_of_a_screen(self) -> None:
        long = replace(BOB, reply="550 5.7.1 " + "a rather long explanation " * 20)
        assert max(map(len, text(matter(long)))) <= 76


class TestDelay:
    def test_says_that_nothing_is_lost_and_until_when_it_is_tried(self) -> None:
        words = said(matter(WAITING, ABSENT, kind=ReportKind.DELAYED))
        for part in (
            "has not been delivered yet",
            "WARNING ONLY",
            "you do not need to send it again",
            "again and again until Sat, 18 Nov 2023 22:13:20 +0000",
            "<dora@example.net> The mail server does not take it yet: 452 4.2.2 Mailbox full",
            "<erik@example.net> It is still waiting: the mail server cannot be reached",
            "for example by telephone",
            "ORIGINAL00000001",
        ):
            assert part in words
        assert "could not be delivered to" not in words
        assert "send the message again later" not in words

    def test_names_the_time_that_the_sender_had_set_once_it_is_over(self) -> None:
        late = matter(WAITING, kind=ReportKind.DELAYED, deadline_wall=WALL + 30, wall=WALL + 60)
        assert "You wanted it delivered by Tue, 14 Nov 2023 22:13:50 +0000." in said(late)
        early = matter(WAITING, kind=ReportKind.DELAYED, deadline_wall=WALL + 90, wall=WALL + 60)
        assert "You wanted" not in said(early)


class TestSuccess:
    def test_says_that_a_server_has_it_and_what_that_does_not_mean(self) -> None:
        words = said(matter(TAKEN, kind=ReportKind.RELAYED))
        assert "was handed over to the mail server" in words
        assert "<fred@example.net>" in words
        assert "the last news of a success" in words
        assert "has been delivered" not in words

    def test_says_that_it_is_in_the_mailbox(self) -> None:
        words = said(matter(TAKEN, kind=ReportKind.DELIVERED))
        assert "has been delivered to the mailboxes" in words
        assert "<fred@example.net>" in words
        assert "handed over" not in words

    @pytest.mark.parametrize("kind", [ReportKind.RELAYED, ReportKind.DELIVERED])
    def test_alarms_nobody(self, kind: ReportKind) -> None:
        words = said(matter(TAKEN, kind=kind))
        assert "nothing to do" in words or "nothing to do" in SUBJECTS[kind]
        for alarm in ("telephone", "could not", "refused", "Undelivered"):
            assert alarm not in words + SUBJECTS[kind]


def test_each_kind_has_a_subject_of_its_own() -> None:
    assert len({SUBJECTS[kind] for kind in ReportKind}) == len(ReportKind)


def test_a_name_of_another_script_is_readable_where_it_can_be() -> None:
    bob = replace(BOB, address="b\u00f6b@example.net".encode())
    assert "<b\\x{F6}b@example.net>" in said(matter(bob))
    assert "<b\u00f6b@example.net>" in said(
        matter(bob, reverse_path="\u00e5sa@example.org".encode())
    )
