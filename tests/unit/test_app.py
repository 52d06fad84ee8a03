"""The whole service in the test's own loop: start or undo, serve, reload or refuse, stop."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mailshed import app, renewal
from mailshed.config.admission import EVERYWHERE
from mailshed.config.load import load
from mailshed.config.policy import Quota
from mailshed.config.render import render
from mailshed.config.schema import Config
from mailshed.engine import OWN, STOCK
from mailshed.errors import ConfigError, StartError
from mailshed.mail.networks import NetworkSet
from mailshed.metrics import Usage
from mailshed.spool.lock import SpoolLock
from mailshed.spool.reader import count_messages
from mailshed.terms import Stage
from tests.support.certificates import Authority, make_authority, serial_of
from tests.support.outbound import eventually
from tests.support.scripted_backend import STALL, ScriptedBackend, Wait, say
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


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


class TestStart:
    async def test_opens_everything_and_says_so(self, rig: Rig) -> None:
        async with rig.running():
            (started,) = rig.lines("started")
            assert started["listeners"] == f"smtp 127.0.0.1:{rig.port}"
            assert started["backends"].startswith("exch 127.0.0.1:")
            assert rig.config.admin_socket.is_socket()
            assert rig.snapshot.listeners == (f"smtp 127.0.0.1:{rig.port}",)
        rig.assert_nothing_is_left()

    async def test_a_taken_smtp_port_is_named_and_the_other_one_given_back(
        self, tmp_path: Path, taken: int
    ) -> None:
        listeners = [
            {"name": "first", "bind": "127.0.0.1:0"},
            {"name": "second", "bind": f"127.0.0.1:{taken}"},
        ]
        rig = Rig(tmp_path, listeners=listeners)
        with pytest.raises(StartError, match=rf"listener second.*port {taken}.*ss -ltnp"):
            await rig.run()
        assert len(rig.service._servers) == 1
        rig.assert_nothing_is_left()
        assert not rig.config.spool.path.exists(), "found before anything else happens"

    async def test_a_taken_metrics_port_is_named(self, tmp_path: Path, taken: int) -> None:
        rig = Rig(tmp_path, metrics={"bind": f"127.0.0.1:{taken}"})
        with pytest.raises(StartError, match=rf"metrics port 127\.0\.0\.1:{taken} is taken"):
            await rig.run()
        rig.assert_nothing_is_left()

    async def test_a_spool_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("not a folder")
        path = tmp_path / "file" / "spool"
        rig = Rig(tmp_path, spool={"path": str(path)})
        with pytest.raises(StartError, match=r"^spool: cannot use .*file/spool.*spool\.path"):
            await rig.run()
        rig.assert_nothing_is_left()

    async def test_a_spool_that_is_a_file_is_named_and_not_the_admin_socket(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("not a folder")
        rig = Rig(tmp_path, spool={"path": str(tmp_path / "file")})
        with pytest.raises(StartError, match=r"^spool: .*file is not a folder") as caught:
            await rig.run()
        assert "admin" not in str(caught.value)

    async def test_a_spool_whose_disk_is_not_there_is_not_made_elsewhere(
        self, tmp_path: Path
    ) -> None:
        rig = Rig(tmp_path, spool={"path": str(tmp_path / "disk" / "spool")})
        with pytest.raises(StartError, match=r"disk does not exist.*is its disk mounted\?"):
            await rig.run()
        assert not (tmp_path / "disk").exists()
        rig.assert_nothing_is_left()

    async def test_with_a_damaged_spool_it_relays_and_says_what_to_do(self, rig: Rig) -> None:
        spool = rig.config.spool.path
        spool.mkdir(mode=0o700)
        (spool / "spool.db").write_bytes(b"garbage" * 1000)
        async with rig.running():
            assert not rig.snapshot.spool.is_healthy
            async with talk(rig.port) as client:
                await client.submit()
                assert (await client.hear()).startswith("250 2.0.0")
            (line,) = rig.lines("spool_sick")
            assert re.search(r"not a database.*move it aside.*operating\.md", line["detail"])
            (spool / "spool.db").unlink()
            await eventually(lambda: bool(rig.lines("spool_recovered")))
            await eventually(lambda: rig.snapshot.spool.is_healthy)
        rig.assert_nothing_is_left()

    async def test_an_admin_socket_that_cannot_be_made_gives_the_spool_back(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("not a folder")
        rig = Rig(tmp_path, admin={"socket": str(tmp_path / "file" / "run" / "admin.sock")})
        with pytest.raises(StartError, match=r"cannot create .* for the admin socket.*admin\.soc"):
            await rig.run()
        for server in rig.service._servers:
            assert server._listening.fileno() == -1
        lock = SpoolLock(rig.config.spool.path)
        lock.acquire()
        lock.release()

    async def test_a_second_instance_is_told_of_the_spool_before_the_socket(
        self, tmp_path: Path, rig: Rig
    ) -> None:
        async with rig.running():
            other = Rig(tmp_path)
            with pytest.raises(StartError, match=r"^spool: .*another mailshed.*spool\.path$"):
                await other.run()
            assert rig.config.admin_socket.is_socket()

    async def test_warns_if_the_reserve_is_gone_already(self, tmp_path: Path) -> None:
        spool = {"path": str(tmp_path / "spool"), "disk_reserve": "1024TiB"}
        rig = Rig(tmp_path, spool=spool)
        async with rig.running():
            (warning,) = rig.lines("start_warning")
        assert warning["level"] == "warning"
        assert re.search(r"^\d+ octets of disk are free at .*/spool", warning["detail"])
        assert f"disk_reserve is {1024 * 1024**4}:" in warning["detail"]

    async def test_says_that_it_only_watches(self, tmp_path: Path) -> None:
        """And goes over to acting with a reload."""
        rig = Rig(tmp_path, mode="observe", trusted_networks=["127.0.0.0/8"])
        async with rig.running():
            (warning,) = rig.lines("start_warning")
            assert "mode is observe" in warning["detail"]
            assert rig.snapshot.is_observing
            (server,) = rig.service._servers
            assert server.factory.limits.normalize_networks == EVERYWHERE
            rig.next_config = lambda: rig.make_config(trusted_networks=["127.0.0.0/8"])
            rig.hangup.set()
            await eventually(lambda: not rig.snapshot.is_observing)
            assert not rig.parts.pipeline.policies.admission.is_observing
            assert rig.parts.screening.policies is rig.parts.pipeline.policies
            assert server.factory.limits.normalize_networks == NetworkSet()

    async def test_says_that_the_libraries_own_classes_hold_the_dialogs(
        self, tmp_path: Path
    ) -> None:
        async with ScriptedBackend() as server:
            rig = Rig(tmp_path, server.port, engine=STOCK)
            async with rig.running():
                (warning,) = rig.lines("start_warning")
                assert warning["detail"] == STOCK.warning
                async with talk(rig.port) as client:
                    await client.submit()
                    assert await client.hear() == "250 2.0.0 taken"
            rig.assert_nothing_is_left()
        assert server.commands[-1] == b"QUIT"
        assert len(server.messages) == 1

    async def test_does_not_warn_of_a_disk_with_room(self, rig: Rig) -> None:
        async with rig.running():
            assert rig.lines("start_warning") == []

    async def test_writes_ipv6_addresses_in_brackets(self, tmp_path: Path) -> None:
        rig = Rig(
            tmp_path,
            listeners=[{"name": "smtp", "bind": "[::1]:0"}],
            backends=[{"name": "exch", "host": "::1", "port": 25}],
            metrics={"bind": "[::1]:0"},
        )
        async with rig.running():
            (started,) = rig.lines("started")
            assert started["listeners"] == f"smtp [::1]:{rig.port}"
            assert started["backends"] == "exch [::1]:25"
            assert started["metrics"] == f"[::1]:{rig.parts.operations.port}"

    async def test_a_spool_that_another_process_owns_is_left_to_it(self, tmp_path: Path) -> None:
        rig = Rig(tmp_path)
        rig.config.spool.path.mkdir()
        owner = SpoolLock(rig.config.spool.path)
        owner.acquire()
        owner.write_owner()
        with pytest.raises(StartError, match=rf"spool.* in use by process {os.getpid()}"):
            await rig.run()
        owner.release()
        rig.assert_nothing_is_left()

    async def test_whatever_else_goes_wrong_is_undone_too(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken() -> None:
            raise RuntimeError("bug")

        monkeypatch.setattr(rig.parts.control, "tick", broken)
        with pytest.raises(RuntimeError, match="bug"):
            await rig.run()
        rig.assert_nothing_is_left()

    async def test_a_part_that_breaks_later_ends_the_service_and_leaves_nothing(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken() -> None:
            raise RuntimeError("bug")

        monkeypatch.setattr(rig.parts.drainer, "run", broken)
        with pytest.raises(ExceptionGroup):
            await rig.run()
        rig.assert_nothing_is_left()


class TestMail:
    async def test_goes_through_and_the_reply_is_the_backends(
        self, rig: Rig, server: ScriptedBackend
    ) -> None:
        server.once(Stage.DOT, say("250 2.6.0 <id@exch> Queued mail for delivery"))
        async with rig.running(), talk(rig.port) as client:
            await client.submit()
            assert await client.hear() == "250 2.6.0 <id@exch> Queued mail for delivery"
        (received,) = server.messages
        assert received.data.endswith(b"Subject: x\r\n\r\nHello.\r\n")
        (line,) = rig.lines("delivered")
        assert line["id"].encode() in received.data
        assert rig.snapshot.classes[0].name == "clinical"

    async def test_a_bare_line_ending_passes_normalised_and_counted_while_observing(
        self, tmp_path: Path, server: ScriptedBackend
    ) -> None:
        rig = Rig(tmp_path, server.port, mode="observe")
        async with rig.running(), talk(rig.port) as client:
            await client.say("MAIL FROM:<alice@example.org>")
            await client.say("RCPT TO:<bob@example.net>")
            await client.say("DATA")
            assert (await client.say("Subject: x\r\n\r\none\ntwo\r\n.")).startswith("250")
        (received,) = server.messages
        assert received.data.endswith(b"one\r\ntwo\r\n")
        labels = {"class": "personal", "action": "reject", "reason": "content"}
        registry = rig.parts.metrics.registry
        assert registry.get_sample_value("mailshed_would_decisions_total", labels) == 1

    async def test_work_after_the_dot_survives_the_end_of_its_session(
        self, rig: Rig, server: ScriptedBackend
    ) -> None:
        """The client hangs up while the backend thinks; the outcome is settled all the same."""
        may_answer = asyncio.Event()
        server.once(Stage.DOT, Wait(may_answer, say("250 2.0.0 Ok")))
        async with rig.running():
            async with talk(rig.port) as client:
                await client.submit()
                await eventually(lambda: bool(server.received))
                client.vanish()
            await eventually(lambda: not rig.parts.handler.open_sessions)
            assert rig.lines("delivered") == []
            may_answer.set()
            await eventually(lambda: bool(rig.lines("delivered")))
            assert rig.lines("aborted") == []

    async def test_in_doubt_is_kept_though_its_session_has_ended(
        self, rig: Rig, server: ScriptedBackend
    ) -> None:
        may_answer = asyncio.Event()
        server.once(Stage.DOT, Wait(may_answer, say("250-2.0.0 half a reply and no more")))
        server.always(Stage.CONNECT, say("421 4.3.2 later"))
        server.once(Stage.CONNECT, say("220 come in"))
        async with rig.running():
            async with talk(rig.port) as client:
                await client.submit()
                await eventually(lambda: bool(server.received))
                client.vanish()
            await eventually(lambda: not rig.parts.handler.open_sessions)
            server.hang_up()
            may_answer.set()
            await eventually(lambda: bool(rig.lines("spooled")))
        (line,) = rig.lines("in_doubt")
        (held,) = count_messages(rig.config.spool.path)
        assert line["id"] == rig.lines("spooled")[0]["id"]
        assert held["messages"] == 1

    async def test_a_backend_that_is_slow_to_answer_keeps_no_client_waiting(
        self, tmp_path: Path, server: ScriptedBackend
    ) -> None:
        """The client goes on with its next message while the backend thinks about the first."""
        rig = Rig(tmp_path, server.port, limits={"respond_by": "300ms"})
        may_answer = asyncio.Event()
        server.once(Stage.DOT, Wait(may_answer, say("250 2.0.0 Ok, at last")))
        async with rig.running(), talk(rig.port) as client:
            await client.submit()
            assert "queued as" in await client.hear()
            await client.submit(header="Subject: next")
            assert (await client.hear()).startswith("250 2.0.0")
            first, _ = server.received
            (spooled,) = rig.lines("spooled")
            assert (spooled["reason"], spooled["id"].encode() in first.data) == ("adopted", True)
            may_answer.set()
            await eventually(lambda: bool(rig.lines("attempted")))
            (line,) = rig.lines("attempted")
            assert (line["id"], line["outcome"]) == (spooled["id"], "delivered")
        assert count_messages(rig.config.spool.path) == []
        assert len(server.received) == 2, "nothing was sent twice"
        assert rig.lines("task_failed") == []


class TestStop:
    async def test_lets_an_open_transaction_finish(self, rig: Rig, server: ScriptedBackend) -> None:
        may_answer = asyncio.Event()
        server.once(Stage.DOT, Wait(may_answer, say("250 2.0.0 Ok, at last")))
        async with rig.running() as run, talk(rig.port) as client, talk(rig.port) as idle:
            await client.submit()
            await eventually(lambda: bool(server.received))
            rig.stop.set()
            assert (await idle.hear()).startswith("421")
            assert not run.done()
            await eventually(lambda: rig.snapshot.is_stopping)
            may_answer.set()
            assert await client.hear() == "250 2.0.0 Ok, at last"
            assert await run == 0
        rig.assert_nothing_is_left()
        (stopping,), (stopped,) = rig.lines("stopping"), rig.lines("stopped")
        assert (stopping["sessions"], stopping["in_flight"]) == (2, 1)
        assert stopped["unfinished"] == 0
        assert rig.lines("spool_sick") == [], "a spool that is closed is not sick"
        assert rig.lines("task_failed") == []
        first = [each for each in rig.told if each in {b"READY=1", b"STOPPING=1"}]
        assert first == [b"READY=1", b"STOPPING=1"]

    async def test_spools_what_waits_for_a_slot(
        self, tmp_path: Path, server: ScriptedBackend
    ) -> None:
        narrow = {"name": "exch", "host": "127.0.0.1", "port": server.port, "in_flight_max": 1}
        rig = Rig(tmp_path, server.port, backends=[narrow])
        may_answer = asyncio.Event()
        server.once(Stage.DOT, Wait(may_answer, say("250 2.0.0 Ok")))
        async with rig.running() as run, talk(rig.port) as first, talk(rig.port) as second:
            await first.submit()
            await eventually(lambda: bool(server.received))
            await second.submit()
            await eventually(lambda: rig.parts.destinations.default.gate.waiting == 1)
            rig.stop.set()
            assert "queued as" in await second.hear()
            may_answer.set()
            assert await run == 0
        assert rig.lines("spooled")[0]["reason"] == "shutdown"

    async def test_marks_what_the_drain_has_handed_over(
        self, tmp_path: Path, server: ScriptedBackend
    ) -> None:
        rig = Rig(tmp_path, server.port)
        may_answer = asyncio.Event()
        server.once(Stage.MAIL, say("421 4.3.2 busy"))
        server.once(Stage.DOT, Wait(may_answer, say("250 2.0.0 Ok")))
        async with rig.running() as run, talk(rig.port) as client:
            await client.submit()
            assert "queued as" in await client.hear()
            await eventually(lambda: len(server.received) == 1)
            rig.stop.set()
            await eventually(lambda: rig.snapshot.is_stopping)
            may_answer.set()
            assert await run == 0
        assert count_messages(rig.config.spool.path) == []
        assert rig.lines("attempted")[0]["outcome"] == "delivered"

    async def test_what_the_backend_does_not_answer_in_time_is_in_doubt_and_kept(
        self, tmp_path: Path, server: ScriptedBackend
    ) -> None:
        """Our dot is out, so the backend may have it; the client hears nothing and sends again."""
        rig = Rig(tmp_path, server.port, limits={"shutdown_timeout": "200ms"})
        server.always(Stage.DOT, STALL)
        async with rig.running() as run, talk(rig.port) as client:
            await client.submit()
            await eventually(lambda: bool(server.received))
            rig.stop.set()
            assert await run == 0
            assert await client.hear() == "", "nothing was promised"
        rig.assert_nothing_is_left()
        assert len(rig.lines("in_doubt")) == 1
        (kept,) = count_messages(rig.config.spool.path)
        assert kept["messages"] == 1
        assert rig.lines("stopped")[0]["unfinished"] == 0

    async def test_what_never_ends_is_cut_off_and_counted(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(app, "LAST_WORDS", 0.1)
        async with rig.running() as run:
            rig.parts.supervisor.spawn(asyncio.Event().wait(), "stuck")
            rig.service._renewal.config = rig.service.config.model_copy(
                update={
                    "limits": rig.service.config.limits.model_copy(update={"shutdown_timeout": 0.2})
                }
            )
            rig.stop.set()
            assert await run == 1
        assert rig.lines("stopped")[0]["unfinished"] == 1


class TestSurges:
    async def test_are_watched_and_what_was_learned_is_kept(self, rig: Rig) -> None:
        async with rig.running():
            names = [each.name for each in rig.config.classes]
            assert [each.traffic_class for each in rig.snapshot.surges] == names
        kept = json.loads((rig.folder / "spool/surge.json").read_text())
        assert [each["class"] for each in kept["surges"]] == names

    async def test_count_the_mail_that_comes_and_limit_what_enters(self, rig: Rig) -> None:
        async with rig.running():
            counts = rig.parts.surges._surges._counts.values()
            async with talk(rig.port) as client:
                await client.submit()
                await eventually(lambda: sum(each.messages for each in counts) == 1)
            quotas = {"bulk": Quota(hard=1.0)}
            rig.parts.surges._on_quotas(quotas)
            assert rig.parts.entrance.quotas.surges is quotas

    async def test_can_be_switched_off_while_the_service_runs(self, rig: Rig) -> None:
        async with rig.running():
            rig.next_config = lambda: rig.make_config(surge={"enabled": False})
            rig.hangup.set()
            await eventually(lambda: rig.snapshot.surges == ())

    async def test_that_cannot_be_read_are_no_reason_not_to_start(self, rig: Rig) -> None:
        (rig.folder / "spool").mkdir(0o700)
        (rig.folder / "spool/surge.json").write_text("{")
        async with rig.running():
            assert len(rig.lines("surges_lost")) == 1
        assert json.loads((rig.folder / "spool/surge.json").read_text())["version"] == 1


class TestVerification:
    """The backend knows the mailboxes; `server` knows nobody whose name begins with `no`."""

    ASKING: ClassVar[dict[str, Any]] = {"verification": {"mode": "call_ahead"}}

    @pytest.fixture
    def rig(self, tmp_path: Path, server: ScriptedBackend) -> Rig:
        server.rcpt = lambda path: say("550 5.1.1 who?" if path[:2] == b"no" else "250 ok")
        return Rig(tmp_path, server.port, **self.ASKING)

    async def rcpt(self, rig: Rig, to: str) -> str:
        async with talk(rig.port) as client:
            await client.say("MAIL FROM:<alice@example.org>")
            return await client.say(f"RCPT TO:<{to}>")

    async def test_the_backend_is_asked_and_deliveries_answer(
        self, rig: Rig, server: ScriptedBackend
    ) -> None:
        async with rig.running():
            assert await self.rcpt(rig, "nobody@example.net") == "550 5.1.1 who?"
            async with talk(rig.port) as client:
                await client.submit()
                assert (await client.hear()).startswith("250")
            await eventually(lambda: rig.snapshot.cached_recipients.used == 2)
            assert rig.snapshot.cached_recipients.limit == 100_000
            questions = [each for each in server.commands if each == b"RSET"]
            assert len(questions) == 3, "nobody, a random address, bob"
        rig.assert_nothing_is_left()
        await eventually(lambda: not server.open_sessions)

    async def test_a_stop_ends_every_wait(self, rig: Rig, server: ScriptedBackend) -> None:
        server.always(Stage.RCPT, STALL)
        async with rig.running() as run, talk(rig.port) as client:
            await client.say("MAIL FROM:<alice@example.org>")
            asking = asyncio.get_running_loop().create_task(client.say("RCPT TO:<bob@example.net>"))
            await eventually(lambda: any(c.startswith(b"RCPT") for c in server.commands))
            rig.stop.set()
            assert (await asking).startswith("450 4.3.2")
            await client.say("QUIT")
            assert await run == 0
        rig.assert_nothing_is_left()

    async def test_a_reload_replaces_how_it_is_done(self, rig: Rig, tmp_path: Path) -> None:
        people = tmp_path / "people"
        people.write_text("alice@example.net\n")
        by_list = {"mode": "file", "recipients_file": str(people)}
        async with rig.running():
            rig.next_config = lambda: rig.make_config(verification=by_list)
            await rig.service.reload()
            assert (await self.rcpt(rig, "bob@example.net")).startswith("550 5.1.1 Recipient")
            assert (await self.rcpt(rig, "alice@example.net")).startswith("250")
            people.unlink()
            with pytest.raises(ConfigError, match="cannot read"):
                await rig.service.reload()
            assert (await self.rcpt(rig, "alice@example.net")).startswith("250")

    async def test_a_maildir_has_every_mailbox(self, tmp_path: Path) -> None:
        maildir = [{"name": "trial", "maildir": str(tmp_path / "maildir")}]
        rig = Rig(tmp_path, backends=maildir, **self.ASKING)
        async with rig.running():
            assert (await self.rcpt(rig, "nobody@example.net")).startswith("250")


class TestCertificate:
    @pytest.fixture
    def authority(self, tmp_path: Path) -> Authority:
        return make_authority(tmp_path / "authority")

    def rig(self, folder: Path, pair: tuple[Path, Path]) -> Rig:
        """With TLS before the greeting, and the pair at a place where it can be replaced."""
        self.put(folder, pair)
        return Rig(
            folder,
            listeners=[{"name": "smtps", "bind": "127.0.0.1:0", "tls": "implicit"}],
            tls={"certificate": str(folder / "tls.pem"), "key": str(folder / "tls.key")},
        )

    def put(self, folder: Path, pair: tuple[Path, Path]) -> None:
        shutil.copy(pair[0], folder / "tls.pem")
        shutil.copy(pair[1], folder / "tls.key")

    async def shown(self, rig: Rig, authority: Authority) -> str:
        """The serial number of the certificate that a client is shown."""
        context = ssl.create_default_context(cafile=authority.ca_file)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", rig.port, ssl=context, server_hostname="localhost"
        )
        assert (await reader.readline()).startswith(b"220 ")
        serial: str = writer.get_extra_info("peercert")["serialNumber"]
        writer.close()
        return serial

    async def test_a_reload_takes_up_a_new_one(self, tmp_path: Path, authority: Authority) -> None:
        old, new = authority.issue(), authority.issue(days=10)
        rig = self.rig(tmp_path, old)
        async with rig.running():
            assert await self.shown(rig, authority) == serial_of(old[0])
            await rig.service.reload()
            self.put(tmp_path, new)
            await rig.service.reload()
            assert await self.shown(rig, authority) == serial_of(new[0])
            ends = rig.snapshot.certificate_ends_wall
            assert ends is not None
        loaded = rig.lines("certificate_loaded")
        assert [each["serial"] for each in loaded] == [
            serial_of(each[0]).lstrip("0") for each in (old, new)
        ]
        assert [each["level"] for each in loaded] == ["info", "warning"]
        assert [each["days"] for each in loaded] == [29, 9]

    async def test_one_that_is_not_fit_for_use_leaves_the_old_one(
        self, tmp_path: Path, authority: Authority
    ) -> None:
        old, new = authority.issue(), authority.issue()
        rig = self.rig(tmp_path, old)
        async with rig.running():
            shutil.copy(new[0], tmp_path / "tls.pem")
            with pytest.raises(ConfigError, match=r"tls\.key: .* is the key of another"):
                await rig.service.reload()
            await eventually(lambda: not rig.snapshot.reload_ok)
            assert await self.shown(rig, authority) == serial_of(old[0])
            shutil.copy(new[1], tmp_path / "tls.key")
            await rig.service.reload()
            assert await self.shown(rig, authority) == serial_of(new[0])
        assert len(rig.lines("reload_refused")) == 1

    async def test_new_files_are_taken_up_without_being_told(
        self, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever renews a certificate need not know of us. The key may come later than it."""
        monkeypatch.setattr(renewal, "LISTS_INTERVAL", 0.01)
        old, new = authority.issue(), authority.issue()
        rig, file = self.rig(tmp_path, old), tmp_path / "m.yaml"
        file.write_text(render(rig.config, with_defaults=False))
        rig.next_config = lambda: load(file)
        async with rig.running():
            await rig.service.reload()
            shutil.copy(new[0], tmp_path / "tls.pem")
            await eventually(lambda: len(rig.lines("reload_refused")) == 1)
            assert await self.shown(rig, authority) == serial_of(old[0])
            shutil.copy(new[1], tmp_path / "tls.key")
            await eventually(lambda: len(rig.lines("certificate_loaded")) == 2)
            assert await self.shown(rig, authority) == serial_of(new[0])

    async def test_other_caps_hold_from_a_reload_on(
        self, tmp_path: Path, authority: Authority
    ) -> None:
        rig = self.rig(tmp_path, authority.issue())
        async with rig.running():
            assert rig.snapshot.tls_handshakes == Usage(used=0, limit=64)
            rig.next_config = lambda: rig.make_config(
                listeners=[{"name": "smtps", "bind": "127.0.0.1:0", "tls": "implicit"}],
                tls={
                    "certificate": str(tmp_path / "tls.pem"),
                    "key": str(tmp_path / "tls.key"),
                    "handshakes_max": 7,
                },
            )
            await rig.service.reload()
            await eventually(lambda: rig.snapshot.tls_handshakes == Usage(used=0, limit=7))

    async def test_one_that_has_expired_is_told_at_the_start(
        self, tmp_path: Path, authority: Authority
    ) -> None:
        rig = self.rig(tmp_path, authority.issue(expired=True))
        async with rig.running():
            (line,) = rig.lines("start_warning")
        assert f"the certificate in {tmp_path}/tls.pem ended on 20" in line["detail"]

    async def test_one_that_has_expired_does_not_take_the_place_of_a_good_one(
        self, tmp_path: Path, authority: Authority
    ) -> None:
        """As when an old file is copied back by mistake. In place of a bad one it does."""
        rig = self.rig(tmp_path, authority.issue())
        async with rig.running():
            was = rig.snapshot.certificate_ends_wall
            self.put(tmp_path, authority.issue(expired=True))
            with pytest.raises(ConfigError, match=r"tls\.certificate: .* still good"):
                await rig.service.reload()
            await eventually(lambda: not rig.snapshot.reload_ok)
            assert rig.snapshot.certificate_ends_wall == was
            self.put(tmp_path, authority.issue(days=60))
            await rig.service.reload()
            await eventually(lambda: rig.snapshot.certificate_ends_wall != was)

    async def test_one_that_cannot_be_used_at_the_start_ends_it(
        self, tmp_path: Path, authority: Authority
    ) -> None:
        rig = self.rig(tmp_path, authority.issue())
        (tmp_path / "tls.key").chmod(0o644)
        with pytest.raises(StartError, match=r"tls\.key: .*run: chmod o-rwx"):
            await rig.run()
        rig.assert_nothing_is_left()

    async def test_without_tls_there_is_nothing_of_it(self, rig: Rig) -> None:
        async with rig.running():
            assert rig.snapshot.tls_handshakes is None
            assert rig.snapshot.certificate_ends_wall is None
        assert rig.lines("certificate_loaded") == []


async def test_signals_reload_and_stop(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    """SIGHUP and SIGTERM, as systemd sends them."""
    reloads: list[int] = []

    def reload() -> Config:
        reloads.append(1)
        return rig.config

    async with asyncio.TaskGroup() as group:
        run = group.create_task(app._main(rig.config, reload, OWN))
        await eventually(rig.config.admin_socket.exists)
        await eventually(lambda: '"started"' in capfd.readouterr().err)
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: bool(reloads))
        os.kill(os.getpid(), signal.SIGTERM)
        assert await run == 0
    assert '"event": "stopped"' in capfd.readouterr().err
