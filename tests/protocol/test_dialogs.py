"""Dialogs that stand as text in `dialogs/`, whole and cut into single octets."""

from pathlib import Path

import pytest

from tests.support import dialog

FOLDER = Path(__file__).parent / "dialogs"


@pytest.mark.parametrize("is_octet_by_octet", [False, True], ids=["whole", "octet_by_octet"])
@pytest.mark.parametrize("script", dialog.read(FOLDER), ids=lambda script: script.name)
async def test_dialog(script: dialog.Dialog, *, is_octet_by_octet: bool) -> None:
    """The front says what the file says, however the client's octets are cut."""
    await dialog.run(script, is_octet_by_octet=is_octet_by_octet)
