"""`mailshed serve`: run the service in the foreground, as systemd wants it."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.cli.places import SOCKET_VARIABLE, add_config_option, config_file
from mailshed.errors import ConfigError

if TYPE_CHECKING:
    from mailshed.config.schema import Config

LEVEL_VARIABLE = "MAILSHED_LOG_LEVEL"


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add `serve`."""
    parser = subparsers.add_parser(
        "serve", help="run the service", description="Run the service in the foreground."
    )
    add_config_option(parser)
    parser.add_argument(
        "--backend",
        metavar="HOST:PORT",
        type=_endpoint,
        help="relay to this SMTP server instead of the backend of the file (for trials)",
    )
    parser.add_argument(
        "--observe",
        action="store_true",
        help="only count what would be done, whatever the file's mode is (for the first days)",
    )
    parser.add_argument(
        "--engine",
        choices=("own", "stock"),
        default="own",
        help="hold all dialogs with the SMTP libraries' own classes (to find out whose doing "
        "something strange on the wire is; slow)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Load the configuration and run until told to stop; a reload reads the same again."""
    from mailshed import app

    reload = loader(config_file(args.config), args.backend, is_observing=args.observe)
    return app.run(reload(), reload=reload, engine=args.engine)


def loader(
    file: Path, backend: tuple[str, int] | None, *, is_observing: bool = False
) -> "Callable[[], Config]":
    """Return what reads the configuration, with the overrides of command line and environment."""

    def load_again() -> "Config":
        from mailshed.config.load import load

        config = _override_environment(_override_backend(load(file), backend))
        return config.model_copy(update={"mode": "observe"}) if is_observing else config

    return load_again


def _override_backend(config: "Config", backend: tuple[str, int] | None) -> "Config":
    if backend is None:
        return config
    from mailshed.config.addresses import is_loop

    host, port = backend
    for listener in config.listeners:
        if is_loop(host, port, listener.bind):
            raise ConfigError(
                f"mailshed: --backend {host} port {port} is our own listener {listener.name}"
                f" ({listener.bind}), so mail would go in a loop"
            )
    server = {"name": "trial", "host": host, "port": port, "maildir": None}
    replaced = config.backends[0].model_copy(update=server)
    return config.model_copy(update={"backends": (replaced,)})


def _override_environment(config: "Config") -> "Config":
    """Apply the two settings that may come from the environment; policy never does."""
    level, socket = os.environ.get(LEVEL_VARIABLE), os.environ.get(SOCKET_VARIABLE)
    if level:
        if level not in ("debug", "info", "warning", "error"):
            message = f"${LEVEL_VARIABLE} is {level!r}; expected debug, info, warning or error"
            raise VerbFailed(message, ExitCode.CONFIG)
        config = config.model_copy(update={"log": config.log.model_copy(update={"level": level})})
    if socket:
        admin = config.admin.model_copy(update={"socket": Path(socket)})
        config = config.model_copy(update={"admin": admin})
    return config


def _endpoint(text: str) -> tuple[str, int]:
    from mailshed.config.fields import parse_host

    host, _, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if is_bracketed else host
    fault = argparse.ArgumentTypeError(
        f"expected HOST:PORT, a host name or an IP address (IPv6 as in [::1]:25), not {text!r}"
    )
    if is_bracketed != (":" in bare) or not (port.isascii() and port.isdigit()):
        raise fault
    try:
        parse_host(bare)
    except ValueError:
        raise fault from None
    number = int(port[:6])
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"no such port: {port}")
    return bare, number
