"""What holds for the whole suite: marks by folder.

Everything runs by default; `-m "not e2e and not fault"` is the quick part. A test is marked by
where it stands, so that nobody has to remember to do it.
"""

from pathlib import Path

import pytest

_FOLDER_MARKS = {
    "e2e": pytest.mark.e2e,
    "fault": pytest.mark.fault,
    "bench": pytest.mark.e2e,
    "interop": pytest.mark.e2e,
}
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark end-to-end stories and fault tests by their folder."""
    for item in items:
        mark = _FOLDER_MARKS.get(item.path.relative_to(_HERE).parts[0])
        if mark is not None:
            item.add_marker(mark)
