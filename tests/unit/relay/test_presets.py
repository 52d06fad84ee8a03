"""What is known of products; what their replies mean is tested in test_endings.py."""

from typing import get_args

import pytest

from mailshed.config.back import Backend
from mailshed.control.limit import SlotEnding
from mailshed.relay.presets import PRESETS, Preset


def test_the_configuration_offers_every_preset_by_its_name() -> None:
    assert set(PRESETS) == set(get_args(Backend.model_fields["preset"].annotation))
    assert all(preset.name == name for name, preset in PRESETS.items())


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_what_is_looked_for_can_be_found(preset: Preset) -> None:
    """Texts are compared in lower case, and only those of deferrals."""
    for code, text, ending in preset.texts:
        assert 400 <= code < 500
        assert text == text.lower()
        assert text
        assert ending in (SlotEnding.BUSY, SlotEnding.RECIPIENT, SlotEnding.POLICY)


def test_a_generic_server_has_nothing_special() -> None:
    assert PRESETS["generic"] == Preset(name="generic")
