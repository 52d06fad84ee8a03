import argparse
from pathlib import Path

import pytest

from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.cli.places import (
    CONFIG_DEFAULT,
    CONFIG_VARIABLE,
    SOCKET_VARIABLE,
    ServicePlaces,
    add_service_options,
    config_file,
    find_service,
)
from tests.unit.cli.conftest import ScriptedService


def find(*arguments: str) -> ServicePlaces:
    parser = argparse.ArgumentParser()
    add_service_options(parser)
    return find_service(parser.parse_args(arguments))


def test_the_configuration_file_is_the_option_the_variable_or_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert config_file(None) == CONFIG_DEFAULT
    monkeypatch.setenv(CONFIG_VARIABLE, "/variable")
    assert config_file(None) == Path("/variable")
    assert config_file(Path("/option")) == Path("/option")


def test_the_socket_is_the_option_the_variable_or_in_the_file(
    offline: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ("--config", str(offline.config))
    spool = offline.config.parent / "spool"

    assert find(*config) == ServicePlaces(socket=offline.socket, spool=spool)
    monkeypatch.setenv(SOCKET_VARIABLE, "/variable")
    assert find(*config) == ServicePlaces(socket=Path("/variable"), spool=spool)
    assert find(*config, "--socket", "/option").socket == Path("/option")


def test_a_named_socket_needs_no_file(tmp_path: Path) -> None:
    places = find("--config", str(tmp_path / "missing"), "--socket", "/option")

    assert places == ServicePlaces(socket=Path("/option"), spool=None)


def test_without_file_and_socket_both_remedies_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        VerbFailed,
        match=rf"(?s)No such.*--config or \${CONFIG_VARIABLE}.*--socket or \${SOCKET_VARIABLE}",
    ) as caught:
        find("--config", str(tmp_path / "missing"))

    assert caught.value.code == ExitCode.CONFIG


def test_a_file_that_does_not_say_where_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("version: 1\n")

    with pytest.raises(VerbFailed, match=r"neither admin\.socket nor spool\.path"):
        find("--config", str(tmp_path / "m.yaml"))
