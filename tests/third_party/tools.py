"""Programs of others against the real daemon: nmap, sslscan, testssl.sh and swaks.

The daemon has a listener for each way in: in clear, with STARTTLS, and with TLS from the start.
127.0.0.1 is a stranger to it, who may send to hospital.example and nowhere else. Behind it are a
Postfix that trusts everybody, and a Dovecot that knows the passwords. Each check raises
AssertionError for what it must not find, and returns lines that say what it found.
"""

import csv
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.certificates import Authority, make_authority
from tests.support.daemon import Daemon
from tests.support.debian import require
from tests.support.dovecot import ACCOUNTS, Dovecot
from tests.support.postfix import Postfix
from tests.support.processes import free_port

SENDER = "stranger@elsewhere.example"
RECIPIENT = "everyone@hospital.example"
TOOL_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Site:
    """The daemon, its ports, and where mail arrives."""

    folder: Path
    daemon: Daemon
    server: Postfix
    authority: Authority
    clear: int
    starttls: int
    implicit: int


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """Everything is up."""
    authority = make_authority(folder / "authority")
    certificate, key = authority.issue()
    clear, starttls, implicit = free_port(), free_port(), free_port()
    with (
        Postfix(settings={"virtual_mailbox_domains": "hospital.example"}) as server,
        Dovecot() as users,
    ):
        overrides = {
            "trusted_networks": ["127.0.0.2/32"],
            "limits": {
                "errors_max": 1000,
                "sessions_per_address": 500,
                "sessions_per_network": 500,
                "connection_rate_max": 0,
            },
            "listeners": [
                {"name": "smtp", "bind": f"127.0.0.1:{clear}"},
                {
                    "name": "submission",
                    "bind": f"127.0.0.1:{starttls}",
                    "clients": "user_agent",
                    "tls": "starttls",
                    "auth": "offered",
                },
                {
                    "name": "submissions",
                    "bind": f"127.0.0.1:{implicit}",
                    "clients": "user_agent",
                    "tls": "implicit",
                    "auth": "required",
                },
            ],
            "tls": {"certificate": str(certificate), "key": str(key)},
            "authentication": {"verifier": "dovecot", "dovecot_socket": str(users.auth_socket)},
        }
        daemon = Daemon(
            folder=folder / "mailshed",
            backend_port=server.port,
            port=clear,
            overrides=overrides,
        )
        with daemon:
            yield Site(folder, daemon, server, authority, clear, starttls, implicit)
            assert "Traceback" not in daemon.log_text
            assert daemon.terminate() == 0


def _said(*command: str | Path, codes: tuple[int, ...] = (0,)) -> str:
    """What a program writes to its output."""
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TOOL_SECONDS,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode in codes, f"{command[0]} ended with {done.returncode}:\n{said[-3000:]}"
    return said


# nmap.

_SCRIPTS = (
    *("smtp-commands", "smtp-open-relay", "smtp-enum-users", "smtp-ntlm-info", "smtp-strangeport"),
    *("smtp-vuln-cve2010-4344", "smtp-vuln-cve2011-1720", "smtp-vuln-cve2011-1764"),
    "ssl-enum-ciphers",
)


def nmap(site: Site) -> list[str]:
    """Its smtp scripts at the clear port and at STARTTLS; its list of ciphers at both TLS ports."""
    said = _said(
        *(require("nmap"), "-Pn", "-sV", "-p", f"{site.clear},{site.starttls},{site.implicit}"),
        *("--script", ",".join(f"+{name}" for name in _SCRIPTS)),
        *("--script-args", "smtp-open-relay.domain=elsewhere.example"),
        "127.0.0.1",
    )
    assert said.count("open  ") == 3, said
    assert "VULNERABLE" not in said.replace("NOT VULNERABLE", ""), said
    relays = re.findall(r"smtp-open-relay: (.+)", said)
    assert relays, said
    closed = re.compile("isn't an open relay|doesn't seem to be an open relay")
    assert all(closed.search(each) for each in relays), said
    assert not re.search(r"TLSv1\.[01]:|SSLv", said), said
    grades = re.findall(r"least strength: (\w)", said)
    assert len(grades) >= 2, said
    assert set(grades) == {"A"}, said
    assert _messages(site) == 0, "a script got a message through"
    lines = [line.strip("|_ ") for line in said.splitlines()]
    kept = re.compile(r"\d+/tcp|smtp-|Method|Couldn't|The SMTP server|least strength|TLSv")
    return [line for line in lines if kept.match(line)]


def _messages(site: Site) -> int:
    site.daemon.wait_spool_empty()
    return len(site.server.delivered())


# sslscan.


