"""Memory of the daemon: at rest, and with idle connections that have said EHLO."""

import socket
from dataclasses import dataclass
from typing import Any

from tests.bench.peers import Peer
from tests.support.processes import resident_octets

IDLE_CONNECTIONS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Resident set sizes in octets."""

    at_rest: int
    with_idle: int
    idle_connections: int

    @property
    def per_connection(self) -> float:
        """What one idle connection costs."""
        return (self.with_idle - self.at_rest) / self.idle_connections

    def as_tree(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "at_rest_octets": self.at_rest,
            "with_idle_octets": self.with_idle,
            "idle_connections": self.idle_connections,
            "per_connection_octets": round(self.per_connection),
        }


def measure_memory(peer: Peer, idle_connections: int = IDLE_CONNECTIONS) -> Memory:
    """Open that many connections, greet on each, and look at the process."""
    at_rest = resident_octets(peer.session)
    connections = []
    try:
        for _ in range(idle_connections):
            connection = socket.create_connection(("127.0.0.1", peer.port), timeout=30)
            connections.append(connection)
            _read_reply(connection, b"220")
            connection.sendall(b"EHLO idle.example\r\n")
            _read_reply(connection, b"250")
        with_idle = resident_octets(peer.session)
    finally:
        for connection in connections:
            connection.close()
    return Memory(at_rest=at_rest, with_idle=with_idle, idle_connections=idle_connections)


def _read_reply(connection: socket.socket, code: bytes) -> None:
    reply = b""
    while not (reply.endswith(b"\r\n") and reply.splitlines()[-1][3:4] == b" "):
        received = connection.recv(4096)
        assert received, f"connection closed after {reply!r}"
        reply += received
    assert reply.startswith(code), reply
