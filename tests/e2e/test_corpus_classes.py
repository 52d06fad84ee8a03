"""The shipped policy on 4,150 real messages: what is a list is bulk, what is personal is not."""

import pytest

from mailshed.mail.header import HeaderView
from tests.bench.classes import Result, ham, judge
from tests.support.corpus import CorpusMail

PERSONS_MAY_NOT_BE_BULK = frozenset({"bulk", "list", "junk"})


@pytest.fixture(scope="module")
def mails() -> list[CorpusMail]:
    return ham()


@pytest.fixture(scope="module")
def result(mails: list[CorpusMail]) -> Result:
    return judge(mails)


def test_the_corpus_is_the_one_that_the_figures_are_of(result: Result) -> None:
    assert result.messages == 4150
    assert result.listed.true_bulk + result.listed.missed == 3037


def test_all_list_mail_is_bulk(result: Result) -> None:
    assert result.listed.missed == 0
    assert result.mailed.recall > 0.99


def test_what_is_bulk_was_sent_to_many(result: Result) -> None:
    assert result.listed.precision > 0.96
    assert result.mailed.precision > 0.96


def test_no_personal_mail_is_bulk(result: Result) -> None:
    assert result.personal > 900
    assert result.personal_bulk == []


def test_bulk_without_a_list_field_says_that_it_is_bulk(
    result: Result, mails: list[CorpusMail]
) -> None:
    by_name = {mail.name: mail for mail in mails}
    assert result.unlisted_bulk
    for name in result.unlisted_bulk:
        said = {value.lower() for value in HeaderView(by_name[name].wire).values("precedence")}
        assert said & PERSONS_MAY_NOT_BE_BULK, name
