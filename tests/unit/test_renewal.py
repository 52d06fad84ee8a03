"""A reload takes effect as a whole, or not at all."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from mailshed import renewal
from mailshed.config.load import load
from mailshed.config.schema import Config
from mailshed.errors import ConfigError
from mailshed.policies import fingerprint
from mailshed.terms import Stage
from tests.support.outbound import eventually
from tests.support.scripted_backend import ScriptedBackend, say
from tests.support.service_rig import Rig, logging_as_it_was, talk


@pytest.fixture(autouse=True)
def quiet_ending() -> Iterator[None]:
    """Logging is the test's own again afterwards."""
    with logging_as_it_was():
        yield


@pytest.fixture
async def server() -> AsyncIterator[ScriptedBackend]:
    async with ScriptedBackend() as running:
        yield running


@pytest.fixture
def rig(tmp_path: Path, server: ScriptedBackend) -> Rig:
    return Rig(tmp_path, server.port)


def write_faulty_file() -> Path:
    """A file with more than one fault, in the working folder."""
    file = Path("a.yaml")
    file.write_text("nonsense: 2\nhostnam: x\n")
    return file


class TestReload:
    async def rcpt(self, rig: Rig, address: str) -> str:
        async with talk(rig.port) as client:
            await client.say("MAIL FROM:<alice@example.org>")
            return await client.say(f"RCPT TO:<{address}>")

    async def test_replaces_the_policies(self, rig: Rig) -> None:
        async with rig.running():
            assert (await self.rcpt(rig, "bob@new.example")).startswith("554")
            rig.next_config = lambda: rig.make_config(domains=["new.example"])
            before = rig.snapshot.config_hash
            rig.hangup.set()
            await eventually(lambda: rig.snapshot.config_hash != before)
            assert (await self.rcpt(rig, "bob@new.example")).startswith("250")
            assert (await self.rcpt(rig, "bob@example.net")).startswith("554")
            assert rig.snapshot.reload_ok
            assert rig.lines("reloaded")[0]["config"] == rig.snapshot.config_hash
        reloads = [each for each in rig.told if each.startswith(b"RELOADING=1")]
        assert len(reloads) == 1
        assert rig.told[rig.told.index(reloads[0]) :].count(b"READY=1") == 1

    async def test_nobody_waits_while_policies_are_made(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made_in = set()
        for name in ("live_policies", "drain_policy", "surge_policy", "fingerprint"):
            make = getattr(renewal, name)

            def making(config: Config, make: Callable[[Config], object] = make) -> object:
                made_in.add(threading.get_ident())
                return make(config)

            monkeypatch.setattr(renewal, name, making)
        async with rig.running():
            rig.next_config = lambda: rig.make_config(domains=["new.example"])
            await rig.service.reload()
        assert made_in
        assert threading.get_ident() not in made_in

    async def test_what_was_read_last_is_in_force(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two at once, as of the lists and of an operator, although the first takes longer."""
        make, is_older_read, is_applied = fingerprint, threading.Event(), threading.Event()
        said = rig.parts.maillog.reloaded

        def older() -> Config:
            is_older_read.set()
            return rig.make_config(domains=["older.example"])

        def take_long(config: Config) -> str:
            if "older.example" in config.domains:
                is_applied.wait(0.2)  # for nothing, if the newer one has to wait for us
            return make(config)

        def applied(*, config: str) -> None:
            said(config=config)
            is_applied.set()

        async with rig.running():
            monkeypatch.setattr(renewal, "fingerprint", take_long)
            monkeypatch.setattr(rig.parts.maillog, "reloaded", applied)
            rig.next_config = older
            async with asyncio.TaskGroup() as group:
                group.create_task(rig.service.reload())
                await eventually(is_older_read.is_set)
                rig.next_config = lambda: rig.make_config(domains=["newer.example"])
                group.create_task(rig.service.reload())
            assert len(rig.lines("reloaded")) == 2
            assert (await self.rcpt(rig, "bob@newer.example")).startswith("250")

    async def test_a_faulty_file_changes_nothing_and_is_told(self, rig: Rig) -> None:
        def faulty() -> Config:
            raise ConfigError("mailshed.yaml:3:1: hostnam: no such key")

        async with rig.running():
            rig.next_config = faulty
            before = rig.snapshot.config_hash
            rig.hangup.set()
            await eventually(lambda: not rig.snapshot.reload_ok)
            assert (await self.rcpt(rig, "bob@example.net")).startswith("250")
            assert rig.snapshot.config_hash == before
            rig.next_config = lambda: rig.config
            await rig.service.reload()
            await eventually(lambda: rig.snapshot.reload_ok)
        assert "hostnam" in rig.lines("reload_refused")[0]["error"]

    async def test_the_log_has_the_first_fault_and_how_many(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(rig.folder)
        file = write_faulty_file()
        rig.next_config = lambda: load(file)
        async with rig.running():
            with pytest.raises(ConfigError, match=r"(?s)nonsense.*hostnam"):
                await rig.service.reload()
            (line,) = rig.lines("reload_refused")
        assert "\n" not in line["error"]
        assert re.fullmatch(
            rf"\d faults, first: {file}:1:\d+: error: .*; run: mailshed config check {file}",
            line["error"],
        )

    async def test_what_needs_a_restart_is_named_and_nothing_else_is_taken(self, rig: Rig) -> None:
        async with rig.running():
            rig.next_config = lambda: rig.make_config(
                domains=["new.example"], hostname="other.example.org", log={"level": "info"}
            )
            with pytest.raises(ConfigError, match=r"restart of the service: hostname, log$"):
                await rig.service.reload()
            assert (await self.rcpt(rig, "bob@new.example")).startswith("554")
            assert rig.service.config is rig.config

    async def test_a_fault_of_ours_does_not_end_the_service(self, rig: Rig) -> None:
        def broken() -> Config:
            raise RuntimeError("bug")

        async with rig.running():
            rig.next_config = broken
            rig.hangup.set()
            await eventually(lambda: rig.snapshot.tasks_failed_total == 1)
            assert not rig.snapshot.reload_ok
            assert (await self.rcpt(rig, "bob@example.net")).startswith("250")
        assert rig.lines("task_failed")[0]["task"] == "reload"

    def without(self, rig: Rig, *names: str) -> Config:
        kept = tuple(each for each in rig.config.classes if each.name not in names)
        return rig.config.model_copy(update={"classes": kept})

    async def test_a_class_that_has_mail_cannot_be_removed(
        self, rig: Rig, server: ScriptedBackend
    ) -> None:
        server.always(Stage.CONNECT, say("421 4.3.2 later"))
        async with rig.running():
            async with talk(rig.port) as client:
                await client.submit(header="Precedence: bulk")
                assert "queued as" in await client.hear()
            rig.next_config = lambda: self.without(rig, "bulk", "telework")
            with pytest.raises(ConfigError, match=r"cannot remove bulk \(1 messages\)") as refused:
                await rig.service.reload()
            assert "telework" not in str(refused.value)
            rig.next_config = lambda: self.without(rig, "telework")
            await rig.service.reload()
            await eventually(lambda: "telework" not in {c.name for c in rig.snapshot.classes})
        assert "bulk" in rig.lines("reload_refused")[0]["error"]

    async def test_no_class_can_be_removed_while_the_spool_is_sick(self, rig: Rig) -> None:
        async with rig.running():
            rig.parts.spool._sick = "disk I/O error"
            rig.next_config = lambda: self.without(rig, "bulk")
            with pytest.raises(ConfigError, match=r"cannot remove bulk now.*disk I/O error"):
                await rig.service.reload()


async def test_a_list_that_changes_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one with a fault is refused, once, while the list of before stays in force."""
    monkeypatch.setattr(renewal, "LISTS_INTERVAL", 0.01)
    lab, file = tmp_path / "lab.txt", tmp_path / "m.yaml"
    lab.write_text("10.1.0.0/16\n")
    file.write_text(
        "version: 1\nhostname: mx.example.org\ndomains: [example.net]\n"
        "listeners: [{name: smtp, bind: '127.0.0.1:0'}]\n"
        "backends: [{name: exch, host: 127.0.0.1, port: 25}]\n"
        f"spool: {{path: {tmp_path}/spool, disk_reserve: 0B}}\n"
        "metrics: {bind: '127.0.0.1:0'}\nlog: {format: json}\n"
        f"classification: {{networks: {{lab: ['file:{lab}']}}, rules: [{{name: lab,"
        " class: clinical, client_networks: [lab]}]}\n"
    )
    rig = Rig(tmp_path)
    rig.config = rig.service._renewal.config = load(file)
    rig.next_config = lambda: load(file)
    async with rig.running():
        lab.write_text("10.1.0.0/16\n10.2.0.0/16\n")
        await eventually(lambda: len(rig.lines("reloaded")) == 1)
        networks = rig.parts.pipeline.policies.clinical_networks
        assert [ip_address(f"10.{net}.0.1") in networks for net in (1, 2, 3)] == [True, True, False]
        lab.write_text("nonsense\n")
        await eventually(lambda: len(rig.lines("reload_refused")) == 1)
        assert "lab.txt:1:1: error: expected a network" in rig.lines("reload_refused")[0]["error"]
        lab.write_text("10.3.0.0/16\n")
        await eventually(lambda: len(rig.lines("reloaded")) == 2)
    assert len(rig.lines("reload_refused")) == 1
    networks = rig.parts.pipeline.policies.clinical_networks
    assert [ip_address(f"10.{net}.0.1") in networks for net in (1, 2, 3)] == [False, False, True]
