"""What is known of mailboxes, for how long, and what it means at RCPT."""

import tracemalloc
from dataclasses import replace
from ipaddress import ip_address

import pytest

from mailshed.admission import recipients
from mailshed.admission.decision import Defer, Reject
from mailshed.admission.recipients import (
    CATCH_ALL_RETRY_SECONDS,
    CATCH_ALL_SECONDS,
    KNOWN,
    UNSURE_SECONDS,
    CatchAlls,
    Finding,
    Known,
    Pace,
    RecipientCache,
    Unknown,
    UnknownBudget,
    Unsure,
    finding_of,
    key_of,
    lesson_of,
    refusal,
    unverified,
)
from mailshed.mail import reply
from mailshed.mail.delivery import Bounced, Deferred, Delivered, DeliveryResult, InDoubt
from mailshed.mail.reply import make
from mailshed.terms import Reason, Stage
from tests.support.builders import BUSY, OK, REFUSED, verification_policy

POLICY = verification_policy(positive_ttl=1000.0, negative_ttl=100.0)
ALICE = b"alice@example.net"
UNKNOWN = Unknown(REFUSED)
FULL = Unsure(BUSY)


class TestWhatAnAnswerSays:
    @pytest.mark.parametrize("answer", [make(250, "2.1.5 Ok"), make(251, "will forward")])
    def test_a_2xx_is_a_yes(self, answer: reply.Reply) -> None:
        assert finding_of(answer) is KNOWN

    @pytest.mark.parametrize(
        "text",
        [
            *("550 5.1.1 no such user", "550 5.1.10 not found", "501 5.1.3 bad", "550 who?"),
            *("551 not local", "553 mailbox name not allowed", "554 5.1.1 gone", "550 4.1.1 gone"),
        ],
    )
    def test_a_5xx_about_the_mailbox_is_a_no(self, text: str) -> None:
        answer = make(int(text[:3]), text[4:])
        assert finding_of(answer) == Unknown(answer)

    @pytest.mark.parametrize(
        "text",
        [
            *("550 5.7.1 relay access denied", "552 5.2.2 mailbox full", "554 transaction failed"),
            *("550 5.1.7 bad sender", "553 5.1.8 sender domain", "503 5.5.1 no MAIL", "500 what?"),
        ],
    )
    def test_any_other_5xx_is_for_the_delivery_to_tell(self, text: str) -> None:
        assert finding_of(make(int(text[:3]), text[4:])) == Known(is_taken=False)

    def test_a_4xx_says_nothing_for_sure(self) -> None:
        assert finding_of(BUSY) == Unsure(BUSY)


class TestWhatADeliveryTeaches:
    @pytest.mark.parametrize(
        ("result", "lesson"),
        [
            (Delivered(OK), KNOWN),
            (Bounced(Stage.RCPT, REFUSED), UNKNOWN),
            (Bounced(Stage.RCPT, make(550, "5.7.1 not for you")), None),
            (Bounced(Stage.MAIL, REFUSED), None),
            (Bounced(Stage.DOT, REFUSED), None),
            (Deferred(Stage.RCPT, BUSY), None),
            (InDoubt("silence"), None),
        ],
    )
    def test_a_yes_a_no_or_nothing(self, result: DeliveryResult, lesson: Finding | None) -> None:
        assert lesson_of(result) == lesson


def test_domains_are_compared_in_lower_case_and_local_parts_as_they_are() -> None:
    assert key_of(b"Bob@Example.NET") == b"Bob@example.net"
    assert key_of(b'"a@B"@Example.NET') == b'"a@B"@example.net'


class TestUnverified:
    def test_strangers_come_back_and_hear_the_backends_word_if_it_had_one(self) -> None:
        mine = Defer(Reason.UNVERIFIED_RECIPIENT, reply.UNVERIFIED_RECIPIENT)
        assert unverified(None, is_privileged=False) == mine
        assert unverified(Unsure(None), is_privileged=False) == mine
        assert unverified(FULL, is_privileged=False) == Defer(Reason.UNVERIFIED_RECIPIENT, BUSY)

    @pytest.mark.parametrize("found", [None, FULL, Unsure(None)])
    def test_privileged_clients_are_believed(self, found: Finding | None) -> None:
        assert unverified(found, is_privileged=True) is None

    def test_an_old_yes_is_good_enough_for_anyone(self) -> None:
        assert unverified(Known(is_fresh=False), is_privileged=False) is None