def sslscan(site: Site) -> list[str]:
    """Protocols, ciphers and the old faults, over both ways into TLS."""
    lines = []
    for way, port in (("--starttls-smtp", site.starttls), ("", site.implicit)):
        words = [word for word in ("--no-colour", way) if word]
        said = _said(require("sslscan"), *words, f"127.0.0.1:{port}")
        for version in ("SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"):
            assert re.search(rf"{re.escape(version)} +disabled", said), said
        for version in ("TLSv1.2", "TLSv1.3"):
            assert re.search(rf"{re.escape(version)} +enabled", said), said
        assert re.search("Compression disabled|does not support compression", said), said
        assert "renegotiation not supported" in said.lower(), said
        assert "vulnerable to heartbleed" not in said.replace("not vulnerable to heartbleed", "")
        accepted = re.findall(r"(?:Preferred|Accepted) +(TLSv1\.\d) +\d+ bits +(\S+)", said)
        assert accepted, said
        for version, cipher in accepted:
            assert version == "TLSv1.3" or re.match(r"ECDHE-\w+-(AES\d+-GCM|CHACHA20)", cipher), (
                cipher
            )
        lines.append(f"{way or 'implicit'}: " + ", ".join(f"{a} {b}" for a, b in accepted))
    return lines


# testssl.sh.

_BAD = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
_SHOWN = (
    *("SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3", "PFS", "heartbleed", "CCS"),
    *("ROBOT", "secure_renego", "secure_client_renego", "CRIME_TLS", "POODLE_SSL"),
    *("SWEET32", "FREAK", "DROWN", "LOGJAM", "BEAST", "LUCKY13", "RC4"),
)


def testssl(site: Site) -> list[str]:
    """Protocols, ciphers, server defaults and all the vulnerabilities it knows; both ways."""
    lines = []
    for way, port in (("starttls", site.starttls), ("implicit", site.implicit)):
        report = site.folder / f"testssl-{way}.csv"
        words = ["-t", "smtp"] if way == "starttls" else []
        _said(
            *(require("testssl.sh"), "--quiet", "--color", "0", "--warnings", "off"),
            *("--nodns", "none", "-p", "-s", "-f", "-U", "--csvfile", report),
            *("--connect-timeout", "20", "--openssl-timeout", "20"),
            *(*words, f"127.0.0.1:{port}"),
            codes=tuple(range(242)),  # the number of findings; above are its own troubles
        )
        with report.open() as file:
            rows = list(csv.DictReader(file))
        found = {row["id"]: f"{row['severity']}: {row['finding']}" for row in rows}
        assert set(_SHOWN) <= set(found), found
        assert not [row for row in rows if row["severity"] in _BAD], rows
        lines.append(f"{way}: {len(rows)} findings, none of severity low or above")
        lines += [f"  {key}: {found[key]}" for key in _SHOWN]
    return lines


# swaks.


def swaks(site: Site) -> list[str]:
    """Mail in clear and over TLS, logins in each mechanism, and what has to be refused."""
    user, password = next(iter(ACCOUNTS.items()))
    login = ("--auth-user", user, "--auth-password", password)
    before = _messages(site)
    trials: list[tuple[str, int, tuple[str, ...], tuple[int, ...]]] = [
        ("in clear", site.clear, (), (0,)),
        ("pipelined", site.clear, ("--pipeline",), (0,)),
        ("STARTTLS", site.starttls, ("--tls",), (0,)),
        ("TLS 1.2 only", site.starttls, ("--tls", "--tls-protocol", "tlsv1_2"), (0,)),
        ("STARTTLS, AUTH PLAIN", site.starttls, ("--tls", "--auth", "PLAIN", *login), (0,)),
        ("implicit, AUTH LOGIN", site.implicit, ("-tlsc", "--auth", "LOGIN", *login), (0,)),
        # 28: no way to authenticate, 24: RCPT, 23: MAIL, 29: TLS
        ("AUTH without TLS", site.starttls, ("--auth", "PLAIN", *login), (28,)),
        ("a wrong password", site.implicit, ("-tlsc", "-a", "PLAIN", *login[:3], "wrong"), (28,)),
        ("no login where it is required", site.implicit, ("-tlsc",), (23,)),
        ("a foreign recipient", site.clear, ("--to", "victim@elsewhere.example"), (24,)),
        ("TLS 1.1", site.starttls, ("--tls", "--tls-protocol", "tlsv1_1"), (29,)),
        ("STARTTLS where there is none", site.clear, ("--tls",), (29,)),
    ]
    lines = []
    for what, port, words, codes in trials:
        _said(
            *(
                require("swaks"),
                "--server",
                "127.0.0.1",
                "--port",
                str(port),
                "--helo",
                "swaks.example",
            ),
            *("--from", SENDER, "--to", RECIPIENT, "--body", "It works.", *words),
            codes=codes,
        )
        lines.append(f"{what}: {'taken' if codes == (0,) else 'refused'}")
    taken = sum(codes == (0,) for *_, codes in trials)
    site.server.wait_delivered(before + taken)
    assert _messages(site) == before + taken
    return lines


CHECKS: Mapping[str, Callable[[Site], list[str]]] = {
    "nmap": nmap,
    "sslscan": sslscan,
    "testssl.sh": testssl,
    "swaks": swaks,
}
