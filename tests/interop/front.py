"""The table of clients: each of them before mailshed, in three ways, with a Postfix behind."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.interop.backends import BACKENDS
from tests.interop.cells import Cell, Outcome
from tests.interop.clients import Client
from tests.interop.contents import Content, message
from tests.interop.exchange import Exchange
from tests.interop.trial import Trial
from tests.interop.ways import CLIENT_WAYS, Mode, Way
from tests.support.certificates import make_authority
from tests.support.daemon import Daemon
from tests.support.dovecot import Dovecot
from tests.support.flapper import Flapper
from tests.support.processes import free_port


class Front:
    """mailshed with a listener for mail servers and one for users, and Postfix behind it."""

    def __init__(self, exchange: Exchange, submission: int) -> None:
        self._exchange = exchange
        self._submission = submission

    def fill(
        self,
        *clients: Client,
        ways: Sequence[Way] = CLIENT_WAYS,
        contents: Sequence[Content] = tuple(Content),
    ) -> dict[Cell, Outcome]:
        """The cells of these clients."""
        cells = [
            (client, Cell(table="clients", row=client.name, way=way, content=content, mode=mode))
            for mode in Mode
            for client in clients
            for way in ways
            for content in contents
        ]
        return self._exchange.run([self._trial(client, cell) for client, cell in cells])

    def _trial(self, client: Client, cell: Cell) -> Trial:
        is_plain = cell.way is Way.PLAIN
        return Trial(
            cell=cell,
            message=message(cell.content, cell.name, domain=Way.PLAIN.domain),
            client=client,
            client_way=cell.way,
            backend_way=Way.PLAIN,
            port=self._exchange.daemon.port if is_plain else self._submission,
        )


@contextmanager
def front(folder: Path) -> Iterator[Front]:
    """Everything is up."""
    authority = make_authority(folder / "authority")
    pair = authority.issue()
    clear, submission = free_port(), free_port()
    (folder / "backend").mkdir()
    with (
        BACKENDS["Postfix"](folder / "backend", pair) as backend,
        Dovecot() as users,
        Flapper(backend.port) as flapper,
    ):
        overrides = {
            "listeners": [
                {"name": "smtp", "bind": f"127.0.0.1:{clear}"},
                {
                    "name": "submission",
                    "bind": f"127.0.0.1:{submission}",
                    "clients": "user_agent",
                    "tls": "starttls",
                    "tls_required": True,
                    "auth": "offered",
                },
            ],
            "tls": {"certificate": str(pair[0]), "key": str(pair[1])},
            "authentication": {"verifier": "dovecot", "dovecot_socket": str(users.auth_socket)},
            "domains": [".hospital.example"],
            "backends": [
                {
                    "name": Way.PLAIN.lower(),
                    "host": "127.0.0.1",
                    "port": flapper.port,
                    "tls": "none",
                    **backend.section,
                }
            ],
            "log": {"format": "json"},
        }
        daemon = Daemon(
            folder=folder / "mailshed", backend_port=flapper.port, port=clear, overrides=overrides
        )
        with daemon:
            exchange = Exchange(
                daemon=daemon,
                backend=backend,
                flapper=flapper,
                ca_file=authority.ca_file,
                folder=folder,
            )
            yield Front(exchange, submission)
            assert "Traceback" not in daemon.log_text, daemon.log_tail
