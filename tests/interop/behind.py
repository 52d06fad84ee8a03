"""The table of backends: each of them behind mailshed, in four ways, with smtplib before it.

mailshed has a backend for each way, all of them the same server, and the domain of a recipient says
which is meant.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.interop.backends import BACKENDS, Backend
from tests.interop.cells import Cell, Outcome, Refused
from tests.interop.clients import CLIENTS
from tests.interop.contents import Content, message
from tests.interop.exchange import Exchange
from tests.interop.trial import Trial
from tests.interop.ways import BACKEND_WAYS, LOGIN, PASSWORD, Mode, Way
from tests.support.certificates import make_authority
from tests.support.daemon import Daemon
from tests.support.flapper import Flapper
from tests.support.smtp_dialog import Dialog

CLIENT = next(client for client in CLIENTS if client.name == "smtplib")


def fill(name: str, folder: Path) -> tuple[dict[Cell, Outcome], str]:
    """The cells of one backend, and its version."""
    authority = make_authority(folder / "authority")
    pair = authority.issue()
    login = folder / "login"
    login.write_text(f"{LOGIN}\n{PASSWORD}\n")
    login.chmod(0o600)
    (folder / "backend").mkdir()
    with BACKENDS[name](folder / "backend", pair) as backend, Flapper(backend.port) as flapper:
        overrides = {
            "domains": [".hospital.example"],
            "backends": [
                {
                    "name": way.lower(),
                    "host": "127.0.0.1",
                    "port": flapper.port,
                    "domains": [way.domain] if way is not Way.PLAIN else [],
                    **_security(way, authority.ca_file, login),
                    **backend.section,
                }
                for way in BACKEND_WAYS
            ],
            "log": {"format": "json"},
        }
        with Daemon(
            folder=folder / "mailshed", backend_port=flapper.port, overrides=overrides
        ) as daemon:
            exchange = Exchange(
                daemon=daemon,
                backend=backend,
                flapper=flapper,
                ca_file=authority.ca_file,
                folder=folder,
            )
            outcomes = exchange.run(_trials(backend, daemon.port))
            _hear_refusals(outcomes, daemon.port)
            assert "Traceback" not in daemon.log_text, daemon.log_tail
        return outcomes, backend.version


def _security(way: Way, ca_file: Path, login: Path) -> Mapping[str, Any]:
    match way:
        case Way.PLAIN:
            return {"tls": "none"}
        case Way.OPPORTUNISTIC:
            return {}
        case Way.STARTTLS:
            return {"tls": "starttls", "ca_file": str(ca_file)}
        case Way.AUTH:
            return {"tls": "starttls", "ca_file": str(ca_file), "credentials_file": str(login)}


def _trials(backend: Backend, port: int) -> list[Trial]:
    cells = [
        Cell(table="backends", row=backend.name, way=way, content=content, mode=mode)
        for mode in Mode
        for content in Content
        for way in BACKEND_WAYS
    ]
    return [
        Trial(
            cell=cell,
            message=message(cell.content, cell.name, domain=cell.way.domain),
            client=CLIENT,
            client_way=Way.PLAIN,
            backend_way=cell.way,
            port=port,
        )
        for cell in cells
    ]


def _hear_refusals(outcomes: dict[Cell, Outcome], port: int) -> None:
    """Where smtplib gave up since SMTPUTF8 is not offered, add the reply to who goes on."""
    refused = {cell: each for cell, each in outcomes.items() if isinstance(each, Refused)}
    if not refused:
        return
    with Dialog(port) as dialog:
        dialog.command("EHLO client.example")
        command = "MAIL FROM:<jürgen@bücher.example> SMTPUTF8"
        reply = dialog.command(command.encode().decode("latin-1"))
    for cell, each in refused.items():
        outcomes[cell] = Refused(f"{each.said}\n{reply}")
