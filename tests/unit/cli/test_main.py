import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mailshed import __version__
from mailshed.cli import main as main_module
from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.cli.main import VERBS, main
from mailshed.cli.verbs import status
from mailshed.errors import ConfigError, SpoolLocked, StartError
from tests.unit.cli.conftest import ScriptedService

ROOT = Path(__file__).parents[3]
HEAVY = ("pydantic", "aiohttp", "aiosmtpd", "aiosmtplib", "uvloop", "prometheus_client")

PROBE = f"""
import sys
from mailshed.cli.main import main
code = main(sys.argv[1:])
print(*sorted(set({HEAVY!r}) & set(sys.modules)), code, file=sys.stderr, sep=" ")
"""


def probe(*arguments: str) -> tuple[str, str]:
    """Run a command in a fresh interpreter; return its output and 'heavy modules, exit code'."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr.splitlines()[-1]


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a verb that ends with `error`; return the exit code."""

    def fail(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(status, "run", fail)
    return main(["status"])


def test_help_starts_without_the_dependencies_of_the_service() -> None:
    output, ending = probe("--help")

    assert "verbs:" in output
    assert ending == "0"


def test_status_and_queue_work_without_the_dependencies_of_the_service(
    service: ScriptedService,
) -> None:
    """In the moment of trouble they must start fast, and even with a broken installation."""
    service.answer("/v1/status", {"schema": "mailshed.status/1", "hostname": "mx1"})
    service.answer("/v1/queue?limit=100", {"messages": []})
    service.answer("/v1/queue/count", {"classes": []})

    output, ending = probe("status", "--config", str(service.config))
    assert (ending, "mx1" in output) == ("0", True)
    assert probe("queue", "list", "--config", str(service.config))[1] == "1"
    assert probe("queue", "count", "--config", str(service.config))[1] == "1"


def test_the_spool_is_read_without_the_dependencies_of_the_service(
    offline: ScriptedService,
) -> None:
    (offline.config.parent / "spool").mkdir()

    assert probe("queue", "list", "--config", str(offline.config))[1] == str(
        ExitCode.IO_ERROR.value
    )


def test_every_verb_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    output = capsys.readouterr().out
    for verb in VERBS:
        assert f"    {verb.__name__.rpartition('.')[2].rstrip('_')} " in output


def test_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mailshed {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["queue"],
        ["queue", "list", "--limit", "0"],
        ["queue", "list", "--limit", "x"],
        ["queue", "list", "--limit", "10001"],
        ["queue", "list", "--lim", "5"],
        ["config"],
        ["config", "check", "a", "b"],
        ["serve", "--backend", "nowhere"],
        ["status", "--nonsense"],
    ],
)
def test_wrong_usage_exits_64_and_says_so_on_standard_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == ExitCode.USAGE

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: mailshed")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (VerbFailed("because", ExitCode.TRY_AGAIN), 75),
        (StartError("because"), 69),
        (SpoolLocked("because"), 74),
        (OSError(28, "because"), 74),
    ],
)
def test_each_ending_has_its_exit_code_and_its_reason(
    error: Exception,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(main_module, "_close_stdout", lambda: None)

    assert raising(error, monkeypatch) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("mailshed: ")
    assert "because" in captured.err


def test_a_configuration_error_is_printed_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(ConfigError("f:1:1: error: x\n1 error"), monkeypatch) == ExitCode.CONFIG
    assert capsys.readouterr().err == "f:1:1: error: x\n1 error\n"


def test_an_interrupt_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(KeyboardInterrupt(), monkeypatch) == 130
    assert capsys.readouterr().err == ""


def run(*arguments: str, stdout: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "mailshed", *arguments],
        cwd=ROOT,
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = run("config", "reference", stdout=write_end)
    finally:
        os.close(write_end)

    assert (done.returncode, done.stderr) == (0, b"")


def test_output_that_cannot_be_written_is_an_error() -> None:
    with Path("/dev/full").open("wb") as full:
        done = run("config", "reference", stdout=full.fileno())

    assert done.returncode == ExitCode.IO_ERROR
    text = b"mailshed: cannot write to standard output: No space left on device\n"
    assert done.stderr == text


def test_another_file_that_fails_is_not_taken_for_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(OSError(5, "Input/output error", "spool.db"), monkeypatch) == 74
    assert "standard output" not in capsys.readouterr().err


CLOSED = """
import os, sys
os.close(int(sys.argv[1]))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


@pytest.mark.parametrize("descriptor", [0, 1, 2])
def test_a_standard_stream_that_the_caller_closed_becomes_dev_null(
    descriptor: int, tmp_path: Path
) -> None:
    """Otherwise a socket or a database gets its number, and the log is written into it."""
    report = (
        "import os, sys; from mailshed.cli.main import main; code = main(['--version']);"
        "print('here', file=sys.stdout); print('here', file=sys.stderr);"
        f"name = os.readlink('/proc/self/fd/{descriptor}');"
        "open(sys.argv[1], 'w').write(f'{code} {name}')"
    )
    subprocess.run(
        [sys.executable, "-c", CLOSED, str(descriptor), "-c", report, str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert (tmp_path / "out").read_text() == "0 /dev/null"


def test_serve_without_standard_error_ends_as_any_start_that_fails(tmp_path: Path) -> None:
    """The file asks for a spool that cannot be; the exit code is all that is left to say so."""
    (tmp_path / "file").write_text("")
    text = (ROOT / "config" / "quickstart.yaml").read_text()
    config = tmp_path / "m.yaml"
    config.write_text(text.replace("./var/spool", str(tmp_path / "file")))
    verb = ("-m", "mailshed", "serve", "--config", str(config))
    done = subprocess.run(
        [sys.executable, "-c", CLOSED, "2", *verb], cwd=ROOT, stdout=subprocess.PIPE, check=False
    )
    assert (done.returncode, done.stdout) == (ExitCode.UNAVAILABLE, b"")
