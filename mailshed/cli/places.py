"""Where things are: the configuration file, the service's socket, its spool.

Each is taken from the first that says it: an option, an environment variable, the configuration
file, the default. The file is only peeked into (`mailshed.config.peek`), never judged here.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from mailshed.cli.exit_codes import ExitCode, VerbFailed
from mailshed.errors import ConfigError

CONFIG_VARIABLE = "MAILSHED_CONFIG"
SOCKET_VARIABLE = "MAILSHED_ADMIN_SOCKET"
CONFIG_DEFAULT = Path("/etc/mailshed/mailshed.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePlaces:
    """Where the running service is reached. `spool` is None if no file says where it is."""

    socket: Path
    spool: Path | None


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Add `--config FILE`."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help=f"configuration file (${CONFIG_VARIABLE}, else {CONFIG_DEFAULT})",
    )


def add_service_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the service is, and `--json`."""
    add_config_option(parser)
    parser.add_argument(
        "--socket",
        metavar="PATH",
        type=Path,
        help=f"socket of the service (${SOCKET_VARIABLE}, else as the configuration says)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def config_file(option: Path | None) -> Path:
    """Return the configuration file to use."""
    if option is not None:
        return option
    variable = os.environ.get(CONFIG_VARIABLE)
    return Path(variable) if variable else CONFIG_DEFAULT


def find_service(args: argparse.Namespace) -> ServicePlaces:
    """Find the socket and, if a configuration file can be read, the spool.

    Raises VerbFailed if nothing says where the socket is.
    """
    from mailshed.config.peek import peek

    variable = os.environ.get(SOCKET_VARIABLE)
    named: Path | None = args.socket or (Path(variable) if variable else None)
    try:
        places = peek(config_file(args.config))
    except ConfigError as error:
        if named is None:
            hint = (
                f"name the configuration with --config or ${CONFIG_VARIABLE},"
                f" or the socket with --socket or ${SOCKET_VARIABLE}"
            )
            raise VerbFailed(f"{error}\nmailshed: {hint}", ExitCode.CONFIG) from None
        return ServicePlaces(socket=named, spool=None)
    socket = named or places.admin_socket
    if socket is None:
        file = config_file(args.config)
        raise VerbFailed(f"{file} has neither admin.socket nor spool.path", ExitCode.CONFIG)
    return ServicePlaces(socket=socket, spool=places.spool)
