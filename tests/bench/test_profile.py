"""Samples count for the part in which they were taken."""

import pytest

from tests.bench.loads import load
from tests.bench.profile import part_of, row, shares

REPORT = """\
# Overhead  Shared Object
# ........  ........................................
#
    60.00%  libpython3.11.so.1.0
    20.00%  [kernel.kallsyms]
    10.00%  libcrypto.so.3
     5.00%  libssl.so.3
     3.00%  loop.cpython-311-x86_64-linux-gnu.so
     2.00%  libc.so.6
"""


@pytest.mark.parametrize(
    ("shared_object", "part"),
    [
        ("[kernel.kallsyms]", "kernel"),
        ("libcrypto.so.3", "TLS"),
        ("_sqlite3.cpython-311-x86_64-linux-gnu.so", "SQLite"),
        ("loop.cpython-311-x86_64-linux-gnu.so", "uvloop"),
        ("libc.so.6", "libc"),
        ("python3.11", "Python"),
        ("_codecs.so", "Python"),
    ],
)
def test_each_shared_object_is_of_one_part(shared_object: str, part: str) -> None:
    assert part_of(shared_object) == part


def test_the_shares_of_a_report_add_up() -> None:
    found = shares(REPORT)
    assert found["Python"] == pytest.approx(0.6)
    assert found["TLS"] == pytest.approx(0.15)
    assert sum(found.values()) == pytest.approx(1.0)
    assert row(load("10k-new"), 512.3, found) == (
        "| 10k-new | 512 | 20% | 15% | 0% | 3% | 2% | 60% |"
    )


def test_a_report_without_samples_is_a_failure() -> None:
    with pytest.raises(AssertionError, match="no samples"):
        shares("# Samples: 0\n")
