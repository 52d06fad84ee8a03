import pytest
from pydantic import BaseModel

from mailshed.config.back import Backend
from mailshed.config.classification import RuleSection
from mailshed.config.describe import homes, key_at, keys, section_at, write_value
from mailshed.config.faults import KeyPath
from mailshed.config.schema import Config
from mailshed.config.sections import Spool


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (("version",), "1"),
        (("spool", "octets_max"), "size"),
        (("spool", "lifetime"), "duration"),
        (("backends", 0, "host"), "host"),
        (("classes", 3, "wait_max_user_agent"), "duration"),
        (("classification", "networks", "vpn", 1), "network or file"),
        (("log", "format"), "text or json"),
        (("spool", "allow_network_filesystem"), "boolean"),
        (("metrics", "bind"), "address:port"),
    ],
)
def test_knows_the_kind_of_each_value(path: KeyPath, kind: str) -> None:
    key = key_at(Config, path)

    assert key is not None
    assert key.kind == kind


def test_knows_no_key_where_there_is_none() -> None:
    assert key_at(Config, ("spool", "nothing")) is None
    assert section_at(Config, ("nothing",)) is None


def test_finds_sections_through_lists_but_not_in_maps_of_the_site() -> None:
    assert section_at(Config, ()) is Config
    assert section_at(Config, ("spool",)) is Spool
    assert section_at(Config, ("classification", "rules", 4)) is RuleSection
    assert section_at(Config, ("classification", "networks")) is None


def test_names_keys_as_the_file_has_them() -> None:
    names = {key.name: key.attribute for key in keys(RuleSection)}

    assert names["class"] == "traffic_class"
    assert names["headers"] == "headers"


def test_finds_the_sections_that_have_a_key() -> None:
    assert list(homes(Config, "sessions_max")) == [("limits",)]
    assert list(homes(Config, "command_timeout")) == [("backends",), ("limits",)]
    assert list(homes(Config, "nothing")) == []


def test_gives_defaults_and_bounds_in_the_unit_of_the_key() -> None:
    by_name = {key.name: key for key in keys(Backend)}
    spool = {key.name: key for key in keys(Spool)}

    assert by_name["name"].default is ...
    assert by_name["port"].default == 25
    assert by_name["port"].bounds == "at least 1, at most 65535"
    assert spool["octets_max"].bounds == "at least 1MiB"
    assert spool["path"].bounds == ""


def test_every_key_has_a_kind_and_a_meaning() -> None:
    sections: list[type[BaseModel]] = [Config]
    sections += [key.section for key in keys(Config) if key.section is not None]
    for section in sections:
        for key in keys(section):
            assert key.field.description, key.name
            assert (key.kind == "section") == (key.section is not None), key.name


def test_writes_values_with_their_unit() -> None:
    assert write_value("duration", 90.0) == "90s"
    assert write_value("size", 65536) == "64KiB"
    assert write_value("integer", 7) == "7"
