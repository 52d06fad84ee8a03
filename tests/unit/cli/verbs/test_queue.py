"""The parser of the verbs of the queue, and that a verb brings along no more than it needs."""

import subprocess
import sys
from pathlib import Path

import pytest

from mailshed.cli.exit_codes import ExitCode
from mailshed.cli.main import main
from mailshed.cli.verbs.queue import ACTIONS
from mailshed.terms import QueueAction
from tests.unit.cli.conftest import ScriptedService

ROOT = Path(__file__).parents[4]
CONDITIONS = (
    *("--class", "--state", "--from", "--rcpt"),
    *("--older-than", "--younger-than", "--id"),
)


def usage(verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["queue", verb, "--help"]) == 0
    return capsys.readouterr().out


def test_there_is_a_verb_for_every_action() -> None:
    assert list(ACTIONS) == [action.value for action in QueueAction]


@pytest.mark.parametrize("verb", ["list", "count", "export", *ACTIONS])
def test_conditions_are_the_same_everywhere(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = usage(verb, capsys)

    assert [option for option in (*CONDITIONS, "--json", "--config") if option not in text] == []


@pytest.mark.parametrize("verb", ["export", *ACTIONS])
def test_every_action_asks_why(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = usage(verb, capsys)

    assert all(option in text for option in ("--reason", "--max", "--all", "--dry-run"))
    assert ("--yes" in text) == (verb != "export")


@pytest.mark.parametrize(
    "arguments",
    [
        ["show"],
        ["list", "ID"],
        ["export", "--all"],
        ["hold", "--max", "x"],
        ["hold", "--rea", "x"],
    ],
)
def test_what_the_parser_finds_is_wrong_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["queue", *arguments]) == ExitCode.USAGE
    assert capsys.readouterr().err.startswith("usage: mailshed")


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["show", "A"],
        ["hold", "A", "--reason", "x"],
        ["export", "A", "--reason", "x", "--to", "nowhere"],
    ],
)
def test_verbs_start_without_what_the_service_needs(
    arguments: list[str], offline: ScriptedService
) -> None:
    """They must work in a broken installation, and start fast."""
    code = (
        "import sys; from mailshed.cli.main import main; main(sys.argv[1:]);"
        "heavy = {'asyncio', 'pydantic', 'aiohttp', 'prometheus_client'} & set(sys.modules);"
        "sys.exit(','.join(heavy) or 0)"
    )
    command = [sys.executable, "-c", code, "queue", *arguments, "--config", str(offline.config)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
