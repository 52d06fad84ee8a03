"""Real servers from Debian packages: use what is there, install what is missing, or say how.

The end-to-end stories need Postfix, HAProxy, nmap and a few clients. As root on Debian the missing
package is installed, and its service is kept from starting: a policy-rc.d that answers 101 ("action
forbidden by policy", invoke-rc.d(8)) stands there while apt runs and is removed afterwards, unless
the system has one already. Anyone else gets a skipped test with the line to type; with CI=true a
missing server is a failure, because a suite that skips its proofs proves nothing.

`python -m tests.support.debian` installs everything at once, before the tests.
"""

import contextlib
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

PACKAGES: Mapping[str, str] = {
    # package: a program by which we see that it is there
    "postfix": "postfix",
    "haproxy": "haproxy",
    "dovecot-core": "dovecot",
    "dovecot-lmtpd": "/usr/lib/dovecot/lmtp",
    "nmap": "nmap",
    "swaks": "swaks",
    "libnet-ssleay-perl": "/usr/share/doc/libnet-ssleay-perl/copyright",  # TLS for swaks
    "curl": "curl",
    "strace": "strace",
    "prometheus": "promtool",
    "npm": "npm",
    "gcc": "cc",
    "libssl-dev": "/usr/include/openssl/ssl.h",
    "openssl": "openssl",
}

# Scanners of `make test-third-party`; no other test needs them.
SCANNERS: Mapping[str, str] = {"sslscan": "sslscan", "testssl.sh": "testssl"}

# What `make test-interop` sends mail with.
MAIL_PROGRAMS: Mapping[str, str] = {
    "msmtp": "msmtp",
    "s-nail": "s-nail",
    "golang-go": "go",
    "php-cli": "php",
    "libphp-phpmailer": "/usr/share/php/libphp-phpmailer/autoload.php",
    "ruby": "ruby",
}

# What a package is of no use without, and only recommends.
_ALSO: Mapping[str, Sequence[str]] = {"gcc": ("libc6-dev",), "npm": ("ca-certificates",)}

_POLICY = Path("/usr/sbin/policy-rc.d")
_LISTS = Path("/var/lib/apt/lists")
# Administrator's programs are not on everybody's PATH.
_SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
_APT_SECONDS = 600.0


def program(name: str) -> Path | None:
    """Where a program is, in the PATH or among the administrator's programs; or a file, as said."""
    if name.startswith("/"):
        return Path(name) if Path(name).exists() else None
    found = shutil.which(name, path=_SEARCH_PATH)
    return Path(found) if found else None


def require(package: str, *, binary: str | None = None) -> Path:
    """The path of the package's program `binary` (by default as listed above).

    Installs the package if that is possible; else skips the test, or fails it when CI=true.
    """
    name = binary or {**PACKAGES, **SCANNERS, **MAIL_PROGRAMS}[package]
    found = program(name)
    if found is None and _can_install():
        failure = _install_once(package)
        found = program(name)
        if found is None:
            unavailable(f"cannot install {package}: {failure or f'it has no program {name}'}")
    if found is None:
        unavailable(f"{name} is missing; install it with: apt-get install {package}")
    return found


def require_root() -> None:
    """Skip (or fail when CI=true) unless we are root, which real mail servers need to start."""
    if os.geteuid() != 0:
        unavailable("this story starts a real Postfix, which needs root")


def unavailable(reason: str) -> NoReturn:
    """Fail when CI=true, else skip the test, with the reason."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _can_install() -> bool:
    return (
        os.geteuid() == 0
        and Path("/etc/debian_version").exists()
        and program("apt-get") is not None
    )


@functools.cache
def _install_once(package: str) -> str:
    """Try it once in this process; the text of the failure, or nothing."""
    return install([package])


def install(packages: Sequence[str]) -> str:
    """Install packages without starting their services; the reason if it failed, else nothing."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    wanted = [*packages, *(also for package in packages for also in _ALSO.get(package, ()))]
    commands = [["apt-get", "install", "-y", "--no-install-recommends", *wanted]]
    if not has_lists():
        commands.insert(0, ["apt-get", "update"])
    with _services_stay_down():
        for command in commands:
            try:
                done = subprocess.run(
                    command,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=_APT_SECONDS,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return f"{' '.join(command)} did not end within {_APT_SECONDS:g} s"
            if done.returncode != 0:
                return f"{' '.join(command)}: {done.stderr.strip()[-400:]}"
    return ""


def has_lists() -> bool:
    """Whether `apt-get update` was ever run; before that, apt-get knows no package."""
    return any(_LISTS.glob("*_Packages*"))


@contextlib.contextmanager
def _services_stay_down() -> Iterator[None]:
    if _POLICY.exists():
        yield  # the system has its own policy, and it is not ours to change
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


def main() -> int:
    """Install what is missing; 0 if everything is there at the end."""
    missing = [package for package, name in PACKAGES.items() if program(name) is None]
    if not missing:
        return 0
    line = f"apt-get install {' '.join(missing)}"
    if not _can_install():
        sys.stderr.write(f"missing servers for the end-to-end tests; install them with: {line}\n")
        return 1 if os.environ.get("CI") == "true" else 0
    sys.stderr.write(f"installing without starting services: {' '.join(missing)}\n")
    failure = install(missing)
    if failure:
        sys.stderr.write(f"{failure}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