class TestCache:
    def cache(self, entries_max: int = 100) -> RecipientCache:
        return RecipientCache(entries_max)

    def test_a_yes_is_fresh_for_its_time_and_then_old(self) -> None:
        cache = self.cache()
        cache.remember(ALICE, KNOWN, 10.0, POLICY)
        assert cache.look_up(ALICE, 1009.0) is KNOWN
        assert cache.look_up(ALICE, 1010.0) == Known(is_fresh=False)
        assert cache.look_up(b"bob@example.net", 10.0) is None

    def test_a_yes_that_lasts_is_told_apart(self) -> None:
        cache = self.cache()
        cache.remember(ALICE, KNOWN, 0.0, POLICY)
        cache.remember(b"bob", UNKNOWN, 0.0, POLICY)
        assert cache.is_known_until(ALICE, 999.0)
        assert not cache.is_known_until(ALICE, 1000.0)
        assert not cache.is_known_until(b"bob", 1.0)
        assert not cache.is_known_until(b"carol", 1.0)

    def test_a_no_is_forgotten_after_its_time(self) -> None:
        cache = self.cache()
        cache.remember(ALICE, UNKNOWN, 0.0, POLICY)
        assert cache.look_up(ALICE, 99.0) == UNKNOWN
        assert cache.look_up(ALICE, 100.0) is None
        assert len(cache) == 0

    def test_what_was_refused_for_another_reason_is_looked_at_again_soon(self) -> None:
        cache = self.cache()
        cache.remember(ALICE, Known(is_taken=False), 0.0, POLICY)
        assert cache.look_up(ALICE, 99.0) is KNOWN
        assert cache.look_up(ALICE, 100.0) == Known(is_fresh=False)

    def test_no_answer_is_remembered_shortly_and_never_in_place_of_a_yes(self) -> None:
        cache = self.cache()
        cache.remember(ALICE, FULL, 0.0, POLICY)
        assert cache.look_up(ALICE, UNSURE_SECONDS - 1) == FULL
        assert cache.look_up(ALICE, UNSURE_SECONDS) is None
        cache.remember(ALICE, KNOWN, 0.0, POLICY)
        cache.remember(ALICE, FULL, 2000.0, POLICY)
        assert cache.look_up(ALICE, 2001.0) == Known(is_fresh=False)

    @pytest.mark.parametrize(("first", "second"), [(KNOWN, UNKNOWN), (UNKNOWN, KNOWN)])
    def test_the_latest_answer_counts(self, first: Finding, second: Finding) -> None:
        cache = self.cache()
        cache.remember(ALICE, first, 0.0, POLICY)
        cache.remember(ALICE, second, 1.0, POLICY)
        assert cache.look_up(ALICE, 2.0) == second

    def test_the_least_recently_used_makes_room(self) -> None:
        cache = self.cache(entries_max=3)
        for name in (b"a", b"b", b"c"):
            cache.remember(name, KNOWN, 0.0, POLICY)
        cache.look_up(b"a", 1.0)
        cache.remember(b"b", KNOWN, 1.0, POLICY)
        cache.remember(b"d", UNKNOWN, 1.0, POLICY)
        assert cache.look_up(b"c", 1.0) is None
        assert all(cache.look_up(name, 1.0) is not None for name in (b"a", b"b", b"d"))
        assert len(cache) == cache.entries_max == 3

    def test_a_smaller_bound_forgets_at_once(self) -> None:
        cache = self.cache()
        for number in range(100):
            cache.remember(b"%d" % number, KNOWN, 0.0, POLICY)
        cache.resize(10)
        assert len(cache) == 10
        assert cache.look_up(b"99", 1.0) is KNOWN
        assert cache.look_up(b"89", 1.0) is None

    def test_an_entry_is_as_small_as_the_documentation_says(self) -> None:
        count = 20_000
        keys = [b"some.longer.name.%d@hospital.example" % number for number in range(count)]
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            cache = RecipientCache(count)
            for number, key in enumerate(keys):
                cache.remember(bytes(bytearray(key)), KNOWN, float(number), POLICY)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (after - before) / count < 250


