import socket
import threading
from pathlib import Path

import pytest

from mailshed.cli.client import TIMEOUT, ServiceDown, get, post
from mailshed.cli.exit_codes import ExitCode, VerbFailed
from tests.unit.cli.conftest import ScriptedService


def failure(path: Path, timeout: float = TIMEOUT) -> VerbFailed:
    with pytest.raises(VerbFailed) as caught:
        get(path, "/v1/status", timeout=timeout)
    return caught.value


def test_returns_the_document_and_passes_the_query_on(service: ScriptedService) -> None:
    service.answer("/v1/queue?class=a%26b&limit=3", {"messages": []})

    assert get(service.socket, "/v1/queue", {"class": "a&b", "limit": 3}) == {"messages": []}


def test_a_parameter_may_be_repeated(service: ScriptedService) -> None:
    service.answer("/v1/queue?id=A&id=B&limit=3", {"messages": []})

    assert get(service.socket, "/v1/queue", {"id": ["A", "B"], "limit": 3}) == {"messages": []}


def test_posts_a_document_and_returns_the_answer(service: ScriptedService) -> None:
    service.answer("/v1/queue/hold", {"changed": 1})

    assert post(service.socket, "/v1/queue/hold", {"all": True}) == {"changed": 1}
    assert service.posted == [("/v1/queue/hold", {"all": True})]
    with pytest.raises(ServiceDown):
        post(service.socket.with_name("nowhere"), "/v1/queue/hold", {})


@pytest.mark.parametrize("status", [400, 409])
def test_a_mistake_of_the_caller_is_told_without_the_service(
    service: ScriptedService, status: int
) -> None:
    service.answer("/v1/status", {"error": "class: no such class: x"}, status)

    error = failure(service.socket)

    assert error.code == ExitCode.USAGE
    assert str(error) == "class: no such class: x"


def test_a_missing_socket_means_that_the_service_is_not_running(tmp_path: Path) -> None:
    error = failure(tmp_path / "s")

    assert isinstance(error, ServiceDown)
    assert error.code == ExitCode.UNAVAILABLE
    assert f"no socket at {tmp_path / 's'}" in str(error)
    assert "systemctl status mailshed" in str(error)


def test_a_socket_nobody_listens_on_means_that_the_service_has_died(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))

    error = failure(tmp_path / "s")

    assert isinstance(error, ServiceDown)
    assert "nobody listens" in str(error)


def test_permission_is_not_mistaken_for_a_service_that_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    error = failure(tmp_path / "s")

    assert not isinstance(error, ServiceDown)
    assert error.code == ExitCode.NO_PERMISSION


def test_a_service_that_does_not_answer_in_time_is_busy(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()

        error = failure(tmp_path / "s", timeout=0.05)

    assert not isinstance(error, ServiceDown)
    assert error.code == ExitCode.TRY_AGAIN


def test_a_path_too_long_for_a_socket_is_said_so(tmp_path: Path) -> None:
    error = failure(tmp_path / ("x" * 200))

    assert error.code == ExitCode.UNAVAILABLE
    assert "too long" in str(error)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (503, ExitCode.TRY_AGAIN),
        (403, ExitCode.NO_PERMISSION),
        (500, ExitCode.UNAVAILABLE),
    ],
)
def test_a_refusal_is_passed_on_with_its_reason(
    service: ScriptedService, status: int, code: ExitCode
) -> None:
    service.answer("/v1/status", {"error": "the reason\x1b[2J"}, status)

    error = failure(service.socket)

    assert error.code == code
    assert f"answered {status}: the reason [2J" in str(error)


def test_a_refusal_without_a_reason_has_the_name_of_its_status(service: ScriptedService) -> None:
    service.answers["/v1/status"] = (500, b"<html>")

    assert str(failure(service.socket)).endswith("500: Internal Server Error")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"\xff", b""])
def test_an_answer_that_is_not_ours_is_not_believed(service: ScriptedService, body: bytes) -> None:
    service.answers["/v1/status"] = (200, body)

    assert "does not answer as mailshed does" in str(failure(service.socket))


def test_an_answer_that_is_no_http_is_a_failure_and_no_traceback(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        server.settimeout(10)

        def talk() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail.example.org ESMTP\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        error = failure(tmp_path / "s")
        thread.join()

    assert error.code == ExitCode.UNAVAILABLE
    assert "cannot talk to the service" in str(error)
