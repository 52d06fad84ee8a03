"""The unit is valid where it is installed, and as closed as a mail proxy can be.

`systemd-analyze verify` exits 0 even for lines that it ignores, so any output is a failure.
"""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.debian import require

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNIT = SYSTEMD / "mailshed.service"
PROGRAM = "/usr/local/bin/mailshed"
EXPOSURE_MAX = 15
"""Tenths of systemd's exposure level: 1.5, where the mail servers of Debian score 9.6."""


def run(*command: str | Path) -> tuple[int, str]:
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return result.returncode, result.stdout + result.stderr


def settings() -> list[tuple[str, str]]:
    """The unit's lines, in order; a key may stand there more than once."""
    return re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit as installed, with a program where ExecStart= says."""
    program = tmp_path / "bin" / "mailshed"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "mailshed.service"
    unit.write_text(UNIT.read_text().replace(PROGRAM, str(program)))
    return unit


def test_verify_prints_nothing(installed: Path) -> None:
    analyze = require("systemd", binary="systemd-analyze")
    assert run(analyze, "verify", installed) == (0, "")


def test_verify_would_notice(installed: Path) -> None:
    """The test above can fail: a misspelled setting is reported."""
    analyze = require("systemd", binary="systemd-analyze")
    installed.write_text(installed.read_text().replace("NoNewPrivileges=", "NoNewPriviliges="))
    _, output = run(analyze, "verify", installed)
    assert "NoNewPriviliges" in output


def test_exposure_is_low() -> None:
    analyze = require("systemd", binary="systemd-analyze")
    threshold = f"--threshold={EXPOSURE_MAX}"
    status, output = run(analyze, "security", "--offline=true", threshold, UNIT)
    assert status == 0, output


def test_the_user_is_made_as_the_unit_names_it(tmp_path: Path) -> None:
    """With a group of the same name and no shell; systemd-sysusers works on another root."""
    sysusers = require("systemd", binary="systemd-sysusers")
    (tmp_path / "etc").mkdir()
    assert run(sysusers, f"--root={tmp_path}", SYSTEMD / "mailshed.sysusers")[0] == 0
    name, _, uid, _, _, home, shell = (tmp_path / "etc/passwd").read_text().strip().split(":")
    assert (name, home, shell) == ("mailshed", "/var/lib/mailshed", "/usr/sbin/nologin")
    assert 0 < int(uid) < 1000
    assert (tmp_path / "etc/group").read_text().startswith("mailshed:")
    assert ("User", name) in settings()
    assert ("Group", name) in settings()


def test_what_must_stay_visible_stays_visible() -> None:
    """ProcSubset=pid takes all process_* metrics away; IPAddressDeny= would shut clients out."""
    keys = {key for key, _ in settings()}
    assert not keys & {"ProcSubset", "IPAddressDeny", "DynamicUser", "PrivateNetwork"}
    families = dict(settings())["RestrictAddressFamilies"].split()
    assert {"AF_INET", "AF_INET6", "AF_UNIX"} == set(families)


def test_supervision_is_as_decided() -> None:
    values = dict(settings())
    assert values["Type"] == "notify"
    assert values["WatchdogSec"] == "30"
    assert values["Restart"] == "always"
    assert values["TimeoutStopSec"] == "120"
    assert values["LogRateLimitIntervalSec"] == "0"
    assert values["CapabilityBoundingSet"] == "CAP_NET_BIND_SERVICE"
    assert int(values["StartLimitBurst"]) * float(values["RestartSec"]) < float(
        values["StartLimitIntervalSec"]
    ), "the limit on starts could never be reached"


def test_the_spool_is_private_and_the_socket_is_for_the_group() -> None:
    values = dict(settings())
    assert (values["StateDirectory"], values["StateDirectoryMode"]) == ("mailshed", "0700")
    assert (values["RuntimeDirectory"], values["RuntimeDirectoryMode"]) == ("mailshed", "0750")
    assert values["UMask"] == "0077"


def test_a_faulty_configuration_is_neither_started_nor_reloaded() -> None:
    commands = [(key, value) for key, value in settings() if key.startswith("Exec")]
    assert commands == [
        ("ExecStartPre", f"{PROGRAM} config check"),
        ("ExecStart", f"{PROGRAM} serve"),
        ("ExecReload", f"{PROGRAM} config check"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
    ]
