"""The drift test is only as good as what it sees in an expression."""

import pytest

from tests.support.promql import Matcher, Selector, exported, parse

PAGE = exported(
    [
        ("decisions_total", {"class": "bulk", "reason": "spool_full"}),
        ("decisions_total", {"class": "bulk", "reason": "saturated"}),
        ("rank", {"class": "bulk"}),
        ("lag_bucket", {"le": "0.5"}),
    ],
    recorded=["class:shed:ratio_rate5m"],
)


def test_metrics_are_told_from_functions_keywords_and_labels() -> None:
    query = parse(
        'sum without (reason) (rate(decisions_total{reason=~"a|b", class!="x"}[5m] offset 1h))'
        " / on (job) group_left () max by (class) (rank) > bool 0.5e3 and class:shed:ratio_rate5m"
    )
    assert query.selectors == (
        Selector("decisions_total", (Matcher("reason", "=~", "a|b"), Matcher("class", "!=", "x"))),
        Selector("rank"),
        Selector("class:shed:ratio_rate5m"),
    )
    assert query.grouping == {"reason", "job", "class"}


def test_words_in_strings_and_braces_inside_them_are_no_metrics() -> None:
    (selector,) = parse(r'rank{class="and } \" or rank"}').selectors
    assert selector.name == "rank"
    assert len(selector.matchers) == 1


@pytest.mark.parametrize("expression", ['{class="bulk"}', "rank{class", "rank ~ 1", "sum by (x"])
def test_what_is_not_understood_is_an_error(expression: str) -> None:
    with pytest.raises(ValueError, match=r"missing|not understood"):
        parse(expression)


@pytest.mark.parametrize(
    "expression",
    [
        'up{job="any"} == 0 or absent(up)',
        'decisions_total{reason=~"spool_full|satur.*", class!="bulk"}',
        "histogram_quantile(0.99, sum by (le) (rate(lag_bucket[5m])))",
        "class:shed:ratio_rate5m > 1 and on (job, instance, class) rank == 0",
    ],
)
def test_what_is_exported_is_no_fault(expression: str) -> None:
    assert PAGE.faults(expression) == []


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("rate(decision_total[5m])", "nobody exports decision_total"),
        ("rank > other:record", "nobody exports other:record"),
        ('decisions_total{reason="full"}', 'decisions_total never has reason="full"'),
        ('decisions_total{reason!="full"}', 'decisions_total never has reason!="full"'),
        (
            'decisions_total{reason=~"saturated|sick"}',
            'decisions_total never has reason=~"saturated|sick"',
        ),
        ('rank{reason="saturated"}', 'rank never has reason="saturated"'),
        ("sum by (klass) (rank)", "no metric has a label klass"),
    ],
)
def test_what_nobody_exports_is_one(expression: str, fault: str) -> None:
    assert PAGE.faults(expression) == [fault]
