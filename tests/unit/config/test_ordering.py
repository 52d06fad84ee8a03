"""The order of the classes."""

from typing import Any

import pytest

from tests.support.drafts import classes, paths


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({}, []),
        ({"second": {"guarantee": 0.4}, "third": {"guarantee": 0.6}}, []),
        ({"second": {"guarantee": 0.5}, "third": {"guarantee": 0.6}}, ["classes"]),
        ({"second": {"defer_fill": 0.9}, "third": {"defer_fill": 0.9}}, []),
        ({"third": {"defer_fill": 0.5}}, []),
        ({"second": {"defer_fill": 0.5}, "third": {"defer_fill": 0.9}}, ["classes.1.defer_fill"]),
        ({"second": {"defer_fill": 0.5}}, ["classes.1.defer_fill"]),
        ({"first": {"defer_fill": 0.99}, "third": {}}, ["classes.0.defer_fill"]),
    ],
)
def test_shares_fit_together_and_go_with_the_ranks(
    changes: dict[str, dict[str, Any]], faults: list[str]
) -> None:
    assert paths(classes(**changes)) == faults


def test_equal_ranks_and_equal_thresholds_are_in_order() -> None:
    promises = {"wait_max": "1s", "objective": "1s"}

    def ordered(*pairs: tuple[int, float]) -> list[str]:
        classes = [
            {"name": f"c{index}", "rank": rank, "threshold": threshold, **promises}
            for index, (rank, threshold) in enumerate(pairs)
        ]
        return paths({"classes": classes, "classification": {"default": "c0"}})

    assert ordered((0, 1.0), (1, 1.0), (1, 0.5)) == []
    assert ordered((1, 0.5), (0, 0.6)) == []
    assert ordered((0, 0.5), (1, 0.6), (2, 0.6)) == ["classes.0.threshold"]
    assert ordered((1, 0.5), (2, 0.5)) == ["classes"]


@pytest.mark.parametrize(
    ("objective", "report_after", "lifetime", "is_fault"),
    [
        ("10s", "15m", "4d", False),
        ("15m", "15m", "4d", True),
        ("1h", "15m", "4d", True),
        ("10s", "1h", "1h", True),
        ("10s", "59m", "1h", False),
    ],
)
def test_a_delay_is_reported_after_the_promise_and_before_the_end(
    objective: str, report_after: str, lifetime: str, is_fault: bool
) -> None:
    promises = {"rank": 0, "threshold": 1.0, "wait_max": "1s", "objective": objective}
    raw: dict[str, Any] = {
        "classes": [{"name": "all", "report_after": report_after, **promises}],
        "classification": {"default": "all"},
        "spool": {"path": "spool", "lifetime": lifetime, "retry_max": "1m"},
    }

    assert paths(raw) == (["classes.0.report_after"] if is_fault else [])


def test_the_shipped_classes_do_not_forbid_a_short_lifetime() -> None:
    assert paths({"spool": {"path": "spool", "lifetime": "30m", "retry_max": "1m"}}) == []
