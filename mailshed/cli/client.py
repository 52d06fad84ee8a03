"""HTTP over the service's Unix socket: one request, one JSON document, and clear words if not.

Every way in which the service can be unreachable is told apart, because each has another remedy:
no socket (not running), a socket nobody listens on (it died), a socket we may not open (the wrong
group), no answer in time (busy), and an answer that is not ours.
"""

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from mailshed.cli.exit_codes import ExitCode, VerbFailed

TIMEOUT = 10.0
"""Seconds the service may take; it promises to answer or refuse within five."""
ANSWER_OCTETS_MAX = 256 * 1024 * 1024
REASON_MAX = 500

Query = Mapping[str, str | int | Sequence[str]]
"""Parameters by name; a sequence repeats one."""


class ServiceDown(VerbFailed):
    """Nobody listens on the socket: the service is not running."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ExitCode.UNAVAILABLE)


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection whose address is a path."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def get(
    path: Path,
    target: str,
    query: Query | None = None,
    timeout: float = TIMEOUT,
) -> dict[str, Any]:
    """Ask the service at socket `path` for `target`; return the JSON object it answers.

    Values of `query` may be sequences, for parameters that are repeated. Raises ServiceDown if it
    is not running, VerbFailed if it is and we still have no answer.
    """
    whole = f"{target}?{urlencode(query, doseq=True)}" if query else target
    return _ask(path, "GET", whole, None, timeout)


def post(
    path: Path, target: str, document: Mapping[str, Any], timeout: float = TIMEOUT
) -> dict[str, Any]:
    """Send `document` to `target` of the service at socket `path`; otherwise as `get`."""
    return _ask(path, "POST", target, json.dumps(document).encode(), timeout)


def _ask(
    path: Path, method: str, target: str, body: bytes | None, timeout: float
) -> dict[str, Any]:
    connection = _UnixConnection(path, timeout)
    headers = {} if body is None else {"Content-Type": "application/json"}
    try:
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        answer = response.read(ANSWER_OCTETS_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise _explain(error, path, timeout) from error
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise _refused(path, response.status, answer)
    return _parse(path, answer)


def _explain(error: Exception, path: Path, timeout: float) -> VerbFailed:
    match error:
        case FileNotFoundError():
            return ServiceDown(
                f"no socket at {path}: the service is not running, or it runs with another"
                " configuration (check `systemctl status mailshed`, --config, --socket)"
            )
        case ConnectionRefusedError():
            return ServiceDown(
                f"nobody listens on {path}: the service has ended without removing its socket"
                " (check `systemctl status mailshed`)"
            )
        case PermissionError():
            return VerbFailed(
                f"no permission for {path}: run this as root, as the service's user, or as a"
                " member of the socket's group",
                ExitCode.NO_PERMISSION,
            )
        case TimeoutError():
            return VerbFailed(
                f"the service at {path} did not answer within {timeout:g} s", ExitCode.TRY_AGAIN
            )
        case _:
            return VerbFailed(
                f"cannot talk to the service at {path}: {str(error) or type(error).__name__}",
                ExitCode.UNAVAILABLE,
            )


def _refused(path: Path, status: int, body: bytes) -> VerbFailed:
    """Pass on why the service did not answer; it says so in `error`."""
    try:
        reason = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        reason = http.client.responses.get(status, "unknown status")
    text = "".join(c if c.isprintable() else " " for c in reason[:REASON_MAX])
    match status:
        case http.HTTPStatus.SERVICE_UNAVAILABLE:
            code = ExitCode.TRY_AGAIN
        case http.HTTPStatus.FORBIDDEN:
            code = ExitCode.NO_PERMISSION
        case http.HTTPStatus.BAD_REQUEST | http.HTTPStatus.CONFLICT:
            return VerbFailed(text, ExitCode.USAGE)  # what was typed is at fault, not the service
        case _:
            code = ExitCode.UNAVAILABLE
    return VerbFailed(f"the service at {path} answered {status}: {text}", code)


def _parse(path: Path, body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise VerbFailed(
            f"what listens on {path} does not answer as mailshed does", ExitCode.UNAVAILABLE
        )
    return document
