import json
import socket
from pathlib import Path

import pytest

from mailshed.cli.exit_codes import ExitCode
from mailshed.cli.main import main
from mailshed.cli.places import CONFIG_VARIABLE
from tests.support.certificates import make_authority

ROOT = Path(__file__).parents[4]
QUICKSTART = str(ROOT / "config" / "quickstart.yaml")


def test_check_says_ok_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", QUICKSTART]) == ExitCode.OK

    captured = capsys.readouterr()
    assert captured.out == (
        f"{QUICKSTART}: ok"
        " (version 1, 1 listener, backend maildir, 2 domains, 7 classes, 6 rules, policy default)\n"
    )
    assert captured.err == ""


def test_check_names_all_backends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "m.yaml"
    more = "backends:\n  - {name: north, maildir: /x, domains: [north.example]}\n"
    file.write_text(Path(QUICKSTART).read_text().replace("backends:\n", more))
    assert main(["config", "check", str(file)]) == ExitCode.OK
    assert ", backends north maildir, " in capsys.readouterr().out


def test_check_warns_of_a_certificate_that_has_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is used, for clients that verify nothing, so it is no fault."""
    authority, file = make_authority(tmp_path / "ca"), tmp_path / "m.yaml"
    for pair, is_warned in ((authority.issue(), False), (authority.issue(expired=True), True)):
        tls = f"tls: {{certificate: {pair[0]}, key: {pair[1]}}}\n"
        file.write_text(Path(QUICKSTART).read_text() + tls)
        assert main(["config", "check", str(file)]) == ExitCode.OK
        said = f"{file}: warning: tls.certificate: {pair[0]} ended on 20"
        assert capsys.readouterr().err.startswith(said) == is_warned


def test_check_warns_of_sockets_that_are_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They may come later; a wrong path would be found by the first user who logs in."""
    certificate, key = make_authority(tmp_path / "ca").issue()
    file, auth, lmtp = tmp_path / "m.yaml", tmp_path / "auth.sock", tmp_path / "lmtp.sock"
    text, warning = Path(QUICKSTART).read_text(), f"{file}: warning:"
    text = text.replace(
        'bind: "127.0.0.1:2525"', 'bind: "127.0.0.1:2525", tls: starttls, auth: offered'
    )
    text = text.replace("maildir: ./var/maildir", f"protocol: lmtp, socket: {lmtp}")
    file.write_text(
        f"{text}tls: {{certificate: {certificate}, key: {key}}}\n"
        f"authentication: {{verifier: dovecot, dovecot_socket: {auth}}}\n"
    )
    assert main(["config", "check", str(file)]) == ExitCode.OK
    assert capsys.readouterr().err.splitlines() == [
        f"{warning} {place} is no socket: until it is, {what}"
        for place, what in (
            (f"authentication.dovecot_socket: {auth}", "nobody can log in"),
            (f"backends[0].socket: {lmtp}", "mail waits"),
        )
    ]
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
        one.bind(str(auth))
        other.bind(str(lmtp))
        assert main(["config", "check", str(file)]) == ExitCode.OK
    assert capsys.readouterr().err == ""


def test_check_lists_faults_on_standard_error_and_exits_78(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(Path(QUICKSTART).read_text().replace("spool:", "spol:"))

    assert main(["config", "check", "--config", str(file)]) == ExitCode.CONFIG
    captured = capsys.readouterr()
    assert captured.out == ""
    assert 'spol: unknown key, did you mean "spool"?' in captured.err
    assert captured.err.endswith("\n1 error\n")


def test_the_file_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, QUICKSTART)

    assert main(["config", "check"]) == ExitCode.OK
    assert capsys.readouterr().out.startswith(QUICKSTART)


def test_show_prints_what_differs_and_with_defaults_everything(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["config", "show", QUICKSTART]) == ExitCode.OK
    short = capsys.readouterr().out
    assert main(["config", "show", QUICKSTART, "--defaults"]) == ExitCode.OK
    full = capsys.readouterr().out

    assert "path: var/spool" in short
    assert "retry_max" not in short
    assert "retry_max: 15m" in full


def test_what_show_prints_passes_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["config", "show", QUICKSTART, "--defaults"])
    (tmp_path / "m.yaml").write_text(capsys.readouterr().out)

    assert main(["config", "check", str(tmp_path / "m.yaml")]) == ExitCode.OK


def test_show_prints_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", QUICKSTART, "--json", "--defaults"]) == ExitCode.OK

    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "mailshed.config/1"
    assert document["config"]["limits"]["command_timeout"] == 300.0


def test_reference_prints_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "reference"]) == ExitCode.OK
    assert capsys.readouterr().out == (ROOT / "docs" / "configuration.md").read_text()


CASES = """\
version: 1
cases:
  - name: a list is bulk
    headers: {List-Id: x}
    expect: {class: bulk}
  - name: a letter is clinical
    expect: {class: clinical}
"""


def test_test_runs_the_shipped_cases_on_the_shipped_policy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["config", "test"]) == ExitCode.OK
    number, _, rest = capsys.readouterr().out.partition(" ")
    assert int(number) >= 60
    assert rest == "cases, 0 failed\n"


def test_test_says_which_case_fails_and_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text(CASES)
    assert main(["config", "test", str(file), "--config", QUICKSTART]) == ExitCode.NO_MATCH
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{file}:6: FAILED: a letter is clinical"
    assert out[1:3] == [
        "    expected class clinical",
        "         but got personal by rule default",
    ]
    assert out[-1] == "2 cases, 1 failed"


def test_test_lists_the_faults_of_a_file_of_cases(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text("version: 1\ncases:\n  - {name: a}\n")
    assert main(["config", "test", str(file), "--config", QUICKSTART]) == ExitCode.CONFIG
    assert "cases[0].expect: required, but missing" in capsys.readouterr().err