class TestCatchAlls:
    def test_a_domain_is_tried_once_an_hour(self) -> None:
        domains = CatchAlls()
        assert domains.begin("example.net", 0.0)
        assert not domains.begin("example.net", 1.0)
        assert domains.conclude("example.net", KNOWN, 2.0)
        assert domains.accepts_all("example.net")
        assert not domains.begin("example.net", CATCH_ALL_SECONDS + 1)
        assert domains.accepts_all("example.net")
        assert domains.begin("example.net", CATCH_ALL_SECONDS + 2)
        assert domains.accepts_all("example.net"), "it is one until it is known not to be"

    def test_only_a_change_is_news(self) -> None:
        domains = CatchAlls()
        domains.begin("example.net", 0.0)
        assert not domains.conclude("example.net", UNKNOWN, 0.0)
        assert domains.conclude("example.net", KNOWN, 0.0)
        assert not domains.conclude("example.net", KNOWN, 0.0)
        assert domains.conclude("example.net", UNKNOWN, 0.0)
        assert not domains.accepts_all("example.net")

    @pytest.mark.parametrize("found", [Unsure(None), FULL, Known(is_taken=False)])
    def test_what_is_no_answer_changes_nothing_and_is_tried_again_soon(
        self, found: Finding
    ) -> None:
        domains = CatchAlls()
        domains.begin("example.net", 0.0)
        domains.conclude("example.net", KNOWN, 0.0)
        again = CATCH_ALL_SECONDS
        assert domains.begin("example.net", again)
        assert not domains.conclude("example.net", found, again + 1)
        assert domains.accepts_all("example.net")
        assert not domains.begin("example.net", again + CATCH_ALL_RETRY_SECONDS - 1)
        assert domains.begin("example.net", again + CATCH_ALL_RETRY_SECONDS)

    def test_domains_that_clients_make_up_are_bounded(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(recipients, "DOMAINS_MAX", 3)
        domains = CatchAlls()
        for number in range(10):
            domains.begin(f"{number}.example.net", 0.0)
        assert len(domains) == 3
        assert not domains.conclude("0.example.net", KNOWN, 0.0), "forgotten meanwhile"


class TestUnknownBudget:
    POLICY = replace(POLICY, unknown_max=2, unknown_window=100.0)
    CLIENT = ip_address("192.0.2.1")

    def paces(self, budget: UnknownBudget, count: int, now: float = 0.0) -> list[Pace]:
        return [budget.spend(self.CLIENT, now, self.POLICY) for _ in range(count)]

    def test_first_at_once_then_slowly_then_no_more(self) -> None:
        assert self.paces(UnknownBudget(), 6) == [
            *(Pace.AT_ONCE, Pace.AT_ONCE, Pace.SLOWLY, Pace.SLOWLY, Pace.LAST, Pace.LAST)
        ]

    def test_a_window_ends_by_itself(self) -> None:
        budget = UnknownBudget()
        assert self.paces(budget, 5)[-1] is Pace.LAST
        assert self.paces(budget, 1, now=99.0) == [Pace.LAST]
        assert self.paces(budget, 1, now=100.0) == [Pace.AT_ONCE]

    def test_clients_are_apart_but_not_the_addresses_of_one_host(self) -> None:
        budget = UnknownBudget()
        self.paces(budget, 6)
        other = budget.spend(ip_address("192.0.2.2"), 0.0, self.POLICY)
        paces = [
            budget.spend(ip_address(f"2001:db8::{number}"), 0.0, self.POLICY)
            for number in range(1, 4)
        ]
        neighbour = budget.spend(ip_address("2001:db8:0:1::1"), 0.0, self.POLICY)
        assert (other, neighbour) == (Pace.AT_ONCE, Pace.AT_ONCE)
        assert paces == [Pace.AT_ONCE, Pace.AT_ONCE, Pace.SLOWLY]

    def test_the_table_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(recipients, "CLIENTS_MAX", 3)
        budget = UnknownBudget()
        for number in range(10):
            budget.spend(ip_address(number), 0.0, self.POLICY)
        assert len(budget) == 3

    def test_the_refusal_is_the_backends_until_the_session_ends(self) -> None:
        for pace in (Pace.AT_ONCE, Pace.SLOWLY):
            assert refusal(UNKNOWN, pace) == Reject(Reason.UNKNOWN_RECIPIENT, REFUSED)
        last = refusal(UNKNOWN, Pace.LAST)
        assert last == Defer(Reason.UNKNOWN_RECIPIENT, reply.TOO_MANY_UNKNOWN)
        assert last.reply.code == 421
