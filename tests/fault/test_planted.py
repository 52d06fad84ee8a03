"""The list of planted faults keeps up with the code; `make test-planted` runs them."""

from pathlib import Path

import pytest

from tests.fault.planted import FAULTS, Fault

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_still_applies_and_its_test_is_there(fault: Fault) -> None:
    assert (ROOT / fault.test).exists()
    for edit in fault.edits:
        count = (ROOT / edit.path).read_text().count(edit.old)
        assert count == 1, f"{edit.path} has the text {count} times: {edit.old!r}"
