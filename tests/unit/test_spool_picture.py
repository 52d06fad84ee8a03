"""The spool in the picture: what keeps mail out of it."""

from dataclasses import replace
from typing import Any

import pytest

from mailshed.spool.store import SpoolTotals
from mailshed.spool_picture import ORDINARY_MESSAGE, fill_of, why_full

MIB = 1024**2
ROOMY = SpoolTotals(
    octets_max=100 * MIB, messages_max=1000, disk_free=900 * MIB, disk_reserve=256 * MIB
)


@pytest.mark.parametrize(
    ("changes", "reason", "is_for_clinical"),
    [
        ({}, "", True),
        ({"disk_free": 320 * MIB}, "", True),
        (
            {"disk_free": 256 * MIB + 1},
            "256 MiB of disk are free, 320 MiB are reserved; the last of it is for clinical mail",
            True,
        ),
        ({"disk_free": 256 * MIB}, "256 MiB of disk are free, 256 MiB are reserved", False),
        ({"messages": 969}, "", True),
        (
            {"messages": 970},
            "it holds 970 of 1000 messages; the last of it is for clinical mail",
            True,
        ),
        ({"messages": 1000}, "it holds 1000 of 1000 messages", False),
        ({"octets": 97 * MIB - ORDINARY_MESSAGE}, "", True),
        (
            {"octets": 97 * MIB},
            "it holds 97 of 100 MiB of mail; the last of it is for clinical mail",
            True,
        ),
        ({"octets": 100 * MIB}, "it holds 100 of 100 MiB of mail", False),
    ],
)
def test_the_limit_that_keeps_mail_out_is_named(
    changes: dict[str, Any], reason: str, is_for_clinical: bool
) -> None:
    assert why_full(replace(ROOMY, **changes)) == (reason, is_for_clinical)


@pytest.mark.parametrize(
    ("changes", "fill"),
    [
        ({"octets": 300, "octets_max": 1000, "messages": 1, "messages_max": 10}, 0.3),
        ({"octets": 1, "octets_max": 1000, "messages": 9, "messages_max": 10}, 0.9),
        ({"octets": 1, "octets_max": 1000, "disk_free": 500, "disk_reserve": 400}, 0.8),
        ({"disk_free": 100, "disk_reserve": 400}, 1.0),
        ({}, 0.0),
    ],
)
def test_the_fullest_measure_says_how_full_a_spool_is(changes: dict[str, Any], fill: float) -> None:
    assert fill_of(SpoolTotals(**changes)) == pytest.approx(fill)


def test_a_spool_that_was_not_asked_yet_is_not_full() -> None:
    assert why_full(SpoolTotals()) == ("", True)
