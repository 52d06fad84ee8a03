"""One cell: what is sent, by whom, and how it is meant to come and to go on."""

from dataclasses import dataclass

from tests.interop.cells import Cell
from tests.interop.clients import Client
from tests.interop.contents import Message
from tests.interop.ways import Way


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A message to be sent through mailshed."""

    cell: Cell
    message: Message
    client: Client
    client_way: Way
    backend_way: Way
    port: int
    """Of mailshed."""
