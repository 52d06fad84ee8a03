"""Which code holds the dialogs, in front and behind: ours, or the libraries' own classes.

`OWN` is what mail goes through. The stock engine (`mailshed serve --engine stock`) is for a trial:
when something strange is seen on the wire, it tells whether our session and our way to the backend
have done it, or what lies below and beside them. It is the reference of the differential tests too.
Both engines have the same policy, pipeline and spool, and make the same promise.

What an engine is made of is chosen here, once, at the start; nobody else asks which it is. What the
stock classes cannot do is refused then, rather than done without.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mailshed.config.back import Backend as BackendSection
from mailshed.config.front import Listener
from mailshed.config.schema import Config
from mailshed.errors import StartError
from mailshed.listener.server import Factory, SessionFactory
from mailshed.listener.stock import StockFactory
from mailshed.relay.backend import Backend
from mailshed.relay.build import build_backend, build_stock_backend


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What holds the dialogs."""

    new_factory: Callable[..., Factory]
    """Makes what makes the sessions of a listener."""
    build_backend: Callable[..., Backend]
    """Makes what takes messages."""
    warning: str = ""
    """What to tell at the start."""


OWN = Engine(new_factory=SessionFactory, build_backend=build_backend)
STOCK = Engine(
    new_factory=StockFactory,
    build_backend=build_stock_backend,
    warning="--engine stock: the libraries' own classes hold all dialogs, slowly, with fewer"
    " extensions and fewer limits; for a trial only, start without it when you have seen enough",
)


def choose(name: str, config: Config) -> Engine:
    """The engine of this name; raises StartError if it cannot serve what `config` asks for."""
    if name == "own":
        return OWN
    if unserved := [*_of_listeners(config.listeners), *_of_backends(config.backends)]:
        raise StartError(f"--engine stock cannot serve {'; '.join(unserved)}")
    return STOCK


def _of_listeners(listeners: tuple[Listener, ...]) -> Iterator[str]:
    for section in listeners:
        for key in ("tls", "auth", "proxy"):
            value = getattr(section, key)
            if value != "none":
                yield f"listener {section.name} with {key}: {value}"


def _of_backends(backends: tuple[BackendSection, ...]) -> Iterator[str]:
    for section in backends:
        if section.protocol != "smtp":
            yield f"backend {section.name} with protocol: {section.protocol}"
        if section.identity != "none":
            yield f"backend {section.name} with identity: {section.identity}"
        if section.credentials_file is not None:
            yield f"backend {section.name} with credentials_file"
