from collections.abc import Callable
from pathlib import Path

import pytest

from mailshed import app
from mailshed.cli.exit_codes import ExitCode
from mailshed.cli.main import main
from mailshed.config.load import load
from mailshed.config.schema import Config
from mailshed.errors import ConfigError, StartError

QUICKSTART = Path(__file__).parents[4] / "config" / "quickstart.yaml"


class FakeApp:
    """Stands in for the service: keeps what it was given, and reloads once if told to."""

    def __init__(self) -> None:
        self.config: Config
        self.reload: Callable[[], Config]
        self.engine = ""

    def run(self, config: Config, *, reload: Callable[[], Config], engine: str) -> int:
        self.config, self.reload, self.engine = config, reload, engine
        return 0


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeApp:
    fake = FakeApp()
    monkeypatch.setattr(app, "run", fake.run)
    return fake


def serve(*arguments: str) -> int:
    return main(["serve", "--config", str(QUICKSTART), *arguments])


def test_runs_the_service_with_the_configuration_of_the_file(fake: FakeApp) -> None:
    assert serve() == 0
    assert fake.config.backends[0].maildir == Path("var/maildir")
    assert fake.reload() == fake.config


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("mail.example.org:2526", "mail.example.org", 2526),
        ("127.0.0.1:25", "127.0.0.1", 25),
        ("[::1]:25", "::1", 25),
    ],
)
def test_backend_option_replaces_the_backend_now_and_after_a_reload(
    fake: FakeApp, text: str, host: str, port: int
) -> None:
    assert serve("--backend", text) == 0

    for config in (fake.config, fake.reload()):
        (backend,) = config.backends
        assert (backend.host, backend.port, backend.maildir) == (host, port, None)
        assert backend.name == "trial"


@pytest.mark.parametrize(
    "text",
    [
        "mail",
        ":25",
        "mail:",
        "mail:0",
        "mail:65536",
        "mail:x",
        "mail:²",
        "http://mail:25",
        "bad host:25",
        "-mail:25",
        "::1",
        "::1:25",
        "[::1]",
        "[mail]:25",
        "[::x]:25",
        "[::1:25",
    ],
)
def test_backend_option_needs_host_and_port(
    fake: FakeApp, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve("--backend", text) == ExitCode.USAGE
    assert "--backend" in capsys.readouterr().err
    assert not hasattr(fake, "config")


def test_log_level_and_socket_may_come_from_the_environment(
    fake: FakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILSHED_LOG_LEVEL", "debug")
    monkeypatch.setenv("MAILSHED_ADMIN_SOCKET", "/run/other.sock")

    assert serve() == 0
    assert fake.config.log.level == "debug"
    assert fake.config.admin_socket == Path("/run/other.sock")


def test_an_unknown_log_level_is_a_configuration_error(
    fake: FakeApp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAILSHED_LOG_LEVEL", "loud")

    assert serve() == ExitCode.CONFIG
    assert "$MAILSHED_LOG_LEVEL is 'loud'" in capsys.readouterr().err


def test_observe_option_is_the_mode_now_and_after_a_reload(fake: FakeApp) -> None:
    assert serve() == 0
    assert fake.config.mode == "enforce"
    assert serve("--observe") == 0
    assert [fake.config.mode, fake.reload().mode] == ["observe", "observe"]


def test_engine_option_says_what_holds_the_dialogs(
    fake: FakeApp, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve() == 0
    assert fake.engine == "own"
    assert serve("--engine", "stock") == 0
    assert fake.engine == "stock"
    assert serve("--engine", "steam") == ExitCode.USAGE
    assert "--engine" in capsys.readouterr().err


def test_a_faulty_file_is_refused_before_anything_starts(
    fake: FakeApp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--config", str(tmp_path / "missing")]) == ExitCode.CONFIG
    assert "No such file" in capsys.readouterr().err
    assert not hasattr(fake, "config")


def test_a_reload_reads_the_file_again(fake: FakeApp, tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(QUICKSTART.read_text())
    assert main(["serve", "--config", str(file)]) == 0

    file.write_text(QUICKSTART.read_text() + "log: {level: error}\n")
    assert fake.reload().log.level == "error"
    file.write_text("nonsense")
    with pytest.raises(ConfigError, match="expected a mapping"):
        fake.reload()


def test_a_service_that_cannot_start_exits_69(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise StartError("127.0.0.1:2525 is in use")

    monkeypatch.setattr(app, "run", fail)

    assert serve() == ExitCode.UNAVAILABLE
    assert capsys.readouterr().err == "mailshed: 127.0.0.1:2525 is in use\n"


def test_a_trial_backend_that_is_our_own_listener_is_a_loop(
    fake: FakeApp, capsys: pytest.CaptureFixture[str]
) -> None:
    bind = load(QUICKSTART).listeners[0].bind

    assert serve("--backend", f"localhost:{bind.port}") == ExitCode.CONFIG
    assert "our own listener" in capsys.readouterr().err
    assert not hasattr(fake, "config")
