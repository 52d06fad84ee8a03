"""Story: the signals that systemd and administrators send, under load.

SIGTERM finishes what is open and ends with status 0: nothing lost, nothing twice. SIGHUP with a
broken file changes nothing and says so. A port that is taken is said in words, with the status for
a service that is not available (EX_UNAVAILABLE, sysexits(3)).
"""

import socket
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.ledger import Fate, Ledger
from tests.support.load import Load, book, make_message, poisson
from tests.support.postfix import Postfix
from tests.support.processes import free_port, wait_until

EX_UNAVAILABLE = 69


def test_sigterm_under_load_loses_nothing_and_sends_nothing_twice(tmp_path: Path) -> None:
    mix = {"clinical": 0.2, "personal": 0.3, "bulk": 0.5}
    messages = poisson(100.0, 3.0, mix, seed=4)
    with (
        Postfix(policy_delay=0.05) as server,
        Daemon(
            folder=tmp_path / "mailshed",
            backend_port=server.port,
            overrides={
                "backends": [
                    {
                        "name": "postfix",
                        "host": "127.0.0.1",
                        "port": server.port,
                        "in_flight_max": 4,
                    }
                ]
            },
        ) as daemon,
    ):
        load = Load(daemon.port, messages).start()
        assert not load.ends_within(1.5)
        assert daemon.terminate() == 0, daemon.log_tail
        ledger = Ledger()
        book(ledger, load.join())
        daemon.start()
        daemon.wait_spool_empty()
        wait_until(
            lambda: server.is_queue_empty and not ledger.judge(server.delivered()).lost,
            lambda: f"lost {ledger.judge(server.delivered()).lost}:\n{daemon.log_tail}",
        )
        verdict = ledger.judge(server.delivered())

    verdict.assert_nothing_lost_or_made_up()
    assert not verdict.duplicated
    assert ledger.count(Fate.IN_DOUBT) == 0, "a client was left without an answer to its dot"
    assert ledger.count(Fate.ACKNOWLEDGED) > 50


def test_sighup_with_a_broken_file_keeps_the_configuration_and_says_so(tmp_path: Path) -> None:
    with (
        Postfix() as server,
        Daemon(folder=tmp_path / "mailshed", backend_port=server.port) as daemon,
    ):
        assert daemon.metrics().total("config_last_reload_successful") == 1
        good = daemon.configuration_file.read_text()
        daemon.configuration_file.write_text(good.replace("hostname:", "hostnam:"))
        daemon.reload()
        wait_until(
            lambda: daemon.metrics().total("config_last_reload_successful") == 0,
            "/metrics says that the reload failed",
        )
        daemon.wait_logged("hostnam")

        (outcome,) = Load(daemon.port, [make_message("still-here", "clinical")]).start().join()
        assert outcome.fate is Fate.ACKNOWLEDGED, outcome.reply
        server.wait_delivered(1)
        (delivered,) = server.delivered()
        assert b"by mailshed.hospital.example (mailshed)" in delivered.content

        daemon.configuration_file.write_text(good)
        daemon.reload()
        wait_until(
            lambda: daemon.metrics().total("config_last_reload_successful") == 1,
            "/metrics says that the reload succeeded",
        )


def test_a_taken_port_is_said_in_words_with_exit_status_69(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        folder = tmp_path / "mailshed"
        folder.mkdir()
        daemon = Daemon(folder=folder, backend_port=free_port(), port=port)
        daemon.write_configuration()
        with daemon.launch() as process:
            assert process.wait() == EX_UNAVAILABLE
        daemon.wait_logged(f"cannot listen on 127.0.0.1 port {port}")
        assert "Traceback" not in daemon.log_text
