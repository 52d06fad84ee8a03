from pathlib import Path

from pydantic import BaseModel

from mailshed.config.describe import keys
from mailshed.config.reference import reference
from mailshed.config.schema import Config

DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_document_is_fresh() -> None:
    """If not: `mailshed config reference > docs/configuration.md`."""
    assert DOCUMENT.read_text() == reference()


def test_every_key_is_explained() -> None:
    text = reference()
    sections: list[type[BaseModel]] = [
        Config,
        *(key.section for key in keys(Config) if key.section is not None),
    ]

    for section in sections:
        for key in keys(section):
            assert f"| `{key.name}` |" in text


def test_does_not_depend_on_the_host() -> None:
    assert "| `hostname` | host name | the host's name |" in reference()
