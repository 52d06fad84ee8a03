"""What may replace the running configuration, and how a refusal reads in the log."""

from pathlib import Path

import pytest

from mailshed.config.load import load
from mailshed.config.schema import Config
from mailshed.errors import ConfigError
from mailshed.reload import FAULT_MAX, Reloader, in_short
from tests.support.builders import spool_record
from tests.support.memory_spool import MemorySpool
from tests.support.spools import pieces

QUICKSTART = Path(__file__).parents[2] / "config" / "quickstart.yaml"


@pytest.fixture
def current() -> Config:
    return load(QUICKSTART)


def without_bulk(config: Config) -> Config:
    kept = tuple(each for each in config.classes if each.name != "bulk")
    return config.model_copy(update={"classes": kept})


async def test_a_configuration_that_changes_only_policies_may_replace_it(current: Config) -> None:
    changed = current.model_copy(update={"domains": ("else.example",)})
    assert await Reloader(lambda: changed, MemorySpool()).read(current) is changed


async def test_what_only_a_restart_can_change_is_refused_by_name(current: Config) -> None:
    changed = current.model_copy(update={"hostname": "other.hospital.example"})
    with pytest.raises(ConfigError, match="need a restart of the service: hostname"):
        await Reloader(lambda: changed, MemorySpool()).read(current)


async def test_a_class_may_go_unless_the_spool_holds_mail_of_it(current: Config) -> None:
    spool = MemorySpool()
    await spool.open()
    reloader = Reloader(lambda: without_bulk(current), spool)
    assert "bulk" not in {each.name for each in (await reloader.read(current)).classes}
    await spool.add(spool_record(traffic_class="bulk"), pieces(b"x\r\n"))
    with pytest.raises(ConfigError, match="cannot remove bulk"):
        await reloader.read(current)


async def test_no_class_may_go_while_the_spool_cannot_say(current: Config) -> None:
    spool = MemorySpool()
    await spool.open()
    spool.unhealthy = "disk I/O error"
    with pytest.raises(ConfigError, match="cannot say whether it holds mail"):
        await Reloader(lambda: without_bulk(current), spool).read(current)


class TestInShort:
    def test_has_the_first_fault_the_count_and_the_command(self) -> None:
        error = ConfigError(
            "a.yaml:3:5: error: spool.retry_min: a unit is missing\n"
            "   3 |   retry_min: 2\n     |              ^\n"
            "a.yaml:9:1: error: hostnme: unknown key\n"
        )
        assert in_short(error) == (
            "2 faults, first: a.yaml:3:5: error: spool.retry_min: a unit is missing; "
            "run: mailshed config check a.yaml"
        )

    def test_cuts_a_long_fault_and_not_the_command(self) -> None:
        short = in_short(ConfigError("a.yaml:3:5: error: " + "very " * 100))
        assert short.endswith("; run: mailshed config check a.yaml")
        assert len(short) < FAULT_MAX + 80

    def test_has_room_for_what_is_wrong_however_long_the_path_is(self) -> None:
        file = f"/{'folder/' * 40}a.yaml"
        assert in_short(ConfigError(f"{file}:3:5: error: spool.path: is no folder")) == (
            f"1 fault, first: a.yaml:3:5: error: spool.path: is no folder;"
            f" run: mailshed config check {file}"
        )

    def test_leaves_one_line_alone(self) -> None:
        text = "these changes need a restart of the service: spool"
        assert in_short(ConfigError(text)) == text
